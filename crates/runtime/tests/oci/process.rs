//! What a process is to the machine: execution domain, memory nodes, CPUs, disk and CPU time, OOM score.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{calls, driver::Bundle};

#[test]
fn the_execution_domain_and_the_memory_policy_hold_for_every_process() {
    let mut bundle = Bundle::new("domain").args(&["sleep", "1000"]);
    fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/uname")).unwrap();
    bundle.spec["linux"]["personality"] = json!({ "domain": "LINUX32" });
    bundle.spec["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0" });
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let pid = bundle.state()["pid"].to_string();
    let persona = fs::read_to_string(format!("/proc/{pid}/personality")).unwrap();
    assert_eq!(persona, "00000008\n");
    let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps")).unwrap();
    let stack = maps.lines().find(|line| line.contains(" stack ")).unwrap();
    assert!(stack.contains(" interleave:0 "), "{maps}");
    bundle.tinyrun(&["exec", &bundle.id, "uname", "-m"]).says("i686");
    let said = bundle.tinyrun(&["exec", &bundle.id, "grep", "-c", "interleave:0", "/proc/self/numa_maps"]);
    assert!(said.code == 0 && said.out != "0", "{said:?}");
    let mut other = Bundle::new("domain-bad").args(&["true"]);
    other.spec["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "" });
    other.run().fails(1, "linux.memoryPolicy: set_mempolicy(");
}

#[test]
fn each_memory_policy_has_its_flags() {
    let mut bundle = Bundle::new("policies").args(&["grep", " stack ", "/proc/self/numa_maps"]);
    // Linux 6.9 has one more.
    let weighted =
        ("MPOL_WEIGHTED_INTERLEAVE", "0", &["MPOL_F_STATIC_NODES"][..], "weighted interleave=static:0");
    let modern = Path::new("/sys/kernel/mm/mempolicy/weighted_interleave").exists().then_some(weighted);
    let known = [
        ("MPOL_DEFAULT", "", &[][..], "default"),
        ("MPOL_LOCAL", "", &[], "local"),
        ("MPOL_PREFERRED", "0", &["MPOL_F_STATIC_NODES"], "prefer=static:0"),
        ("MPOL_PREFERRED_MANY", "0", &["MPOL_F_RELATIVE_NODES"], "prefer (many)=relative:0"),
        ("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES"], "bind=static:0"),
        ("MPOL_BIND", "0", &["MPOL_F_NUMA_BALANCING"], "bind=balancing:0"),
        ("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"], "bind=static|balancing:0"),
        ("MPOL_INTERLEAVE", "0", &["MPOL_F_RELATIVE_NODES"], "interleave=relative:0"),
    ];
    for (mode, nodes, flags, shown) in known.into_iter().chain(modern) {
        bundle.spec["linux"]["memoryPolicy"] = json!({ "mode": mode, "nodes": nodes, "flags": flags });
        let said = bundle.run();
        assert!(said.out.contains(&format!(" {shown} stack ")), "{mode} {flags:?}: {said:?}");
    }
}

/// Whether this process has CAP_SYS_RESOURCE, which is number 24.
fn may_raise_limits() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    u64::from_str_radix(effective, 16).unwrap() & 1 << 24 != 0
}

/// The soft and the hard limit that a process's list has by this name.
fn limits(list: &str, name: &str) -> [u64; 2] {
    let line =
        list.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {list}"));
    let mut words = line.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
    [words.next().unwrap(), words.next().unwrap()]
}

