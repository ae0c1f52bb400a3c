//! What verbs print: JSON, tables, and a configuration to begin with.

use std::{io::Write, path::Path};

use serde::Serialize;
use serde_json::{Value, json};
use tinyd_core::{
    Error, Kind, Result, oci,
    seccomp_profile::{Action, Op},
};
use tinyd_sys::{creds::CAPABILITIES, process::end_at_broken_pipe};

use super::{World, args::Given};
use crate::{
    container,
    launch::kernel,
    plan::{annotations, hooks, namespaces, numa, options},
    seccomp,
};

/// Prints a text whole. Where its reader has gone this ends as other tools do, by SIGPIPE: whatever was asked for has been done by then.
///
/// # Errors
/// The kernel's refusal, such as that of a disk that is full.
pub(super) fn print(text: &str) -> Result<u8> {
    end_at_broken_pipe();
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map(|()| 0).map_err(|error| kernel("write to stdout", &error))
}

/// Prints a value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<u8> {
    let text = serde_json::to_string_pretty(value).map_err(|error| kernel("write JSON", &error))?;
    print(&(text + "\n"))
}

/// Prints a value as JSON on a line of its own, at once: a reader follows.
pub(super) fn line(value: &Value) -> Result<()> {
    print(&format!("{value}\n")).map(drop)
}

/// Prints the list of containers.
pub(super) fn list(world: &World, given: &Given) -> Result<u8> {
    if given.has("quiet") {
        let ids = container::ids(&world.root)?;
        return print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
    }
    let is_json = is_json(given)?;
    let (all, unreadable) = container::list(&world.root, is_json)?;
    world.log.complain(&unreadable);
    if is_json {
        return json(&all);
    }
    let rows = all.into_iter().map(|one| {
        let status = one.status.word().to_owned();
        [one.id, one.pid.to_string(), status, one.bundle, one.created, one.owner]
    });
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    print(&table([head].into_iter().chain(rows).collect()))
}

/// Prints the processes of a container.
pub(super) fn processes(world: &World, given: &Given) -> Result<u8> {
    let is_json = is_json(given)?;
    let (id, args) = given.words.split_first().ok_or_else(|| Error::invalid("ID", "it is needed"))?;
    if is_json {
        return json(&container::processes(&world.root, id)?);
    }
    // What comes after -- is for ps as well.
    let args = if args.first().is_some_and(|first| first == "--") { &args[1..] } else { args };
    print(&container::ps(&world.root, id, args)?)
}

fn is_json(given: &Given) -> Result<bool> {
    match given.get("format") {
        None | Some("table") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(Error::invalid("--format", format!("{other:?} is neither table nor json"))),
    }
}

fn table<const N: usize>(rows: Vec<[String; N]>) -> String {
    // As wide as runc's, for who cuts columns out.
    const WIDTH_MIN: usize = 9;
    let mut widths = [WIDTH_MIN; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |row: [String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("   ");
        format!("{}\n", line.trim_end())
    };
    rows.into_iter().map(line).collect()
}

/// What this runtime can do (features.md of the specification), from the tables that it is done by. What the kernel has is another
/// question.
pub(super) fn features() -> Value {
    fn words<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
        table.iter().map(|(word, _)| *word).collect()
    }
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": oci::OCI_VERSION,
        "hooks": hooks::POINTS,
        "mountOptions": options::known().collect::<Vec<_>>(),
        "potentiallyUnsafeConfigAnnotations": annotations::PREFIXES,
        "linux": {
            "namespaces": namespaces::KINDS,
            "capabilities": CAPABILITIES.as_slice(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": words(&Action::WORDS),
                "operators": words(&Op::WORDS),
                "archs": seccomp::architectures().collect::<Vec<_>>(),
                "knownFlags": seccomp::flags().collect::<Vec<_>>(),
                "supportedFlags": seccomp::flags().collect::<Vec<_>>(),
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": { "modes": words(&numa::MODES), "flags": words(&numa::FLAGS) },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
    })
}

/// Writes a configuration to begin with, as `runc spec` does: a shell with few rights in namespaces of its own. With `rootless` it is one
/// that this user can run.
pub(super) fn write_spec(given: &Given) -> Result<u8> {
    let file = given.get("file").unwrap_or("config.json");
    let path = Path::new(given.get("bundle").unwrap_or(".")).join(file);
    let mut spec = first_spec();
    if given.has("rootless") {
        make_rootless(&mut spec, rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    }
    let text = serde_json::to_string_pretty(&spec).map_err(|error| kernel("write JSON", &error))?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Error::new(Kind::AlreadyExists, format!("{} exists", path.display()));
        }
        kernel(&format!("write {}", path.display()), &error)
    })?;
    Ok(0)
}

