//! Measures the promises: the time from a command's start to its exit beside other engines, and the memory of shims and daemon.
//!
//! Every command is run once per round, in a new order each round, so that a change in the machine's speed hits all of them alike:
//! the ratios are the result, the milliseconds belong to the machine and the minute.

mod contest;
mod verbs;

use std::process::ExitCode;

use tinyd_e2e::{
    Sandbox,
    promises::{Promises, ending, kib, middle, say},
};

use self::contest::{Contest, table};

/// Beside these alone the floor is fast: nothing in the contest takes long enough for a wait in the kernel to come back that the floor has and
/// a runtime need not have (entering a cgroup of v1 by `cgroup.procs`).
const RUNTIMES: [&str; 4] = ["floor", "tinyrun run", "crun run", "runc run"];

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(30);
    ending(measure(rounds))
}

fn measure(rounds: usize) -> Result<bool, Failure> {
    let sandbox = Sandbox::new();
    let mut promises = Promises::default();
    let daemon_idle = {
        sandbox.out(&[], &["true"]);
        kib(sandbox.daemon_pid(), "status", "VmRSS:")?
    };
    let contest = Contest::new(&sandbox)?;
    let alone = contest.run(rounds, |name| RUNTIMES.contains(&name))?;
    say("the runtimes alone:");
    table(&alone);
    say("everything:");
    let times = contest.run(rounds, |_| true)?;
    let peaks = contest.peaks()?;
    let filtered = contest.more_cpu("tinyrun run", "tinyrun run (seccomp)", 20 * rounds)?;
    contest.clean();
    table(&times);

    let median = |name: &str| times.get(name).map(|times| middle(times));
    let ratio = |a: &str, b: &str| Some(median(a)? / median(b)?);
    promises.at_most("tinyrun run / crun run", ratio("tinyrun run", "crun run"), 0.6);
    promises.at_most("tinyrun run / floor", ratio("tinyrun run", "floor"), 1.5);
    let beside_floor = alone.get("tinyrun run").zip(alone.get("floor")).map(|(a, b)| middle(a) / middle(b));
    promises.at_most("tinyrun run / floor, the runtimes alone", beside_floor, 1.5);
    promises.at_most("tinyrun run with the default profile, ms CPU more", Some(filtered.median), 0.3);
    say(&format!("{:48}{:9.2} to {:.2}: where its median is, 19 of 20", "", filtered.low, filtered.high));
    promises.at_most("tinyd run (bridge) / crun run", ratio("tinyd run (bridge)", "crun run"), 1.5);
    promises.at_most(
        "tinyd run (bridge) / podman run (bridge)",
        ratio("tinyd run (bridge)", "podman run (bridge)"),
        0.1,
    );
    for binary in ["tinyd", "tinyrun"] {
        let name = format!("{binary} --version");
        let more = median(&name).zip(median("/bin/true")).map(|(took, base)| took - base);
        promises.at_most(&format!("{name} minus /bin/true, ms"), more, 1.0);
    }
    for verb in ["state", "list", "kill", "exec"] {
        let (ours, theirs) = (format!("tinyrun {verb}"), format!("crun {verb}"));
        promises.at_most(&format!("{ours} / {theirs}"), ratio(&ours, &theirs), 1.0);
    }
    let peak = |name: &str| peaks.get(name).copied();
    let more = peak("tinyrun").zip(peak("crun")).map(|(ours, theirs)| ours / theirs);
    promises.at_most("tinyrun run / crun run, peak memory", more, 1.0);
    promises.at_most("daemon, idle, MiB", Some(daemon_idle / 1024.0), 15.0);

    let shims = many(&sandbox, 100)?;
    promises.at_most("shim, idle, Pss KiB", Some(middle(&shims)), 500.0);
    let full = kib(sandbox.daemon_pid(), "status", "VmRSS:")?;
    promises.at_most("daemon with 100 containers, MiB", Some(full / 1024.0), 30.0);
    Ok(promises.kept)
}

/// Starts many containers; the proportional set sizes of their shims in KiB.
fn many(sandbox: &Sandbox, count: usize) -> Result<Vec<f64>, Failure> {
    for n in 0..count {
        sandbox.run(&["--name", &format!("c{n}")], &["sleep", &format!("90{n:03}")]);
    }
    (0..count)
        .map(|n| {
            let shim = sandbox.parent_of(sandbox.pid_of(&["sleep", &format!("90{n:03}")]));
            kib(shim, "smaps_rollup", "Pss:")
        })
        .collect()
}
