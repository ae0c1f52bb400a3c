//! User namespaces that are joined.

use std::{
    fs,
    process::{Child, Command},
    thread::sleep,
    time::Duration,
};

use serde_json::json;

use crate::driver::Bundle;

/// Somebody in a user namespace of its own, until the end of the test.
struct Holder(Child);

impl Holder {
    fn new() -> Holder {
        Holder::with("0 100000 65536")
    }

    fn with(maps: &str) -> Holder {
        let child = Command::new("unshare").args(["--user", "sleep", "1000"]).spawn().unwrap();
        let holder = Holder(child);
        let own = fs::read_link("/proc/self/ns/user").unwrap();
        while fs::read_link(holder.namespace()).is_ok_and(|namespace| namespace == own) {
            // unshare tells nobody when it is there.
            sleep(Duration::from_millis(1));
        }
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", holder.0.id()), maps).unwrap();
        }
        holder
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/user", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_user_namespace_is_joined_by_path_and_the_others_are_its_own() {
    let holder = Holder::new();
    let mut bundle = Bundle::new("join-users").with_users().script(
        "id -u; echo $$; cat /proc/self/uid_map; stat -c %u /dev /dev/null /proc/1; touch /dev/new && ls /dev/pts/ptmx; \
         readlink /proc/self/ns/user; hostname; echo x > /proc/sys/kernel/panic",
    );
    bundle.spec["linux"]["uidMappings"] = json!(null);
    bundle.spec["linux"]["gidMappings"] = json!(null);
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.last_mut().unwrap()["path"] = json!(holder.namespace());
    let said = bundle.run();
    let joined = fs::read_link(holder.namespace()).unwrap().display().to_string();
    let words: Vec<&str> = said.out.split_whitespace().collect();
    let expected = ["0", "1", "0", "100000", "65536", "0", "0", "0", "/dev/pts/ptmx", &joined, "tinyrun"];
    assert_eq!(words, expected, "{said:?}");
    assert!(said.err.contains("/proc/sys/kernel/panic"), "{said:?}");

    // The same without a PID namespace of its own, and exec.
    let mut bundle = bundle.args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["exec", &bundle.id, "readlink", "/proc/self/ns/user"]).says(&joined);
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    bundle.spec["process"]["args"] = json!(["id", "-u"]);
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    bundle.run().says("0");
}

#[test]
fn a_path_that_is_no_user_namespace_is_named() {
    let mut bundle = Bundle::new("join-wrong").script("true");
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "user", "path": "/proc/self/ns/net" }));
    bundle.run().fails(1, "linux.namespaces[6]: join the user namespace: setns");
}

#[test]
fn ids_of_several_ranges_are_each_their_own_outside() {
    let map = json!([
        { "containerID": 0, "hostID": 100_000, "size": 10 }, { "containerID": 10, "hostID": 300_000, "size": 5 }
    ]);
    let ranges = "0 100000 10 10 300000 5";
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut bundle = Bundle::new("ranges").with_users().args(&["sleep", "1000"]);
    bundle.spec["linux"]["uidMappings"] = map.clone();
    bundle.spec["linux"]["gidMappings"] = map;
    bundle.spec["process"]["user"] = json!({ "uid": 12, "gid": 3, "additionalGids": [14] });
    let device = json!({ "path": "/dev/own", "type": "c", "major": 1, "minor": 3, "uid": 11, "gid": 13 });
    bundle.spec["linux"]["devices"] = json!([device]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let status = fs::read_to_string(format!("/proc/{}/status", bundle.state()["pid"])).unwrap();
    let line = |name: &str| words(status.lines().find(|line| line.starts_with(name)).unwrap());
    assert_eq!(line("Uid:"), "Uid: 300002 300002 300002 300002");
    assert_eq!(
        (line("Gid:").as_str(), line("Groups:").as_str()),
        ("Gid: 100003 100003 100003 100003", "Groups: 300004")
    );
    let asks = "id -u; cat /proc/self/uid_map; stat -c %u:%g /dev/own /dev/null";
    let said = bundle.tinyrun(&["exec", "--user", "14:0", &bundle.id, "sh", "-c", asks]);
    assert_eq!(words(&said.out), format!("14 {ranges} 11:13 0:0"), "{said:?}");
    bundle
        .tinyrun(&["exec", "--user", "15", &bundle.id, "true"])
        .fails(255, "process.user: it is not in the id mappings");
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");

    // One that is there and is joined has its own.
    let holder = Holder::with(&ranges.replace("10 10", "10\n10"));
    bundle.spec["linux"]["uidMappings"] = json!([]);
    bundle.spec["linux"]["gidMappings"] = json!([]);
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().last_mut().unwrap()["path"] =
        json!(holder.namespace());
    bundle.spec["process"]["args"] = json!(["sh", "-c", asks]);
    let said = bundle.run();
    assert_eq!(words(&said.out), format!("12 {ranges} 11:13 0:0"), "{said:?}");
}

#[test]
fn a_joined_network_and_joined_queues_are_shown_to_another_user_namespace() {
    let lender = Bundle::new("lend").args(&["sleep", "1000"]);
    lender.write();
    lender.tinyrun(&["run", "-d", "--bundle", lender.dir.to_str().unwrap(), &lender.id]).says("");
    lender.tinyrun(&["exec", &lender.id, "touch", "/dev/mqueue/lent"]).says("");
    let mut bundle =
        Bundle::new("borrow").with_users().script("ls /dev/mqueue; ls /sys/class/net | head -n 1; id -u");
    let path = format!("/proc/{}/ns", lender.state()["pid"]);
    for namespace in bundle.spec["linux"]["namespaces"].as_array_mut().unwrap() {
        match namespace["type"].as_str() {
            Some("ipc") => namespace["path"] = json!(format!("{path}/ipc")),
            Some("network") => namespace["path"] = json!(format!("{path}/net")),
            _ => {}
        }
    }
    let said = bundle.run();
    let words: Vec<&str> = said.out.split_whitespace().collect();
    assert_eq!((words.len(), words[0], words[2]), (3, "lent", "0"), "{said:?}");
}
