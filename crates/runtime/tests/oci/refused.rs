//! Each system call of tinyrun refused in turn, with each error that the kernel has for it: it goes another way, or it says which call
//! and leaves nothing.

use crate::{
    driver::{Bundle, Said},
    sweep::{Case, share, wait_for_the_end},
};

/// What the kernel says, and how that reads.
type Errno = (&'static str, &'static str);

const ENOMEM: Errno = ("ENOMEM", "Cannot allocate memory");
const EAGAIN: Errno = ("EAGAIN", "Resource temporarily unavailable");
const EMFILE: Errno = ("EMFILE", "Too many open files");
const ENOSPC: Errno = ("ENOSPC", "No space left on device");

/// Calls, and what they can be refused with when the machine is short of something (their man pages). Left out are calls that cannot
/// fail, and those for the process's own memory and signals: the C library and Rust's abort there, before anything is made.
const REFUSALS: [(&str, &[Errno]); 14] = [
    // It makes files.
    ("open", &[ENOMEM, EMFILE, ENOSPC]),
    ("openat openat2 socket socketpair pipe2 fcntl memfd_create signalfd4", &[ENOMEM, EMFILE]),
    ("pidfd_open accept4 open_tree fsopen fsmount fspick ioctl eventfd2", &[ENOMEM, EMFILE]),
    ("mkdir mkdirat write rename renameat2 symlinkat linkat mknodat ftruncate", &[ENOMEM, ENOSPC]),
    ("mount move_mount pivot_root fsconfig mount_setattr umount2", &[ENOMEM, ENOSPC]),
    ("clone clone3 unshare setns", &[ENOMEM, EAGAIN, ENOSPC]),
    ("execve execveat setuid setgid setresuid setresgid setgroups", &[ENOMEM, EAGAIN]),
    ("read pread64 getdents64 statx newfstatat fstat statfs fstatfs lseek", &[ENOMEM]),
    ("access readlink readlinkat chdir fchdir getcwd fchmod fchmodat fchownat fchown", &[ENOMEM]),
    ("bind", &[ENOMEM, ENOSPC]),
    ("connect", &[ENOMEM, EAGAIN]),
    ("unlink unlinkat rmdir listen sendto sendmsg recvmsg recvfrom", &[ENOMEM]),
    ("kill pidfd_send_signal waitid wait4 ppoll setsid sethostname setdomainname", &[ENOMEM]),
    ("bpf seccomp prctl capset capget keyctl prlimit64 close_range dup3 dup2", &[ENOMEM]),
];

/// Calls that an older kernel does not have.
const NEWER: &str = "openat2 open_tree move_mount fsopen fsconfig fsmount mount_setattr clone3 close_range pidfd_open \
    pidfd_send_signal execveat statx keyctl memfd_create seccomp bpf";
const ENOSYS: Errno = ("ENOSYS", "Function not implemented");

/// What else a call is told as: by the name that users know, or by what was being done with a file.
const TOLD_AS: [(&str, &[&str]); 11] = [
    ("open openat", &["open", "read ", "write ", "remove "]),
    ("read pread64 getdents64 lseek", &["read ", "remove "]),
    ("newfstatat fstat statx", &["stat", "read ", "remove "]),
    ("fstatfs statfs", &["statfs", "statvfs"]),
    ("fcntl", &["dup", "lock"]),
    ("mkdir mkdirat", &["mkdir", "make "]),
    ("unlink unlinkat rmdir", &["unlink", "rmdir", "remove "]),
    ("ppoll", &["poll"]),
    ("signalfd4 accept4 eventfd2 pipe2 dup3 dup2", &["signalfd", "accept", "eventfd", "pipe", "dup"]),
    ("prlimit64", &["prlimit"]),
    ("rename renameat2", &["rename"]),
];

/// Whether a message says which call it is about: by its name, or that of its family (`clone3`, `fchownat`, `recvmsg`).
fn is_named(call: &str, message: &str) -> bool {
    let digits = |sign: char| sign.is_ascii_digit();
    let family = call.trim_end_matches(digits).trim_end_matches("at").trim_end_matches("msg");
    let family = if family.starts_with("fch") { &family[1..] } else { family };
    let others = TOLD_AS.iter().find(|(calls, _)| is_in(calls, call)).map_or(&[][..], |(_, words)| *words);
    message.contains(family) || others.iter().any(|word| message.contains(word))
}

