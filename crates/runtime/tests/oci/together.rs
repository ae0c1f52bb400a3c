//! Many commands on one container at once: each sees it before or after another one, and never in between.

use std::{fs, thread, time::Duration};

use rustix::{
    fs::{FlockOperation, fcntl_lock},
    process::{Pid, Signal, kill_process},
};
use serde_json::json;

use crate::driver::{Bundle, Said, tinyrun, wait_for};

/// The same command by many at once.
fn all_at_once(count: usize, command: impl Fn() -> Said + Sync) -> Vec<Said> {
    thread::scope(|scope| {
        let running: Vec<_> = (0..count).map(|_| scope.spawn(&command)).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

fn successes(all: &[Said]) -> usize {
    all.iter().filter(|said| said.code == 0).count()
}

/// Refusals are about the state that somebody else has brought about, and nothing has gone wrong on the way.
#[track_caller]
fn assert_refusals(all: &[Said], words: &[&str]) {
    for said in all.iter().filter(|said| said.code != 0) {
        assert!(words.iter().any(|word| said.err.contains(word)), "{said:?}");
    }
}

#[test]
fn one_of_many_creates_starts_and_deletes() {
    let bundle = Bundle::new("together-one").args(&["sleep", "1000"]);
    bundle.write();
    let (dir, id) = (bundle.dir.to_str().unwrap(), bundle.id.as_str());
    for round in 0..5 {
        let all = all_at_once(8, || bundle.tinyrun(&["create", "-b", dir, id]));
        assert_eq!(successes(&all), 1, "{round}: {all:?}");
        assert_refusals(&all, &["exists"]);
        let all = all_at_once(8, || bundle.tinyrun(&["start", id]));
        assert_eq!(successes(&all), 1, "{round}: {all:?}");
        assert_refusals(&all, &["already running container"]);
        let all = all_at_once(8, || bundle.tinyrun(&["pause", id]));
        assert_eq!(successes(&all), 1, "{round}: {all:?}");
        assert_refusals(&all, &["container not running"]);
        let all = all_at_once(8, || bundle.tinyrun(&["delete", "--force", id]));
        assert_eq!(successes(&all), 8, "{round}: {all:?}");
        bundle.assert_clean();
    }
}

#[test]
fn an_id_that_many_create_and_delete_is_whole_at_any_time() {
    let bundle = Bundle::new("together-churn").args(&["sleep", "1000"]);
    bundle.write();
    let (dir, id) = (bundle.dir.to_str().unwrap(), bundle.id.as_str());
    let all: Vec<Said> = all_at_once(6, || {
        for _ in 0..6 {
            let created = bundle.tinyrun(&["create", "-b", dir, id]);
            assert_refusals(&[created], &["exists"]);
            let state = bundle.tinyrun(&["state", id]);
            assert_refusals(&[state], &["does not exist"]);
            let deleted = bundle.tinyrun(&["delete", id]);
            // What is being created is not deleted without force.
            assert_refusals(&[deleted], &["does not exist", "not stopped"]);
        }
        bundle.tinyrun(&["list", "-q"])
    });
    assert_eq!(successes(&all), 6, "{all:?}");
    bundle.tinyrun(&["delete", "--force", id]).says("");
    bundle.assert_clean();
}

#[test]
fn everything_at_once_ends_in_one_state() {
    let bundle = Bundle::new("together-all").args(&["sleep", "1000"]);
    bundle.write();
    let (dir, id) = (bundle.dir.to_str().unwrap(), bundle.id.as_str());
    let verbs: [&[&str]; 10] = [
        &["create", "-b", dir, id],
        &["start", id],
        &["exec", id, "true"],
        &["pause", id],
        &["resume", id],
        &["update", "--pids-limit", "100", id],
        &["kill", id, "KILL"],
        &["state", id],
        &["ps", id],
        &["delete", id],
    ];
    let refusals = [
        "exists",
        "does not exist",
        "cannot start a",
        "cannot exec in a",
        "container not paused",
        "container not running",
        "not stopped",
        // Whose container has just ended.
        "no cgroup",
        "has been removed",
        "no such container process",
        // Whose first process is on its way out: its end of the gate is closed before it has ended.
        "is not waiting to be started",
    ];
    thread::scope(|scope| {
        for start in 0..verbs.len() {
            let (bundle, verbs, refusals) = (&bundle, &verbs, &refusals);
            scope.spawn(move || {
                for at in 0..20 {
                    let verb = verbs[(start * 7 + at * 3) % verbs.len()];
                    let said = bundle.tinyrun(verb);
                    // A program that was added ends by SIGKILL with its container: that is its own exit status, and no refusal.
                    if (verb[0], said.code, said.err.as_str()) != ("exec", 128 + 9, "") {
                        assert_refusals(&[said], refusals);
                    }
                }
            });
        }
    });
    bundle.tinyrun(&["delete", "--force", id]).says("");
    bundle.assert_clean();
    bundle.tinyrun(&["create", "-b", dir, id]).says("");
    assert_eq!(bundle.state()["status"], "created");
}

/// `create` that stands still after its first `call` about `path` below the records, for what is done `meanwhile`; what that has made is let
/// go of once its trace has the word `until`. What it said.
fn create_held<T>(
    bundle: &Bundle,
    (call, path): (&str, &str),
    meanwhile: impl FnOnce() -> T,
    until: &str,
) -> Said {
    let (trace, records) = (bundle.dir.join("trace"), bundle.dir.join("records"));
    fs::create_dir_all(&records).unwrap();
    // That of an earlier one.
    let _ = fs::remove_file(&trace);
    let path = records.join(path);
    let inject = format!("inject={call}:signal=STOP:when=1");
    let held = [
        ["strace", "-D", "-f", "-qq", "-o", trace.to_str().unwrap(), "-P", path.to_str().unwrap()].as_slice(),
        &["-e", "trace=mkdirat,open,fcntl", "-e", &inject],
    ]
    .concat();
    let (dir, id) = (bundle.dir.to_str().unwrap(), bundle.id.as_str());
    let traced = |word: &str| {
        let trace = fs::read_to_string(&trace).unwrap_or_default();
        trace.lines().find(|line| line.contains(word)).map(str::to_owned)
    };
    thread::scope(|scope| {
        let created = scope.spawn(|| bundle.tinyrun_in(&held, &["create", "-b", dir, id]));
        wait_for("a process that stands still", || traced("stopped by SIGSTOP").is_some());
        let kept = meanwhile();
        let line = traced("stopped by SIGSTOP").unwrap();
        let pid = line.split(' ').next().unwrap().parse().ok().and_then(Pid::from_raw);
        wait_for(until, || {
            // More than once: its tracer has told of the stop before it was one.
            let _ = kill_process(pid.unwrap(), Signal::CONT);
            traced(until).is_some()
        });
        drop(kept);
        created.join().unwrap()
    })
}

#[test]
fn who_looks_at_a_container_that_is_about_to_be_created_does_not_keep_it_from_that() {
    let bundle = Bundle::new("together-look").args(&["sleep", "1000"]);
    bundle.write();
    let lock = format!("{}/lock", bundle.id);
    // As `start` holds it, which then finds no record.
    let look = || {
        let file = fs::File::options().write(true).open(bundle.dir.join("records").join(&lock)).unwrap();
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    };
    create_held(&bundle, ("open", &lock), look, "EAGAIN").says("");
    assert_eq!(bundle.state()["status"], "created");
}

#[test]
fn a_container_that_is_deleted_by_force_before_it_is_locked_is_created_all_the_same() {
    let bundle = Bundle::new("together-early").args(&["sleep", "1000"]);
    bundle.write();
    for (call, path) in [("mkdirat", bundle.id.clone()), ("open", format!("{}/lock", bundle.id))] {
        let delete = || bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
        create_held(&bundle, (call, &path), delete, "SIGCONT").says("");
        assert_eq!(bundle.state()["status"], "created");
        delete();
    }
}

#[test]
fn an_id_that_another_takes_before_it_is_locked_is_the_others() {
    let bundle = Bundle::new("together-other").args(&["sleep", "1000"]);
    bundle.write();
    let (dir, id) = (bundle.dir.to_str().unwrap(), bundle.id.as_str());
    let take = || {
        bundle.tinyrun(&["delete", "--force", id]).says("");
        bundle.tinyrun(&["create", "-b", dir, id]).says("");
    };
    create_held(&bundle, ("mkdirat", id), take, "SIGCONT").fails(1, "already exists");
    assert_eq!(bundle.state()["status"], "created");
}

/// A hook at creation, and what it asks for meanwhile.
#[test]
fn hooks_may_ask_for_the_state() {
    let mut bundle = Bundle::new("together-hook").args(&["sleep", "1000"]);
    let said = bundle.dir.join("said");
    let records = bundle.dir.join("records");
    let (tinyrun, root, file) = (tinyrun(), records.display(), said.display());
    let ask = format!("{} --root {root} state {} >>{file} 2>&1", tinyrun.display(), bundle.id);
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", ask] }]);
    bundle.spec["hooks"] = json!({ "prestart": hook, "createRuntime": hook, "poststart": hook });
    bundle.write();
    bundle.tinyrun(&["create", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["start", &bundle.id]).says("");
    let said = fs::read_to_string(said).unwrap();
    assert_eq!(said.matches("\"status\": \"creating\"").count(), 2, "{said}");
    assert_eq!(said.matches("\"status\": \"running\"").count(), 1, "{said}");
}

/// Who is at work is waited for; deletion by force ends the container first.
#[test]
fn a_container_whose_start_hangs_is_deleted_by_force() {
    for manager in ["cgroupfs", "disabled"] {
        let begun = std::time::Instant::now();
        deleted_while_it_starts(manager);
        // It does not wait until it gives up on whoever holds the lock.
        assert!(begun.elapsed() < Duration::from_secs(9), "{manager}");
    }
}

fn deleted_while_it_starts(manager: &str) {
    let mut bundle = Bundle::new(&format!("together-hangs-{manager}")).args(&["true"]);
    bundle.spec["hooks"] = json!({ "startContainer": [{ "path": "/bin/sleep", "args": ["sleep", "1000"] }] });
    bundle.write();
    let id = bundle.id.as_str();
    let create = ["--cgroup-manager", manager, "create", "-b", bundle.dir.to_str().unwrap(), id];
    bundle.tinyrun(&create).says("");
    thread::scope(|scope| {
        let start = scope.spawn(|| bundle.tinyrun(&["start", id]));
        // The gate is gone when the program was let go.
        let gate = bundle.dir.join("records").join(id).join("gate");
        wait_for("the end of the gate", || !gate.exists());
        let update = scope.spawn(|| bundle.tinyrun(&["update", "--pids-limit", "9", id]));
        bundle.tinyrun(&["kill", id, "USR1"]);
        assert!(!start.is_finished() && !update.is_finished());
        bundle.tinyrun(&["delete", "--force", id]).says("");
        start.join().unwrap();
        assert_refusals(&[update.join().unwrap()], &["container not running", "does not exist", "no cgroup"]);
    });
    bundle.assert_clean();
}
