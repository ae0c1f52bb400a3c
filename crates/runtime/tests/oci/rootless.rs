//! An ordinary user (uid 1000, no capability) with `tinyrun spec --rootless`: with a cgroup of its own and with none, with one id and
//! with many. What the user may not, root of the machine prepares around it: cgroups, /etc/subuid, mounts.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::driver::{Bundle, Said, until_stopped_by};

const USER: u32 = 1000;

/// Enters the groups of `$GROUPS_TO_ENTER`, then becomes the user and the runtime, which is to need no other program. Its file is
/// executed by descriptor: the directory that it is in may be root's alone.
const BECOME_USER: &str = "exec 9<\"$0\"; for group in $GROUPS_TO_ENTER; do echo 0 >$group/cgroup.procs; done; \
     exec setpriv --reuid=1000 --regid=1000 --clear-groups env PATH=/nowhere /proc/self/fd/9 \"$@\"";

/// A user with a bundle.
struct User {
    bundle: Bundle,
    /// Words before the runtime's.
    around: Vec<String>,
    /// Cgroups that are the user's: one per hierarchy.
    groups: Vec<PathBuf>,
}

impl User {
    fn new(name: &str) -> User {
        let bundle = Bundle::new(name);
        let own = Command::new("chown").arg("-R").arg("1000:1000").arg(&bundle.dir).status().unwrap();
        assert!(own.success());
        let around = ["sh", "-c", BECOME_USER].map(str::to_owned).to_vec();
        let mut user = User { bundle, around, groups: Vec::new() };
        fs::remove_file(user.bundle.dir.join("config.json")).unwrap();
        user.tinyrun(&["spec", "--rootless", "--bundle", user.dir()]).says("");
        let text = fs::read(user.bundle.dir.join("config.json")).unwrap();
        user.bundle.spec = tinyd_core::json::read(&text).unwrap();
        user.bundle.spec["process"]["terminal"] = json!(false);
        user
    }

