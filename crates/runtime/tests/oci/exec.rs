//! `exec`: what each of its options does, as seen from inside.

use std::{fs, path::Path};

use serde_json::json;

use crate::driver::{Bundle, Said, until_stopped, wait_for};

fn running(name: &str) -> Bundle {
    let bundle = Bundle::new(name).args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle
}

fn exec(bundle: &Bundle, options: &[&str], command: &[&str]) -> Said {
    bundle.tinyrun(&[&["exec"], options, &[&bundle.id], command].concat())
}

#[test]
fn identity_is_what_the_options_say() {
    let bundle = running("exec-identity");
    let status = |options: &[&str], line: &str| {
        let said = exec(&bundle, options, &["grep", line, "/proc/self/status"]);
        said.out.split_once(":\t").map_or_else(|| said.err.clone(), |(_, rest)| rest.trim().to_owned())
    };
    assert_eq!(status(&["--user", "5:6"], "^Gid"), "6\t6\t6\t6");
    assert_eq!(status(&["-u", "5:6", "-g", "7", "--additional-gids=8"], "^Groups"), "7 8");
    exec(&bundle, &["-g", "-1"], &["true"]).fails(255, "--additional-gids: \"-1\"");
    exec(&bundle, &["-u", "1:x"], &["true"]).fails(255, "--user: \"x\"");
    // CAP_SYS_TIME is number 25, and not the container's.
    assert_eq!(status(&[], "^CapEff"), "0000000020000420");
    assert_eq!(status(&["--cap", "CAP_SYS_TIME"], "^CapEff"), "0000000022000420");
    // Who is not root has none, whatever is added.
    assert_eq!(status(&["--cap", "CAP_SYS_TIME", "--user", "5"], "^CapEff"), "0000000000000000");
    assert_eq!(status(&[], "^NoNewPrivs"), "1");
    assert_eq!(status(&["--no-new-privs=false"], "^NoNewPrivs"), "0");
    for (option, module) in [("--apparmor", "AppArmor"), ("--process-label", "SELinux")] {
        let has = match module {
            "AppArmor" => Path::new("/sys/module/apparmor").exists(),
            _ => Path::new("/sys/fs/selinux/enforce").exists(),
        };
        if !has {
            exec(&bundle, &[option, "x"], &["true"]).fails(255, &format!("this host has no {module}"));
        }
    }
}

#[test]
fn a_whole_process_comes_from_a_file() {
    let bundle = running("exec-process");
    let file = bundle.dir.join("process.json");
    let process = json!({
        "args": ["sh", "-c", "pwd; echo $A; id -u; test -t 1 && echo terminal; exit 3"],
        "cwd": "/tmp", "env": ["A=b", "PATH=/bin"], "user": { "uid": 9, "gid": 9 },
    });
    fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/test")).unwrap();
    fs::write(&file, serde_json::to_vec(&process).unwrap()).unwrap();
    let said = exec(&bundle, &["--process", file.to_str().unwrap()], &[]);
    assert_eq!((said.code, said.out.as_str()), (3, "/tmp\nb\n9"), "{said:?}");
    let said = exec(&bundle, &["--tty", "-p", file.to_str().unwrap()], &[]);
    assert_eq!((said.code, said.out.as_str()), (3, "/tmp\r\nb\r\n9\r\nterminal"), "{said:?}");
    exec(&bundle, &[], &[]).fails(255, "COMMAND");
    fs::write(&file, "{").unwrap();
    exec(&bundle, &["-p", file.to_str().unwrap()], &[]).fails(255, "--process: ");
}

/// It ran without the container's limits, and outside its profile where there is one.
#[test]
fn a_process_from_a_file_is_confined_as_the_container_where_it_says_nothing() {
    let mut bundle = Bundle::new("exec-confined").args(&["sleep", "1000"]);
    bundle.spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 }]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let file = bundle.dir.join("process.json");
    let show = |more: serde_json::Value| {
        let mut process = json!({
            "args": ["sh", "-c", "ulimit -n; grep ^CapBnd /proc/self/status"],
            "cwd": "/", "env": ["PATH=/bin"],
        });
        process.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        fs::write(&file, serde_json::to_vec(&process).unwrap()).unwrap();
        exec(&bundle, &["--process", file.to_str().unwrap()], &[])
    };
    show(json!({})).says("77\nCapBnd:\t0000000020000420");
    let own = json!({
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 55, "hard": 66 }],
        "capabilities": { "bounding": ["CAP_KILL"] },
    });
    show(own).says("55\nCapBnd:\t0000000000000020");
    for (property, module, path) in [
        ("apparmorProfile", "AppArmor", "/sys/module/apparmor"),
        ("selinuxLabel", "SELinux", "/sys/fs/selinux/enforce"),
    ] {
        if !Path::new(path).exists() {
            show(json!({ property: "x" })).fails(255, &format!("this host has no {module}"));
        }
    }
}

