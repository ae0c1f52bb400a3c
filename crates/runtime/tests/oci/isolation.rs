//! What a container's root can and cannot reach.

use std::{
    fs::{self, OpenOptions},
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::driver::{Bundle, wait_for};

#[test]
fn a_container_has_its_own_world() {
    let bundle = Bundle::new("world")
        .script("hostname; echo $$; ls /proc/self/fd | wc -l; ls / | head -20 | grep -c home");
    let said = bundle.run();
    // Four descriptors: 0, 1, 2, and the one that ls reads the directory with. No /home of the host.
    assert_eq!(said.out, "tinyrun\n1\n4\n0", "{said:?}");
}

#[test]
fn names_are_those_of_the_configuration() {
    let mut bundle = Bundle::new("names").script("hostname; cat /proc/sys/kernel/domainname");
    bundle.spec["hostname"] = json!("web-1");
    bundle.spec["domainname"] = json!("example.org");
    bundle.run().says("web-1\nexample.org");
}

#[test]
fn a_working_directory_that_is_missing_is_made() {
    let mut bundle = Bundle::new("cwd-made").script("pwd; stat -c %u:%a .");
    bundle.spec["process"]["cwd"] = json!("/srv/new/place");
    bundle.run().says("/srv/new/place\n0:755");
    assert!(bundle.rootfs("srv/new/place").is_dir());
}

/// The optional words of the root's line in mountinfo; the host's mount is one that shares.
#[test]
fn the_root_shares_what_the_configuration_says() {
    for (word, shown) in [
        ("shared", "shared"),
        ("rshared", "shared"),
        ("slave", "master"),
        ("rslave", "master"),
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let mut bundle = Bundle::new(&format!("shares-{word}")).args(&["cat", "/proc/self/mountinfo"]);
        bundle.spec["linux"]["rootfsPropagation"] = json!(word);
        bundle.write();
        let around = ["unshare", "--mount", "--propagation", "shared"];
        let said = bundle.tinyrun_in(&around, &["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
        let root = said.out.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        let words = root.split(" - ").next().unwrap().split(' ').skip(6);
        let words: Vec<&str> = words.map(|word| word.split(':').next().unwrap()).collect();
        let wanted: Vec<&str> = [shown].into_iter().filter(|shown| !shown.is_empty()).collect();
        assert_eq!(words, wanted, "{word}: {root}");
    }
}

/// On stderr, or in the log when one is named, as with runc.
#[test]
fn a_capability_that_nobody_knows_is_a_warning() {
    let warning = "process.capabilities: \"CAP_NOBODY_KNOWS\" is not known";
    let mut bundle = Bundle::new("caps-unknown").script("grep -c . /proc/self/status >/dev/null");
    bundle.spec["process"]["capabilities"]["bounding"]
        .as_array_mut()
        .unwrap()
        .push(json!("CAP_NOBODY_KNOWS"));
    let said = bundle.run();
    said.says("");
    assert_eq!(said.err, format!("tinyrun: warning: {warning}"));
    let log = bundle.dir.join("log");
    let (log, dir) = (log.to_str().unwrap(), bundle.dir.clone());
    let dir = dir.to_str().unwrap();
    let said = bundle.tinyrun(&["--log", log, "--log-format", "json", "run", "--bundle", dir, &bundle.id]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!((line["level"].as_str(), line["msg"].as_str()), (Some("warning"), Some(warning)));
    // The same for a process that is added.
    let bundle = bundle.args(&["sleep", "1000"]);
    bundle.write();
    assert_eq!(bundle.tinyrun(&["run", "-d", "--bundle", dir, &bundle.id]).code, 0);
    let said = bundle.tinyrun(&["exec", "--cap", "CAP_NOBODY_KNOWS", &bundle.id, "true"]);
    assert!(said.code == 0 && said.err.contains(warning), "{said:?}");
}

#[test]
fn root_inside_is_nobody_outside() {
    let bundle = Bundle::new("nobody").with_users().mount("/out", "tmpfs", "tmpfs", &[]).script(
        "id -u; cat /proc/self/uid_map | head -1; stat -c %u:%g /dev/null /out; touch /out/x; stat -c %u /out/x; \
         mknod /out/null c 1 3; mount -t tmpfs x /tmp; echo 1 > /proc/sys/kernel/panic; echo 1 > /proc/sys/net/ipv4/ip_forward",
    );
    let said = bundle.run();
    let words: Vec<&str> = said.out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "0:0", "0:0", "0"], "{said:?}");
    for refused in [
        "mknod: /out/null: Operation not permitted",
        "mount: ",
        "can't create /proc/sys/kernel/panic",
        "ip_forward",
    ] {
        assert!(said.err.contains(refused), "{said:?}");
    }
}

#[test]
fn masked_and_read_only_paths_are() {
    let bundle = Bundle::new("masked").script(
        "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; touch /sys/firmware/x; echo x > /proc/sys/kernel/hostname; touch /etc/x; touch /sys/x; \
         ls /sys/fs/cgroup | wc -l; true",
    );
    let said = bundle.run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(&lines[..2], ["0", "0"], "{said:?}");
    assert!(lines[2].parse::<u32>().unwrap() > 0, "{said:?}");
    assert_eq!(said.err.matches("Read-only file system").count(), 4, "{said:?}");
}

#[test]
fn limits_hold_before_the_first_instruction() {
    let mut bundle = Bundle::new("limits").script("grep -E 'pids|0::' /proc/self/cgroup");
    bundle.spec["linux"]["resources"] = json!({ "pids": { "limit": 5 }, "memory": { "limit": 64 << 20 } });
    // Without a cgroup namespace its path is seen whole.
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    let in_it = format!("tinyrun-{}", bundle.id);
    let said = bundle.run();
    assert!(said.out.contains(&in_it), "{said:?}");
    // Nor has it to see its cgroup to be in it.
    bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    let said = bundle.run();
    assert!(said.out.contains(&in_it), "{said:?}");
}

#[test]
fn capabilities_are_what_the_configuration_says() {
    let mut bundle = Bundle::new("caps").script("grep -E '^Cap|NoNew' /proc/self/status");
    let one = json!(["CAP_KILL"]);
    bundle.spec["process"]["capabilities"] = json!({ "bounding": one, "permitted": one, "effective": one });
    let said = bundle.run();
    let values: Vec<&str> = said.out.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    let (none, kill) = ("0000000000000000", "0000000000000020");
    assert_eq!(values, [none, kill, kill, kill, none, "1"], "{said:?}");
}

#[test]
fn the_runtimes_own_file_cannot_be_written_from_inside() {
    let bundle = Bundle::new("image").args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    // The first process is still the runtime. ETXTBSY would only hold while it is.
    let exe = format!("/proc/{}/exe", bundle.state()["pid"]);
    let error = OpenOptions::new().write(true).truncate(true).open(exe).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    // What is mapped of it is the same one.
    let maps = fs::read_dir(format!("/proc/{}/map_files", bundle.state()["pid"])).unwrap();
    let maps: Vec<_> = maps.map(|map| map.unwrap().path()).collect();
    assert!(maps.len() >= 3, "{maps:?}");
    for map in maps {
        let error = OpenOptions::new().write(true).truncate(true).open(&map).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{}: {error}", map.display());
    }
}

#[test]
fn user_and_groups_are_numbers_that_are_taken_as_they_are() {
    let mut bundle = Bundle::new("user").script("id -u; id -g; id -G; touch /root/x || echo no");
    bundle.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 6] });
    fs::set_permissions(bundle.rootfs("root"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let said = bundle.run();
    assert_eq!(said.out, "1000\n1001\n1001 5 6\nno", "{said:?}");
}

#[test]
fn sysctls_of_the_containers_namespaces_only() {
    let mut bundle = Bundle::new("sysctl").script("cat /proc/sys/net/ipv4/ping_group_range");
    bundle.spec["linux"]["sysctl"] = json!({ "net.ipv4.ping_group_range": "0 7" });
    bundle.run().says("0\t7");
    bundle.spec["linux"]["sysctl"] = json!({ "kernel.core_pattern": "|/x" });
    bundle.run().fails(1, "it belongs to the host");
}

#[test]
fn each_sysctl_of_a_namespace_is_the_containers_and_not_the_hosts() {
    const VALUES: [(&str, &str); 13] = [
        ("kernel.domainname", "inside.example"),
        ("kernel.msgmax", "12345"),
        ("kernel.msgmnb", "23456"),
        ("kernel.msgmni", "345"),
        ("kernel.sem", "100\t200\t30\t40"),
        ("kernel.shmall", "4567"),
        ("kernel.shmmax", "5678901"),
        ("kernel.shmmni", "678"),
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "33"),
        ("fs.mqueue.msgsize_max", "4321"),
        ("fs.mqueue.queues_max", "55"),
        ("fs/mqueue/msg_default", "11"),
    ];
    let path = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    let hosts = || VALUES.map(|(name, _)| fs::read_to_string(path(name)).unwrap());
    let before = hosts();
    assert!(VALUES.iter().zip(&before).all(|((_, value), before)| before.trim_end() != *value), "{before:?}");
    let cat = format!("cat {}", VALUES.map(|(name, _)| path(name)).join(" "));
    let mut bundle = Bundle::new("sysctls").script(&cat);
    bundle.spec["linux"]["sysctl"] = VALUES.into_iter().collect();
    bundle.run().says(&VALUES.map(|(_, value)| value).join("\n"));
    // The kernel has the domain's name written by the host's root alone.
    let mut bundle = Bundle::new("sysctls-users").with_users().script(&cat);
    bundle.spec["linux"]["sysctl"] = VALUES[1..].iter().copied().collect();
    bundle.spec["domainname"] = json!(VALUES[0].1);
    bundle.run().says(&VALUES.map(|(_, value)| value).join("\n"));
    for (kind, name) in [("ipc", "kernel.msgmax"), ("ipc", "fs.mqueue.msg_max"), ("uts", "kernel.domainname")]
    {
        let mut bundle = Bundle::new("sysctls-shared").args(&["true"]);
        bundle.spec["hostname"].take();
        bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != kind);
        bundle.spec["linux"]["sysctl"] = json!({ name: "1" });
        bundle.run().fails(1, &format!("it belongs to the host's {kind} namespace, which is shared"));
    }
    assert_eq!(hosts(), before);
}

