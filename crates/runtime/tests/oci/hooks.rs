//! Hooks: when they run, where, with what, and what their failure means.

use std::fs;

use serde_json::{Value, json};

use crate::driver::{Bundle, tinyrun, until_stopped, wait_for};

const POINTS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// Those whose failure keeps a container from being created.
const AT_CREATION: [&str; 3] = ["prestart", "createRuntime", "createContainer"];

fn script(text: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/usr/bin:/bin"] })
}

impl Bundle {
    fn hook(mut self, point: &str, hook: Value) -> Bundle {
        if self.spec["hooks"][point].is_null() {
            self.spec["hooks"][point] = json!([]);
        }
        self.spec["hooks"][point].as_array_mut().unwrap().push(hook);
        self
    }

    fn dir(&self) -> String {
        self.dir.to_str().unwrap().to_owned()
    }

    /// A script at every point that runs outside of the container's root.
    fn outside(self, text: impl Fn(&str) -> String) -> Bundle {
        let outside = POINTS.into_iter().filter(|point| *point != "startContainer");
        outside.fold(self, |bundle, point| {
            let text = text(point);
            bundle.hook(point, script(&text))
        })
    }
}

#[test]
fn each_point_comes_in_its_turn_and_is_told_the_state() {
    let bundle = Bundle::new("hook-order").args(&["sleep", "1000"]);
    let log = bundle.rootfs("log");
    fs::write(&log, "").unwrap();
    let path = log.display().to_string();
    let mut bundle = bundle
        .outside(|point| format!("{{ printf '{point} '; cat; echo; }} >> {path}"))
        .hook("startContainer", script("{ printf 'startContainer '; cat; echo; } >> /log"));
    bundle.spec["root"]["readonly"] = json!(false);
    bundle.spec["annotations"] = json!({ "a.b": "c" });
    bundle.write();
    let seen = || fs::read_to_string(&log).unwrap().lines().count();
    bundle.tinyrun(&["create", "--bundle", &bundle.dir(), &bundle.id]).says("");
    let pid = bundle.state()["pid"].clone();
    assert_eq!(seen(), 3);
    bundle.tinyrun(&["start", &bundle.id]).says("");
    assert_eq!(seen(), 5);
    bundle.tinyrun(&["kill", &bundle.id, "KILL"]).says("");
    until_stopped(&bundle);
    bundle.tinyrun(&["delete", &bundle.id]).says("");
    let text = fs::read_to_string(&log).unwrap();
    let told: Vec<(String, Value)> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(point, state)| (point.to_owned(), serde_json::from_str(state).unwrap()))
        .collect();
    let expected = [
        ("creating", pid.clone()),
        ("creating", pid.clone()),
        ("creating", json!(1)),
        ("created", json!(1)),
        ("running", pid),
        ("stopped", json!(null)),
    ];
    for ((point, (seen, state)), (status, pid)) in POINTS.iter().zip(&told).zip(expected) {
        assert_eq!(seen, point);
        let mut whole = json!({
            "ociVersion": state["ociVersion"], "id": bundle.id, "status": status, "pid": pid, "bundle": bundle.dir(),
            "annotations": { "a.b": "c" },
        });
        if pid.is_null() {
            whole.as_object_mut().unwrap().remove("pid");
        }
        assert_eq!(*state, whole, "{point}");
    }
    assert_eq!(told.len(), POINTS.len());
}

#[test]
fn the_containers_hooks_run_in_its_namespaces_and_what_they_mount_is_there() {
    let bundle = Bundle::new("hook-where");
    fs::create_dir(bundle.rootfs("mnt")).unwrap();
    let root = bundle.rootfs("").display().to_string();
    let names = "for n in mnt net uts ipc pid; do readlink /proc/self/ns/$n; done";
    let outer = bundle.dir.join("outer").display().to_string();
    let bundle = bundle
        .hook("createRuntime", script(&format!("{names} > {outer}; pwd >> {outer}")))
        .hook(
            "createContainer",
            script(&format!(
                "mount -t tmpfs x {root}/mnt && {{ {names}; readlink /proc/self/root; ls; }} > {root}/mnt/seen 2>&1"
            )),
        )
        .hook("startContainer", script("hostname > /dev/shm/name"))
        .script(&format!("{names}; echo; cat /mnt/seen; cat /dev/shm/name"));
    let said = bundle.run();
    let (own, seen) = said.out.split_once("\n\n").unwrap_or_else(|| panic!("{said:?}"));
    let lines: Vec<&str> = seen.lines().collect();
    // Its namespaces, the runtime's root with the container's as working directory.
    assert_eq!(lines[..5].join("\n"), own);
    assert_eq!(lines[5], "/");
    assert!(lines.contains(&"bin") && lines.contains(&"tmp"), "{said:?}");
    assert_eq!(lines.last(), Some(&"tinyrun"), "{said:?}");
    let outer = fs::read_to_string(bundle.dir.join("outer")).unwrap();
    let outer: Vec<&str> = outer.lines().collect();
    assert!(outer[..5].iter().zip(own.lines()).all(|(outer, own)| *outer != own), "{outer:?} {own}");
    assert_eq!(outer[5], bundle.dir());
    assert!(!bundle.rootfs("mnt/seen").exists(), "it shows on the host");
}

