//! tinyrun killed at each of its state-changing system calls in turn, and each of these calls refused: what is left is nothing.
//!
//! strace counts the calls of one run, then plays the same run once per call with `inject`.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::driver::{Bundle, Said};

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

/// What is done with the container before, and then under strace.
#[derive(Clone, Copy)]
struct Case {
    before: &'static [&'static str],
    verb: &'static [&'static str],
}

fn play(bundle: &Bundle, verb: &[&str], around: &[&str]) -> Said {
    let dir = bundle.dir.to_str().unwrap();
    let mut words = verb.to_vec();
    if matches!(verb[0], "create" | "run") {
        words.extend(["--bundle", dir]);
    }
    words.push(&bundle.id);
    if verb[0] == "exec" {
        words.extend(["sleep", "0"]);
    }
    bundle.tinyrun_in(around, &words)
}

/// How often each call is made by the process that makes it most: after that many, every process has had its turn.
fn points(bundle: &Bundle, case: Case) -> Vec<(&'static str, usize)> {
    let trace = bundle.dir.join("trace");
    case.before.iter().for_each(|verb| play(bundle, &[verb], &[]).says(""));
    let set = format!("trace={}", CHANGING.join(","));
    let tracer = ["strace", "-D", "-f", "-qq", "-e", &set, "-o", trace.to_str().unwrap()];
    assert_eq!(play(bundle, case.verb, &tracer).code, 0);
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    // The tracer is a process of its own and ends after those that it traces.
    wait_for("the end of the trace", || !is_traced(&trace));
    let mut counts: BTreeMap<(String, &str), usize> = BTreeMap::new();
    let text = fs::read_to_string(&trace).unwrap();
    for line in text.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        if let Some(name) = CHANGING.iter().find(|name| call.trim_start().starts_with(&format!("{name}("))) {
            *counts.entry((pid.to_owned(), *name)).or_default() += 1;
        }
    }
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    for ((_, name), count) in counts {
        let known = most.entry(name).or_default();
        *known = (*known).max(count);
    }
    most.into_iter().flat_map(|(name, count)| (1..=count).map(move |at| (name, at))).collect()
}

fn is_traced(trace: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"strace") && String::from_utf8_lossy(&line).contains(trace.to_str().unwrap())
    })
}

fn wait_for(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} does not come");
        // Nobody tells of a process that is not one's child: /proc is asked again.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processes of the container: its program's words are its own.
fn processes_of(bundle: &Bundle) -> Vec<String> {
    let of = format!("/{}/", bundle.dir.file_name().unwrap().to_str().unwrap());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let left = processes.filter_map(|process| {
        let root = fs::read_link(process.path().join("exe")).ok()?;
        let line =
            String::from_utf8_lossy(&fs::read(process.path().join("cmdline")).ok()?).replace('\0', " ");
        let ours =
            line.contains(&bundle.id) || line.contains(&marker(bundle)) || root.to_str()?.contains(&of);
        (ours && !line.starts_with("strace")).then_some(line)
    });
    left.collect()
}

/// Words that no other test's program has.
fn marker(bundle: &Bundle) -> String {
    bundle.spec["process"]["args"][1].as_str().unwrap_or_default().to_owned()
}

fn sweep(name: &str, seconds: &str, case: Case) {
    let bundle = Bundle::new(name).args(&["sleep", seconds]);
    bundle.write();
    let points = points(&bundle, case);
    assert!(points.len() > 3, "{points:?}");
    for (call, at) in points {
        case.before.iter().for_each(|verb| play(&bundle, &[verb], &[]).says(""));
        let inject = format!("inject={call}:signal=KILL:when={at}");
        let set = format!("trace={call}");
        let trace = bundle.dir.join("trace");
        let tracer = ["strace", "-D", "-f", "-qq", "-e", &set, "-e", &inject, "-o", trace.to_str().unwrap()];
        let _ = play(&bundle, case.verb, &tracer);
        let place = format!("{} killed at {call} {at}", case.verb[0]);
        let said = bundle.tinyrun(&["delete", "--force", &bundle.id]);
        assert_eq!(said.code, 0, "{place}: {said:?}");
        wait_for(&format!("{place}: the end of {:?}", processes_of(&bundle)), || {
            processes_of(&bundle).is_empty()
        });
        bundle.assert_clean();
    }
}

/// Every call refused once with `errno`: it goes another way, or it says which call and leaves nothing of its own accord.
fn refuse(name: &str, seconds: &str, errno: &str, case: Case) {
    let bundle = Bundle::new(name).args(&["sleep", seconds]);
    bundle.write();
    for (call, at) in points(&bundle, case) {
        let inject = format!("inject={call}:error={errno}:when={at}");
        let set = format!("trace={call}");
        let trace = bundle.dir.join("trace");
        let tracer = ["strace", "-D", "-f", "-qq", "-e", &set, "-e", &inject, "-o", trace.to_str().unwrap()];
        let said = play(&bundle, case.verb, &tracer);
        let place = format!("{} with {errno} from {call} {at}", case.verb[0]);
        // What cannot be removed has its record, by which it is found later.
        let removes = matches!(call, "unlink" | "unlinkat" | "rmdir");
        if said.code != 0 {
            assert!(said.err.contains("Cannot allocate memory"), "{place}: {said:?}");
        }
        if said.code == 0 || removes {
            bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
        }
        wait_for(&format!("{place}: {said:?}: the end of {:?}", processes_of(&bundle)), || {
            processes_of(&bundle).is_empty()
        });
        bundle.assert_clean();
    }
}

#[test]
fn run_refused_a_call_names_it_and_leaves_nothing() {
    refuse("refused-run", "0.1", "ENOMEM", Case { before: &[], verb: &["run"] });
}

#[test]
fn create_killed_anywhere_leaves_nothing() {
    sweep("kill-create", "100001", Case { before: &[], verb: &["create"] });
}

#[test]
fn run_killed_anywhere_leaves_nothing() {
    sweep("kill-run", "0.1", Case { before: &[], verb: &["run"] });
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
