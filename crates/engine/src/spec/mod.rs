//! From a container's record to the OCI configuration that the runtime gets: pure, decides everything, touches nothing.
//!
//! The default security is here and in the two lists beside it: a user namespace, a small capability set with nothing inheritable or
//! ambient, masked and read-only paths, a device allow-list, a process limit.

pub(crate) mod caps;
mod limits;
mod mounts;

use std::{collections::BTreeMap, path::Path};

use tinyd_core::{
    Result,
    config::{Environment, SeccompChoice},
    oci, wire,
};

pub(crate) use self::{limits::HostDevice, mounts::Bind};
use crate::{
    api::{ExecConfig, WindowSize},
    host::Host,
    record::{Endpoint, Record},
    registry::USERNS_SIZE,
    users::Identity,
};

/// Where programs are looked for unless the container says otherwise.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that the configuration depends on.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    /// The container.
    pub(crate) record: &'a Record,
    /// The machine.
    pub(crate) host: &'a Host,
    /// The first host id of its user namespace; `None` is the host's.
    pub(crate) userns: Option<u32>,
    /// Who the program runs as.
    pub(crate) user: &'a Identity,
    /// The container's directory.
    pub(crate) dir: &'a Path,
    /// The directory that has its files of `/etc`.
    pub(crate) etc: &'a Path,
    /// Its cgroup, below the cgroup root.
    pub(crate) cgroup: &'a str,
    /// The network namespace to join, when it is another container's.
    pub(crate) netns: Option<String>,
    /// What is mounted from the host.
    pub(crate) binds: &'a [Bind],
    /// The host's devices that it gets.
    pub(crate) devices: &'a [HostDevice],
    /// The terminal's first size.
    pub(crate) size: Option<WindowSize>,
}

/// The whole configuration.
pub(crate) fn spec(inputs: &Inputs<'_>) -> Result<oci::Spec> {
    let config = &inputs.record.config;
    let privileged = config.security.privileged;
    Ok(oci::Spec {
        oci_version: oci::OCI_VERSION.into(),
        root: Some(oci::Root {
            path: inputs.dir.join("rootfs").to_string_lossy().into_owned(),
            readonly: config.security.read_only,
        }),
        mounts: mounts::mounts(inputs)?,
        process: Some(process(inputs)?),
        hostname: Some(hostname(inputs.record, inputs.host)),
        linux: Some(oci::Linux {
            uid_mappings: mappings(inputs.userns),
            gid_mappings: mappings(inputs.userns),
            sysctl: sysctls(inputs),
            resources: Some(limits::resources(&config.resources, privileged, inputs.devices)),
            cgroups_path: Some(inputs.cgroup.to_owned()),
            namespaces: namespaces(inputs),
            devices: limits::nodes(inputs.devices),
            rootfs_propagation: Some("rprivate".into()),
            masked_paths: if privileged { Vec::new() } else { masked(inputs.host) },
            readonly_paths: if privileged { Vec::new() } else { owned(&READ_ONLY) },
            ..oci::Linux::default()
        }),
        ..oci::Spec::default()
    })
}

/// One more process, beside the first.
pub(crate) fn exec_process(
    record: &Record,
    host: &Host,
    userns: Option<u32>,
    user: &Identity,
    exec: &ExecConfig,
) -> Result<oci::Process> {
    let config = &record.config;
    let held =
        if exec.privileged { every_capability(host, userns) } else { capabilities(record, host, userns)? };
    let mut env = environment(record, user, host);
    if exec.tty {
        env.set_default("TERM", "xterm");
    }
    exec.env.iter().for_each(|entry| env.set(entry));
    Ok(oci::Process {
        terminal: exec.tty,
        console_size: exec.size.map(console_size),
        cwd: exec.workdir.clone().or_else(|| config.workdir.clone()).unwrap_or_else(|| "/".into()),
        env: env.into_entries(),
        args: exec.command.clone(),
        rlimits: limits::rlimits(&config.resources.ulimits, host),
        capabilities: Some(capability_sets(held, user.uid)),
        no_new_privileges: config.security.no_new_privileges && !exec.privileged,
        user: oci_user(user),
        ..oci::Process::default()
    })
}

/// The system call filter. A profile was checked when the container was made.
pub(crate) fn seccomp(record: &Record, host: &Host, userns: Option<u32>) -> Result<wire::Seccomp> {
    let security = &record.config.security;
    match &security.seccomp {
        SeccompChoice::Default if security.privileged => Ok(wire::Seccomp::Unconfined),
        SeccompChoice::Default => Ok(wire::Seccomp::Default),
        SeccompChoice::Unconfined => Ok(wire::Seccomp::Unconfined),
        SeccompChoice::Profile(text) => {
            let held = capabilities(record, host, userns)?;
            crate::profile::resolve(text, &held, host).map(wire::Seccomp::Profile)
        }
    }
}

/// The capabilities of the container. In a user namespace of its own the daemon's own set is no limit.
pub(crate) fn capabilities(record: &Record, host: &Host, userns: Option<u32>) -> Result<Vec<String>> {
    let security = &record.config.security;
    if security.privileged {
        return Ok(every_capability(host, userns));
    }
    let can = userns.is_none().then_some(host.capabilities.as_slice());
    caps::resolve(&security.cap_add, &security.cap_drop, can)
}