    /// Gives it a cgroup in each hierarchy of these controllers, as an administrator does, and has it begin there.
    fn with_cgroups(mut self, controllers: &[&str]) -> User {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("own-{}", self.bundle.id);
        if is_v2() {
            let add = controllers.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
            fs::write(root.join("cgroup.subtree_control"), &add).unwrap();
            let own = root.join(&name);
            fs::create_dir_all(own.join("session")).unwrap();
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                chown(own.join(file), Some(USER), Some(USER)).unwrap();
            }
            fs::write(own.join("cgroup.subtree_control"), &add).unwrap();
            self.groups = vec![own];
        } else {
            self.groups = controllers.iter().map(|controller| root.join(controller).join(&name)).collect();
            for group in &self.groups {
                fs::create_dir(group).unwrap();
                chown(group, Some(USER), Some(USER)).unwrap();
            }
        }
        let enter =
            self.groups.iter().map(|group| if is_v2() { group.join("session") } else { group.clone() });
        let enter: Vec<String> = enter.map(|group| group.display().to_string()).collect();
        self.around.splice(0..0, ["env".to_owned(), format!("GROUPS_TO_ENTER={}", enter.join(" "))]);
        self
    }

    /// With ids 1 to 1000 from 200000 on, as /etc/subuid and /etc/subgid say in a mount namespace of its own.
    fn with_ids(mut self, allowed: &str) -> User {
        let file = self.bundle.dir.join("subid");
        fs::write(&file, allowed).unwrap();
        let cover = format!(
            "for to in /etc/subuid /etc/subgid; do [ -e $to ] || : >$to; mount --bind {} $to; done; exec \"$0\" \"$@\"",
            file.display()
        );
        let words = ["unshare", "-m", "sh", "-c", &cover].map(str::to_owned);
        self.around.splice(0..0, words);
        // Where newuidmap is.
        self.around.iter_mut().for_each(|word| *word = word.replace("env PATH=/nowhere ", ""));
        let map = json!([
            { "containerID": 0, "hostID": USER, "size": 1 }, { "containerID": 1, "hostID": 200_000, "size": 1000 }
        ]);
        self.bundle.spec["linux"]["uidMappings"] = map.clone();
        self.bundle.spec["linux"]["gidMappings"] = map;
        self
    }

    fn script(mut self, script: &str) -> User {
        self.bundle.spec["process"]["args"] = json!(["sh", "-c", script]);
        self
    }

    fn dir(&self) -> &str {
        self.bundle.dir.to_str().unwrap()
    }

    fn tinyrun(&self, args: &[&str]) -> Said {
        let around: Vec<&str> = self.around.iter().map(String::as_str).collect();
        self.bundle.tinyrun_in(&around, args)
    }

    fn run(&self) -> Said {
        self.bundle.write();
        self.tinyrun(&["run", "--bundle", self.dir(), &self.bundle.id])
    }

    /// Runs `sleep` and comes back.
    fn sleep(&mut self) {
        self.bundle.spec["process"]["args"] = json!(["sleep", "1000"]);
        self.bundle.write();
        self.tinyrun(&["run", "-d", "--bundle", self.dir(), &self.bundle.id]).says("");
    }

    fn exec(&self, script: &str) -> Said {
        self.tinyrun(&["exec", &self.bundle.id, "sh", "-c", script])
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.tinyrun(&["delete", "--force", &self.bundle.id]);
        for group in &self.groups {
            let left: Vec<PathBuf> = fs::read_dir(group)
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_dir())
                .collect();
            if is_v2() {
                fs::remove_dir(group.join("session")).unwrap();
            }
            if !std::thread::panicking() {
                assert!(left.iter().all(|left| left.ends_with("session")), "{left:?} are left");
            }
            fs::remove_dir(group).unwrap();
        }
    }
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn a_bundle_of_spec_rootless_runs() {
    let mut user = User::new("rootless").script(
        "id; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; echo x >/dev/null; head -c 3 /dev/zero | wc -c; \
         stat -c %t:%T /dev/full /dev/tty; test -e /sys/class/net/lo && touch /new && hostname; grep -e NoNew -e CapEff /proc/self/status; \
         touch /sys/x /proc/sys/kernel/x 2>/dev/null; echo $$; exit 7",
    );
    user.bundle.spec["root"]["readonly"] = json!(false);
    let said = user.run();
    let words = said.out.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected =
        "uid=0(root) gid=0 0 1000 1 0 1000 1 deny 3 1:7 5:0 tinyrun CapEff: 0000000020000420 NoNewPrivs: 1 1";
    assert_eq!((said.code, words.as_str(), said.err.as_str()), (7, expected, ""), "{said:?}");
    assert_eq!(fs::metadata(user.bundle.rootfs("new")).unwrap().uid(), USER);
}

#[test]
fn a_user_may_have_a_network_of_its_own() {
    let mut user = User::new("rootless-net").script("wc -l </proc/net/dev");
    user.bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "network" }));
    // Two lines of heading, and lo.
    user.run().says("3");
}

#[test]
fn devices_are_the_hosts_own() {
    let mut user = User::new("rootless-devices")
        .script("stat -c %n:%t:%T /dev/kmsg /dev/null; cat /dev/kmsg >/dev/null; touch /dev/x");
    let device = |path: &str, minor: u32| json!({ "path": path, "type": "c", "major": 1, "minor": minor });
    user.bundle.spec["linux"]["devices"] = json!([device("/dev/kmsg", 11)]);
    assert_eq!(user.bundle.spec["mounts"][1]["destination"], "/dev");
    user.bundle.spec["mounts"][1]["options"].as_array_mut().unwrap().push(json!("ro"));
    let said = user.run();
    assert_eq!(said.out, "/dev/kmsg:1:b\n/dev/null:1:3", "{said:?}");
    // What the host keeps from the user it keeps from it in a container.
    assert!(
        said.err.contains("can't open '/dev/kmsg'") && said.err.contains("/dev/x: Read-only"),
        "{said:?}"
    );
    user.bundle.spec["linux"]["devices"] = json!([device("/dev/null", 11)]);
    user.run().fails(1, "linux.devices (/dev/null): the host's \"/dev/null\" is another device");
    user.bundle.spec["linux"]["devices"] = json!([device("/dev/mine", 11)]);
    user.run().fails(1, "linux.devices (/dev/mine): its source /dev/mine does not exist");
}

