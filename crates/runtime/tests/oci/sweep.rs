//! A verb of tinyrun played again and again, each time with something done to one more of its system calls.
//!
//! strace writes the calls of one run down, then plays the same run once per call with `inject`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::driver::{Bundle, Said, wait_for};

/// What is done with the container before, and then under strace.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) before: &'static [&'static str],
    pub(crate) verb: &'static [&'static str],
}

/// One system call of a verb: the `at`th of its name in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) call: &'static str,
    pub(crate) at: usize,
}

impl Case {
    /// Brings the container to where the verb begins.
    pub(crate) fn prepare(self, bundle: &Bundle) {
        self.before.iter().for_each(|verb| play(bundle, &[verb], &[]).says(""));
    }

    /// The calls among `names` that the verb makes; one point stands for the same call in each of its processes.
    pub(crate) fn points(self, bundle: &Bundle, names: &[&'static str]) -> BTreeSet<Point> {
        let trace = bundle.dir.join("trace");
        self.prepare(bundle);
        let set = format!("trace={}", names.join(","));
        let tracer = ["strace", "-D", "-f", "-qq", "-e", &set, "-o", trace.to_str().unwrap()];
        assert_eq!(play(bundle, self.verb, &tracer).code, 0);
        bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
        // The tracer is a process of its own and ends after those that it traces.
        wait_for("the end of the trace", || !is_traced(&trace));
        made(&fs::read_to_string(&trace).unwrap(), names)
    }

    /// Plays the verb with `what` injected at a point.
    pub(crate) fn play(self, bundle: &Bundle, point: Point, what: &str) -> Said {
        let Point { call, at } = point;
        let (set, inject) = (format!("trace={call}"), format!("inject={call}:{what}:when={at}"));
        let trace = bundle.dir.join("trace");
        let tracer = ["strace", "-D", "-f", "-qq", "-e", &set, "-e", &inject, "-o", trace.to_str().unwrap()];
        play(bundle, self.verb, &tracer)
    }
}

/// The calls of tinyrun's processes in a trace. What the container's program does is its own affair.
fn made(text: &str, names: &[&'static str]) -> BTreeSet<Point> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut points, mut programs) = (BTreeSet::new(), Vec::new());
    for line in text.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let Some(name) = names.iter().find(|name| call.starts_with(&format!("{name}("))) else { continue };
        if programs.contains(&pid) {
            continue;
        }
        let count = counts.entry((pid, name)).or_default();
        *count += 1;
        // The other commands of fcntl do not fail.
        if *name != "fcntl" || call.contains("F_DUPFD") {
            points.insert(Point { call: name, at: *count });
        }
        if *name == "execve" && call.contains("\"/bin/") {
            programs.push(pid);
        }
    }
    points
}

/// What is to be played on this machine: all, or where that takes too long a share, which the environment says as `2/8`: the second
/// of eight. Says how much that is.
pub(crate) fn share<T>(name: &str, variable: &str, all: Vec<T>) -> Vec<T> {
    let wanted = std::env::var(variable).ok();
    let (which, of): (usize, usize) = wanted.as_deref().map_or((1, 1), |text| {
        let (which, of) = text.split_once('/').unwrap();
        (which.parse().unwrap(), of.parse().unwrap())
    });
    assert!((1..=of).contains(&which), "there is no share {which} of {of}");
    let count = all.len();
    let played: Vec<T> = all.into_iter().skip(which - 1).step_by(of).collect();
    #[expect(clippy::print_stderr, reason = "how much was tried")]
    {
        eprintln!("{name}: {} of {count} points, share {which}/{of}", played.len());
    }
    played
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

fn is_traced(trace: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"strace") && String::from_utf8_lossy(&line).contains(trace.to_str().unwrap())
    })
}

/// Waits until no process of the container is left.
pub(crate) fn wait_for_the_end(bundle: &Bundle, place: &str) {
    wait_for(&format!("{place}: the end of {:?}", processes_of(bundle)), || processes_of(bundle).is_empty());
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
