//! The exact defaults: a change here is a change of what a container may do.

use tinyd_core::{
    ContainerId, Name,
    config::{ContainerConfig, Mount, Resources, Security, Ulimit},
};

use super::*;

const BASE: u32 = 0x4000_0000;

fn record(config: ContainerConfig) -> Record {
    Record {
        id: ContainerId::from_bytes([0xab; 32]),
        name: Name::parse("", "web").unwrap(),
        created_unix_nanos: 1,
        config,
        image: None,
        own_volumes: Vec::new(),
        storage: "overlay".into(),
        userns_base: Some(BASE),
        endpoint: Endpoint::Bridge {
            network: Name::parse("", "n").unwrap(),
            ip: [10, 5, 0, 2].into(),
            prefix_len: 16,
            gateway: [10, 5, 0, 1].into(),
        },
        run: false,
        era: String::new(),
        warnings: Vec::new(),
    }
}

fn host() -> Host {
    Host {
        cpus: vec![0, 1],
        capabilities: owned(&caps::ALL[..20]),
        has_ipv6: true,
        hostname: "outside".into(),
        thermal: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
        ..Host::default()
    }
}

fn root() -> Identity {
    Identity { uid: 0, gid: 0, groups: vec![0], home: "/root".into() }
}

fn build(record: &Record, userns: Option<u32>, user: &Identity, binds: &[Bind]) -> oci::Spec {
    spec(&Inputs {
        record,
        host: &host(),
        userns,
        user,
        dir: Path::new("/var/lib/tinyd/containers/x"),
        etc: Path::new("/run/tinyd/containers/x"),
        cgroup: "/tinyd-main/x",
        netns: Some("/proc/7/ns/net".into()),
        binds,
        devices: &[],
        size: None,
    })
    .unwrap()
}

fn config() -> ContainerConfig {
    ContainerConfig { command: vec!["/bin/sh".into()], ..ContainerConfig::default() }
}

fn mount<'a>(spec: &'a oci::Spec, destination: &str) -> &'a oci::Mount {
    spec.mounts.iter().find(|mount| mount.destination == destination).unwrap()
}

fn has(mount: &oci::Mount, option: &str) -> bool {
    mount.options.iter().any(|has| has == option)
}

#[test]
fn the_default_is_a_small_cage() {
    let spec = build(&record(config()), Some(BASE), &root(), &[]);
    let (process, linux) = (spec.process.clone().unwrap(), spec.linux.clone().unwrap());
    let sets = process.capabilities.unwrap();
    assert_eq!(sets.bounding, caps::DEFAULT);
    assert_eq!((&sets.effective, &sets.permitted), (&sets.bounding, &sets.bounding));
    assert!(sets.inheritable.is_empty() && sets.ambient.is_empty());
    assert_eq!(process.env[0], format!("PATH={DEFAULT_PATH}"));
    assert_eq!(process.env[1], "HOSTNAME=abababababab");
    assert!(process.env.contains(&"HOME=/root".into()));
    let kinds: Vec<_> = linux.namespaces.iter().map(|namespace| namespace.kind).collect();
    use oci::NamespaceKind::*;
    assert_eq!(kinds, [Pid, Ipc, Uts, Mount, Cgroup, User, Network]);
    assert_eq!(linux.uid_mappings, [oci::IdMapping { container_id: 0, host_id: BASE, size: 65_536 }]);
    assert_eq!(linux.gid_mappings, linux.uid_mappings);
    assert_eq!(linux.sysctl["net.ipv4.ping_group_range"], "0 65535");
    assert_eq!(linux.sysctl["net.ipv4.ip_unprivileged_port_start"], "0");
    assert_eq!(linux.sysctl["net.ipv6.conf.all.disable_ipv6"], "1");
    for masked in ["/proc/kcore", "/sys/firmware", "/sys/devices/system/cpu/cpu0/thermal_throttle"] {
        assert!(linux.masked_paths.contains(&masked.into()), "{masked}");
    }
    assert_eq!(linux.readonly_paths, READ_ONLY);
    let resources = linux.resources.unwrap();
    assert_eq!(resources.pids.unwrap().limit, 4096);
    assert!(!resources.devices[0].allow && resources.devices[0].major.is_none());
    assert!(resources.devices[1..].iter().all(|rule| rule.allow && rule.major.is_some()));
    assert!(has(mount(&spec, "/sys"), "ro") && has(mount(&spec, "/sys/fs/cgroup"), "ro"));
    assert_eq!(linux.cgroups_path.unwrap(), "/tinyd-main/x");
}

#[test]
fn another_user_holds_no_capability() {
    let user = Identity { uid: 33, gid: 33, groups: vec![33], home: "/var/www".into() };
    let sets = build(&record(config()), Some(BASE), &user, &[]).process.unwrap().capabilities.unwrap();
    assert_eq!(sets.bounding, caps::DEFAULT);
    assert!(sets.effective.is_empty() && sets.permitted.is_empty());
}