#[test]
fn what_a_user_namespace_does_not_get_is_explained() {
    let mut user = User::new("rootless-proc").script("true");
    let cover = "mount -t tmpfs x /proc/sys && exec \"$0\" \"$@\"";
    user.around.splice(0..0, ["unshare", "-m", "sh", "-c", cover].map(str::to_owned));
    user.run().fails(1, "no view of /proc where the host's is partly covered");
    let said = user.bundle.tinyrun_in(
        &["sh", "-c", &format!("shift 2; unset XDG_RUNTIME_DIR; {BECOME_USER}")],
        &["run", "--bundle", user.dir(), &user.bundle.id],
    );
    said.fails(1, "make /run/tinyrun");
    said.fails(1, "who is not root sets XDG_RUNTIME_DIR or gives --root");
}

#[test]
fn a_users_container_lives_without_a_cgroup() {
    let mut user = User::new("rootless-life");
    let (dir, id) = (user.dir().to_owned(), user.bundle.id.clone());
    let (pid_file, hook_says) = (user.bundle.dir.join("pid"), user.bundle.dir.join("hook"));
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("id -u >{}", hook_says.display())] });
    user.bundle.spec["hooks"] = json!({ "createRuntime": [hook] });
    user.bundle.spec["process"]["args"] = json!(["sleep", "1000"]);
    user.bundle.write();
    user.tinyrun(&["create", "--bundle", &dir, "--pid-file", pid_file.to_str().unwrap(), &id]).says("");
    assert_eq!(fs::read_to_string(&hook_says).unwrap(), "1000\n");
    // It is the runtime still, with descriptors and rights of its own: out of the reach of its user, and of who joins it.
    let waiting = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(fs::metadata(format!("/proc/{waiting}/fd")).unwrap().uid(), 0);
    user.exec("true").fails(255, "cannot exec in container");
    user.tinyrun(&["start", &id]).says("");
    let state: serde_json::Value = serde_json::from_str(&user.tinyrun(&["state", &id]).out).unwrap();
    assert_eq!(
        (state["status"].as_str(), state["pid"].to_string()),
        (Some("running"), fs::read_to_string(&pid_file).unwrap())
    );
    assert!(user.tinyrun(&["list"]).out.contains("running"));
    let pid = state["pid"].as_i64().unwrap();
    let namespaces = "for of in 1 self; do for kind in user mnt pid ipc uts cgroup net; do readlink /proc/$of/ns/$kind; done; done";
    let said = user.exec(namespaces);
    let (first, added) = said.out.split_at(said.out.len() / 2);
    assert_eq!(first.trim(), added.trim(), "{said:?}");
    assert!(first.contains(&fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap().display().to_string()));
    let own_cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), own_cgroup);
    user.exec("grep -e CapEff -e NoNew /proc/self/status; touch /x; id -u; exit 3").fails(3, "Read-only");
    user.tinyrun(&["exec", "--user", "5", &id, "true"])
        .fails(255, "process.user: it is not in the id mappings");
    for verb in ["ps", "pause"] {
        user.tinyrun(&[verb, &id]).fails(1, "the container has no cgroup");
    }
    user.tinyrun(&["update", "--pids-limit", "7", &id]).fails(1, "the container has no cgroup");
    user.tinyrun(&["delete", &id]).fails(1, "not stopped");
    user.tinyrun(&["kill", "--all", &id, "KILL"]).says("");
    until_stopped_by(|| user.tinyrun(&["state", &id]));
    user.tinyrun(&["delete", &id]).says("");
    user.bundle.assert_clean();
}

