//! What a process is to the machine: execution domain, memory nodes, CPUs, disk and CPU time, OOM score.

use std::fs;

use serde_json::json;

use crate::driver::Bundle;

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
    // The initial ones are no promise for afterwards: entering a cpuset of v1 sets them anew.
    assert_eq!(allowed(json!({ "initial": "0", "final": "0-1" })).code, 0);
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
    // Before Linux 6.2 a process that enters a cpuset may use all of it, whatever it has asked for.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers =
        release.split(|other: char| !other.is_ascii_digit()).map_while(|text| text.parse::<u32>().ok());
    let keeps = (numbers.next(), numbers.next()) >= (Some(6), Some(2));
    for one in ["0", "1"].into_iter().filter(|_| keeps) {
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
