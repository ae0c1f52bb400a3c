//! Verbs, states, exit codes, failures.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::driver::{Bundle, until_stopped, wait_for};

#[test]
fn the_exit_status_is_the_containers() {
    let bundle = Bundle::new("status").script("echo out; echo err >&2; exit 42");
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (42, "out", "err"));
    bundle.assert_clean();
}

#[test]
fn a_life_in_single_steps() {
    let bundle = Bundle::new("life").args(&["sleep", "1000"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    let pid_file = bundle.dir.join("pid");
    bundle
        .tinyrun(&["create", "--bundle", dir, "--pid-file", pid_file.to_str().unwrap(), &bundle.id])
        .says("");
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"].to_string(), fs::read_to_string(&pid_file).unwrap());
    bundle
        .tinyrun(&["create", "--bundle", dir, &bundle.id])
        .fails(1, "container with given ID already exists");
    bundle.tinyrun(&["start", &bundle.id]).says("");
    assert_eq!(bundle.state()["status"], "running");
    bundle.tinyrun(&["start", &bundle.id]).fails(1, "cannot start an already running container");
    bundle.tinyrun(&["pause", &bundle.id]).says("");
    assert_eq!(bundle.state()["status"], "paused");
    bundle.tinyrun(&["exec", &bundle.id, "true"]).fails(255, "cannot exec in a paused container");
    bundle.tinyrun(&["resume", &bundle.id]).says("");
    bundle.tinyrun(&["delete", &bundle.id]).fails(1, "not stopped");
    bundle.tinyrun(&["kill", &bundle.id, "KILL"]).says("");
    until_stopped(&bundle);
    bundle.tinyrun(&["kill", &bundle.id]).fails(1, "container not running");
    bundle.tinyrun(&["delete", &bundle.id]).says("");
    bundle.tinyrun(&["state", &bundle.id]).fails(1, "does not exist");
    bundle.tinyrun(&["delete", &bundle.id]).fails(1, "does not exist");
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
}

#[test]
fn a_created_container_keeps_the_configuration_it_was_created_with() {
    let mut bundle = Bundle::new("kept").script("exit 3");
    bundle.write();
    let dir = bundle.dir.to_str().unwrap().to_owned();
    bundle.tinyrun(&["create", "--bundle", &dir, &bundle.id]).says("");
    bundle.spec["process"]["args"] = json!(["/nonexistent"]);
    bundle.write();
    bundle.tinyrun(&["start", &bundle.id]).says("");
    until_stopped(&bundle);
}

/// By whoever: the runtime is told by nobody.
#[test]
fn a_container_whose_first_process_died_before_the_start_is_stopped() {
    let bundle = Bundle::new("died").args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let pid = i32::try_from(bundle.state()["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    until_stopped(&bundle);
    assert_eq!(bundle.state()["pid"], 0);
    bundle.tinyrun(&["start", &bundle.id]).fails(1, "cannot start a container that has stopped");
    bundle.tinyrun(&["exec", &bundle.id, "true"]).fails(255, "cannot exec in a stopped container");
    bundle.tinyrun(&["kill", &bundle.id, "KILL"]).fails(1, "container not running");
    assert_eq!(bundle.state()["status"], "stopped");
    bundle.tinyrun(&["delete", &bundle.id]).says("");
    bundle.assert_clean();
}

#[test]
fn a_program_that_is_missing_or_unusable_is_named() {
    let bundle = Bundle::new("missing");
    fs::write(bundle.rootfs("bin/plain"), "text").unwrap();
    let bundle = bundle.args(&["nope"]);
    bundle.run().fails(1, r#""nope": executable file not found in $PATH"#);
    let bundle = bundle.args(&["/bin/nope"]);
    bundle.run().fails(1, r#""/bin/nope": no such file or directory"#);
    let bundle = bundle.args(&["/etc"]);
    bundle.run().fails(1, r#""/etc": permission denied: it is a directory"#);
    let bundle = bundle.args(&["plain"]);
    bundle.run().fails(1, r#""plain": permission denied"#);
    // `create` already says it.
    bundle
        .tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id])
        .fails(1, "permission denied");
    bundle.assert_clean();
}

#[test]
fn a_record_that_cannot_be_read_costs_nobody_its_processes() {
    let bundle = Bundle::new("unreadable").args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["start", &bundle.id]).says("");
    // The cgroup has the name that it has by default: a container of another directory of records may have it too.
    let record = bundle.dir.join("records").join(&bundle.id).join("state.json");
    let whole = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    bundle.tinyrun(&["delete", "--force", &bundle.id]).fails(1, "may be its own or another's");
    fs::write(&record, whole).unwrap();
    assert_eq!(bundle.state()["status"], "running");
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    // With nothing of that name there is nothing to ask.
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, "{").unwrap();
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    bundle.assert_clean();
}

#[test]
fn a_failure_at_any_step_leaves_nothing() {
    for step in tinyd_runtime::launch::FAILPOINTS {
        let bundle = Bundle::new(&format!("fail-{step}")).with_users().script("true");
        bundle.write();
        let dir = bundle.dir.to_str().unwrap();
        bundle
            .tinyrun(&["run", "--failpoint", step, "--bundle", dir, &bundle.id])
            .fails(1, &format!("failpoint {step}"));
        bundle.assert_clean();
    }
}

#[test]
fn exec_joins_the_container() {
    let bundle = Bundle::new("exec").args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let exec = |args: &[&str]| bundle.tinyrun(&[&["exec"], args].concat());
    let id = bundle.id.as_str();
    exec(&[id, "hostname"]).says("tinyrun");
    exec(&["--cwd", "/tmp", "-e", "A=1", id, "sh", "-c", "pwd; echo $A; exit 0"]).says("/tmp\n1");
    assert_eq!(exec(&[id, "sh", "-c", "exit 7"]).code, 7);
    exec(&[id, "nope"]).fails(255, r#""nope": executable file not found"#);
    exec(&[id, "/etc"]).fails(255, "is a directory");
    exec(&["--user", "4294967296", id, "id"]).fails(255, "--user");
    // Same cgroup as the first process; no capability for who is not root; no descriptor of the runtime's (the fourth is ls's).
    exec(&[id, "sh", "-c", "grep -E 'pids|^0:' /proc/self/cgroup; grep -E 'pids|^0:' /proc/1/cgroup"]).says(
        &{
            let line = exec(&[id, "grep", "-E", "pids|^0:", "/proc/1/cgroup"]).out;
            format!("{line}\n{line}")
        },
    );
    exec(&[
        "--user",
        "1000:1000",
        id,
        "sh",
        "-c",
        "grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status | grep -v 0000000000000000; id -u",
    ])
    .says("1000");
    exec(&[id, "sh", "-c", "ls /proc/self/fd | wc -l"]).says("4");
}

#[test]
fn what_this_runtime_does_not_do_is_refused_by_name() {
    let mut bundle = Bundle::new("refused").script("true");
    bundle.spec["linux"]["intelRdt"] = json!({ "closID": "x" });
    bundle.run().fails(1, "linux.intelRdt: this host has no resctrl");
    bundle.spec["linux"]["intelRdt"] = json!(null);
    if !Path::new("/sys/module/apparmor").exists() {
        bundle.spec["process"]["apparmorProfile"] = json!("x");
        bundle.run().fails(1, "process.apparmorProfile: this host has no AppArmor");
    }
    bundle.tinyrun(&["frobnicate"]).fails(1, "frobnicate");
    bundle.assert_clean();
}

#[test]
fn ids_that_are_no_names_are_refused() {
    let bundle = Bundle::new("ids").script("true");
    bundle.write();
    for bad in ["../x", "a/b", "", ".."] {
        bundle.tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), bad]).fails(1, "id");
    }
}

#[test]
fn without_a_cgroup_manager_it_stays_in_its_callers_cgroup() {
    let mut bundle = Bundle::new("no-cgroup").script("cat /proc/self/cgroup; ls /sys/fs/cgroup; sleep 1000");
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
    bundle.spec["linux"]["resources"] = json!({ "memory": { "limit": 64 << 20 } });
    bundle.write();
    let out = bundle.dir.join("said");
    let log = bundle.dir.join("log");
    let dir = bundle.dir.to_str().unwrap();
    let shell = format!("exec \"$0\" \"$@\" >{}", out.display());
    let verb =
        ["--log", log.to_str().unwrap(), "--cgroup-manager", "disabled", "run", "-d", "-b", dir, &bundle.id];
    let said = bundle.tinyrun_in(&["sh", "-c", &shell], &verb);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(fs::read_to_string(&log).unwrap().contains("linux.resources: nothing is limited"));
    let pid = bundle.state()["pid"].to_string();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), own);
    // What needs a cgroup says that there is none; the rest goes without.
    for verb in [&["pause"][..], &["ps"], &["events", "--stats"], &["update", "--memory", "64m"]] {
        bundle.tinyrun(&[verb, &[&bundle.id]].concat()).fails(1, "the container has no cgroup");
    }
    bundle.tinyrun(&["exec", &bundle.id, "grep", "-c", "memory", "/proc/self/cgroup"]).says("1");
    bundle.tinyrun(&["kill", "--all", &bundle.id, "USR1"]).says("");
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    assert!(!Path::new("/proc").join(&pid).join("exe").exists());
    bundle
        .tinyrun(&["--cgroup-manager", "other", "list"])
        .fails(1, "--cgroup-manager: \"other\" is not one of");
}