/// Some give it devices there.
#[test]
fn hooks_find_the_process_in_its_cgroup() {
    for point in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new(&format!("hook-cgroup-{point}")).args(&["true"]);
        let seen = bundle.dir.join("seen").display().to_string();
        // Where its number is its own the hook is a child of it.
        let pid = if point == "createContainer" {
            "pid=self"
        } else {
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')"
        };
        let mut bundle = bundle.hook(point, script(&format!("{pid}; cat /proc/$pid/cgroup > {seen}")));
        bundle.spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != "cgroup");
        // One that sees its cgroup is in it because of that.
        bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
        bundle.run().says("");
        let seen = fs::read_to_string(seen).unwrap();
        assert!(seen.contains(&format!("tinyrun-{}", bundle.id)), "{point}: {seen}");
    }
}

#[test]
fn a_hook_has_its_own_arguments_its_own_environment_and_no_descriptor_of_ours() {
    for point in POINTS.into_iter().filter(|point| *point != "poststop") {
        let text = "echo; echo $0; tr '\\0' '\\n' < /proc/self/environ; ls /proc/self/fd | wc -l; exit 3";
        let hook = json!({ "path": "/bin/sh", "args": ["other/sh", "-c", text], "env": ["A=1", "PATH=/bin:/usr/bin"] });
        let bundle = Bundle::new(&format!("hook-fds-{point}")).args(&["sleep", "1000"]).hook(point, hook);
        fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/tr")).unwrap();
        // The fourth is ls's.
        let expected =
            format!("hooks.{point}[0]: /bin/sh: exit status 3: other/sh\nA=1\nPATH=/bin:/usr/bin\n4");
        bundle.run().fails(1, &expected);
    }
}

#[test]
fn a_hook_that_fails_while_a_container_is_created_undoes_it_and_the_last_hooks_run() {
    for point in AT_CREATION {
        let bundle = Bundle::new(&format!("hook-fail-{point}")).args(&["true"]);
        let log = bundle.dir.join("log").display().to_string();
        let bundle = bundle
            .hook(point, script("echo why >&2; exit 7"))
            .hook(point, script(&format!("echo {point} >> {log}")))
            .hook("poststop", script(&format!("grep -o '\"stopped\"' >> {log}")));
        bundle.write();
        let said = bundle.tinyrun(&["create", "--bundle", &bundle.dir(), &bundle.id]);
        said.fails(1, &format!("hooks.{point}[0]: /bin/sh: exit status 7: why"));
        bundle.assert_clean();
        bundle.tinyrun(&["state", &bundle.id]).fails(1, "does not exist");
        assert_eq!(fs::read_to_string(&log).unwrap(), "\"stopped\"\n", "{point}");
    }
}

#[test]
fn a_hook_that_fails_at_the_start_ends_the_container() {
    let points = ["startContainer", "poststart"];
    for (point, manager) in points.iter().flat_map(|point| [(*point, "cgroupfs"), (*point, "disabled")]) {
        let bundle = Bundle::new(&format!("hook-start-{point}-{manager}")).args(&["sleep", "1000"]);
        let log = bundle.dir.join("log").display().to_string();
        let bundle = bundle
            .hook(point, script("exit 7"))
            .hook("poststop", script(&format!("echo gone >> {log}; exit 5")))
            .hook("poststop", script(&format!("echo again >> {log}")));
        bundle.write();
        let create = ["--cgroup-manager", manager, "create", "--bundle", &bundle.dir(), &bundle.id];
        bundle.tinyrun(&create).says("");
        let said = bundle.tinyrun(&["start", &bundle.id]);
        said.fails(1, &format!("hooks.{point}[0]: /bin/sh: exit status 7"));
        until_stopped(&bundle);
        // A hook after the end that fails is only worth a warning, and the next one runs.
        let said = bundle.tinyrun(&["--debug", "delete", &bundle.id]);
        assert!(said.code == 0 && said.err.contains("hooks.poststop[0]: /bin/sh: exit status 5"), "{said:?}");
        assert_eq!(fs::read_to_string(&log).unwrap(), "gone\nagain\n", "{point}");
    }
}