#[test]
fn a_terminal_of_a_user_is_its_own() {
    let mut user = User::new("rootless-tty")
        .script("test -t 0 && test -t 1 && stat -L -c %u:%g /dev/console /proc/self/fd/0");
    user.bundle.spec["process"]["terminal"] = json!(true);
    // The group of terminals in other configurations: the user has no such group to give.
    let pts = &mut user.bundle.spec["mounts"][2];
    assert_eq!(pts["destination"], "/dev/pts");
    pts["options"].as_array_mut().unwrap().push(json!("gid=5"));
    let said = user.run();
    assert_eq!(said.out.split_whitespace().collect::<Vec<_>>(), ["0:0", "0:0"], "{said:?}");
}

#[test]
fn limits_hold_in_a_cgroup_that_is_the_users() {
    let mut user = User::new("rootless-cgroup").with_cgroups(
        &["cpu", "freezer", "memory", "pids"]
            .map(|name| if is_v2() && name == "freezer" { "pids" } else { name }),
    );
    user.bundle.spec["linux"]["resources"] = json!({ "pids": { "limit": 20 }, "memory": { "limit": 64 << 20 }, "cpu": { "quota": 40000, "period": 100_000 } });
    user.sleep();
    let id = user.bundle.id.clone();
    let limits = "cd /sys/fs/cgroup; cat pids/pids.max memory/memory.limit_in_bytes 2>/dev/null || cat pids.max memory.max";
    user.exec(limits).says("20\n67108864");
    let own =
        user.groups.iter().find(|group| is_v2() || group.starts_with("/sys/fs/cgroup/pids")).unwrap().clone();
    let group = own.join(format!("tinyrun-{id}"));
    assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap(), "20\n");
    let first = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    user.tinyrun(&["ps", "-f", "json", &id]).says(&format!("[\n  {}\n]", first.trim_end()));
    user.tinyrun(&["pause", &id]).says("");
    assert!(user.tinyrun(&["state", &id]).out.contains("paused"));
    user.tinyrun(&["resume", &id]).says("");
    user.tinyrun(&["update", "--pids-limit", "30", &id]).says("");
    user.exec(limits).says("30\n67108864");
    // A list of devices is root's to set, and no reason to refuse the rest.
    let change = user.bundle.dir.join("change.json");
    fs::write(&change, r#"{"devices":[{"allow":false,"access":"rwm"}],"pids":{"limit":31}}"#).unwrap();
    user.tinyrun(&["update", "-r", change.to_str().unwrap(), &id]).says("");
    user.exec(limits).says("31\n67108864");
    // One that is added is where the others are.
    user.exec("cd /sys/fs/cgroup; grep -x $$ pids/cgroup.procs 2>/dev/null >/dev/null || grep -x $$ cgroup.procs >/dev/null").says("");
    user.tinyrun(&["delete", "--force", &id]).says("");
    assert!(!group.exists());
    // A path that is not absolute is near the user's own; one that is is taken as it is.
    user.bundle.spec["linux"]["cgroupsPath"] = json!("a/b");
    user.sleep();
    assert!(own.join("a/b").exists());
    user.tinyrun(&["delete", "--force", &id]).says("");
    fs::remove_dir(own.join("a")).unwrap();
    for group in user.groups.iter().filter(|group| **group != own) {
        fs::remove_dir(group.join("a")).unwrap();
    }
}

