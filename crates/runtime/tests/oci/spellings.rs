//! crun's words for things: podman's users and crun's write them.

use std::fs;

use serde_json::json;

use crate::driver::Bundle;

#[test]
fn a_configuration_of_another_name_is_the_bundles() {
    let bundle = Bundle::new("config").script("echo other");
    fs::create_dir(bundle.dir.join("conf")).unwrap();
    bundle.write();
    fs::rename(bundle.dir.join("config.json"), bundle.dir.join("conf/other.json")).unwrap();
    let dir = bundle.dir.to_str().unwrap();
    let run = |flags: &[&str]| bundle.tinyrun(&[&["run", "-b", dir], flags, &[&bundle.id]].concat());
    run(&["--config", "conf/other.json"]).says("other");
    run(&["-f", bundle.dir.join("conf/other.json").to_str().unwrap()]).says("other");
    run(&["-f", "missing.json"]).fails(1, "--config: open");
    run(&[]).fails(1, "--bundle: open");
}

#[test]
fn signals_and_deletion_by_expression_reach_those_that_match() {
    let bundle = Bundle::new("regex").args(&["sleep", "1000"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    let id = |name: &str| format!("{}-{name}", bundle.id);
    for name in ["a1", "a2", "b1"] {
        bundle.tinyrun(&["create", "-b", dir, &id(name)]).says("");
    }
    let listed = || bundle.tinyrun(&["list", "-q"]).out;
    assert_eq!(listed(), [id("a1"), id("a2"), id("b1")].join("\n"));
    bundle.tinyrun(&["delete", "--regex", "a["]).fails(1, "--regex: \"a[\": a [ without a ]");
    bundle.tinyrun(&["kill", "-r", "a[0-9]$", "KILL"]).says("");
    bundle.tinyrun(&["delete", "-r", "a[0-9]$"]).says("");
    assert_eq!(listed(), id("b1"));
    bundle.tinyrun(&["start", &id("b1")]).says("");
    bundle.tinyrun(&["delete", "--regex", "b1$"]).fails(1, "that is not stopped");
    bundle.tinyrun(&["delete", "-fr", "b1$"]).says("");
    // Nobody is no error, as with crun.
    bundle.tinyrun(&["delete", "--regex", "."]).says("");
    assert_eq!(listed(), "");
}

#[test]
fn the_version_has_lines_that_engines_read() {
    let bundle = Bundle::new("version");
    for flag in ["--version", "-v", "-V"] {
        let said = bundle.tinyrun(&[flag]);
        let lines: Vec<&str> = said.out.lines().collect();
        // docker reads "NAME version VERSION", podman's users the words of the last line.
        assert!(lines[0].starts_with("tinyrun version "), "{said:?}");
        assert!(lines[1].starts_with("spec: 1."), "{said:?}");
        assert!(lines[2].split(' ').all(|word| word.starts_with('+')), "{said:?}");
        assert!(lines[2].contains("+SECCOMP"), "{said:?}");
    }
}

#[test]
fn options_of_the_whole_command_are_checked() {
    let bundle = Bundle::new("global").script("true");
    for good in [&["--rootless=auto"][..], &["--rootless", "false"], &["--log-format", "text"], &["--debug"]]
    {
        bundle.tinyrun(&[good, &["list", "-q"]].concat()).says("");
    }
    bundle.tinyrun(&["--rootless=perhaps", "list"]).fails(1, "--rootless: \"perhaps\"");
    bundle.tinyrun(&["--log-format=xml", "list"]).fails(1, "--log-format: \"xml\" is neither text nor json");
    bundle.tinyrun(&["--log=journald:x", "list"]).fails(1, "--log: ");
    let log = bundle.dir.join("log");
    let to_file = format!("file:{}", log.display());
    bundle.tinyrun(&["--log", &to_file, "--log-format=json", "state", "none"]).fails(1, "does not exist");
    let line: serde_json::Value = tinyd_core::json::read(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(line["level"], json!("error"));
}

/// `tinyrun mounts`, with what is to be mounted.
fn mounts(bundle: &Bundle, change: &str, list: &serde_json::Value) -> crate::driver::Said {
    let file = bundle.dir.join("mounts.json");
    fs::write(&file, serde_json::to_vec(list).unwrap()).unwrap();
    bundle.tinyrun(&["mounts", change, &bundle.id, file.to_str().unwrap()])
}

fn running(bundle: &Bundle) {
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
}

#[test]
fn mounts_come_and_go_while_it_runs() {
    for users in [false, true] {
        let bundle = Bundle::new(&format!("mounts-{users}"));
        let bundle = if users { bundle.with_users() } else { bundle };
        let mut bundle = bundle.args(&["sleep", "1000"]);
        bundle.spec["root"]["readonly"] = json!(false);
        running(&bundle);
        fs::create_dir(bundle.dir.join("data")).unwrap();
        fs::write(bundle.dir.join("data/file"), "hello").unwrap();
        let exec = |script: &str| bundle.tinyrun(&["exec", &bundle.id, "sh", "-c", script]);
        let list = json!([
            { "destination": "/mnt/dir", "source": "data", "options": ["rbind", "ro"] },
            { "destination": "/mnt/file", "type": "bind", "source": "data/file" },
            { "destination": "/mnt/new", "type": "tmpfs", "options": ["size=64k"] },
            { "destination": "/mnt/proc", "type": "proc" },
        ]);
        if users {
            std::os::unix::fs::lchown(bundle.rootfs(""), Some(100_000), Some(100_000)).unwrap();
        }
        mounts(&bundle, "add", &list).says("");
        exec("cat /mnt/dir/file /mnt/file; touch /mnt/dir/x 2>/dev/null || echo ' read-only'; df -k /mnt/new | grep -c 64")
            .says("hellohello read-only\n1");
        // Its own processes, not the host's.
        exec("ls -d /mnt/proc/1 && readlink /mnt/proc/1/exe").says("/mnt/proc/1\n/bin/busybox");
        mounts(&bundle, "remove", &json!({ "mounts": list })).says("");
        exec("grep -c /mnt /proc/self/mountinfo").fails(1, "");
        mounts(&bundle, "remove", &list).fails(1, "nothing is mounted there");
    }
}

#[test]
fn a_list_of_mounts_is_made_whole_or_not_at_all() {
    let mut bundle = Bundle::new("mounts-whole").args(&["sleep", "1000"]);
    bundle.spec["root"]["readonly"] = json!(false);
    running(&bundle);
    let list = json!([
        { "destination": "/mnt/a", "type": "tmpfs" },
        { "destination": "/etc/passwd", "type": "tmpfs" },
    ]);
    mounts(&bundle, "add", &list).fails(1, "mounts[1] (/etc/passwd)");
    bundle.tinyrun(&["exec", &bundle.id, "grep", "-c", "/mnt", "/proc/self/mountinfo"]).fails(1, "");
    for (place, kind) in
        [("/proc/self/attr", "tmpfs"), ("/", "tmpfs"), ("/sys/fs/cgroup", "cgroup"), ("/dev", "tmpfs")]
    {
        let said = mounts(&bundle, "add", &json!([{ "destination": place, "type": kind }]));
        said.fails(1, "mounts[0]");
    }
}

/// A container puts links in the way of what is to be taken away, and of what is to be mounted.
#[test]
fn mounts_that_protect_the_host_stay() {
    let mut bundle = Bundle::new("mounts-protect").args(&["sleep", "1000"]);
    bundle.spec["root"]["readonly"] = json!(false);
    running(&bundle);
    let exec = |script: &str| bundle.tinyrun(&["exec", &bundle.id, "sh", "-c", script]);
    for place in ["/proc/sys", "/proc", "/sys/firmware", "/dev"] {
        mounts(&bundle, "remove", &json!([{ "destination": place }])).fails(1, "has to stay");
    }
    exec("ln -s /proc /innocent").says("");
    mounts(&bundle, "remove", &json!([{ "destination": "/innocent/sys" }])).fails(1, "which has to stay");
    mounts(&bundle, "add", &json!([{ "destination": "/innocent/1", "type": "tmpfs" }]))
        .fails(1, "leads into /proc");
    let host = bundle.dir.join("outside");
    fs::create_dir(&host).unwrap();
    exec(&format!("ln -s ../../../../../../../../{} /escape", host.display())).says("");
    mounts(&bundle, "add", &json!([{ "destination": "/escape/x", "type": "tmpfs" }])).says("");
    assert_eq!(fs::read_dir(&host).unwrap().count(), 0);
}

#[test]
fn the_first_configuration_has_the_name_that_is_asked_for() {
    let bundle = Bundle::new("spec-file");
    let dir = bundle.dir.to_str().unwrap();
    bundle.tinyrun(&["spec", "-b", dir, "--file", "other.json"]).says("");
    let written = fs::read(bundle.dir.join("other.json")).unwrap();
    assert_eq!(written, fs::read(bundle.dir.join("config.json")).unwrap());
    // What is there is somebody's.
    bundle.tinyrun(&["spec", "-b", dir, "-f", "other.json"]).fails(1, "other.json exists");
}