#[test]
fn systemd_has_rules_of_its_own_for_a_cgroups_path() {
    let mut bundle = Bundle::new("systemd-path");
    let dir = bundle.dir.to_str().unwrap().to_owned();
    for (path, rule) in [
        ("/a/b", "slice:prefix:name"),
        ("a.scope:p:n", "\"a.scope\" is not the name of a slice"),
        ("a.slice:p:n/m", "\"p-n/m.scope\" is not a unit's name"),
    ] {
        bundle.spec["linux"]["cgroupsPath"] = json!(path);
        bundle.write();
        for manager in ["--systemd-cgroup", "--cgroup-manager=systemd"] {
            bundle.tinyrun(&[manager, "run", "-b", &dir, &bundle.id]).fails(1, rule);
        }
    }
    bundle.spec["linux"]["cgroupsPath"] = json!("");
    bundle.spec["annotations"] = json!({ "org.systemd.property.KillMode": "mixed" });
    bundle.write();
    bundle
        .tinyrun(&["--systemd-cgroup", "run", "-b", &dir, &bundle.id])
        .fails(1, "org.systemd.property.KillMode");
    bundle.assert_clean();
}

/// A start would wait for a frozen process for ever.
#[test]
fn a_created_container_that_is_paused_is_not_started() {
    let bundle = Bundle::new("created-paused").args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["create", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["pause", &bundle.id]).says("");
    assert_eq!(bundle.state()["status"], "paused");
    bundle.tinyrun(&["start", &bundle.id]).fails(1, "cannot start a container in the paused state");
    bundle.tinyrun(&["resume", &bundle.id]).says("");
    assert_eq!(bundle.state()["status"], "created");
    bundle.tinyrun(&["start", &bundle.id]).says("");
    // Killing ends a paused one, too.
    bundle.tinyrun(&["pause", &bundle.id]).says("");
    bundle.tinyrun(&["kill", &bundle.id, "KILL"]).says("");
    until_stopped(&bundle);
}

