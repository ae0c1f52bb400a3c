//! Limits and devices: what the cgroup gets.

use tinyd_core::{
    config::{Resources, Ulimit},
    oci,
    size::CPU_PERIOD_US,
};

use crate::host::Host;

/// The most processes and threads unless the user says otherwise.
pub(crate) const PIDS_DEFAULT: i64 = 4096;

/// A device of the host, looked up when the container starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostDevice {
    /// Where, absolute in the container.
    pub(crate) path: String,
    /// Whether it is a block device.
    pub(crate) block: bool,
    /// Major number.
    pub(crate) major: u32,
    /// Minor number.
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner and group.
    pub(crate) owner: (u32, u32),
    /// Some of `r`, `w`, `m`.
    pub(crate) access: String,
}

/// The limits.
pub(super) fn resources(wanted: &Resources, privileged: bool, devices: &[HostDevice]) -> oci::Resources {
    oci::Resources {
        devices: device_rules(privileged, devices),
        memory: memory(wanted),
        cpu: cpu(wanted),
        pids: Some(oci::Pids { limit: wanted.pids_limit.unwrap_or(PIDS_DEFAULT) }),
        ..oci::Resources::default()
    }
}

fn memory(wanted: &Resources) -> Option<oci::Memory> {
    let limit = wanted.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok());
    // Without a word about swap there is none beyond the memory.
    let swap = wanted.memory_swap_bytes.or(limit);
    (limit.is_some() || swap.is_some()).then(|| oci::Memory { limit, swap, ..oci::Memory::default() })
}

fn cpu(wanted: &Resources) -> Option<oci::Cpu> {
    if wanted.cpu_quota_us.is_none() && wanted.cpuset_cpus.is_none() {
        return None;
    }
    let quota = wanted.cpu_quota_us.and_then(|quota| i64::try_from(quota).ok());
    Some(oci::Cpu {
        quota,
        period: quota.map(|_| CPU_PERIOD_US),
        cpus: wanted.cpuset_cpus.clone(),
        ..oci::Cpu::default()
    })
}

/// The standard nodes (config-linux.md, Default Devices), terminals, and nothing else.
const STANDARD: [(i64, Option<i64>); 8] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(2)), // ptmx
    (136, None),  // pts
];

fn device_rules(privileged: bool, devices: &[HostDevice]) -> Vec<oci::DeviceRule> {
    let all = |allow| oci::DeviceRule { allow, access: Some("rwm".into()), ..oci::DeviceRule::default() };
    if privileged {
        return vec![all(true)];
    }
    let mut rules = vec![all(false)];
    rules.extend(STANDARD.map(|(major, minor)| oci::DeviceRule {
        allow: true,
        kind: Some("c".into()),
        major: Some(major),
        minor,
        access: Some("rwm".into()),
    }));
    rules.extend(devices.iter().map(|device| oci::DeviceRule {
        allow: true,
        kind: Some(letter(device).into()),
        major: Some(device.major.into()),
        minor: Some(device.minor.into()),
        access: Some(device.access.clone()),
    }));
    rules
}

/// The nodes of the host's devices.
pub(super) fn nodes(devices: &[HostDevice]) -> Vec<oci::Device> {
    let node = |device: &HostDevice| oci::Device {
        path: device.path.clone(),
        kind: letter(device).into(),
        major: Some(device.major.into()),
        minor: Some(device.minor.into()),
        file_mode: Some(device.mode),
        uid: Some(device.owner.0),
        gid: Some(device.owner.1),
    };
    devices.iter().map(node).collect()
}

const fn letter(device: &HostDevice) -> &'static str {
    if device.block { "b" } else { "c" }
}

/// `--ulimit` as the specification spells it. The daemon has raised its own limit of open files, which is nothing to containers.
pub(super) fn rlimits(ulimits: &[Ulimit], host: &Host) -> Vec<oci::Rlimit> {
    let own = host.open_files.filter(|_| ulimits.iter().all(|ulimit| ulimit.name != "nofile"));
    let own = own.map(|(soft, hard)| Ulimit { name: "nofile".into(), soft, hard });
    let rlimit = |ulimit: &Ulimit| oci::Rlimit {
        kind: format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()),
        soft: ulimit.soft,
        hard: ulimit.hard,
    };
    ulimits.iter().chain(&own).map(rlimit).collect()
}
