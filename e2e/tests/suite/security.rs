//! The attacker is root in a container. Each attempt fails, with the errno that the defence in question gives.

use tinyd_e2e::{Sandbox, busybox};

fn attempt(sandbox: &Sandbox, words: &[&str]) -> String {
    sandbox.out(&[], &[&["/bin/probe"], words].concat())
}

#[test]
fn root_inside_cannot() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    let eperm = "EPERM 1";
    let erofs = "EROFS 30";
    // The owner, root of the host, is nobody inside: that is asked before the mount is.
    let eacces = "EACCES 13";
    for (words, expected) in [
        (&["write", "/proc/sys/kernel/panic", "1"][..], eacces),
        (&["write", "/proc/sys/vm/overcommit_memory", "1"], eacces),
        (&["write", "/proc/sys/net/ipv4/ip_forward", "1"], eacces),
        (&["mknod", "/tmp/disk", "8", "0"], eperm),
        (&["mknod", "/dev/mem", "1", "1"], eperm),
        (&["mount", "tmpfs", "/srv"], eperm),
        (&["mount", "proc", "/srv"], eperm),
        (&["fsopen", "tmpfs"], eperm),
        (&["umount", "/proc"], eperm),
        (&["remount-rw", "/sys"], eperm),
        (&["init-module"], eperm),
        (&["reboot"], eperm),
        (&["set-clock"], eperm),
        (&["unshare-user"], eperm),
        (&["unshare-mount"], eperm),
        (&["sethostname", "owned"], eperm),
        (&["raw-socket"], eperm),
        (&["mkdir", "/sys/fs/cgroup/escape"], erofs),
        (&["write", "/sys/kernel/mm/transparent_hugepage/enabled", "never"], eacces),
    ] {
        let said = sandbox.exec("c", &[&["/bin/probe"], words].concat());
        assert_eq!(said, expected, "{words:?}");
    }
    let said = sandbox.exec("c", &["/bin/probe", "write", "/proc/sysrq-trigger", "b"]);
    assert!(
        said == eacces || (said == "ENOENT 2" && !std::path::Path::new("/proc/sysrq-trigger").exists()),
        "{said}"
    );

    // With the host's ids nothing but the mounts is in the way, and they are enough.
    sandbox.run(&["--userns", "host", "--name", "h"], &["sleep", "1000"]);
    for (words, expected) in [
        (&["write", "/proc/sys/kernel/panic", "1"][..], erofs),
        (&["write", "/proc/sys/net/ipv4/ip_forward", "1"], erofs),
        (&["write", "/sys/kernel/mm/transparent_hugepage/enabled", "never"], erofs),
        (&["mkdir", "/sys/fs/cgroup/escape"], erofs),
        (&["mknod", "/tmp/disk", "8", "0"], eperm),
        (&["mount", "tmpfs", "/srv"], eperm),
        (&["remount-rw", "/sys"], eperm),
        (&["init-module"], eperm),
        (&["unshare-user"], eperm),
    ] {
        let said = sandbox.exec("h", &[&["/bin/probe"], words].concat());
        assert_eq!(said, expected, "with the host's ids: {words:?}");
    }
}

#[test]
fn the_kernels_secrets_are_masked() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/kallsyms",
        "/proc/latency_stats",
        "/proc/sched_debug",
    ] {
        let line = format!("[ -e {path} ] || exit 0; cat {path} 2>/dev/null | head -c 100 | wc -c");
        let said = sandbox.exec("c", &["sh", "-c", &line]);
        assert!(said.is_empty() || said == "0", "{path} has {said} bytes to read");
    }
    for path in ["/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/kernel/debug", "/sys/kernel/security"] {
        let said = sandbox.exec("c", &["sh", "-c", &format!("ls {path} 2>/dev/null | wc -l")]);
        assert_eq!(said, "0", "{path}");
    }
}