#[test]
fn a_limit_that_a_user_cannot_set_is_an_error() {
    let mut user = User::new("rootless-limit").script("cat /proc/self/cgroup");
    user.bundle.spec["linux"]["resources"] = json!({ "pids": { "limit": 20 } });
    user.run().fails(1, "linux.resources.pids.limit: no limit can be set: no cgroup that has its controller");
    // Device nodes are not for a user to make, whatever is said of them, and a path may be root's.
    user.bundle.spec["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    user.bundle.spec["linux"]["cgroupsPath"] = json!("/system.slice/x");
    let said = user.run();
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    // Unless it is said that there is nothing to be lenient with.
    user.tinyrun(&["--rootless", "false", "run", "--bundle", user.dir(), &user.bundle.id]).fails(1, "mkdir(");
    if !is_v2() {
        // One controller of several.
        let mut user =
            User::new("rootless-part").with_cgroups(&["pids"]).script("cat /sys/fs/cgroup/pids/pids.max");
        user.bundle.spec["linux"]["resources"] = json!({ "pids": { "limit": 20 } });
        user.run().says("20");
        user.bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
        user.run().fails(
            1,
            "linux.resources.memory.limit: memory.limit_in_bytes = 67108864 cannot be set here: no cgroup",
        );
    }
}

#[test]
fn more_ids_than_ones_own_are_mapped_by_the_programs_for_it() {
    let mut user = User::new("rootless-ids").with_ids("1000:200000:1000\n");
    let whoami = "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id; touch /tmp/x && stat -c %u:%g /tmp/x";
    user.bundle.spec["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7] });
    let mut user = user.script(whoami);
    let tmp = json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"] });
    user.bundle.spec["mounts"].as_array_mut().unwrap().push(tmp);
    let said = user.run();
    let words = said.out.split_whitespace().collect::<Vec<_>>().join(" ");
    let map = "0 1000 1 1 200000 1000";
    assert_eq!(words, format!("{map} {map} allow uid=5 gid=6 groups=7 5:6"), "{said:?}");
    // Processes that are not the user's own end with the container all the same.
    user.sleep();
    let id = user.bundle.id.clone();
    user.exec("id").says("uid=5 gid=6 groups=7");
    user.tinyrun(&["exec", "--user", "0:0", &id, "id"]).says("uid=0(root) gid=0");
    user.tinyrun(&["kill", &id, "KILL"]).says("");
    until_stopped_by(|| user.tinyrun(&["state", &id]));
    user.tinyrun(&["delete", &id]).says("");
    user.sleep();
    user.tinyrun(&["delete", "--force", &id]).says("");
    user.bundle.assert_clean();
}

#[test]
fn the_containers_root_may_be_an_id_that_cannot_read_the_users_files() {
    let mut user = User::new("rootless-other")
        .with_ids("1000:200000:1000\n")
        .script("id -u; stat -c %u /bin; cat /data/secret");
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
    user.bundle.spec["linux"]["uidMappings"] = map.clone();
    user.bundle.spec["linux"]["gidMappings"] = map;
    let data = user.bundle.dir.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("secret"), "read\n").unwrap();
    // What is above the root and the volume is the user's alone.
    chown(&data, Some(USER), Some(USER)).unwrap();
    rustix::fs::chmod(&user.bundle.dir, rustix::fs::Mode::RWXU).unwrap();
    let mount = json!({ "destination": "/data", "type": "bind", "source": data, "options": ["rbind"] });
    user.bundle.spec["mounts"].as_array_mut().unwrap().push(mount);
    // A place for it: the container's root cannot make one in what is the user's.
    fs::create_dir(user.bundle.rootfs("data")).unwrap();
    user.run().says("0\n65534\nread");
    // Its cgroup is entered before it is somebody else, also by who is added.
    let mut user = user.with_cgroups(&["pids"]);
    user.sleep();
    user.exec(
        "cd /sys/fs/cgroup; grep -qx $$ pids/cgroup.procs 2>/dev/null || grep -x $$ cgroup.procs >/dev/null",
    )
    .says("");
    user.tinyrun(&["delete", "--force", &user.bundle.id]).says("");
}

#[test]
fn ids_that_are_not_the_users_are_named_with_the_file_that_says_so() {
    let user = User::new("rootless-not-ids").with_ids("1000:200000:999\n").script("true");
    user.run().fails(1, "linux.uidMappings: newuidmap: exit status 1: newuidmap: uid range [1-1001)");
    user.run().fails(1, "/etc/subuid");
    let mut user = user;
    let id = user.around.iter_mut().find(|word| word.starts_with("exec 9<")).unwrap();
    *id = id.replace("/proc/self/fd/9", "env PATH=/nowhere /proc/self/fd/9");
    user.run().fails(1, "linux.uidMappings: ids beyond one's own take newuidmap, which is not in PATH");
    user.bundle.assert_clean();
}

#[test]
fn what_a_mount_of_the_hosts_came_with_stays() {
    let mut user = User::new("rootless-locked").script("grep ' /tmp ' /proc/self/mountinfo | head -1");
    let volume = user.bundle.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    let mount = format!(
        "mount -t tmpfs -o ro,noexec,nosuid,nodev,noatime x {} && exec \"$0\" \"$@\"",
        volume.display()
    );
    user.around.splice(0..0, ["unshare", "-m", "sh", "-c", &mount].map(str::to_owned));
    let bind = |options: &[&str]| json!({ "destination": "/tmp", "type": "bind", "source": volume, "options": options });
    user.bundle.spec["mounts"].as_array_mut().unwrap().push(bind(&["rbind", "nosuid"]));
    let said = user.run();
    assert!(said.out.contains(" ro,nosuid,nodev,noexec,noatime "), "{said:?}");
    for word in ["exec", "suid", "dev", "rw", "relatime"] {
        *user.bundle.spec["mounts"].as_array_mut().unwrap().last_mut().unwrap() = bind(&["rbind", word]);
        user.run().fails(1, "with an attribute that is to be taken away here, and only root may");
    }
}

#[test]
fn an_oom_score_may_be_raised_and_not_lowered() {
    let mut user = User::new("rootless-oom").script("cat /proc/self/oom_score_adj");
    user.bundle.spec["process"]["oomScoreAdj"] = json!(500);
    let said = user.run();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("500", ""), "{said:?}");
    // Also for one that is added.
    user.sleep();
    let said = user.exec("cat /proc/self/oom_score_adj");
    assert_eq!((said.out.as_str(), said.err.as_str()), ("500", ""), "{said:?}");
    user.tinyrun(&["delete", "--force", &user.bundle.id]).says("");
    let mut user = user.script("true");
    user.bundle.spec["process"]["oomScoreAdj"] = json!(-500);
    user.bundle.write();
    let said = user.tinyrun(&["--debug", "run", "--bundle", user.dir(), &user.bundle.id]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("process.oomScoreAdj: -500 cannot be set"), "{said:?}");
}

