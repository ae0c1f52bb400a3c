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
        let child = Command::new("unshare").args(["--user", "sleep", "1000"]).spawn().unwrap();
        let holder = Holder(child);
        let own = fs::read_link("/proc/self/ns/user").unwrap();
        while fs::read_link(holder.namespace()).is_ok_and(|namespace| namespace == own) {
            // unshare tells nobody when it is there.
            sleep(Duration::from_millis(1));
        }
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", holder.0.id()), "0 100000 65536").unwrap();
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