#[test]
fn limits_above_what_can_be_given_are_clamped() {
    let mut bundle = Bundle::new("clamp").script("true");
    bundle.spec["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 1_u64 << 40, "hard": 1_u64 << 40 }]);
    bundle.spec["process"]["oomScoreAdj"] = json!(100);
    bundle.run().says("");
}

/// An image can make its program a link through the runtime's own descriptors: a directory of the host's among them would lead
/// out (CVE-2024-21626). Whoever runs as the host's root could then write the program through /proc/self/exe.
#[test]
fn no_descriptor_leads_out_of_the_root() {
    let bundle = Bundle::new("leads").args(&["sleep", "1000"]);
    bundle.write();
    let host = bundle.dir.join("host");
    fs::copy("/bin/busybox", &host).unwrap();
    let links = bundle.dir.join("rootfs/links");
    fs::create_dir(&links).unwrap();
    let numbers = || 3..64;
    for number in numbers() {
        let out = format!("/proc/self/fd/{number}/../../../../../../../..{}", host.display());
        // Called `true`, the host's busybox would say 0.
        fs::create_dir(links.join(format!("{number}"))).unwrap();
        std::os::unix::fs::symlink(out, links.join(format!("{number}/true"))).unwrap();
    }
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    for number in numbers() {
        let said = bundle.tinyrun(&["exec", &bundle.id, &format!("/links/{number}/true")]);
        said.fails(255, "no such file or directory");
        let cwd = format!("/proc/self/fd/{number}/..");
        let said = bundle.tinyrun(&["exec", "--cwd", &cwd, &bundle.id, "pwd"]);
        assert!(said.code != 0 && said.err.contains("process.cwd"), "{number}: {said:?}");
    }
    // The first process is asked with another container on the same root.
    for number in numbers().step_by(3) {
        let mut first = Bundle::new(&format!("leads-{number}")).args(&[&format!("/links/{number}/true")]);
        first.spec["root"]["path"] = json!(bundle.dir.join("rootfs").to_str().unwrap());
        let said = first.run();
        said.fails(1, "no such file or directory");
    }
}

#[test]
fn sysctls_of_the_hosts_namespace_are_refused_by_whatever_path() {
    let mut bundle = Bundle::new("hostnet").args(&["true"]);
    for namespace in bundle.spec["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "network" {
            namespace["path"] = json!("/proc/self/ns/net");
        }
    }
    assert_eq!(bundle.run().code, 0);
    bundle.spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "64" });
    bundle.run().fails(1, "its sysctls are the host's");
}

