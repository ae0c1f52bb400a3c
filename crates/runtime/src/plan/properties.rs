//! A table of every property of the specification (1.3, config.md and config-linux.md) and where it is handled. A property that
//! the types forget, that is not in the table, or that changes nothing where the table says it does fails.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};
use tinyd_core::oci;

use super::{Context, plan};
use crate::{cgroup, launch::rdt, seccomp};

/// Where a property is handled.
#[derive(Clone, Copy, Debug)]
enum By {
    /// The plan is another one.
    Plan,
    /// The files of the cgroup are others.
    Cgroup,
    /// The filter is another one.
    Seccomp,
    /// The group of resctrl is another one.
    Rdt,
    /// Elsewhere, in a word.
    Elsewhere(&'static str),
    /// Nowhere, and why that is right.
    Nowhere(&'static str),
}

use By::{Cgroup, Elsewhere, Nowhere, Plan, Rdt, Seccomp};

#[rustfmt::skip]
fn table() -> Vec<(&'static str, Value, By)> {
    let mut table = vec![
        ("/ociVersion", json!("2.0.0"), Plan),
        ("/root/path", json!("other"), Plan),
        ("/root/readonly", json!(false), Plan),
        ("/mounts/0/destination", json!("/other"), Plan),
        ("/mounts/0/source", json!("/other"), Plan),
        ("/mounts/0/type", json!("bind"), Nowhere("with a bind option the type says nothing")),
        ("/mounts/0/options/0", json!("bind"), Plan),
        ("/mounts/0/options/1", json!("noexec"), Plan),
        ("/mounts/0/uidMappings/0/containerID", json!(7), Plan),
        ("/mounts/0/uidMappings/0/hostID", json!(7), Plan),
        ("/mounts/0/uidMappings/0/size", json!(7), Plan),
        ("/mounts/0/gidMappings/0/containerID", json!(7), Plan),
        ("/mounts/0/gidMappings/0/hostID", json!(7), Plan),
        ("/mounts/0/gidMappings/0/size", json!(7), Plan),
        ("/process/terminal", json!(false), Elsewhere("launch::Stdio")),
        ("/process/consoleSize/height", json!(26), Plan),
        ("/process/consoleSize/width", json!(81), Plan),
        ("/process/cwd", json!("/other"), Plan),
        ("/process/env/0", json!("B=1"), Plan),
        ("/process/args/0", json!("true"), Plan),
        ("/process/rlimits/0/type", json!("RLIMIT_NOFILE"), Plan),
        ("/process/rlimits/0/soft", json!(0), Plan),
        ("/process/rlimits/0/hard", json!(3), Plan),
        ("/process/apparmorProfile", json!("other"), Plan),
        ("/process/selinuxLabel", json!("other"), Plan),
        ("/process/capabilities/bounding/0", json!("CAP_CHOWN"), Plan),
        ("/process/capabilities/effective/0", json!("CAP_CHOWN"), Plan),
        ("/process/capabilities/inheritable/0", json!("CAP_CHOWN"), Plan),
        ("/process/capabilities/permitted/0", json!("CAP_CHOWN"), Plan),
        ("/process/capabilities/ambient/0", json!("CAP_CHOWN"), Plan),
        ("/process/noNewPrivileges", json!(false), Plan),
        ("/process/oomScoreAdj", json!(101), Plan),
        ("/process/scheduler/policy", json!("SCHED_FIFO"), Plan),
        ("/process/scheduler/nice", json!(2), Plan),
        ("/process/scheduler/priority", json!(3), Plan),
        ("/process/scheduler/flags/0", json!("SCHED_FLAG_DL_OVERRUN"), Plan),
        ("/process/scheduler/runtime", json!(9), Plan),
        ("/process/scheduler/deadline", json!(9), Plan),
        ("/process/scheduler/period", json!(9), Plan),
        ("/process/ioPriority/class", json!("IOPRIO_CLASS_RT"), Plan),
        ("/process/ioPriority/priority", json!(5), Plan),
        ("/process/execCPUAffinity/initial", json!("2"), Plan),
        ("/process/execCPUAffinity/final", json!("2"), Plan),
        ("/process/user/uid", json!(17), Plan),
        ("/process/user/gid", json!(18), Plan),
        ("/process/user/umask", json!(18), Plan),
        ("/process/user/additionalGids/0", json!(19), Plan),
        ("/hostname", json!("other"), Plan),
        ("/domainname", json!("other"), Plan),
        ("/annotations/a.b", json!("d"), Elsewhere("hooks::state, container::state")),
        ("/linux/namespaces/0/type", json!("time"), Plan),
        ("/linux/namespaces/0/path", json!("/run/netns/b"), Plan),
        ("/linux/namespaces/1/type", json!("time"), Plan),
        ("/linux/namespaces/2/type", json!("time"), Plan),
        ("/linux/namespaces/3/type", json!("time"), Plan),
        ("/linux/namespaces/4/type", json!("time"), Plan),
        ("/linux/namespaces/5/type", json!("time"), Plan),
        ("/linux/namespaces/6/type", json!("time"), Plan),
        ("/linux/namespaces/7/type", json!("cgroup"), Plan),
        ("/linux/uidMappings/0/containerID", json!(1), Plan),
        ("/linux/uidMappings/0/hostID", json!(1001), Plan),
        ("/linux/uidMappings/0/size", json!(101), Plan),
        ("/linux/gidMappings/0/containerID", json!(1), Plan),
        ("/linux/gidMappings/0/hostID", json!(2001), Plan),
        ("/linux/gidMappings/0/size", json!(101), Plan),
        ("/linux/timeOffsets/monotonic/secs", json!(11), Plan),
        ("/linux/timeOffsets/monotonic/nanosecs", json!(11), Plan),
        ("/linux/timeOffsets/boottime/secs", json!(11), Plan),
        ("/linux/timeOffsets/boottime/nanosecs", json!(11), Plan),
        ("/linux/devices/0/path", json!("/dev/other"), Plan),
        ("/linux/devices/0/type", json!("b"), Plan),
        ("/linux/devices/0/major", json!(11), Plan),
        ("/linux/devices/0/minor", json!(11), Plan),
        ("/linux/devices/0/fileMode", json!(384), Plan),
        ("/linux/devices/0/uid", json!(11), Plan),
        ("/linux/devices/0/gid", json!(11), Plan),
        ("/linux/netDevices/eth1/name", json!("wan"), Plan),
        ("/linux/cgroupsPath", json!("/other"), Elsewhere("launch::make_cgroup")),
        ("/linux/resources/devices/0/allow", json!(false), Cgroup),
        ("/linux/resources/devices/0/type", json!("b"), Cgroup),
        ("/linux/resources/devices/0/major", json!(11), Cgroup),
        ("/linux/resources/devices/0/minor", json!(11), Cgroup),
        ("/linux/resources/devices/0/access", json!("m"), Cgroup),
        ("/linux/resources/memory/limit", json!(1_000_001), Cgroup),
        ("/linux/resources/memory/reservation", json!(7), Cgroup),
        ("/linux/resources/memory/swap", json!(2_000_001), Cgroup),
        ("/linux/resources/memory/kernel", json!(7), Nowhere("obsolete since 1.1: kernels have no such limit any more")),
        ("/linux/resources/memory/kernelTCP", json!(7), Cgroup),
        ("/linux/resources/memory/swappiness", json!(7), Cgroup),
        ("/linux/resources/memory/disableOOMKiller", json!(false), Cgroup),
        ("/linux/resources/memory/useHierarchy", json!(false), Nowhere("every kernel since 5.11 accounts by hierarchy")),
        ("/linux/resources/memory/checkBeforeUpdate", json!(false), Elsewhere("cgroup::v2::Group::apply")),
        ("/linux/resources/cpu/shares", json!(513), Cgroup),
        ("/linux/resources/cpu/quota", json!(20001), Cgroup),
        ("/linux/resources/cpu/burst", json!(1001), Cgroup),
        ("/linux/resources/cpu/period", json!(100_001), Cgroup),
        ("/linux/resources/cpu/realtimeRuntime", json!(7), Cgroup),
        ("/linux/resources/cpu/realtimePeriod", json!(7), Cgroup),
        ("/linux/resources/cpu/cpus", json!("1"), Cgroup),
        ("/linux/resources/cpu/mems", json!("1"), Cgroup),
        ("/linux/resources/cpu/idle", json!(1), Cgroup),
        ("/linux/resources/blockIO/weight", json!(101), Cgroup),
        ("/linux/resources/blockIO/leafWeight", json!(201), Cgroup),
        ("/linux/resources/blockIO/weightDevice/0/major", json!(7), Cgroup),
        ("/linux/resources/blockIO/weightDevice/0/minor", json!(7), Cgroup),
        ("/linux/resources/blockIO/weightDevice/0/weight", json!(301), Cgroup),
        ("/linux/resources/blockIO/weightDevice/0/leafWeight", json!(401), Cgroup),
        ("/linux/resources/hugepageLimits/0/pageSize", json!("1GB"), Cgroup),
        ("/linux/resources/hugepageLimits/0/limit", json!(0), Cgroup),
        ("/linux/resources/network/classID", json!(7), Cgroup),
        ("/linux/resources/network/priorities/0/name", json!("eth0"), Cgroup),
        ("/linux/resources/network/priorities/0/priority", json!(7), Cgroup),
        ("/linux/resources/pids/limit", json!(101), Cgroup),
        ("/linux/resources/rdma/mlx5_1/hcaHandles", json!(7), Cgroup),
        ("/linux/resources/rdma/mlx5_1/hcaObjects", json!(7), Cgroup),
        ("/linux/resources/unified/memory.high", json!("2000"), Cgroup),
        ("/linux/intelRdt/closID", json!("silver"), Rdt),
        ("/linux/intelRdt/schemata/0", json!("L3:0=7"), Rdt),
        ("/linux/intelRdt/l3CacheSchema", json!("L3:0=f"), Rdt),
        ("/linux/intelRdt/memBwSchema", json!("MB:0=20"), Rdt),
        ("/linux/intelRdt/enableMonitoring", json!(false), Rdt),
        ("/linux/intelRdt/enableCMT", json!(false), Rdt),
        ("/linux/intelRdt/enableMBM", json!(false), Rdt),
        ("/linux/memoryPolicy/mode", json!("MPOL_INTERLEAVE"), Plan),
        ("/linux/memoryPolicy/nodes", json!("1"), Plan),
        ("/linux/memoryPolicy/flags/0", json!("MPOL_F_RELATIVE_NODES"), Plan),
        ("/linux/sysctl/net.core.somaxconn", json!("101"), Plan),
        ("/linux/seccomp/defaultAction", json!("SCMP_ACT_ALLOW"), Seccomp),
        ("/linux/seccomp/defaultErrnoRet", json!(7), Seccomp),
        ("/linux/seccomp/architectures/0", json!("SCMP_ARCH_X32"), Seccomp),
        ("/linux/seccomp/flags/0", json!("SECCOMP_FILTER_FLAG_TSYNC"), Seccomp),
        ("/linux/seccomp/listenerPath", json!("/run/other"), Elsewhere("launch::agent")),
        ("/linux/seccomp/listenerMetadata", json!("y"), Elsewhere("launch::agent")),
        ("/linux/seccomp/syscalls/0/names/0", json!("mkdir"), Seccomp),
        ("/linux/seccomp/syscalls/0/action", json!("SCMP_ACT_KILL"), Seccomp),
        ("/linux/seccomp/syscalls/0/errnoRet", json!(7), Seccomp),
        ("/linux/seccomp/syscalls/0/args/0/index", json!(2), Seccomp),
        ("/linux/seccomp/syscalls/0/args/0/value", json!(7), Seccomp),
        ("/linux/seccomp/syscalls/0/args/0/valueTwo", json!(0), Seccomp),
        ("/linux/seccomp/syscalls/0/args/0/op", json!("SCMP_CMP_NE"), Seccomp),
        ("/linux/rootfsPropagation", json!("shared"), Plan),
        ("/linux/maskedPaths/0", json!("/proc/keys"), Plan),
        ("/linux/readonlyPaths/0", json!("/proc/bus"), Plan),
        ("/linux/mountLabel", json!("u:o:x:s0"), Plan),
        ("/linux/personality/domain", json!("LINUX"), Plan),
    ];
    for point in super::hooks::POINTS {
        for (name, value) in [("path", json!("/b")), ("args/0", json!("b")), ("env/0", json!("B=1")), ("timeout", json!(2))] {
            table.push((format!("/hooks/{point}/0/{name}").leak(), value, Plan));
        }
    }
    for kind in ["ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"] {
        for (name, value) in [("major", 7), ("minor", 7), ("rate", 7)] {
            let pointer = format!("/linux/resources/blockIO/throttle{kind}Device/0/{name}");
            table.push((pointer.leak(), json!(value), Cgroup));
        }
    }
    table
}

fn full() -> Value {
    serde_json::from_str(include_str!("every-property.json")).unwrap()
}

fn leaves(at: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| leaves(&format!("{at}/{name}"), value, found));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| leaves(&format!("{at}/{index}"), value, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(at.to_owned());
        }
    }
}

