//! tinyrun killed at each of its state-changing system calls in turn: what is left is nothing.

use crate::{
    driver::Bundle,
    sweep::{Case, wait_for_the_end},
};

/// Calls that change what the kernel or a disk holds, or give somebody a hold on it.
const CHANGING: [&str; 41] = [
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
    for point in points {
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