fn every_capability(host: &Host, userns: Option<u32>) -> Vec<String> {
    if userns.is_some() { owned(&caps::ALL) } else { host.capabilities.clone() }
}

/// The hostname: the given one, the host's own with the host's network, or the short id.
pub(crate) fn hostname(record: &Record, host: &Host) -> String {
    match (&record.config.hostname, &record.endpoint) {
        (Some(given), _) => given.clone(),
        (None, Endpoint::Host) => host.hostname.clone(),
        (None, Endpoint::Bridge { .. } | Endpoint::None | Endpoint::Container(_)) => {
            record.id.short().to_owned()
        }
    }
}

fn process(inputs: &Inputs<'_>) -> Result<oci::Process> {
    let (record, config) = (inputs.record, &inputs.record.config);
    Ok(oci::Process {
        terminal: config.tty,
        console_size: inputs.size.filter(|_| config.tty).map(console_size),
        cwd: config.workdir.clone().unwrap_or_else(|| "/".into()),
        env: environment(record, inputs.user, inputs.host).into_entries(),
        args: record.argv(),
        rlimits: limits::rlimits(&config.resources.ulimits, inputs.host),
        capabilities: Some(capability_sets(
            capabilities(record, inputs.host, inputs.userns)?,
            inputs.user.uid,
        )),
        no_new_privileges: config.security.no_new_privileges,
        user: oci_user(inputs.user),
        ..oci::Process::default()
    })
}

const fn console_size(size: WindowSize) -> oci::ConsoleSize {
    oci::ConsoleSize { height: size.rows, width: size.cols }
}

fn oci_user(user: &Identity) -> oci::User {
    oci::User { uid: user.uid, gid: user.gid, umask: None, additional_gids: user.groups.clone() }
}

fn environment(record: &Record, user: &Identity, host: &Host) -> Environment {
    let mut env = Environment::default();
    env.set(&format!("PATH={DEFAULT_PATH}"));
    env.set(&format!("HOSTNAME={}", hostname(record, host)));
    if record.config.tty {
        env.set("TERM=xterm");
    }
    env.set(&format!("HOME={}", user.home));
    record.config.env.iter().for_each(|entry| env.set(entry));
    env
}

/// Inheritable and ambient stay empty, or a program that is executed without any right would gain them; another user than root holds
/// none, and gains what a set-id program of the image gives it within the bounding set.
fn capability_sets(held: Vec<String>, uid: u32) -> oci::Capabilities {
    let active = if uid == 0 { held.clone() } else { Vec::new() };
    oci::Capabilities {
        bounding: held,
        effective: active.clone(),
        permitted: active,
        inheritable: Vec::new(),
        ambient: Vec::new(),
    }
}

fn mappings(userns: Option<u32>) -> Vec<oci::IdMapping> {
    let mapping = |host_id| oci::IdMapping { container_id: 0, host_id, size: USERNS_SIZE };
    userns.map(mapping).into_iter().collect()
}

fn namespaces(inputs: &Inputs<'_>) -> Vec<oci::Namespace> {
    use oci::NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let new = |kind| oci::Namespace { kind, path: None };
    let mut namespaces: Vec<oci::Namespace> = [Pid, Ipc, Uts, Mount, Cgroup].map(new).into();
    if inputs.userns.is_some() {
        namespaces.push(new(User));
    }
    match &inputs.record.endpoint {
        Endpoint::Bridge { .. } | Endpoint::None => namespaces.push(new(Network)),
        Endpoint::Container(_) => {
            namespaces.push(oci::Namespace { kind: Network, path: inputs.netns.clone() });
        }
        Endpoint::Host => {}
    }
    namespaces
}

/// Settings of the container's own network namespace: ping without raw sockets, low ports without a capability, no IPv6.
fn sysctls(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let own = match &inputs.record.endpoint {
        Endpoint::Bridge { .. } | Endpoint::None => true,
        Endpoint::Host | Endpoint::Container(_) => false,
    };
    let mut sysctls = BTreeMap::new();
    if own {
        // The kernel refuses groups that the user namespace does not map.
        let last_group = if inputs.userns.is_some() { USERNS_SIZE - 1 } else { i32::MAX.unsigned_abs() };
        sysctls.insert("net.ipv4.ping_group_range".into(), format!("0 {last_group}"));
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        if inputs.host.has_ipv6 {
            for scope in ["all", "default"] {
                sysctls.insert(format!("net.ipv6.conf.{scope}.disable_ipv6"), "1".into());
            }
        }
    }
    sysctls
}

/// What cannot be read inside: the union of what all engines mask.
const MASKED: [&str; 16] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/kallsyms",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
];

/// What cannot be written inside.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn masked(host: &Host) -> Vec<String> {
    let mut masked = owned(&MASKED);
    masked.extend(host.thermal.iter().cloned());
    masked
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[cfg(test)]
mod tests;
