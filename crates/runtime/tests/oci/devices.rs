//! Which device nodes may be opened: the list of the configuration, and the one that `update` puts in its place. The nodes are of a driver
//! that nobody has: who may open one is told that, and who may not is refused.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::driver::{Bundle, wait_for};

/// For local and experimental use (Documentation/admin-guide/devices.txt).
const MAJOR: i64 = 60;
const ALLOWED: &str = "No such device or address";
const DENIED: &str = "Operation not permitted";

fn rule(allow: bool, minor: i64, access: &str) -> Value {
    json!({ "allow": allow, "type": "c", "major": MAJOR, "minor": minor, "access": access })
}

/// A container with the nodes 1, 2 and 3, and this list after one rule that denies all.
fn running(name: &str, rules: &[Value], program: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(name).mount("/tmp", "tmpfs", "tmpfs", &[]).args(program);
    let node = |minor: i64| json!({ "path": format!("/dev/odd{minor}"), "type": "c", "major": MAJOR, "minor": minor });
    bundle.spec["linux"]["devices"] = json!([node(1), node(2), node(3)]);
    bundle.spec["linux"]["resources"] = list(rules);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle
}

fn list(rules: &[Value]) -> Value {
    let rules = [&[json!({ "allow": false, "access": "rwm" })], rules].concat();
    json!({ "devices": rules })
}

fn update(bundle: &Bundle, rules: &[Value]) {
    bundle.tinyrun_reading(&list(rules).to_string(), &["update", "-r", "-", &bundle.id]).says("");
}

/// How reading and writing each node ends.
fn opened(bundle: &Bundle) -> [[&'static str; 2]; 3] {
    [1, 2, 3].map(|minor| {
        ["<", ">"].map(|direction| {
            let script = format!(": {direction} /dev/odd{minor}");
            let said = bundle.tinyrun(&["exec", &bundle.id, "sh", "-c", &script]);
            let found = [ALLOWED, DENIED].into_iter().find(|words| said.err.contains(words));
            found.unwrap_or_else(|| panic!("{said:?}"))
        })
    })
}

#[test]
fn nodes_open_as_the_list_says_and_as_update_says_then() {
    let bundle = running("devices", &[rule(true, 1, "r"), rule(true, 2, "rw")], &["sleep", "1000"]);
    assert_eq!(opened(&bundle), [[ALLOWED, DENIED], [ALLOWED, ALLOWED], [DENIED, DENIED]]);
    // A new list is the whole list.
    update(&bundle, &[rule(true, 1, "w"), rule(true, 3, "r")]);
    assert_eq!(opened(&bundle), [[DENIED, ALLOWED], [DENIED, DENIED], [ALLOWED, DENIED]]);
    let all = json!({ "devices": [{ "allow": true, "access": "rwm" }, rule(false, 2, "w")] });
    bundle.tinyrun_reading(&all.to_string(), &["update", "-r", "-", &bundle.id]).says("");
    assert_eq!(opened(&bundle), [[ALLOWED, ALLOWED], [ALLOWED, DENIED], [ALLOWED, ALLOWED]]);
    // What everybody has stays, and an update of something else leaves the list.
    update(&bundle, &[]);
    bundle.tinyrun(&["update", "--pids-limit", "50", &bundle.id]).says("");
    assert_eq!(opened(&bundle), [[DENIED; 2]; 3]);
    bundle.tinyrun(&["exec", &bundle.id, "sh", "-c", "head -c 1 /dev/zero > /dev/null"]).says("");
}

/// What both lists allow is never refused in between, and what both deny never opens.
#[test]
fn one_list_takes_the_others_place_in_one_step() {
    let script = format!(
        "until [ -e /tmp/stop ]; do
            case $( (: < /dev/odd1) 2>&1 ) in *'{ALLOWED}') ;; *) echo refused >> /tmp/wrong ;; esac
            case $( (: < /dev/odd3) 2>&1 ) in *'{DENIED}') ;; *) echo opened >> /tmp/wrong ;; esac
            echo >> /tmp/rounds
        done; sleep 1000"
    );
    let bundle = running("devices-step", &[rule(true, 1, "r"), rule(true, 2, "r")], &["sh", "-c", &script]);
    let inside = |file: &str| {
        let root = format!("/proc/{}/root/tmp/{file}", bundle.state()["pid"]);
        fs::read_to_string(Path::new(&root)).unwrap_or_default()
    };
    wait_for("the first look", || inside("rounds").lines().count() > 0);
    for _ in 0..10 {
        update(&bundle, &[rule(true, 1, "rw")]);
        update(&bundle, &[rule(true, 1, "r"), rule(true, 2, "r")]);
    }
    assert!(inside("rounds").lines().count() > 3, "it looks beside the updates");
    bundle.tinyrun(&["exec", &bundle.id, "touch", "/tmp/stop"]).says("");
    assert_eq!(inside("wrong"), "");
}

/// It ran with a warning, and with every device that it could make.
#[test]
fn a_list_that_nobody_keeps_is_refused() {
    let mut bundle = Bundle::new("devices-unkept").args(&["true"]);
    bundle.write();
    let trace = bundle.dir.join("trace").display().to_string();
    let without = if Path::new("/sys/fs/cgroup/devices").exists() {
        vec!["unshare", "--mount", "sh", "-c", "umount -l /sys/fs/cgroup/devices && exec \"$0\" \"$@\""]
    } else {
        vec!["strace", "-f", "-o", &trace, "-e", "trace=bpf", "-e", "inject=bpf:error=EPERM"]
    };
    let run = ["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
    bundle.tinyrun_in(&without, &run).fails(1, "linux.resources.devices: the list cannot be kept here: ");
    bundle.assert_clean();
    // Nothing is denied that could be open.
    bundle.spec["linux"]["resources"] = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
    bundle.write();
    bundle.tinyrun_in(&without, &run).says("");
}
