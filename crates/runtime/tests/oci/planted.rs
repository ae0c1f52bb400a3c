//! Images and neighbours that plant things where the runtime could trip over them: a /proc, a /dev, terminals, descriptors.

use std::{
    fs::{self, OpenOptions},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::{
    driver::{Bundle, tinyrun, wait_for},
    seccomp::asked,
};

impl Bundle {
    /// Runs it in the background.
    fn start(&self) -> String {
        self.write();
        self.tinyrun(&["run", "-d", "--bundle", self.dir.to_str().unwrap(), &self.id]).says("");
        self.state()["pid"].to_string()
    }

    /// Makes it as far as the gate before its program; its first process.
    fn create(&self) -> String {
        self.write();
        self.tinyrun(&["create", "--bundle", self.dir.to_str().unwrap(), &self.id]).says("");
        self.state()["pid"].to_string()
    }

    fn without_mounts(mut self, destinations: &[&str]) -> Bundle {
        let mounts = self.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !destinations.contains(&mount["destination"].as_str().unwrap()));
        self
    }

    fn with_capability(mut self, name: &str) -> Bundle {
        for set in ["bounding", "effective", "permitted"] {
            self.spec["process"]["capabilities"][set].as_array_mut().unwrap().push(json!(name));
        }
        self
    }

    /// Has a directory of the image, with what is planted in it, where the other containers have a fresh /dev.
    fn with_planted_dev(self) -> (Bundle, PathBuf) {
        let dev = self.dir.join("planted");
        for dir in ["pts", "shm", "mqueue"] {
            fs::create_dir_all(dev.join(dir)).unwrap();
        }
        for file in ["null", "ptmx", "tty", "console", "pts/ptmx", "pts/0"] {
            fs::write(dev.join(file), "planted\n").unwrap();
        }
        let text = dev.to_str().unwrap().to_owned();
        let mut bundle = self.without_mounts(&["/dev"]);
        let mount = json!({ "destination": "/dev", "type": "bind", "source": text, "options": ["rbind"] });
        bundle.spec["mounts"].as_array_mut().unwrap().insert(0, mount);
        (bundle, dev)
    }
}

/// Something that runs beside the test until its end.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// CVE-2025-52881, CVE-2019-16884: what the runtime tells the kernel through procfs does not go into files of the image.
#[test]
fn what_is_told_to_procfs_goes_to_a_real_one() {
    for (proc_is_mounted, links) in [(true, true), (false, true), (false, false)] {
        let name = format!("fake-proc-{proc_is_mounted}-{links}");
        let mut bundle = Bundle::new(&name).args(&["sleep", "1000"]);
        // Everything that the runtime writes, as the image would like to have it.
        let outside = bundle.dir.join("outside");
        let mut planted = vec![outside.clone()];
        fs::write(&outside, "planted\n").unwrap();
        for below in ["proc/sys/net/ipv4", "proc/self/attr/apparmor", "proc/thread-self/attr", "proc/1"] {
            fs::create_dir_all(bundle.rootfs(below)).unwrap();
        }
        let sysctl = bundle.rootfs("proc/sys/net/ipv4/ping_group_range");
        if links {
            symlink(&outside, sysctl).unwrap();
        } else {
            fs::write(&sysctl, "planted\n").unwrap();
            planted.push(sysctl);
        }
        for file in ["self/attr/exec", "self/attr/apparmor/exec", "self/oom_score_adj", "self/setgroups"]
            .into_iter()
            .chain(["self/uid_map", "1/oom_score_adj", "1/uid_map", "1/setgroups", "thread-self/attr/exec"])
        {
            let file = bundle.rootfs(&format!("proc/{file}"));
            fs::write(&file, "planted\n").unwrap();
            planted.push(file);
        }
        if !proc_is_mounted {
            bundle = bundle.without_mounts(&["/proc"]);
        }
        bundle.spec["linux"]["sysctl"] = json!({ "net.ipv4.ping_group_range": "3 7" });
        bundle.spec["process"]["oomScoreAdj"] = json!(321);
        let bundle = bundle.with_users();
        let pid = bundle.start();
        assert_eq!(text(format!("/proc/{pid}/oom_score_adj").as_ref()), "321\n");
        let map = text(format!("/proc/{pid}/uid_map").as_ref());
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        let net = Command::new("nsenter")
            .args(["-t", &pid, "-n", "cat", "/proc/sys/net/ipv4/ping_group_range"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&net.stdout), "100003\t100007\n", "{net:?}");
        for file in planted {
            assert_eq!(text(&file), "planted\n", "{}", file.display());
        }
    }
}