/// Where a host's systemd looks for the processes of its units (cgroup v1): else whoever stops the unit that the container was started from
/// stops the container.
#[test]
fn systemds_own_hierarchy_knows_the_container() {
    let hierarchy = Path::new("/sys/fs/cgroup/systemd");
    let v1 = Path::new("/sys/fs/cgroup/pids").is_dir();
    let bundle = Bundle::new("named").args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let file = bundle.dir.join("pid");
    bundle
        .tinyrun(&["exec", "-d", "--pid-file", file.to_str().unwrap(), &bundle.id, "sleep", "996"])
        .says("");
    for pid in [bundle.state()["pid"].to_string(), fs::read_to_string(&file).unwrap()] {
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let line = format!("name=systemd:/tinyrun-{}\n", bundle.id);
        assert_eq!(own.contains(&line), v1 && hierarchy.is_dir(), "{own}");
    }
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    bundle.assert_clean();
}

/// What waits to be started is in no cgroup by which it could be found, and its number was not written down.
#[test]
fn without_a_cgroup_a_creation_that_is_killed_leaves_no_process() {
    let bundle = Bundle::new("no-cgroup-killed").args(&["sleep", "1000"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    // The first record and the configuration are in place; the second record, with the process, is not.
    let tracer =
        ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=renameat2:signal=KILL:when=1"];
    let create = ["--cgroup-manager=disabled", "create", "-b", dir, &bundle.id];
    assert_ne!(bundle.tinyrun_in(&tracer, &create).code, 0);
    let waiting = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        let of = format!("create\0-b\0{dir}");
        lines.any(|line| !line.starts_with(b"strace") && String::from_utf8_lossy(&line).contains(&of))
    };
    assert_eq!(bundle.state()["status"], "creating");
    assert!(waiting());
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    wait_for("the end of the process that waits", || !waiting());
}

/// Its record is written before its cgroup is asked for, and it may be killed in between.
#[test]
fn a_creation_that_was_killed_has_no_part_in_another_containers_cgroup() {
    let bundle = Bundle::new("life-shared").args(&["sleep", "1000"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    bundle.tinyrun(&["create", "--bundle", dir, &bundle.id]).says("");
    bundle.tinyrun(&["start", &bundle.id]).says("");
    let records = bundle.dir.join("records");
    let text = fs::read(records.join(&bundle.id).join("state.json")).unwrap();
    let mut record: Value = tinyd_core::json::read(&text).unwrap();
    record["process"] = Value::Null;
    let other = records.join("test-killed-creation");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("state.json"), record.to_string()).unwrap();
    bundle.tinyrun(&["delete", "--force", "test-killed-creation"]).says("");
    assert!(!other.exists());
    assert_eq!(bundle.state()["status"], "running");
}

#[test]
fn a_container_that_is_written_down_ahead_is_being_created_until_its_program_runs() {
    let bundle = Bundle::new("ahead").args(&["sleep", "1000"]);
    bundle.write();
    let (dir, id, trace) = (bundle.dir.to_str().unwrap(), bundle.id.as_str(), bundle.dir.join("trace"));
    let held = [
        ["strace", "-D", "-f", "-qq", "-o", trace.to_str().unwrap(), "-e", "trace=pivot_root"].as_slice(),
        &["-e", "inject=pivot_root:signal=STOP"],
    ]
    .concat();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| bundle.tinyrun_in(&held, &["run", "--bundle", dir, id]));
        let record = bundle.dir.join("records").join(id).join("state.json");
        let pid = || {
            let record: Value = serde_json::from_str(&fs::read_to_string(&record).ok()?).ok()?;
            record["process"]["pid"].as_i64()
        };
        wait_for("its first process", || pid().is_some());
        let stopped = || fs::read_to_string(&trace).is_ok_and(|trace| trace.contains("stopped by SIGSTOP"));
        wait_for("a process that stands still", stopped);
        // Asked before the process goes on, and judged after that: the run is waited for.
        let (killed, state) = (bundle.tinyrun(&["kill", id, "KILL"]), bundle.tinyrun(&["state", id]));
        // Its root is the host's yet.
        let added = bundle.tinyrun(&["exec", "--ignore-paused", id, "true"]);
        let pid = pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).unwrap();
        wait_for("a container that runs", || {
            let _ = kill_process(pid, Signal::CONT);
            bundle.tinyrun(&["state", id]).out.contains("running")
        });
        bundle.tinyrun(&["kill", id, "KILL"]).says("");
        assert_eq!(run.join().unwrap().code, 137);
        killed.fails(1, "container not running");
        added.fails(255, "container not running");
        assert!(state.out.contains("\"creating\""), "{state:?}");
    });
}