/// Its silence was taken for that of a program that runs.
#[test]
fn who_is_killed_in_the_hooks_before_its_program_has_not_started() {
    for manager in ["cgroupfs", "disabled"] {
        let bundle = Bundle::new(&format!("hook-killed-{manager}")).args(&["true"]);
        let begun = bundle.rootfs("begun");
        let mut bundle = bundle.hook("startContainer", script("echo > /begun; exec sleep 1000"));
        bundle.spec["root"]["readonly"] = json!(false);
        bundle.write();
        let kill = || {
            wait_for("the hook", || begun.exists());
            bundle.tinyrun(&["kill", &bundle.id, "KILL"]).says("");
            fs::remove_file(&begun).unwrap();
        };
        let killed = "the process ended in its hooks";
        let global = ["--cgroup-manager", manager];
        let dir = bundle.dir();
        bundle.tinyrun(&[&global[..], &["create", "--bundle", &dir, &bundle.id]].concat()).says("");
        std::thread::scope(|scope| {
            let start = scope.spawn(|| bundle.tinyrun(&["start", &bundle.id]));
            kill();
            let words = format!("container not running: container {} has ended: {killed}", bundle.id);
            start.join().unwrap().fails(1, &words);
        });
        until_stopped(&bundle);
        bundle.tinyrun(&["delete", &bundle.id]).says("");
        std::thread::scope(|scope| {
            let run = scope
                .spawn(|| bundle.tinyrun(&[&global[..], &["run", "--bundle", &dir, &bundle.id]].concat()));
            kill();
            run.join().unwrap().fails(1, killed);
        });
        bundle.assert_clean();
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed() {
    let bundle = Bundle::new("hook-long").args(&["true"]);
    let pid = bundle.dir.join("hook.pid");
    let mut slow = script(&format!("echo $$ > {}; exec sleep 1000", pid.display()));
    slow["timeout"] = json!(1);
    let bundle = bundle.hook("createRuntime", slow);
    bundle.run().fails(1, "hooks.createRuntime[0]: /bin/sh: killed: it took longer than 1 seconds");
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn a_hook_of_a_container_with_users_of_its_own_has_what_its_root_has() {
    let bundle = Bundle::new("hook-users").with_users();
    let bundle = bundle
        .hook("startContainer", script("id -u > /dev/shm/id; cat /proc/self/uid_map >> /dev/shm/id"))
        .script("cat /dev/shm/id");
    let said = bundle.run();
    assert_eq!(said.out.split_whitespace().collect::<Vec<_>>(), ["0", "0", "100000", "65536"], "{said:?}");
}

#[test]
fn what_a_hook_has_started_in_the_background_is_not_waited_for() {
    let bundle = Bundle::new("hook-background").script("echo done");
    let pid = bundle.dir.join("hook.pid");
    let text = format!("sleep 1000 & echo $! > {}", pid.display());
    let bundle = bundle.hook("createRuntime", script(&text));
    bundle.run().says("done");
    let pid = fs::read_to_string(pid).unwrap();
    assert!(std::process::Command::new("kill").arg(pid.trim()).status().unwrap().success());
}

/// Seen as 30 seconds of waiting for `run` itself: it kept others away while these hooks ran.
#[test]
fn a_hook_after_the_start_may_add_processes_and_change_limits() {
    let bundle = Bundle::new("hook-changes")
        .script("while [ ! -e /dev/shm/seen ]; do sleep 0.01; done; cat /dev/shm/seen");
    let ask = format!("{} --root {}", tinyrun().display(), bundle.dir.join("records").display());
    let (id, said) = (&bundle.id, bundle.dir.join("said"));
    let text = format!(
        "({ask} update --pids-limit 50 {id} && {ask} pause {id} && {ask} resume {id} && {ask} exec {id} sh -c 'echo added > /dev/shm/seen') > {} 2>&1",
        said.display()
    );
    let bundle = bundle.hook("poststart", script(&text));
    bundle.run().says("added");
    assert_eq!(fs::read_to_string(said).unwrap(), "");
}