/// CVE-2019-19921, CVE-2023-27561: a procfs that is none would be told what protects the container.
#[test]
fn nothing_but_a_procfs_is_mounted_at_proc() {
    let fake = |kind: &str, options: &[&str]| {
        let bundle = Bundle::new("no-procfs").script("true").without_mounts(&["/proc"]);
        let source = bundle.dir.join("fake");
        fs::create_dir_all(source.join("self/attr")).unwrap();
        let source = if kind == "bind" { source.to_str().unwrap().to_owned() } else { kind.to_owned() };
        bundle.mount("/proc", kind, &source, options).run()
    };
    for kind in ["tmpfs", "sysfs", "mqueue", "ramfs"] {
        fake(kind, &[]).fails(1, "\"/proc\": nothing may be mounted there");
    }
    fake("cgroup", &[]).fails(1, "\"/proc\": nothing may be mounted there");
    fake("bind", &["rbind"]).fails(1, "is not a procfs");
}

/// CVE-2023-27561, CVE-2019-16884: the rule asks for the place and not for what is mounted.
#[test]
fn no_kind_of_mount_goes_below_proc() {
    let mut bundle = Bundle::new("below-proc").script("true");
    let source = bundle.rootfs("etc").to_str().unwrap().to_owned();
    for kind in ["tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "bind", "overlay"] {
        for place in ["/proc/self", "/proc/./sys", "/tmp/../proc/1/attr"] {
            let options: &[&str] = if kind == "bind" { &["bind"] } else { &[] };
            bundle = bundle.mount(place, kind, &source, options);
            bundle.run().fails(1, "mounts[7].destination");
            bundle.spec["mounts"].as_array_mut().unwrap().pop();
        }
    }
}

/// CVE-2025-31133: a mask is the host's own /dev/null, and a directory's an empty directory.
#[test]
fn masks_are_not_taken_from_the_image() {
    let (bundle, dev) = Bundle::new("fake-null").with_planted_dev();
    for file in ["secret", "other"] {
        fs::write(bundle.rootfs(file), "secret\n").unwrap();
    }
    fs::create_dir(bundle.rootfs("box")).unwrap();
    fs::write(bundle.rootfs("box/secret"), "secret\n").unwrap();
    symlink("other", bundle.rootfs("leads")).unwrap();
    let mut bundle = bundle.script(
        "cat /secret /other /leads; stat -c '%F %t:%T' /secret /other; ls -A /box; touch /box/x; echo x > /secret; cat /dev/null",
    );
    bundle.spec["linux"]["maskedPaths"] = json!(["/secret", "/leads", "/box", "/none"]);
    bundle.spec["root"]["readonly"] = json!(false);
    let said = bundle.run();
    let null = "character special file 1:3";
    assert_eq!(said.out, format!("{null}\n{null}\nplanted"), "{said:?}");
    assert!(said.err.contains("/box/x: Read-only file system"), "{said:?}");
    // A planted link does not help either: it would have been followed on the host.
    fs::remove_file(dev.join("null")).unwrap();
    symlink(bundle.rootfs("other"), dev.join("null")).unwrap();
    let said = bundle.run();
    assert!(said.out.starts_with(&format!("{null}\n{null}")), "{said:?}");
}