#[test]
fn a_program_that_waits_for_nobody_is_written_down_before_it_begins() {
    let bundle = Bundle::new("open-gate").script("cat /records/*/state.json");
    let records = bundle.dir.join("records");
    fs::create_dir_all(&records).unwrap();
    let bundle = bundle.mount("/records", "bind", records.to_str().unwrap(), &["rbind", "ro"]);
    let record: Value = serde_json::from_str(&bundle.run().out).unwrap();
    assert!(record["process"]["pid"].as_i64().is_some_and(|pid| pid > 1), "{record}");
}

/// One truncated record, or a stray file, and `list` showed nothing.
#[test]
fn a_record_that_cannot_be_read_hides_no_other_container() {
    let bundle = Bundle::new("list-whole").args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let records = bundle.dir.join("records");
    std::fs::write(records.join("stray"), "").unwrap();
    std::fs::create_dir(records.join("broken")).unwrap();
    std::fs::write(records.join("broken/state.json"), "{").unwrap();
    for format in ["table", "json"] {
        let said = bundle.tinyrun(&["list", "--format", format]);
        assert!(said.code == 0 && said.out.contains(&bundle.id) && !said.out.contains("broken"), "{said:?}");
        assert!(said.err.contains("load container broken: ") && !said.err.contains("stray"), "{said:?}");
    }
    std::fs::remove_dir_all(records.join("broken")).unwrap();
    bundle.tinyrun(&["delete", "--force", "--regex", "str.*|.*list-whole.*"]).says("");
    std::fs::remove_file(records.join("stray")).unwrap();
}
