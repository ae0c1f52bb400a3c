//! tinyrun killed at each of its state-changing system calls in turn: what is left is nothing.

use std::{os::unix::process::ExitStatusExt, process::Command};

use serde_json::json;

use crate::{
    driver::{Bundle, tinyrun, wait_for},
    sweep::{Case, Point, share, wait_for_the_end},
};

/// Calls that change what the kernel or a disk holds, or give somebody a hold on it.
const CHANGING: [&str; 46] = [
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "symlinkat",
    "linkat",
    "mknodat",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "ftruncate",
    "mount",
    "umount2",
    "fsopen",
    "fsmount",
    "fsconfig",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "pivot_root",
    "clone",
    "clone3",
    "setns",
    "unshare",
    "write",
    "sendmsg",
    "sendto",
    "bind",
    "listen",
    "connect",
    "execve",
    "execveat",
    "open",
    "accept4",
    "recvmsg",
    "keyctl",
    "kill",
    "pidfd_send_signal",
    "setsid",
    "sethostname",
    "bpf",
];

fn sweep(name: &str, seconds: &str, case: Case) {
    let bundle = Bundle::new(name).args(&["sleep", seconds]);
    bundle.write();
    let points = case.points(&bundle, &CHANGING);
    assert!(points.len() > 3, "{points:?}");
    for point in share(name, "TINYD_KILLED_SHARE", points.into_iter().collect()) {
        case.prepare(&bundle);
        let _ = case.play(&bundle, point, "signal=KILL");
        let place = format!("{} killed at {} {}", case.verb[0], point.call, point.at);
        let said = bundle.tinyrun(&["delete", "--force", &bundle.id]);
        assert_eq!(said.code, 0, "{place}: {said:?}");
        wait_for_the_end(&bundle, &place);
        bundle.assert_clean();
    }
}

#[test]
fn create_killed_anywhere_leaves_nothing() {
    sweep("kill-create", "100001", Case { before: &[], verb: &["create"] });
}

#[test]
fn run_killed_anywhere_leaves_nothing() {
    sweep("kill-run", "0.100002", Case { before: &[], verb: &["run"] });
}

#[test]
fn start_killed_anywhere_leaves_nothing() {
    sweep("kill-start", "100003", Case { before: &["create"], verb: &["start"] });
}

#[test]
fn exec_killed_anywhere_leaves_nothing() {
    sweep("kill-exec", "100004", Case { before: &["create", "start"], verb: &["exec"] });
}

#[test]
fn delete_killed_anywhere_leaves_nothing() {
    sweep("kill-delete", "100005", Case { before: &["create", "start"], verb: &["delete", "--force"] });
}

/// A process that holds the ids of a mount ends with its maker, also with one that has ended before it could ask for that: it slept on, and
/// held what the container's first process waits at.
#[test]
fn who_holds_the_ids_of_a_mount_ends_with_its_maker() {
    let bundle = Bundle::new("kill-ids").args(&["sleep", "100008"]);
    let source = bundle.rootfs("etc").to_str().unwrap().to_owned();
    let mut bundle = bundle.mount("/a", "bind", &source, &["bind"]);
    let map = json!([{ "containerID": 0, "hostID": 3000, "size": 10 }]);
    let mount = bundle.spec["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    bundle.write();
    let case = Case { before: &[], verb: &["create"] };
    let trace = bundle.dir.join("trace");
    for Point { call, at } in case.points(&bundle, &["write"]) {
        let (trace, kill) = (trace.to_str().unwrap(), format!("inject={call}:signal=KILL:when={at}"));
        let late = "inject=prctl:delay_enter=20000";
        let tracer =
            ["strace", "-D", "-f", "-qq", "-e", "trace=prctl,write", "-e", late, "-e", &kill, "-o", trace];
        let _ = bundle.tinyrun_in(&tracer, &["create", "-b", bundle.dir.to_str().unwrap(), &bundle.id]);
        bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
        wait_for_the_end(&bundle, &format!("killed at {call} {at}"));
    }
}

/// A `start` that is killed leaves a container that runs, or one that can be started: the first process waited for ever, and its state was
/// `running`, when it was killed on either side of the gate's end.
#[test]
fn who_is_killed_while_it_starts_a_container_leaves_no_doubt_about_it() {
    let bundle = Bundle::new("kill-doubt").args(&["sleep", "100006"]);
    bundle.write();
    let case = Case { before: &["create"], verb: &["start"] };
    let mut seen = [0, 0];
    for point in case.points(&bundle, &["connect", "sendmsg", "recvmsg", "unlink", "unlinkat"]) {
        case.prepare(&bundle);
        let _ = case.play(&bundle, point, "signal=KILL");
        let state = bundle.state();
        let is_created = state["status"] == "created";
        seen[usize::from(is_created)] += 1;
        if is_created {
            // It may be about to come to its program: whoever was killed had said so.
            let said = bundle.tinyrun(&["start", &bundle.id]);
            let late = ["is not waiting", "already running"];
            assert!(
                said.code == 0 || late.iter().any(|words| said.err.contains(words)),
                "{point:?}: {said:?}"
            );
        }
        let name = format!("/proc/{}/comm", state["pid"]);
        wait_for(&format!("{point:?}: the program"), || std::fs::read_to_string(&name).unwrap() == "sleep\n");
        assert_eq!(bundle.state()["status"], "running", "{point:?}");
        bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    }
    assert!(!seen.contains(&0), "running, created: {seen:?}");
}

/// Ctrl-C at a `start` that waits for a process that somebody has stopped.
#[test]
fn who_gives_up_on_starting_a_stopped_process_leaves_it_to_run_when_it_goes_on() {
    let bundle = Bundle::new("kill-stopped").args(&["sleep", "100007"]);
    bundle.write();
    bundle.tinyrun(&["create", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let pid = bundle.state()["pid"].clone();
    bundle.tinyrun(&["kill", &bundle.id, "STOP"]).says("");
    let records = bundle.dir.join("records");
    let mut start = Command::new(tinyrun());
    let mut start = start.arg("--root").arg(&records).args(["start", &bundle.id]).spawn().unwrap();
    let gate = records.join(&bundle.id).join("gate");
    wait_for("the end of the gate", || !gate.exists());
    assert!(start.try_wait().unwrap().is_none());
    rustix::process::kill_process(rustix::process::Pid::from_child(&start), rustix::process::Signal::INT)
        .unwrap();
    assert_eq!(start.wait().unwrap().signal(), Some(libc::SIGINT));
    bundle.tinyrun(&["start", &bundle.id]).fails(1, "cannot start an already running container");
    bundle.tinyrun(&["kill", &bundle.id, "CONT"]).says("");
    let name = format!("/proc/{pid}/comm");
    wait_for("the program", || std::fs::read_to_string(&name).unwrap() == "sleep\n");
}