/// What is decided of a configuration, in words. Of the limits only the group that `pointer` is in: v1 and v2 each refuse some.
fn decided(by: By, pointer: &str, config: &Value) -> String {
    let mut config = config.clone();
    let group = pointer.strip_prefix("/linux/resources/").and_then(|rest| rest.split('/').next());
    if let Some(group) = group {
        config["linux"]["resources"].as_object_mut().unwrap().retain(|name, _| name == group);
    }
    if pointer.starts_with("/linux/intelRdt/enable") {
        // One of the three is enough.
        let group = config["linux"]["intelRdt"].as_object_mut().unwrap();
        group.retain(|name, _| !name.starts_with("enable") || pointer.ends_with(name.as_str()));
    }
    let spec: oci::Spec = serde_json::from_value(config).unwrap();
    let linux = spec.linux.as_ref().unwrap();
    match by {
        Plan => {
            let context = Context {
                bundle: Path::new("/b"),
                terminal: true,
                idmap_root: false,
                joined_ids: None,
                no_pivot: false,
                caller: crate::caller::Caller::Machine,
            };
            format!("{:?}", plan(&spec, context))
        }
        Cgroup => cgroup::decided(linux.resources.as_ref().unwrap()),
        Seccomp => format!("{:?}", seccomp::compile(linux.seccomp.as_ref().unwrap())),
        Rdt => format!("{:?}", rdt::group_in(Path::new("/r"), linux.intel_rdt.as_ref().unwrap(), "id")),
        Elsewhere(_) | Nowhere(_) => String::new(),
    }
}