#[test]
fn what_only_root_can_is_refused_by_name() {
    let mut user = User::new("rootless-refused").script("true");
    let namespaces = user.bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    let own = namespaces.iter().position(|one| one["type"] == "user").unwrap();
    let users = namespaces.remove(own);
    user.bundle.spec["linux"]["uidMappings"] = json!([]);
    user.bundle.spec["linux"]["gidMappings"] = json!([]);
    user.run().fails(1, "linux.namespaces: who is not root needs a user namespace");
    let map = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
    user.bundle.spec["linux"]["uidMappings"] = map.clone();
    user.bundle.spec["linux"]["gidMappings"] = map.clone();
    user.bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(users);
    let bind = json!({ "destination": "/tmp", "type": "bind", "source": "rootfs/tmp", "options": ["bind"], "uidMappings": map, "gidMappings": map });
    user.bundle.spec["mounts"].as_array_mut().unwrap().push(bind);
    user.run().fails(1, "only root can mount with other ids");
}

#[test]
fn root_of_a_user_namespace_runs_with_another_below_and_without() {
    // With a mount namespace, whose mounts it may copy, and without one.
    for (name, flags) in [("root-mounts", "-Urm"), ("root-plain", "-Ur")] {
        let mut user = User::new(name);
        let below = format!("unshare {flags} /proc/self/fd/9");
        user.around
            .iter_mut()
            .for_each(|word| *word = word.replace("env PATH=/nowhere /proc/self/fd/9", &below));
        let map = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        user.bundle.spec["linux"]["uidMappings"] = map.clone();
        user.bundle.spec["linux"]["gidMappings"] = map;
        let mut user =
            user.script("id -u; echo x >/dev/null && cat /proc/self/uid_map; ls /sys/class/net >/dev/null");
        let words = |said: &Said| said.out.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = user.run();
        assert_eq!(words(&said), "0 0 0 1", "{flags}: {said:?}");
        let linux = user.bundle.spec["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        linux["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "user");
        let said = user.run();
        assert_eq!(words(&said), "0 0 1000 1", "{flags}: {said:?}");
    }
}