#[test]
fn device_nodes_of_an_image_cannot_be_opened() {
    let sandbox = Sandbox::new();
    let image = sandbox.make_dir("devices");
    // The list of devices allows 1:5 (zero) to everyone, so for that one nothing but the mount is in the way.
    let line = format!(
        "cp -a {}/bin {image}/ && mkdir {image}/proc {image}/sys {image}/dev && mknod -m 666 {image}/zero c 1 5 && mknod -m 666 {image}/mem c 1 1 && mknod -m 666 {image}/disk b 7 0",
        busybox()
    );
    let _ = sandbox.host().sh(&line).expect_ok();
    let open = |options: &[&str], node: &str| {
        let fixed = ["run", "--rm", "--attach", "-i", &image];
        let command = ["head", "-c", "1", node];
        sandbox.tinyd(&[&fixed[..3], options, &fixed[3..], &command].concat())
    };
    for node in ["/zero", "/mem", "/disk"] {
        for options in [&[][..], &["--userns", "host"], &["--cap-add", "MKNOD"]] {
            let said = open(options, node).stderr;
            assert!(said.contains("Permission denied"), "{node} {options:?}: {said}");
        }
    }
    // Who may make nodes may use them; what the list forbids stays forbidden.
    assert_eq!(open(&["--userns", "host", "--cap-add", "MKNOD"], "/zero").code, 0);
    let said = open(&["--userns", "host", "--cap-add", "MKNOD"], "/mem").stderr;
    assert!(said.contains("Operation not permitted"), "{said}");
    assert_eq!(open(&["--privileged"], "/zero").code, 0);
}

#[test]
fn processes_of_the_host_are_out_of_reach() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon_pid().to_string();
    assert_eq!(attempt(&sandbox, &["kill", &daemon]), "ESRCH 3");
    let listed = sandbox.out(&[], &["sh", "-c", "cat /proc/[0-9]*/cmdline"]);
    assert!(!listed.contains("tinyd"), "{listed:?}");
}

#[test]
fn root_of_a_container_is_nobody_on_the_host() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "987654"]);
    let pid = sandbox.pid_of(&["sleep", "987654"]);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let uid: u32 = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:\t"))
        .unwrap()
        .split('\t')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(uid >= 65536, "uid {uid}");
}

#[test]
fn the_daemons_sockets_are_not_there() {
    let sandbox = Sandbox::new();
    for path in [sandbox.socket().display().to_string(), "/run/tinyd/tinyd.sock".to_owned()] {
        assert_eq!(attempt(&sandbox, &["connect-unix", &path]), "ENOENT 2");
    }
    sandbox.run(&["--net", "host", "--name", "h"], &["sleep", "1000"]);
    // grep -c that counts 0 ends with 1: the count is what is asked for.
    let abstract_ones = sandbox.exec("h", &["sh", "-c", "grep -c '@.*tiny' /proc/net/unix || true"]);
    assert_eq!(
        abstract_ones, "0",
        "a socket with no file can be reached from a container on the host's network"
    );
}

#[test]
fn the_daemons_directories_are_private() {
    let sandbox = Sandbox::new();
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&sandbox.root()), 0o700);
    assert_eq!(mode(sandbox.run_dir()) & 0o007, 0);
    assert_eq!(mode(&sandbox.socket()), 0o660);
}

#[test]
fn ping_works_without_raw_sockets() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.out(&[], &["/bin/probe", "ping", "127.0.0.1"]), "OK");
    assert_eq!(sandbox.out(&["-u", "alice"], &["/bin/probe", "ping", "127.0.0.1"]), "OK");
}

#[test]
fn no_new_privileges_on_demand() {
    let sandbox = Sandbox::new();
    let status = sandbox.out(&["--security-opt", "no-new-privileges"], &["cat", "/proc/self/status"]);
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
}

#[test]
fn seccomp_can_be_chosen() {
    let sandbox = Sandbox::new();
    let status = sandbox.out(&["--security-opt", "seccomp=unconfined"], &["cat", "/proc/self/status"]);
    assert!(status.contains("Seccomp:\t0"), "{status}");
    let profile = sandbox.file(
        "profile.json",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22}]}"#,
    );
    let option = format!("seccomp={profile}");
    assert_eq!(sandbox.out(&["--security-opt", &option], &["/bin/probe", "mkdir", "/x"]), "EINVAL 22");
    let bad = sandbox.file("bad.json", "{");
    let image = busybox();
    let args = ["run", "--security-opt", &format!("seccomp={bad}"), "-i", &image, "true"];
    let _ = sandbox.error(125, &args, &["seccomp"]);
}

