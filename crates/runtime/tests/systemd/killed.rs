//! tinyrun killed where it talks to systemd: whatever had been said by then, `delete --force` leaves no unit.

use std::fs;

use super::Scope;

/// Calls by which a unit comes about and goes: the conversation, the process that holds it, the record. All others have their turn
/// where there is no systemd.
const CALLS: &str = "connect,sendto,clone3,pidfd_send_signal,rename";

/// How often each of the calls is made in all by the process itself.
fn points(scope: &Scope, verb: &[&str]) -> Vec<(String, usize)> {
    let trace = scope.bundle.dir.join("trace");
    let set = format!("trace={CALLS}");
    let tracer = ["strace", "-qq", "-e", &set, "-o", trace.to_str().unwrap()];
    assert_eq!(scope.bundle.tinyrun_in(&tracer, verb).code, 0);
    let text = fs::read_to_string(&trace).unwrap();
    CALLS
        .split(',')
        .flat_map(|call| {
            let count = text.lines().filter(|line| line.starts_with(&format!("{call}("))).count();
            (1..=count).map(move |at| (call.to_owned(), at))
        })
        .collect()
}

fn sweep(name: &str, created: bool, verb: &[&str]) {
    let scope = Scope::new(name);
    scope.bundle.write();
    let dir = scope.bundle.dir.to_str().unwrap();
    let create = ["--systemd-cgroup", "create", "-b", dir, &scope.bundle.id];
    let words: Vec<&str> = verb.iter().copied().chain([scope.bundle.id.as_str()]).collect();
    let line: &[&str] = if created { &words } else { &create };
    let before = || {
        if created {
            scope.bundle.tinyrun(&create).says("")
        }
    };
    before();
    let points = points(&scope, line);
    scope.delete().says("");
    assert!(points.len() > 5, "{points:?}");
    for (call, at) in points {
        before();
        let (set, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={at}"));
        let said = scope.bundle.tinyrun_in(&["strace", "-qq", "-e", &set, "-e", &inject], line);
        assert_ne!(said.code, 0, "{call} {at} was not hit");
        let deleted = scope.delete();
        assert_eq!(deleted.code, 0, "after {call} {at}: {deleted:?}");
        scope.assert_gone();
    }
}

#[test]
fn create_is_killed_anywhere() {
    sweep("killed-create", false, &[]);
}

#[test]
fn delete_is_killed_anywhere() {
    sweep("killed-delete", true, &["--systemd-cgroup", "delete", "--force"]);
}