#[test]
fn the_users_containers_are_recorded_where_its_things_are_at_run_time() {
    let user = User::new("rootless-records").script("true");
    user.bundle.write();
    let runtime_dir = user.bundle.dir.join("xdg");
    fs::create_dir(&runtime_dir).unwrap();
    chown(&runtime_dir, Some(USER), Some(USER)).unwrap();
    // Without `--root DIR`, which the driver writes.
    let script = BECOME_USER.replace("exec 9<", "shift 2; exec 9<");
    let script =
        script.replace("exec setpriv", &format!("XDG_RUNTIME_DIR={} exec setpriv", runtime_dir.display()));
    let said =
        user.bundle.tinyrun_in(&["sh", "-c", &script], &["create", "--bundle", user.dir(), &user.bundle.id]);
    let records = runtime_dir.join("tinyrun");
    let mode = fs::metadata(&records).map(|records| records.mode() & 0o7777);
    let recorded = records.join(&user.bundle.id).exists();
    let deleted = user.bundle.tinyrun_in(&["sh", "-c", &script], &["delete", "--force", &user.bundle.id]);
    said.says("");
    // The mark keeps it from being swept up as forgotten.
    assert_eq!((mode.ok(), recorded), (Some(0o1700), true));
    deleted.says("");
}

#[test]
fn a_runtime_that_is_the_users_own_cannot_be_written_from_inside() {
    let mut user = User::new("rootless-seal");
    let own = user.bundle.dir.join("tinyrun");
    // By another process: a test beside this one could hand the file on as it is written, and nobody could execute it.
    assert!(Command::new("cp").arg(crate::driver::tinyrun()).arg(&own).status().unwrap().success());
    chown(&own, Some(USER), Some(USER)).unwrap();
    let id = user.around.iter_mut().find(|word| word.starts_with("exec 9<")).unwrap();
    *id = id.replace("exec 9<\"$0\"", &format!("exec 9<{}", own.display()));
    user.bundle.write();
    user.tinyrun(&["create", "--bundle", user.dir(), &user.bundle.id]).says("");
    let state: serde_json::Value =
        serde_json::from_str(&user.tinyrun(&["state", &user.bundle.id]).out).unwrap();
    let image = fs::read_link(format!("/proc/{}/exe", state["pid"])).unwrap();
    assert!(image.to_string_lossy().starts_with("/memfd:tinyrun"), "{image:?}");
}

#[test]
fn a_user_joins_a_user_namespace_of_its_own_by_path() {
    let mut user = User::new("rootless-join").script("readlink /proc/self/ns/user; id -u; echo $$; hostname");
    // One container lends it to the next.
    let mut lender = User::new("rootless-lend");
    lender.sleep();
    let state: serde_json::Value =
        serde_json::from_str(&lender.tinyrun(&["state", &lender.bundle.id]).out).unwrap();
    let path = format!("/proc/{}/ns/user", state["pid"]);
    let joined = fs::read_link(&path).unwrap().display().to_string();
    for namespace in user.bundle.spec["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "user" {
            namespace["path"] = json!(path);
        }
    }
    user.run().says(&format!("{joined}\n0\n1\ntinyrun"));
}