#[test]
fn every_property_is_read_and_is_in_the_table() {
    let mut full = full();
    let mut found = BTreeSet::new();
    leaves("", &full, &mut found);
    let table: BTreeSet<String> = table().into_iter().map(|(pointer, ..)| pointer.to_owned()).collect();
    assert_eq!(found, table);
    let spec: oci::Spec = serde_json::from_value(full.clone()).unwrap();
    full["linux"]["personality"].as_object_mut().unwrap().remove("flags");
    assert_eq!(serde_json::to_value(&spec).unwrap(), full, "a property is forgotten");
}

#[test]
fn every_property_changes_what_the_table_says() {
    let full = full();
    for (pointer, value, by) in table() {
        let mut other = full.clone();
        let place = other.pointer_mut(pointer).unwrap();
        assert_ne!(*place, value, "{pointer}");
        *place = value;
        let (before, after) = (decided(by, pointer, &full), decided(by, pointer, &other));
        match by {
            Plan | Cgroup | Seccomp | Rdt => assert!(before != after, "{pointer} changes nothing"),
            Elsewhere(place) => assert!(!place.is_empty() && before == after),
            Nowhere(why) => assert!(!why.is_empty()),
        }
    }
}

#[test]
fn the_configuration_with_every_property_is_one_that_is_planned() {
    let planned = decided(Plan, "", &full());
    assert!(planned.starts_with("Ok("), "{planned}");
}