/// A process with a mount namespace of its own, in which nothing is shared with the host.
struct Mounts(Child);

impl Mounts {
    fn new() -> Mounts {
        let child = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sleep", "1000"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (own, mounts) = (fs::read_link("/proc/self/ns/mnt").unwrap(), Mounts(child));
        wait_for("the mount namespace", || fs::read_link(mounts.path()).is_ok_and(|other| other != own));
        mounts
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/mnt", self.0.id())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_mount_namespace_is_joined_and_its_root_is_the_containers() {
    let mounts = Mounts::new();
    let mut bundle = Bundle::new("join-mounts").args(&["sleep", "1000"]);
    let at = |bundle: &mut Bundle, path: &str| {
        for namespace in bundle.spec["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "mount" {
                namespace["path"] = json!(path);
            }
        }
        bundle.write();
        bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id])
    };
    at(&mut bundle, &mounts.path()).says("");
    let first = format!("/proc/{}/ns/mnt", bundle.state()["pid"]);
    assert_eq!(fs::read_link(first).unwrap(), fs::read_link(mounts.path()).unwrap());
    let inside = ["exec", &bundle.id, "sh", "-c", "cat /etc/passwd; ls -d /home; touch /x"];
    let said = bundle.tinyrun(&inside);
    assert_eq!(said.out, "root:x:0:0:root:/root:/bin/sh", "{said:?}");
    assert!(said.err.contains("/home: No such file") && said.err.contains("/x: Read-only"), "{said:?}");
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    // The host's, from where the runtime is in it and from where it is not; a machine may hide its first process.
    at(&mut bundle, "/proc/self/ns/mnt").fails(1, "it has the host's mounts");
    at(&mut bundle, "/proc/1/ns/mnt").fails(1, "linux.namespaces");
    if fs::read_link("/proc/1/ns/mnt").is_ok() {
        let run = ["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
        bundle.tinyrun_in(&["unshare", "-m"], &run).fails(1, "it has the host's mounts");
    }
}
