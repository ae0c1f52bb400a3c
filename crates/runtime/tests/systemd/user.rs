//! An ordinary user, whose own manager makes the unit.

use std::{os::unix::fs::lchown, path::Path, process::Command};

use serde_json::json;

use super::{Bundle, show, systemctl};

const USER: u32 = 1000;

fn chown_all(path: &Path) {
    lchown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        std::fs::read_dir(path).unwrap().flatten().for_each(|entry| chown_all(&entry.path()));
    }
}

#[test]
fn an_ordinary_users_container_is_a_unit_of_the_users_manager() {
    let known = Command::new("useradd").args(["--uid", "1000", "alice"]).status().unwrap();
    assert!(known.success());
    systemctl(&["start", "user@1000.service"]);
    let mut bundle = Bundle::new("user").args(&["sleep", "1000"]);
    let map = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
    bundle.spec["linux"]["uidMappings"] = map.clone();
    bundle.spec["linux"]["gidMappings"] = map;
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    // The list of devices that `spec` writes stays: who is not root has none kept, and is refused nothing for it.
    let resources = &mut bundle.spec["linux"]["resources"];
    assert!(resources["devices"].is_array());
    resources["memory"] = json!({ "limit": 64 << 20 });
    resources["pids"] = json!({ "limit": 20 });
    bundle.write();
    std::fs::create_dir_all(bundle.dir.join("records")).unwrap();
    chown_all(&bundle.dir);
    let run = "XDG_RUNTIME_DIR=/run/user/1000";
    let user = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "env", run];
    let dir = bundle.dir.to_str().unwrap();
    // From outside of the user's part of the tree, where only systemd can move a process from, and from inside.
    let inside = [&user[..], &["systemd-run", "--user", "--scope", "-q"]].concat();
    for around in [&user[..], &inside] {
        let said = bundle.tinyrun_in(around, &["--systemd-cgroup", "run", "-d", "-b", dir, &bundle.id]);
        assert_eq!(said.code, 0, "{said:?}");
        let state = bundle.tinyrun_in(&user, &["state", &bundle.id]);
        let state: serde_json::Value = serde_json::from_str(&state.out).unwrap();
        let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
        let unit = format!("tinyrun-{}.scope", bundle.id);
        let expected = format!("0::/user.slice/user-1000.slice/user@1000.service/user.slice/{unit}");
        assert_eq!(cgroup.trim(), expected);
        let users = [&user[..], &["systemctl", "--user"]].concat();
        assert_eq!(show(&users, &unit, &["MemoryMax", "TasksMax"]), ["67108864", "20"]);
        let limit = Path::new("/sys/fs/cgroup").join(&expected[4..]).join("memory.max");
        assert_eq!(std::fs::read_to_string(limit).unwrap().trim(), "67108864");
        bundle
            .tinyrun_in(around, &["--systemd-cgroup", "exec", &bundle.id, "cat", "/proc/self/cgroup"])
            .says("0::/");
        let update = ["--systemd-cgroup", "update", "--pids-limit", "30", &bundle.id];
        bundle.tinyrun_in(around, &update).says("");
        assert_eq!(show(&users, &unit, &["MemoryMax", "TasksMax"]), ["67108864", "30"]);
        let pids = bundle.tinyrun_in(around, &["--systemd-cgroup", "ps", "-f", "json", &bundle.id]);
        assert_eq!(pids.out, format!("[\n  {}\n]", state["pid"]));
        bundle.tinyrun_in(around, &["--systemd-cgroup", "delete", "--force", &bundle.id]).says("");
        let left =
            Command::new("sh").args(["-c", "find /sys/fs/cgroup -name \"$0\"", &unit]).output().unwrap();
        assert!(left.stdout.is_empty(), "{left:?}");
    }
}