/// A mask is the host's /dev/null, and so is a stream that comes from nowhere: its mode, owner and times stay as they are.
#[test]
fn the_hosts_null_cannot_be_changed_from_inside() {
    let null = fs::metadata("/dev/null").unwrap();
    let hosts = format!("{} {}", null.dev(), null.ino());
    let mut bundle = Bundle::new("hosts-null").script(
        "for at in /secret /other; do touch $at; chmod 666 $at; chown 0:0 $at; done; stat -L -c '%d %i' /proc/self/fd/0",
    );
    let all = ["CAP_FOWNER", "CAP_CHOWN"];
    bundle.spec["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    bundle.spec["linux"]["maskedPaths"] = json!(["/secret", "/other"]);
    for file in ["secret", "other"] {
        fs::write(bundle.rootfs(file), "secret\n").unwrap();
    }
    let said = bundle.run();
    assert_eq!(said.err.matches("Read-only file system").count(), 6, "{said:?}");
    assert_ne!(said.out, hosts);
    // The same for a process that is added.
    let bundle = bundle.args(&["sleep", "1000"]);
    bundle.start();
    let said = bundle.tinyrun(&["exec", &bundle.id, "stat", "-L", "-c", "%d %i", "/proc/self/fd/0"]);
    assert!(said.code == 0 && said.out != hosts, "{said:?}");
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((after.ctime(), after.ctime_nsec()), (null.ctime(), null.ctime_nsec()));
}

/// The streams are the caller's, whatever the image has at /dev/null, unless that is the device.
#[test]
fn standard_streams_are_not_opened_again_from_the_image() {
    let (bundle, dev) = Bundle::new("fake-streams").with_planted_dev();
    let bundle = bundle.script("stat -L -c '%F %t:%T' /proc/self/fd/0; cat; cat /proc/1/oom_score_adj >&2");
    let said = bundle.run();
    assert_eq!(said.out, "character special file 1:3", "{said:?}");
    assert!(!said.err.is_empty(), "{said:?}");
    assert_eq!(text(&dev.join("null")), "planted\n");
}

/// CVE-2025-52565: the terminal comes from the container's own devpts, and /dev/console is mounted where it is meant to be.
#[test]
fn a_terminal_is_not_taken_from_the_image() {
    let (bundle, dev) = Bundle::new("fake-pts").with_planted_dev();
    // The devpts itself lands elsewhere.
    fs::remove_dir_all(dev.join("pts")).unwrap();
    fs::create_dir(bundle.rootfs("elsewhere")).unwrap();
    fs::write(bundle.rootfs("elsewhere/0"), "planted\n").unwrap();
    symlink("/elsewhere", dev.join("pts")).unwrap();
    let mut bundle = bundle
        .script("stat -L -c '%F %t' /proc/self/fd/0 /proc/self/fd/1 /dev/console; echo typed > /dev/console");
    bundle.spec["process"]["terminal"] = json!(true);
    let said = bundle.run();
    let tty = "character special file 88";
    assert_eq!(said.out.replace('\r', ""), format!("{tty}\n{tty}\n{tty}\ntyped"), "{said:?}");
    assert_eq!(text(&dev.join("console")), "planted\n");
    // What lies over the devpts by now is not asked for the other end.
    let cover = bundle.dir.join("cover");
    fs::create_dir(&cover).unwrap();
    for name in ["ptmx", "0"] {
        fs::write(cover.join(name), "planted\n").unwrap();
    }
    let mut bundle = bundle.mount("/dev/pts", "bind", cover.to_str().unwrap(), &["bind"]);
    let said = bundle.run();
    assert_eq!(said.out.replace('\r', ""), format!("{tty}\n{tty}\n{tty}\ntyped"), "{said:?}");
    bundle.spec["mounts"].as_array_mut().unwrap().pop();
    // A console that leads into /proc would lie over what the runtime tells the kernel.
    fs::remove_file(dev.join("console")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", dev.join("console")).unwrap();
    bundle.run().fails(1, "process.terminal (/dev/console): it leads into /proc");
}

/// The same for a process that is added: by then the container's root has had time to prepare everything.
#[test]
fn a_terminal_of_exec_is_not_taken_from_the_container() {
    let bundle = Bundle::new("exec-pts").with_capability("CAP_SYS_ADMIN").args(&["sleep", "1000"]);
    bundle.start();
    let exec = |args: &[&str]| bundle.tinyrun(&[&["exec"], args].concat());
    let terminal = ["--tty", &bundle.id, "stat", "-L", "-c", "%F %t", "/proc/self/fd/0"];
    assert_eq!(exec(&terminal).out.trim_end(), "character special file 88");
    // The file system's door to new terminals is covered with another file.
    exec(&[&bundle.id, "mount", "-o", "bind", "/dev/shm", "/dev/pts/ptmx"]);
    exec(&[&bundle.id, "touch", "/dev/shm/ptmx"]).says("");
    exec(&[&bundle.id, "mount", "-o", "bind", "/dev/shm/ptmx", "/dev/pts/ptmx"]).says("");
    exec(&terminal).fails(255, "make a terminal: openat2(\"ptmx\", beneath)");
    exec(&[&bundle.id, "mount", "-t", "tmpfs", "x", "/dev/pts"]).says("");
    exec(&[&bundle.id, "touch", "/dev/pts/ptmx", "/dev/pts/0"]).says("");
    exec(&terminal).fails(255, "check that /dev/pts is a devpts");
}

/// CVE-2019-5736, for a process that is added: the runtime that joins the container is the sealed one too.
#[test]
fn the_file_of_a_runtime_that_joins_cannot_be_written() {
    let bundle = Bundle::new("exec-image").args(&["sleep", "1000"]);
    bundle.start();
    let records = bundle.dir.join("records");
    let ready = bundle.dir.join("ready");
    let joins = Command::new(tinyrun())
        .args(["--root", records.to_str().unwrap(), "exec", &bundle.id, "sh", "-c", "echo ready; sleep 1000"])
        .stdout(fs::File::create(&ready).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let joins = Beside(joins);
    wait_for("the program's word", || !fs::read(&ready).unwrap().is_empty());
    // The child that joined was a copy of this process until it executed its program.
    let exe = format!("/proc/{}/exe", joins.0.id());
    // ETXTBSY would only hold while it is executed.
    let error = OpenOptions::new().write(true).truncate(true).open(exe).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
}

/// The same for one that changes mounts, whose process is in the container's namespaces too: it was the host's own file.
#[test]
fn the_file_of_a_runtime_that_changes_mounts_cannot_be_written() {
    let bundle = Bundle::new("mounts-image").args(&["sleep", "1000"]);
    bundle.start();
    let list = bundle.dir.join("mounts.json");
    fs::write(&list, r#"[{ "destination": "/dev/shm", "type": "tmpfs" }]"#).unwrap();
    let trace = bundle.dir.join("trace");
    let tracer = ["strace", "-f", "-qq", "-o", trace.to_str().unwrap(), "-e", "trace=execveat,setns"];
    for change in ["add", "remove"] {
        bundle.tinyrun_in(&tracer, &["mounts", change, &bundle.id, list.to_str().unwrap()]).says("");
        let calls = text(&trace);
        let first = calls.lines().find(|line| !line.ends_with("ENOENT (No such file or directory)")).unwrap();
        assert!(first.contains("execveat(") && first.ends_with("= 0"), "{change}: {calls}");
        assert!(calls.contains("setns("), "{change}: {calls}");
    }
}

/// It maps itself from a file that nobody can write before it has begun in earnest: a C library that starts twice is a tenth of a container,
/// and another execution a fiftieth.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_runtime_is_sealed_before_its_c_library_starts() {
    let calls = calls_of_run("entry", "mount_setattr,prctl,arch_prctl", &[]);
    assert_eq!(calls[..4], ["execve", "mount_setattr", "prctl", "arch_prctl"], "{calls:?}");
    assert!(!calls.contains(&"execveat".to_owned()), "{calls:?}");
    // Where the kernel does not take the other file it is executed from there.
    for (call, refusal) in [("prctl", "EPERM"), ("mmap", "ENOMEM"), ("open", "EMFILE")] {
        let refused = format!("inject={call}:error={refusal}:when=1");
        let others = format!("mount_setattr,arch_prctl,{call}");
        let calls = calls_of_run(&format!("entry-{call}"), &others, &["-e", &refused]);
        assert_eq!(calls[..4], ["execve", "mount_setattr", call, "execveat"], "{calls:?}");
        assert_eq!(calls.iter().filter(|call| *call == "arch_prctl").count(), 1, "{calls:?}");
    }
}

/// Where the kernel has no detached mounts, it begins again from a sealed copy.
#[test]
fn a_runtime_that_cannot_be_sealed_at_its_entry_is_sealed_later() {
    let calls =
        calls_of_run("entry-refused", "open_tree", &["-e", "inject=open_tree:error=ENOSYS:when=1..2"]);
    assert_eq!(calls[..5], ["execve", "open_tree", "open_tree", "memfd_create", "execveat"], "{calls:?}");
    // And where nothing is executed from a mount without a path.
    let refused = ["-e", "inject=prctl:error=EPERM:when=1", "-e", "inject=execveat:error=EACCES:when=1..2"];
    let calls = calls_of_run("entry-unexecuted", "prctl,close", &refused);
    let first = ["execve", "prctl", "close", "execveat", "close"];
    assert_eq!(calls[..5], first, "what the entry has opened is closed: {calls:?}");
    let later: Vec<&String> = calls.iter().filter(|call| *call != "close" && *call != "prctl").collect();
    assert_eq!(later[..4], ["execve", "execveat", "execveat", "memfd_create"], "{calls:?}");
}

/// The calls of a run that have to do with its own file, and some others.
fn calls_of_run(name: &str, others: &str, more: &[&str]) -> Vec<String> {
    let bundle = Bundle::new(name).args(&["true"]);
    bundle.write();
    let trace = bundle.dir.join("trace");
    let what = format!("trace=execve,execveat,memfd_create,{others}");
    let tracer = [&["strace", "-qq", "-o", trace.to_str().unwrap(), "-e", &what], more].concat();
    bundle.tinyrun_in(&tracer, &["run", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let text = fs::read_to_string(&trace).unwrap();
    text.lines().filter_map(|line| line.split('(').next()).map(String::from).collect()
}

/// CVE-2024-21626: at the gate, where the container's files are already followed, and in a process that was added.
#[test]
fn no_descriptor_of_the_host_is_left_at_the_gate() {
    let bundle = Bundle::new("gate-fds").args(&["sleep", "1000"]);
    let open = |pid: &str| -> Vec<(String, PathBuf)> {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let fds = fds.map(|fd| fd.unwrap().path());
        fds.map(|fd| (fd.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_link(fd).unwrap()))
            .collect()
    };
    let pid = bundle.create();
    for (number, leads) in open(&pid) {
        // What its caller gave it: /dev/null and two files. The rest is the gate.
        let is_stream = ["0", "1", "2"].contains(&number.as_str());
        assert!(
            is_stream || leads.to_str().unwrap().starts_with("socket:["),
            "{number} leads to {}",
            leads.display()
        );
    }
    for at in ["cwd", "root"] {
        let inside = fs::metadata(format!("/proc/{pid}/{at}")).unwrap();
        let root = fs::metadata(bundle.rootfs("")).unwrap();
        assert_eq!(
            (inside.dev(), inside.ino()),
            (root.dev(), root.ino()),
            "{at} is not the container's root"
        );
    }
    bundle.tinyrun(&["start", &bundle.id]).says("");
    let exe = format!("/proc/{pid}/exe");
    wait_for("the program", || fs::read_link(&exe).unwrap() == Path::new("/bin/busybox"));
    assert_eq!(open(&pid).len(), 3);
}

/// CVE-2016-9962: who shares the PID namespace of a process that is about to execute its program, and has the same rights, can
/// neither trace it nor use what it has open.
#[test]
fn a_process_on_its_way_in_cannot_be_looked_into() {
    let bundle = Bundle::new("dumpable").args(&["sleep", "1000"]);
    let first = bundle.start();
    for verb in ["start", "exec"] {
        let mut next = Bundle::new(&format!("dumpable-{verb}")).args(&["sleep", "1000"]);
        for namespace in next.spec["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "pid" {
                namespace["path"] = json!(format!("/proc/{first}/ns/pid"));
            }
        }
        // It stands still where it is itself in every respect but for its program.
        let socket = next.dir.join("agent");
        next.spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket.to_str().unwrap(),
            "syscalls": [{ "names": ["execve"], "action": "SCMP_ACT_NOTIFY" }],
        });
        let listener = UnixListener::bind(socket).unwrap();
        next.create();
        let records = next.dir.join("records");
        let mut command = Command::new(tinyrun());
        command.args(["--root", records.to_str().unwrap(), verb, &next.id]);
        if verb == "exec" {
            command.arg("true");
        }
        let _runtime = Beside(command.stderr(Stdio::null()).spawn().unwrap());
        let (filter, told) = asked(&listener);
        let pid = told["pid"].as_i64().unwrap();
        let status = text(format!("/proc/{pid}/status").as_ref());
        let inside = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
        let inside = inside.split_whitespace().last().unwrap();
        // One look for all: the runtime does not wait for a process for ever.
        let all = ["status", "fd/", "exe", "cwd", "root"].map(|what| format!("/proc/{inside}/{what}"));
        let line = format!("ls -l {} 2>&1", all.join(" "));
        let said = bundle.tinyrun(&["exec", &bundle.id, "sh", "-c", &line]);
        assert!(said.out.contains(&format!(" {}", all[0])), "the neighbour sees that it is there: {said:?}");
        for what in ["fd/0", "exe", "cwd", "root"] {
            assert!(
                said.out.contains(&format!("/{what}: cannot read link: Permission denied")),
                "{verb}: {said:?}"
            );
        }
        assert!(!said.out.contains("->"), "{verb}: {said:?}");
        drop(filter);
    }
}

/// Whoever starts a container does not say by its name where on the host something is made.
#[test]
fn a_cgroup_path_that_leads_up_is_refused() {
    let mut bundle = Bundle::new("cgroup-up").script("true");
    for path in ["../up", "/a/../../up", "/..", "a/./b", "/a\nb", "/", "cgroup.procs"] {
        bundle.spec["linux"]["cgroupsPath"] = json!(path);
        bundle.run().fails(1, "linux.cgroupsPath: ");
    }
}

#[test]
fn the_cgroups_inside_are_read_only() {
    for own_namespace in [true, false] {
        let mut bundle = Bundle::new(&format!("cgroup-ro-{own_namespace}")).script(
            "for d in /sys/fs/cgroup /sys/fs/cgroup/pids; do [ -d $d ] && touch $d/x $d/cgroup.procs $d/pids.max; done; true",
        );
        if !own_namespace {
            bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
        }
        fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/[")).unwrap();
        let said = bundle.run();
        assert_eq!(said.code, 0, "{said:?}");
        let lines: Vec<&str> = said.err.lines().collect();
        assert!(
            lines.len() >= 3 && lines.iter().all(|line| line.ends_with("Read-only file system")),
            "{said:?}"
        );
    }
}

/// A /dev that is a directory of the image gets what a container needs, and nothing that is planted there is opened.
#[test]
fn a_planted_device_is_not_replaced_and_not_opened() {
    let (mut bundle, dev) = Bundle::new("planted-dev").with_planted_dev();
    bundle = bundle.script("true");
    bundle.spec["linux"]["devices"] =
        json!([{ "path": "/dev/sub/null", "type": "c", "major": 1, "minor": 3 }]);
    fs::create_dir(bundle.dir.join("outside")).unwrap();
    symlink(bundle.dir.join("outside"), dev.join("sub")).unwrap();
    let said = bundle.run();
    let made = fs::read_dir(bundle.dir.join("outside")).unwrap().count();
    assert_eq!(made, 0, "{said:?}");
    let is_device =
        |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_char_device());
    assert!(!is_device(&dev.join("null")), "{said:?}");
    // What is there in its place: opening the one would wait for somebody who writes, opening the other is an error of its own.
    for planted in [&["p"][..], &["c", "60", "1"]] {
        let mut bundle = Bundle::new("planted-node").args(&["true"]);
        bundle.spec["root"]["readonly"] = json!(false);
        bundle.spec["linux"]["devices"] = json!([{ "path": "/srv", "type": "c", "major": 1, "minor": 3 }]);
        let place = bundle.rootfs("srv");
        assert!(Command::new("mknod").arg(&place).args(planted).status().unwrap().success());
        let before = fs::symlink_metadata(&place).unwrap();
        bundle.run().fails(1, "linux.devices[0] (/srv): mknodat(\"srv\", 1:3): File exists");
        let after = fs::symlink_metadata(&place).unwrap();
        assert_eq!((after.ino(), after.rdev(), after.atime()), (before.ino(), before.rdev(), before.atime()));
    }
}
