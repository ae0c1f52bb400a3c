//! Namespaces of a container that another one joins by path.

use std::fs;

use serde_json::{Value, json};

use crate::driver::{Bundle, Said, wait_for};

/// The kinds of the specification, and the kernel's names.
const KINDS: [(&str, &str); 5] =
    [("pid", "pid"), ("uts", "uts"), ("ipc", "ipc"), ("cgroup", "cgroup"), ("time", "time")];

/// A container that has all of them, and is seen to.
fn lender(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name).args(&["sleep", "1000"]);
    bundle.spec["hostname"] = json!("lender");
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    bundle.spec["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000 } });
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["exec", &bundle.id, "touch", "/dev/mqueue/lent"]).says("");
    bundle
}

impl Bundle {
    /// With those kinds of its own that are not the lender's.
    fn borrowing(mut self, lender: &Bundle, kinds: &[&str]) -> Bundle {
        let pid = lender.state()["pid"].to_string();
        self.spec["hostname"] = Value::Null;
        let namespaces = self.spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| KINDS.iter().all(|(kind, _)| one["type"] != *kind));
        namespaces.extend(KINDS.map(|(kind, file)| match kinds.contains(&kind) {
            true => json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") }),
            false => json!({ "type": kind }),
        }));
        self
    }
}

/// What a process sees: its namespaces, in order; its name, its number, queues, and the time since the start.
const LOOKS: &str = "for kind in pid uts ipc cgroup time; do readlink /proc/self/ns/$kind; done
    hostname; echo $$; ls /dev/mqueue | grep -c lent; head -n 1 /proc/self/cgroup; cat /proc/uptime";

fn links(said: &Said) -> Vec<String> {
    assert_eq!(said.code, 0, "{said:?}");
    said.out.lines().take(KINDS.len()).map(str::to_owned).collect()
}

#[test]
fn each_kind_is_the_lenders_and_the_others_are_its_own() {
    let lender = lender("join-lender");
    let lent = links(&lender.tinyrun(&["exec", &lender.id, "sh", "-c", LOOKS]));
    let host = KINDS.map(|(_, file)| fs::read_link(format!("/proc/self/ns/{file}")).unwrap());
    let all = KINDS.map(|(kind, _)| kind);
    for kinds in all.iter().map(std::slice::from_ref).chain([&all[..], &[]]) {
        let bundle = Bundle::new("join-borrower").borrowing(&lender, kinds).script(LOOKS);
        let said = bundle.run();
        for (at, link) in links(&said).iter().enumerate() {
            assert_eq!(*link == lent[at], kinds.contains(&all[at]), "{kinds:?}: {said:?} beside {lent:?}");
            assert_ne!(host[at].to_str(), Some(link.as_str()), "{kinds:?}: {said:?}");
        }
        let seen: Vec<&str> = said.out.lines().skip(KINDS.len()).collect();
        let has = |kind: &str| kinds.contains(&kind);
        assert_eq!(seen[0] == "lender", has("uts"), "{kinds:?}: {said:?}");
        assert_eq!(seen[1] != "1", has("pid"), "{kinds:?}: {said:?}");
        assert_eq!(seen[2], if has("ipc") { "1" } else { "0" }, "{kinds:?}: {said:?}");
        // Beside the lender's cgroup, which is the root of what it sees.
        assert_eq!(
            seen[3].contains(":/../tinyrun-test-join-borrower-"),
            has("cgroup"),
            "{kinds:?}: {said:?}"
        );
        let is_ahead = seen[4].split('.').next().unwrap().parse::<u64>().unwrap() > 1_000_000;
        assert_eq!(is_ahead, has("time"), "{kinds:?}: {said:?}");
    }
}

/// They are not the first of it: nothing ends them but the runtime.
#[test]
fn processes_in_a_joined_pid_namespace_end_with_their_container_and_not_the_lender() {
    let lender = lender("join-pids");
    let bundle =
        Bundle::new("join-pids-in").borrowing(&lender, &["pid"]).script("sleep 998 & exec sleep 997");
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["exec", "-d", &bundle.id, "sleep", "996"]).says("");
    let count = "ps -o args | grep -c '^sleep 99[678]$'; true";
    let seen_by = |bundle: &Bundle| bundle.tinyrun(&["exec", &bundle.id, "sh", "-c", count]).out;
    wait_for("the processes", || seen_by(&lender) == "3");
    assert_eq!(seen_by(&bundle), "3");
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    assert_eq!(seen_by(&lender), "0");
    assert_eq!(lender.state()["status"], "running");
}

/// Over a PID namespace that was there before, new users have no right: the kernel shows no procfs of it to them.
#[test]
fn a_container_with_users_of_its_own_joins_what_it_can() {
    let lender = lender("join-users-lender");
    let lent = links(&lender.tinyrun(&["exec", &lender.id, "sh", "-c", LOOKS]));
    for (at, (kind, _)) in KINDS.iter().enumerate() {
        let bundle =
            Bundle::new("join-users-borrower").with_users().borrowing(&lender, &[kind]).script(LOOKS);
        let said = bundle.run();
        match *kind {
            "pid" => said.fails(1, "mounts[0] (/proc): fsconfig(\"proc\", create): Operation not permitted"),
            _ => assert_eq!(links(&said)[at], lent[at], "{kind}: {said:?}"),
        }
    }
}
