//! Mounts that a container's copies could have in common with the host's, on a host whose mounts are shared, as systemd makes them.

use std::fs;

use serde_json::json;

use crate::driver::{Bundle, Said};

impl Bundle {
    /// Without a namespace of this kind of its own.
    fn with_the_hosts(mut self, kind: &str) -> Bundle {
        self.spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != kind);
        self
    }

    /// In place of the mount at this destination.
    fn mount_instead(mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Bundle {
        let mounts = self.spec["mounts"].as_array_mut().unwrap();
        let old = mounts.iter_mut().find(|mount| mount["destination"] == destination).unwrap();
        *old = json!({ "destination": destination, "type": kind, "source": source, "options": options });
        self
    }

    fn run_on_shared_mounts(&self) -> Said {
        self.write();
        let around = ["unshare", "--mount", "--propagation", "shared"];
        self.tinyrun_in(&around, &["run", "--bundle", self.dir.to_str().unwrap(), &self.id])
    }
}

/// What a container that may mount lays over a copy of the host's appears on the host, too, where both are peers: over `cgroup.procs`, by which
/// processes are told to be the container's and are killed.
#[test]
fn nothing_of_the_host_that_a_container_sees_is_a_peer_of_it() {
    for users in [false, true] {
        let bundle = Bundle::new(&format!("peers-{users}"));
        let mut bundle = if users { bundle.with_users() } else { bundle };
        let device = bundle.dir.join("zero").display().to_string();
        let made = std::process::Command::new("mknod").args(["-m", "666", &device, "c", "1", "5"]).status();
        assert!(made.unwrap().success());
        let place = bundle.rootfs(&device[1..]);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        if users {
            fs::write(place, "").unwrap();
        }
        bundle.spec["root"]["readonly"] = json!(false);
        bundle.spec["process"]["terminal"] = json!(true);
        bundle.spec["linux"]["devices"] = json!([{ "path": device, "type": "c", "major": 1, "minor": 5 }]);
        let bundle = bundle
            .with_the_hosts("pid")
            .mount_instead("/proc", "bind", "/proc", &["rbind"])
            .args(&["grep", "-c", "", "/proc/self/mountinfo"]);
        let lines: usize = bundle.run_on_shared_mounts().out.trim().parse().unwrap();
        assert!(lines > 10, "{lines}");
        let bundle = bundle.args(&["grep", " shared:", "/proc/self/mountinfo"]);
        let said = bundle.run_on_shared_mounts();
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    }
}

/// They were dropped without a word, for a bind there is checked before it is anything else.
#[test]
fn the_options_of_a_bind_on_proc_are_kept() {
    let bundle = Bundle::new("bound-proc")
        .with_the_hosts("pid")
        .mount_instead("/proc", "bind", "/proc", &["rbind", "ro", "nosuid", "noexec", "nodev"])
        .script("grep ' /proc ' /proc/self/mountinfo | cut -d' ' -f6; echo 0 >/proc/self/oom_score_adj");
    let said = bundle.run_on_shared_mounts();
    assert!(said.out.starts_with("ro,nosuid,nodev,noexec"), "{said:?}");
    assert!(said.err.contains("Read-only file system"), "{said:?}");
}

/// They vanished: who asked for a /proc without other users' processes got the host's.
#[test]
fn options_of_a_proc_that_is_the_hosts_are_refused() {
    let options = ["nosuid", "noexec", "nodev"];
    let bundle = Bundle::new("hosts-proc").with_users().with_the_hosts("pid").args(&["true"]);
    let bundle = bundle.mount_instead("/proc", "proc", "proc", &options);
    bundle.run().says("");
    let bundle = bundle.mount_instead("/proc", "proc", "proc", &[&options[..], &["hidepid=2"]].concat());
    bundle.run().fails(1, "mounts[0] (/proc): \"hidepid=2\" is for a proc of the container's own");
}