#[test]
fn a_detached_process_runs_on_and_its_number_is_written() {
    let bundle = running("exec-detach");
    let file = bundle.dir.join("pid");
    exec(&bundle, &["-d", "--pid-file", file.to_str().unwrap()], &["sleep", "999"]).says("");
    let pid = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::read(format!("/proc/{pid}/cmdline")).unwrap(), b"sleep\x00999\0");
    exec(&bundle, &["-dt"], &["true"]).fails(255, "--console-socket");
    exec(&bundle, &["--no-subreaper"], &["true"]).says("");
}

#[test]
fn a_cgroup_below_the_containers_is_entered() {
    let bundle = running("exec-cgroup");
    let own = format!("tinyrun-{}", bundle.id);
    let v1 = Path::new("/sys/fs/cgroup/pids").is_dir();
    let place = |controller: &str| {
        let root = Path::new("/sys/fs/cgroup");
        if v1 { root.join(controller).join(&own) } else { root.join(&own) }
    };
    let cgroups = |options: &[&str]| {
        let pid = bundle.dir.join("pid");
        let detached = [options, &["-d", "--pid-file", pid.to_str().unwrap()]].concat();
        exec(&bundle, &detached, &["sleep", "998"]).says("");
        let pid = fs::read_to_string(pid).unwrap();
        fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
    };
    exec(&bundle, &["--cgroup", "sub"], &["true"]).fails(255, "--cgroup: \"sub\": ");
    exec(&bundle, &["--cgroup", "../.."], &["true"]).fails(255, "--cgroup");
    assert!(cgroups(&["--cgroup", "/"]).lines().any(|line| line.ends_with(&format!("/{own}"))));
    if !v1 {
        exec(&bundle, &["--cgroup", "pids:/"], &["true"]).fails(255, "cgroup v2 has one path");
        fs::create_dir(place("").join("sub")).unwrap();
        assert!(cgroups(&["--cgroup", "/sub"]).contains(&format!("0::/{own}/sub\n")));
        return;
    }
    fs::create_dir(place("pids").join("sub")).unwrap();
    exec(&bundle, &["--cgroup", "sub"], &["true"]).fails(255, "--cgroup: \"sub\": ");
    exec(&bundle, &["--cgroup", "nope:sub"], &["true"]).fails(255, "no \"nope\" controller");
    let seen = cgroups(&["--cgroup", "pids:sub"]);
    assert!(seen.contains(&format!(":pids:/{own}/sub\n")), "{seen}");
    assert!(seen.contains(&format!(":freezer:/{own}\n")), "{seen}");
}

#[test]
fn a_paused_container_takes_a_process_only_when_told_and_runs_it_later() {
    let bundle = running("exec-paused");
    bundle.tinyrun(&["pause", &bundle.id]).says("");
    exec(&bundle, &[], &["true"])
        .fails(255, "cannot exec in a paused container (use --ignore-paused to override)");
    let said = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| exec(&bundle, &["--ignore-paused"], &["echo", "late"]));
        // It is in the container's cgroup, and waits there.
        let inside = || bundle.tinyrun(&["ps", "--format", "json", &bundle.id]).out.matches(',').count();
        wait_for("the process that is added", || inside() > 0 || waiting.is_finished());
        assert!(!waiting.is_finished());
        bundle.tinyrun(&["resume", &bundle.id]).says("");
        waiting.join().unwrap()
    });
    said.says("late");
    bundle.tinyrun(&["kill", &bundle.id, "KILL"]).says("");
    until_stopped(&bundle);
    exec(&bundle, &[], &["true"]).fails(255, "cannot exec in a stopped container");
}

/// clone3(2) into a PID namespace whose first process has ended is ENOMEM (pid_namespaces(7)), which is no lack of memory.
#[test]
fn a_container_that_ends_between_setns_and_clone_is_not_running() {
    let bundle = running("exec-ended");
    let trace = bundle.dir.join("trace");
    let held = [
        ["strace", "-D", "-qq", "-o", trace.to_str().unwrap()].as_slice(),
        &["-e", "trace=setns,clone3", "-e", "inject=clone3:delay_enter=1s:when=1"],
    ]
    .concat();
    let said = std::thread::scope(|scope| {
        let added = scope.spawn(|| bundle.tinyrun_in(&held, &["exec", &bundle.id, "true"]));
        // Its call has come back: strace writes the beginning of its line before.
        let joined = |line: &str| line.contains("setns(") && line.ends_with("= 0");
        let traced = || fs::read_to_string(&trace).is_ok_and(|trace| trace.lines().any(joined));
        wait_for("exec in the container's PID namespace", traced);
        bundle.tinyrun(&["kill", &bundle.id, "KILL"]).says("");
        until_stopped(&bundle);
        added.join().unwrap()
    });
    said.fails(255, "container not running");
    assert!(said.err.contains("clone3"), "{said:?}");
}