/// In the kernel's words. What is added has them too, unless it brings others.
#[test]
fn each_resource_has_its_two_limits_for_every_process() {
    const NONE: u64 = u64::MAX;
    const LIMITS: [(&str, &str, u64, u64); 16] = [
        ("RLIMIT_CPU", "Max cpu time", 1001, 1002),
        ("RLIMIT_FSIZE", "Max file size", 1 << 30, 1 << 31),
        ("RLIMIT_DATA", "Max data size", 1 << 28, 1 << 29),
        ("RLIMIT_STACK", "Max stack size", 1 << 20, 1 << 21),
        ("RLIMIT_CORE", "Max core file size", 0, 4096),
        ("RLIMIT_RSS", "Max resident set", 1 << 27, NONE),
        ("RLIMIT_NPROC", "Max processes", 1003, 1004),
        ("RLIMIT_NOFILE", "Max open files", 101, 102),
        ("RLIMIT_MEMLOCK", "Max locked memory", 8192, 12288),
        ("RLIMIT_AS", "Max address space", 1 << 32, 1 << 33),
        ("RLIMIT_LOCKS", "Max file locks", 103, NONE),
        ("RLIMIT_SIGPENDING", "Max pending signals", 104, 105),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 106, 107),
        ("RLIMIT_NICE", "Max nice priority", 11, 12),
        ("RLIMIT_RTPRIO", "Max realtime priority", 13, 14),
        ("RLIMIT_RTTIME", "Max realtime timeout", 1_000_001, 1_000_002),
    ];
    let mut bundle = Bundle::new("rlimits").args(&["sleep", "1000"]);
    let limit = |(kind, _, soft, hard)| json!({ "type": kind, "soft": soft, "hard": hard });
    bundle.spec["process"]["rlimits"] = LIMITS.into_iter().map(limit).collect();
    bundle.write();
    let started = bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    started.says("");
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    for process in ["1", "self"] {
        let said = bundle.tinyrun(&["exec", &bundle.id, "cat", &format!("/proc/{process}/limits")]);
        for (kind, name, soft, hard) in LIMITS {
            // Who may raise none is told of those that are above its own.
            let most = if may_raise_limits() { NONE } else { limits(&own, name)[1] };
            assert_eq!(started.err.contains(&format!("process.rlimits: {kind}: ")), hard > most, "{kind}");
            let wanted = [soft.min(most), hard.min(most)];
            assert_eq!(limits(&said.out, name), wanted, "{process}: {kind}: {started:?}");
        }
    }
    let mut process = bundle.spec["process"].clone();
    process["args"] = json!(["grep", "open files", "/proc/self/limits"]);
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 201, "hard": 202 }]);
    let file = bundle.dir.join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let said = bundle.tinyrun(&["exec", "--process", file.to_str().unwrap(), &bundle.id]);
    assert_eq!(
        said.out.split_whitespace().collect::<Vec<_>>(),
        ["Max", "open", "files", "201", "202", "files"]
    );
}

/// Before Linux 6.2 a process that enters a cpuset may use all of it, whatever it has asked for.
fn keeps_cpus() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers =
        release.split(|other: char| !other.is_ascii_digit()).map_while(|text| text.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(2))
}

#[test]
fn a_process_that_is_added_enters_on_its_cpus() {
    let bundle = Bundle::new("affinity").args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let allowed = |affinity: serde_json::Value| {
        let mut process = bundle.spec["process"].clone();
        process["args"] = json!(["grep", "Cpus_allowed_list", "/proc/self/status"]);
        process["execCPUAffinity"] = affinity;
        let file = bundle.dir.join("process.json");
        fs::write(&file, process.to_string()).unwrap();
        bundle.tinyrun(&["exec", "--process", file.to_str().unwrap(), &bundle.id])
    };
    let all = allowed(json!(null)).out;
    assert_ne!(all, "Cpus_allowed_list:\t0", "one CPU is too few for this test");
    allowed(json!({ "final": "0" })).says("Cpus_allowed_list:\t0");
    // The initial ones are no promise for afterwards: before Linux 6.2 entering a cpuset of v1 sets them anew.
    let initial = allowed(json!({ "initial": "0" })).out;
    assert_eq!(initial, if keeps_cpus() { "Cpus_allowed_list:\t0" } else { &all });
    allowed(json!({ "initial": "0", "final": "0-1" })).says("Cpus_allowed_list:\t0-1");
    allowed(json!({ "initial": "1000" }))
        .fails(255, "process.execCPUAffinity.initial: sched_setaffinity([1000])");
    allowed(json!({ "final": "1-" })).fails(255, "process.execCPUAffinity.final");
}