fn is_in(calls: &str, call: &str) -> bool {
    calls.split_whitespace().any(|name| name == call)
}

/// What its man page knows.
fn errors_of(call: &str) -> impl Iterator<Item = Errno> {
    let short = REFUSALS.iter().find(|(calls, _)| is_in(calls, call)).unwrap().1;
    short.iter().copied().chain(is_in(NEWER, call).then_some(ENOSYS))
}

/// What no kernel says of it today.
fn other_errors_of(call: &str) -> impl Iterator<Item = Errno> {
    let known: Vec<Errno> = errors_of(call).collect();
    [ENOMEM, EAGAIN, EMFILE, ENOSPC].into_iter().filter(move |error| !known.contains(error))
}

fn refuse(name: &str, seconds: &str, case: Case) {
    let bundle = Bundle::new(name).args(&["sleep", seconds]);
    bundle.write();
    let calls: Vec<&str> = REFUSALS.iter().flat_map(|(calls, _)| calls.split(' ')).collect();
    let points = case.points(&bundle, &calls);
    assert!(points.len() > 20, "{points:?}");
    let creates = matches!(case.verb[0], "create" | "run");
    let mut wrong = Vec::new();
    let known = points.iter().flat_map(|point| errors_of(point.call).map(|error| (*point, error)));
    let others = points.iter().flat_map(|point| other_errors_of(point.call).map(|error| (*point, error)));
    let mut played = share(name, "TINYD_REFUSED_SHARE", known.collect());
    played.extend(share(name, "TINYD_REFUSED_OTHERWISE_SHARE", others.collect()));
    for (point, error) in played {
        case.prepare(&bundle);
        let said = case.play(&bundle, point, &format!("error={}", error.0));
        let place = format!("{} with {} from {} {}", case.verb[0], error.0, point.call, point.at);
        let known = bundle.tinyrun(&["list", "-q"]).out;
        let left = if creates { known.as_str() } else { "" };
        let what = judge(point.call, error.1, &said, left);
        wrong.extend(what.map(|what| format!("{place}: {what}: {said:?}")));
        // What is still there is there by its record.
        bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
        wait_for_the_end(&bundle, &place);
        bundle.assert_clean();
    }
    assert!(wrong.is_empty(), "{} points are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong with how a refused call was taken; `left` is the id of what is known to be left of a container that was not made.
fn judge(call: &str, text: &str, said: &Said, left: &str) -> Option<&'static str> {
    // It can be the message itself that could not be written.
    if said.code == 0 || (call == "write" && said.err.is_empty()) {
        return None;
    }
    if !said.err.contains(text) {
        return Some("the error does not say what the kernel said");
    }
    if !is_named(call, &said.err) {
        return Some("the error does not name the call");
    }
    if !left.is_empty() && !said.err.contains("something of it is left") && !said.err.contains("remove ") {
        return Some("something is left and that is not said");
    }
    None
}

#[test]
fn create_refused_a_call_names_it_and_leaves_nothing() {
    refuse("refused-create", "100011", Case { before: &[], verb: &["create"] });
}

#[test]
fn run_refused_a_call_names_it_and_leaves_nothing() {
    refuse("refused-run", "0.100012", Case { before: &[], verb: &["run"] });
}

#[test]
fn start_refused_a_call_names_it_and_leaves_nothing() {
    refuse("refused-start", "100013", Case { before: &["create"], verb: &["start"] });
}

#[test]
fn exec_refused_a_call_names_it_and_leaves_nothing() {
    refuse("refused-exec", "100014", Case { before: &["create", "start"], verb: &["exec"] });
}

#[test]
fn delete_refused_a_call_names_it_and_leaves_nothing() {
    refuse("refused-delete", "100015", Case { before: &["create", "start"], verb: &["delete", "--force"] });
}