#[test]
fn privileged_opens_everything() {
    let security = Security { privileged: true, ..Security::default() };
    let record = record(ContainerConfig { security, ..config() });
    let spec = build(&record, None, &root(), &[]);
    let linux = spec.linux.clone().unwrap();
    assert!(
        linux.masked_paths.is_empty() && linux.readonly_paths.is_empty() && linux.uid_mappings.is_empty()
    );
    assert!(linux.resources.unwrap().devices.iter().all(|rule| rule.allow));
    assert!(has(mount(&spec, "/sys"), "rw") && has(mount(&spec, "/sys/fs/cgroup"), "rw"));
    assert_eq!(spec.process.unwrap().capabilities.unwrap().bounding, host().capabilities);
    assert_eq!(seccomp(&record, &host(), None).unwrap(), wire::Seccomp::Unconfined);
    assert_eq!(linux.sysctl["net.ipv4.ping_group_range"], "0 2147483647");
}

#[test]
fn limits_are_the_users() {
    let resources = Resources {
        cpu_quota_us: Some(10_000),
        cpuset_cpus: Some("0".into()),
        memory_bytes: Some(500 << 20),
        memory_swap_bytes: None,
        pids_limit: Some(-1),
        ulimits: vec![Ulimit { name: "nofile".into(), soft: 1, hard: 2 }],
    };
    let spec = build(&record(ContainerConfig { resources, ..config() }), Some(BASE), &root(), &[]);
    let limits = spec.linux.unwrap().resources.unwrap();
    let memory = limits.memory.unwrap();
    assert_eq!((memory.limit, memory.swap), (Some(500 << 20), Some(500 << 20)));
    let cpu = limits.cpu.unwrap();
    assert_eq!((cpu.quota, cpu.period, cpu.cpus.as_deref()), (Some(10_000), Some(100_000), Some("0")));
    assert_eq!(limits.pids.unwrap().limit, -1);
    assert_eq!(spec.process.unwrap().rlimits[0].kind, "RLIMIT_NOFILE");
}

#[test]
fn volumes_are_mapped_harmless_and_in_order() {
    let bind = |source: &str, target: &str, read_only| Bind {
        source: source.into(),
        target: target.into(),
        read_only,
    };
    let binds =
        [bind("/b", "/data/deep/er", true), bind("/a", "/data", false), bind("/shm", "/dev/shm", false)];
    let spec = build(&record(config()), Some(BASE), &root(), &binds);
    let at = |path: &str| spec.mounts.iter().position(|mount| mount.destination == path).unwrap();
    assert!(at("/data") < at("/data/deep/er"));
    assert!(at("/dev") < at("/dev/shm"));
    assert_eq!(spec.mounts.iter().filter(|mount| mount.destination == "/dev/shm").count(), 1);
    let (data, deep) = (mount(&spec, "/data"), mount(&spec, "/data/deep/er"));
    assert!(has(deep, "rro") && !has(data, "rro"));
    for option in ["rbind", "rprivate", "nosuid", "nodev", "x-tinyd.idmap"] {
        assert!(has(data, option), "{option}");
    }
    let unmapped = build(&record(config()), None, &root(), &binds);
    assert!(!has(mount(&unmapped, "/data"), "x-tinyd.idmap"));
}

#[test]
fn a_tmpfs_has_what_was_asked() {
    let mounts = vec![Mount::parse_tmpfs("--tmpfs", "/run:size=1m,mode=700").unwrap()];
    let spec = build(&record(ContainerConfig { mounts, ..config() }), Some(BASE), &root(), &[]);
    assert_eq!(mount(&spec, "/run").options, ["nosuid", "nodev", "mode=700", "noexec", "size=1048576"]);
}

#[test]
fn somebody_elses_network_is_joined_and_left_alone() {
    let mut shared = record(config());
    shared.endpoint = Endpoint::Container(ContainerId::from_bytes([1; 32]));
    let spec = build(&shared, Some(BASE), &root(), &[]);
    let linux = spec.linux.clone().unwrap();
    assert!(linux.sysctl.is_empty());
    let net =
        linux.namespaces.iter().find(|namespace| namespace.kind == oci::NamespaceKind::Network).unwrap();
    assert_eq!(net.path.as_deref(), Some("/proc/7/ns/net"));
    assert!(has(mount(&spec, "/sys"), "rro"));

    shared.endpoint = Endpoint::Host;
    let spec = build(&shared, None, &root(), &[]);
    assert_eq!(spec.hostname.as_deref(), Some("outside"));
    assert!(spec.linux.unwrap().namespaces.iter().all(|n| n.kind != oci::NamespaceKind::Network));
}

#[test]
fn an_exec_has_the_containers_environment_and_its_own() {
    let record = record(ContainerConfig { env: vec!["A=1".into(), "B=2".into()], ..config() });
    let exec = ExecConfig {
        command: vec!["env".into()],
        env: vec!["B=3".into()],
        tty: true,
        privileged: true,
        ..ExecConfig::default()
    };
    let process = exec_process(&record, &host(), Some(BASE), &root(), &exec).unwrap();
    for entry in ["A=1", "B=3", "TERM=xterm"] {
        assert!(process.env.contains(&entry.into()), "{entry}");
    }
    assert_eq!(process.capabilities.unwrap().bounding, caps::ALL);
    assert_eq!(process.cwd, "/");
}