#[test]
fn a_first_process_may_use_the_cpus_that_its_caller_may() {
    let mut bundle = Bundle::new("cpus").script("grep Cpus_allowed_list /proc/self/status");
    bundle.write();
    let dir = bundle.dir.to_str().unwrap().to_owned();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
    assert_ne!(own, "Cpus_allowed_list:\t0", "one CPU is too few for this test");
    bundle.tinyrun(&["run", "--bundle", &dir, &bundle.id]).says(own);
    for one in ["0", "1"].into_iter().filter(|_| keeps_cpus()) {
        let said = bundle.tinyrun_in(&["taskset", "-c", one], &["run", "--bundle", &dir, &bundle.id]);
        said.says(&format!("Cpus_allowed_list:\t{one}"));
    }
    // A cpuset that grows later has it grow too.
    bundle = bundle.args(&["sleep", "1000"]);
    bundle.spec["linux"]["resources"]["cpu"] = json!({ "cpus": "0" });
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", &dir, &bundle.id]).says("");
    let first = || bundle.tinyrun(&["exec", &bundle.id, "grep", "Cpus_allowed_list", "/proc/1/status"]);
    first().says("Cpus_allowed_list:\t0");
    bundle.tinyrun(&["update", "--cpuset-cpus", "0-1", &bundle.id]).says("");
    first().says("Cpus_allowed_list:\t0-1");
}