fn first_spec() -> oci::Spec {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let caps = words(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, options: &[&str]| oci::Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(kind.into()),
        options: words(options),
        ..oci::Mount::default()
    };
    let process = oci::Process {
        terminal: true,
        args: words(&["sh"]),
        env: words(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
        cwd: "/".into(),
        capabilities: Some(oci::Capabilities {
            bounding: caps.clone(),
            effective: caps.clone(),
            permitted: caps,
            ..oci::Capabilities::default()
        }),
        rlimits: vec![oci::Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 1024, hard: 1024 }],
        no_new_privileges: true,
        ..oci::Process::default()
    };
    let mounts = vec![
        mount("/proc", "proc", &[]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        oci::Mount {
            source: Some("shm".into()),
            ..mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])
        },
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ];
    let kinds = [
        oci::NamespaceKind::Pid,
        oci::NamespaceKind::Network,
        oci::NamespaceKind::Ipc,
        oci::NamespaceKind::Uts,
        oci::NamespaceKind::Mount,
        oci::NamespaceKind::Cgroup,
    ];
    let linux = oci::Linux {
        namespaces: kinds.map(|kind| oci::Namespace { kind, path: None }).to_vec(),
        resources: Some(oci::Resources {
            devices: vec![oci::DeviceRule {
                allow: false,
                access: Some("rwm".into()),
                ..oci::DeviceRule::default()
            }],
            ..oci::Resources::default()
        }),
        masked_paths: words(&[
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/devices/virtual/powercap",
            "/sys/firmware",
        ]),
        readonly_paths: words(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
        ..oci::Linux::default()
    };
    oci::Spec {
        oci_version: oci::OCI_VERSION.into(),
        root: Some(oci::Root { path: "rootfs".into(), readonly: true }),
        mounts,
        process: Some(process),
        hostname: Some("tinyrun".into()),
        linux: Some(linux),
        ..oci::Spec::default()
    }
}

/// As runc does it: root inside is the user, who has no other id; the network and with it /sys are the host's; nothing is limited.
fn make_rootless(spec: &mut oci::Spec, user: u32, group: u32) {
    for mount in &mut spec.mounts {
        mount.options.retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
        if mount.destination == "/sys" {
            mount.kind = Some("none".into());
            mount.source = Some("/sys".into());
            mount.options = ["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
        }
    }
    let Some(linux) = &mut spec.linux else { return };
    linux.namespaces.retain(|namespace| namespace.kind != oci::NamespaceKind::Network);
    linux.namespaces.push(oci::Namespace { kind: oci::NamespaceKind::User, path: None });
    linux.uid_mappings = vec![oci::IdMapping { container_id: 0, host_id: user, size: 1 }];
    linux.gid_mappings = vec![oci::IdMapping { container_id: 0, host_id: group, size: 1 }];
    linux.resources = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, namespaces::flag_of};

    #[test]
    fn the_first_configuration_is_one_that_this_runtime_takes() {
        let context = plan::Context {
            bundle: Path::new("/b"),
            terminal: true,
            idmap_root: false,
            joined_ids: None,
            no_pivot: false,
            caller: crate::caller::Caller::Machine,
        };
        plan::plan(&first_spec(), context).unwrap();
        let mut rootless = first_spec();
        make_rootless(&mut rootless, 1000, 1000);
        plan::plan(&rootless, plan::Context { caller: crate::caller::Caller::User, ..context }).unwrap();
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = vec![["ID".to_owned(), "PID".to_owned()], ["web-1".to_owned(), "7".to_owned()]];
        assert_eq!(table(rows), "ID          PID\nweb-1       7\n");
    }

    /// What is listed is what is taken: each word goes through the reader that it is listed for.
    #[test]
    fn what_features_lists_is_read() {
        let features = features();
        let list = |pointer: &str| -> Vec<String> {
            serde_json::from_value(features.pointer(pointer).unwrap().clone()).unwrap()
        };
        let kinds = features["linux"]["namespaces"].as_array().unwrap();
        let flags = kinds.iter().map(|kind| flag_of(serde_json::from_value(kind.clone()).unwrap()));
        assert_eq!(flags.fold(0, |all, flag| all | flag).count_ones(), 8);
        for action in list("/linux/seccomp/actions") {
            assert!(action.parse::<Action>().is_ok(), "{action}");
        }
        let flags = list("/linux/seccomp/supportedFlags");
        let architectures = list("/linux/seccomp/archs");
        let profile = oci::Seccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            flags,
            architectures,
            ..Default::default()
        };
        seccomp::compile(&profile).unwrap();
        let known = options::parse("options", &list("/mountOptions")).unwrap();
        assert!(known.data.iter().all(|(_, value)| value.is_none()), "{known:?}");
        assert_eq!(list("/hooks").len(), 6);
        assert_eq!(list("/linux/memoryPolicy/modes").len(), 7);
    }
}