#[test]
fn privileged_opens_it_all() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--privileged", "--name", "p"], &["sleep", "1000"]);
    let probe = |words: &[&str]| sandbox.exec("p", &[&["/bin/probe"], words].concat());
    assert_eq!(probe(&["mount", "tmpfs", "/srv"]), "OK");
    assert_eq!(probe(&["mknod", "/tmp/null", "1", "3"]), "OK");
    assert_eq!(probe(&["raw-socket"]), "OK");
    assert_eq!(probe(&["write", "/proc/sys/net/ipv4/ip_forward", "1"]), "OK");
    let status = sandbox.exec("p", &["cat", "/proc/1/status"]);
    assert!(status.contains("Seccomp:\t0"), "{status}");
    assert!(sandbox.exec("p", &["ls", "/dev"]).contains("kmsg"), "the host's devices");
    assert_eq!(sandbox.exec("p", &["cat", "/proc/1/uid_map"]).split_whitespace().nth(1), Some("0"));
}

#[test]
fn exec_has_the_containers_limits_too() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c", "--cap-drop", "ALL"], &["sleep", "1000"]);
    let status = sandbox.exec("c", &["cat", "/proc/self/status"]);
    assert!(status.contains("CapEff:\t0000000000000000") && status.contains("Seccomp:\t2"), "{status}");
    let status = sandbox.ok(&["exec", "-u", "alice", "c", "cat", "/proc/self/status"]);
    assert!(status.contains("CapPrm:\t0000000000000000") && status.contains("Uid:\t1000"), "{status}");
}

#[test]
fn the_runtime_cannot_be_written_from_inside() {
    // CVE-2019-5736: a container that is entered opens the runtime's own file through /proc/PID/exe.
    let sandbox = Sandbox::new();
    sandbox.run(
        &["--name", "c", "--privileged"],
        &[
            "sh",
            "-c",
            "while :; do for p in /proc/[0-9]*; do echo owned 2>/dev/null >> $p/exe; done; done 2>/dev/null",
        ],
    );
    let tinyrun = tinyd_e2e::bin_dir().join("tinyrun");
    let before = std::fs::read(&tinyrun).unwrap();
    for _ in 0..20 {
        let _ = sandbox.tinyd(&["exec", "c", "true"]);
    }
    assert!(before == std::fs::read(&tinyrun).unwrap(), "the runtime's file has changed");
    assert_eq!(sandbox.exec("c", &["echo", "still"]), "still");
}

#[test]
fn links_in_an_image_lead_nowhere_outside() {
    let sandbox = Sandbox::new();
    let image = sandbox.make_dir("evil");
    let target = sandbox.make_dir("target");
    let outside = format!("{target}/..");
    let line = format!(
        "cp -a {}/bin {image}/ && ln -s {target} {image}/dev && ln -s {target} {image}/etc && ln -s {target} {image}/data && mkdir {image}/proc {image}/sys",
        busybox()
    );
    let _ = sandbox.host().sh(&line).expect_ok();
    let volume = format!("{}:/data/in", sandbox.make_dir("vol"));
    let out = sandbox.tinyd(&["run", "--rm", "--attach", "-v", &volume, "-i", &image, "true"]);
    let left = sandbox.host().sh(&format!("find {target}")).stdout;
    assert_eq!(left.lines().count(), 1, "{outside}: {left} ({out:?})");
}

#[test]
fn proc_of_an_image_must_be_a_directory() {
    let sandbox = Sandbox::new();
    let image = sandbox.make_dir("evil");
    let line = format!("cp -a {}/bin {image}/ && mkdir {image}/fake && ln -s fake {image}/proc", busybox());
    let _ = sandbox.host().sh(&line).expect_ok();
    let _ = sandbox.error(125, &["run", "--rm", "--attach", "-i", &image, "true"], &["/proc"]);
    sandbox.expect_nothing();
}