#[test]
fn the_scheduler_and_the_disks_priority_are_the_programs() {
    let mut bundle = Bundle::new("scheduler").args(&["sleep", "1000"]);
    bundle.spec["process"]["scheduler"] =
        json!({ "policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    bundle.spec["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let pid = bundle.state()["pid"].to_string();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // proc_pid_stat(5): nice is field 19, policy 41; the third is the first here.
    assert_eq!((fields[16], fields[38]), ("7", "3"));
    let ionice = std::process::Command::new("ionice").args(["-p", &pid]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ionice.stdout).trim(), "best-effort: prio 6");
    let mut bad = Bundle::new("scheduler-bad").args(&["true"]);
    bad.spec["process"]["scheduler"] =
        json!({ "policy": "SCHED_DEADLINE", "runtime": 10, "deadline": 5, "period": 5 });
    bad.run().fails(1, "process.scheduler: sched_setattr(");
}

#[test]
fn each_policy_has_its_parameters() {
    // Where groups have shares of real time, one of v1 has none that it is not given (sched-rt-group.rst).
    let is_shared = fs::exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").unwrap();
    let shown = |name: &str, scheduler: &Value, resources: &Value| {
        let mut bundle = Bundle::new(&format!("policy-{name}")).args(&["sleep", "1000"]);
        bundle.spec["process"]["scheduler"] = scheduler.clone();
        bundle.spec["linux"]["resources"] = resources.clone();
        bundle.write();
        let said = bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
        if said.code != 0 {
            return said.err;
        }
        let pid = bundle.state()["pid"].to_string();
        let chrt = std::process::Command::new("chrt").args(["-p", &pid]).output().unwrap();
        let text = String::from_utf8(chrt.stdout).unwrap();
        text.lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let none = json!({});
    let some = if is_shared {
        json!({ "cpu": { "realtimePeriod": 1_000_000, "realtimeRuntime": 100_000 } })
    } else {
        none.clone()
    };
    let reset = "SCHED_FLAG_RESET_ON_FORK";
    let deadline = json!({ "policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 50_000_000, "period": 100_000_000 });
    for (name, scheduler, resources, expected) in [
        (
            "other",
            json!({ "policy": "SCHED_OTHER", "flags": [reset] }),
            &none,
            "SCHED_OTHER|SCHED_RESET_ON_FORK 0",
        ),
        ("idle", json!({ "policy": "SCHED_IDLE" }), &none, "SCHED_IDLE 0"),
        ("fifo", json!({ "policy": "SCHED_FIFO", "priority": 42 }), &some, "SCHED_FIFO 42"),
        (
            "rr",
            json!({ "policy": "SCHED_RR", "priority": 7, "flags": [reset] }),
            &some,
            "SCHED_RR|SCHED_RESET_ON_FORK 7",
        ),
        ("deadline", deadline, &none, "SCHED_DEADLINE 0 2000000/50000000/100000000"),
    ] {
        assert_eq!(shown(name, &scheduler, resources), expected, "{name}");
    }
    if is_shared {
        let refused = shown("refused", &json!({ "policy": "SCHED_FIFO", "priority": 42 }), &none);
        assert!(refused.contains("process.scheduler: sched_setattr("), "{refused}");
    }
}

#[test]
fn an_oom_score_that_the_runtime_may_not_give_is_a_warning() {
    let mut bundle = Bundle::new("oom").script("cat /proc/self/oom_score_adj");
    bundle.spec["process"]["oomScoreAdj"] = json!(-500);
    bundle.write();
    let run = ["--debug", "run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
    let around = ["setpriv", "--bounding-set", "-sys_resource"];
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let said = bundle.tinyrun_in(&around, &run);
    assert_eq!((said.code, said.out.as_str()), (0, own.trim()), "{said:?}");
    assert!(said.err.contains("process.oomScoreAdj: -500 cannot be set"), "{said:?}");
    bundle.spec["process"]["oomScoreAdj"] = json!(321);
    bundle.run().says("321");
}

#[test]
fn clocks_are_moved_in_a_time_namespace() {
    let mut bundle = Bundle::new("clocks").script("cat /proc/uptime");
    let uptime = |text: &str| text.split(['.', ' ']).next().unwrap().parse::<i64>().unwrap();
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    bundle.spec["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000, "nanosecs": 5 } });
    for uid in [0, 1000] {
        bundle.spec["process"]["user"]["uid"] = json!(uid);
        let said = bundle.run();
        let own = uptime(&fs::read_to_string("/proc/uptime").unwrap());
        assert!((uptime(&said.out) - own - 1_000_000).abs() < 100, "{said:?} beside {own}");
    }
    // Whoever is added has the same clocks.
    let bundle = bundle.with_users().args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let said = bundle.tinyrun(&["exec", "--user", "0:0", &bundle.id, "cat", "/proc/uptime"]);
    let own = uptime(&fs::read_to_string("/proc/uptime").unwrap());
    assert!((uptime(&said.out) - own - 1_000_000).abs() < 100, "{said:?} beside {own}");
}

/// As a program asks for them: CLOCK_REALTIME, which has no offset, CLOCK_MONOTONIC, CLOCK_BOOTTIME.
#[test]
fn each_clock_has_its_own_offset() {
    const CLOCKS: [(&str, i64); 3] = [("clock:0", 0), ("clock:1", 2_000_000), ("clock:7", 3_000_000)];
    let mut bundle = calls::bundle("clocks-both", &CLOCKS.map(|(clock, _)| clock));
    let seen = |bundle: &Bundle| {
        let outcomes = calls::outcomes(bundle);
        CLOCKS.map(|(clock, _)| outcomes[clock].parse::<i64>().unwrap())
    };
    let own = seen(&bundle);
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    bundle.spec["linux"]["timeOffsets"] = json!({
        "monotonic": { "secs": 2_000_000 }, "boottime": { "secs": 2_999_999, "nanosecs": 999_999_999 },
    });
    let moved = seen(&bundle);
    for (at, (clock, offset)) in CLOCKS.iter().enumerate() {
        let later = moved[at] - own[at] - offset;
        assert!((0..100).contains(&later), "{clock}: {} and {}", own[at], moved[at]);
    }
}

#[test]
fn the_terminal_has_the_size_and_files_the_mode_that_are_asked_for() {
    let script = "stty size; umask; touch /tmp/x; stat -c %a /tmp/x";
    let mut bundle = Bundle::new("size").mount("/tmp", "tmpfs", "tmpfs", &[]).script(script);
    std::os::unix::fs::symlink("busybox", bundle.rootfs("bin/stty")).unwrap();
    bundle.spec["process"]["terminal"] = json!(true);
    bundle.spec["process"]["consoleSize"] = json!({ "height": 33, "width": 101 });
    bundle.spec["process"]["user"]["umask"] = json!(0o027);
    let said = bundle.run();
    assert_eq!(said.out.split_whitespace().collect::<Vec<_>>(), ["33", "101", "0027", "640"], "{said:?}");
    // Who says nothing has the usual mask.
    bundle.spec["process"]["user"]["umask"].take();
    assert!(bundle.run().out.contains("0022"));
    // Whoever is added has its own.
    let process = json!({ "terminal": true, "consoleSize": { "height": 5, "width": 7 }, "cwd": "/", "args": ["stty", "size"],
        "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 } });
    let mut bundle = bundle.args(&["sleep", "1000"]);
    let file = bundle.dir.join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    bundle.spec["process"]["terminal"] = json!(false);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["exec", "--process", file.to_str().unwrap(), &bundle.id]).says("5 7");
}
