//! What a container is: namespaces, its root, /proc /sys /dev, its files in /etc, its process.

use std::{collections::BTreeSet, fs};

use tinyd_e2e::{Options, Sandbox, busybox};

#[test]
fn every_namespace_is_its_own() {
    let sandbox = Sandbox::new();
    let kinds = ["mnt", "uts", "ipc", "pid", "net", "cgroup", "user"];
    let script = format!("for n in {}; do readlink /proc/self/ns/$n; done", kinds.join(" "));
    let inside = sandbox.out(&[], &["sh", "-c", &script]);
    let inside: Vec<&str> = inside.lines().collect();
    assert_eq!(inside.len(), kinds.len());
    for (kind, inside) in kinds.into_iter().zip(inside) {
        let outside = fs::read_link(format!("/proc/{}/ns/{kind}", sandbox.daemon_pid())).unwrap();
        assert_ne!(outside.to_string_lossy(), inside, "{kind}");
    }
}

#[test]
fn two_containers_share_nothing() {
    let sandbox = Sandbox::new();
    // Both at once: the kernel gives the number of a namespace that is gone to the next.
    sandbox.run(&["--name", "a"], &["sleep", "1000"]);
    sandbox.run(&["--name", "b"], &["sleep", "1000"]);
    let ask =
        |who: &str| sandbox.exec(who, &["sh", "-c", "readlink /proc/self/ns/net; cat /proc/self/uid_map"]);
    let (one, other) = (ask("a"), ask("b"));
    let lines = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (lines(&one), lines(&other));
    assert_ne!(one[0], other[0], "network");
    assert_eq!((one[1].as_str(), one[3].as_str()), ("0", "65536"), "{one:?}");
    assert_ne!(one[2], "0", "root of a container is nobody on the host");
}

#[test]
fn ranges_of_ids_do_not_overlap() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "a"], &["sleep", "1000"]);
    sandbox.run(&["--name", "b"], &["sleep", "1000"]);
    let base = |who: &str| -> u64 {
        let map = sandbox.exec(who, &["cat", "/proc/self/uid_map"]);
        map.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(base("a").abs_diff(base("b")) >= 65536);
}

#[test]
fn userns_host_is_the_hosts() {
    let sandbox = Sandbox::new();
    let map = sandbox.out(&["--userns", "host"], &["cat", "/proc/self/uid_map"]);
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"]);
}

#[test]
fn the_image_is_never_written() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let state = || {
        sandbox.host().sh(&format!("cd {image} && find . -printf '%p %s %m %U:%G %T@ %C@\\n' | sort")).stdout
    };
    let before = state();
    let script = "echo changed > /etc/image-mark; rm /bin/ls; mkdir /new; chmod 700 /srv; chown 1000 /root; cat /etc/image-mark";
    assert_eq!(sandbox.out(&[], &["sh", "-c", script]), "changed");
    assert_eq!(before, state());
    assert_eq!(sandbox.out(&[], &["cat", "/etc/image-mark"]), "as the image has it");
}

#[test]
fn its_own_layer_lasts_until_it_is_removed() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sh", "-c", "echo x >> /count; wc -l < /count"]);
    sandbox.ok(&["wait", "c"]);
    sandbox.ok(&["start", "c"]);
    sandbox.ok(&["wait", "c"]);
    assert_eq!(sandbox.ok(&["logs", "c"]), "1\n2");
}

#[test]
fn process_one_is_the_program() {
    let sandbox = Sandbox::new();
    assert_eq!(
        sandbox.out(&[], &["sh", "-c", "echo $$; cat /proc/1/cmdline | tr '\\0' ' '"]).lines().next(),
        Some("1")
    );
    let count = sandbox.out(&[], &["sh", "-c", "ls /proc | grep -c '^[0-9]'"]);
    assert!(count.parse::<u32>().unwrap() <= 4, "{count} processes");
}

#[test]
fn a_small_init_reaps() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c", "--init"], &["sh", "-c", "(sleep 0.1 &) ; exec sleep 1000"]);
    let one = sandbox.exec("c", &["cat", "/proc/1/cmdline"]);
    assert!(!one.starts_with("sleep"), "{one:?}");
    tinyd_e2e::wait_for("the orphan to be reaped", 5, || {
        let states = sandbox.exec("c", &["sh", "-c", "cat /proc/[0-9]*/stat"]);
        (!states.contains(") Z ") && !states.contains("(sleep) S 2")).then_some(())
    });
    sandbox.ok(&["kill", "-s", "TERM", "c"]);
    assert_eq!(sandbox.ok(&["wait", "c"]), "143");
}

#[test]
fn hostname_and_the_files_of_etc() {
    let sandbox = Sandbox::new();
    let id = sandbox.run(&["--name", "c", "--add-host", "db:10.1.2.3"], &["sleep", "1000"]);
    assert_eq!(sandbox.exec("c", &["hostname"]), id[..12]);
    assert_eq!(sandbox.exec("c", &["cat", "/etc/hostname"]), id[..12]);
    let hosts = sandbox.exec("c", &["cat", "/etc/hosts"]);
    assert!(
        hosts.contains("127.0.0.1") && hosts.contains(&id[..12]) && hosts.contains("10.1.2.3"),
        "{hosts}"
    );
    let resolv = sandbox.exec("c", &["cat", "/etc/resolv.conf"]);
    assert!(!resolv.contains("127."), "a resolver that a container can reach: {resolv}");
    let resolv = sandbox.out(&["--dns", "192.0.2.9"], &["cat", "/etc/resolv.conf"]);
    assert!(resolv.contains("nameserver 192.0.2.9"), "{resolv}");
}

#[test]
fn file_systems_are_as_they_should_be() {
    let sandbox = Sandbox::new();
    let table = sandbox.out(&[], &["cat", "/proc/self/mounts"]);
    let find = |target: &str| {
        let line = table.lines().find(|line| line.split(' ').nth(1) == Some(target));
        line.unwrap_or_else(|| panic!("no {target} in:\n{table}")).to_owned()
    };
    assert!(find("/").contains("overlay"));
    for (target, kind, options) in [
        ("/proc", "proc", "nosuid,nodev,noexec"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec"),
        ("/dev", "tmpfs", "nosuid"),
        ("/dev/pts", "devpts", "nosuid"),
        ("/dev/shm", "tmpfs", "nosuid"),
        ("/dev/mqueue", "mqueue", "nosuid"),
    ] {
        let line = find(target);
        let fields: Vec<&str> = line.split(' ').collect();
        assert_eq!(fields[2], kind, "{line}");
        for option in options.split(',') {
            assert!(fields[3].split(',').any(|had| had == option), "{target} is not {option}: {line}");
        }
    }
    // The root's own line tells its layers, as Docker's does; nothing else has a path of the host.
    let others = table.lines().filter(|line| !line.contains(" / overlay "));
    assert!(!others.collect::<String>().contains("/var/tmp/te-"), "paths of the host show: {table}");
}

#[test]
fn devices_are_the_standard_ones() {
    let sandbox = Sandbox::new();
    let names = sandbox.out(&[], &["ls", "/dev"]);
    let names: BTreeSet<&str> = names.lines().collect();
    for name in [
        "full", "null", "ptmx", "random", "tty", "urandom", "zero", "fd", "stdin", "stdout", "stderr", "shm",
        "pts", "mqueue",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    for name in ["mem", "kmsg", "kvm", "vda", "sda", "loop0", "fuse"] {
        assert!(!names.contains(name), "{name}");
    }
    let script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c && (echo x > /dev/full) 2>&1";
    let said = sandbox.attached(&[], &["sh", "-c", script]);
    assert!(
        said.stdout.contains('3') && said.stdout.contains('4') && said.stdout.contains("space"),
        "{said:?}"
    );
}

#[test]
fn what_is_in_dev_belongs_to_the_containers_root() {
    let sandbox = Sandbox::new();
    // The number of nobody, who owns what belongs to no one inside.
    let said = sandbox.out(&[], &["sh", "-c", "find /dev /dev/shm /dev/mqueue /dev/pts -user 65534"]);
    assert_eq!(said, "");
}

#[test]
fn no_signal_is_ignored_or_blocked() {
    // The daemon is started by somebody who ignores some.
    let ignores = ["sh", "-c", "trap '' HUP QUIT PIPE USR1 USR2; exec \"$@\"", "sh"];
    let sandbox = Sandbox::with(Options { wrap: &ignores, ..Options::default() });
    let masks = |status: String| {
        let lines = status.lines().filter(|line| line.starts_with("Sig") && !line.starts_with("SigQ"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let zero = ["SigPnd:", "SigBlk:", "SigIgn:", "SigCgt:"].map(|name| format!("{name}\t{:016}", 0));
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    assert_eq!(masks(sandbox.exec("c", &["cat", "/proc/1/status"])), zero);
    assert_eq!(masks(sandbox.exec("c", &["cat", "/proc/self/status"])), zero);
    assert_eq!(masks(sandbox.out(&["--init"], &["cat", "/proc/self/status"])), zero);
}

#[test]
fn arguments_arrive_as_they_were_given() {
    let sandbox = Sandbox::new();
    let args =
        ["a b", "", "$HOME", "`id`", "\"quoted\"", "*", "-x", "--", "\\", "'", "é\u{1F600}", "line\nbreak"];
    let said = sandbox.out(&[], &[&["/bin/probe", "argv"][..], &args].concat());
    assert_eq!(said, format!("{args:?}"));
}

#[test]
fn the_path_is_searched_inside_the_root() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.out(&["-e", "PATH=/nowhere:/bin"], &["echo", "found"]), "found");
    let image = busybox();
    let args = ["run", "--rm", "--attach", "-e", "PATH=/nowhere", "-i", &image, "echo"];
    let _ = sandbox.error(127, &args, &["echo"]);
}

#[test]
fn capabilities_are_few() {
    let sandbox = Sandbox::new();
    let status = sandbox.out(&[], &["cat", "/proc/self/status"]);
    let field = |name: &str| {
        let line =
            status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot setfcap: Docker's less
    // MKNOD, NET_RAW and AUDIT_WRITE.
    let expected = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31].into_iter().fold(0, |set, bit| set | (1_u64 << bit));
    for (name, set) in
        [("CapBnd", expected), ("CapEff", expected), ("CapPrm", expected), ("CapInh", 0), ("CapAmb", 0)]
    {
        assert_eq!(field(name), set, "{name} is {:x}, not {set:x}", field(name));
    }
    assert_eq!(field("Seccomp"), 2);
    assert_eq!(field("NoNewPrivs"), 0);
}

#[test]
fn capabilities_are_added_and_dropped_by_name() {
    let sandbox = Sandbox::new();
    let set = |options: &[&str]| {
        let status = sandbox.out(options, &["cat", "/proc/self/status"]);
        let line = status.lines().find(|line| line.starts_with("CapEff")).unwrap().to_owned();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(set(&["--cap-drop", "ALL"]), 0);
    assert_eq!(set(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]), 1 << 12);
    assert_ne!(set(&["--cap-add", "CAP_SYS_TIME"]) & (1 << 25), 0);
    let image = busybox();
    let _ =
        sandbox.error(125, &["run", "--cap-add", "FLYING", "-i", &image, "true"], &["--cap-add", "FLYING"]);
}

#[test]
fn another_user_has_its_groups_and_no_capability() {
    let sandbox = Sandbox::new();
    let said = sandbox.out(&["-u", "alice"], &["sh", "-c", "id; grep Cap /proc/self/status"]);
    assert!(said.contains("uid=1000(alice) gid=1000(alice)") && said.contains("50(staff)"), "{said}");
    let zero =
        |name: &str| said.lines().any(|line| line.starts_with(name) && line.ends_with("\t0000000000000000"));
    assert!(zero("CapEff") && zero("CapPrm") && zero("CapInh") && zero("CapAmb"), "{said}");
    assert_eq!(sandbox.out(&["-u", "4242"], &["id", "-u"]), "4242");
}

#[test]
fn a_numeric_user_is_never_wrapped() {
    let sandbox = Sandbox::new();
    let image = busybox();
    for user in ["4294967296", "4294967295", "-1", "0x0"] {
        let args = ["run", "--rm", "--attach", "--user", user, "-i", &image, "id", "-u"];
        let _ = sandbox.error(125, &args, &[user]);
    }
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    let _ = sandbox.error(125, &["exec", "-u", "4294967296", "c", "id"], &["4294967296"]);
}

#[test]
fn no_descriptor_of_the_host_comes_along() {
    let sandbox = Sandbox::new();
    let fds = |text: &str| {
        // The probe's own: the directory that it reads.
        let lines = text.lines().filter(|line| !line.contains("/proc/"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let first = fds(&sandbox.out(&[], &["/bin/probe", "fds"]));
    assert_eq!(first.len(), 3, "{first:?}");
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    let other = fds(&sandbox.exec("c", &["/bin/probe", "fds"]));
    assert_eq!(other.len(), 3, "{other:?}");
}

/// As the host sees it: the first process and added ones, with a terminal and without.
#[test]
fn a_process_has_its_streams_open_and_nothing_else() {
    let sandbox = Sandbox::new();
    let image = busybox();
    sandbox.run(&["--name", "c"], &["sleep", "70001"]);
    let _first = sandbox.terminal(&["run", "--it", "-i", &image, "--name", "t", "sleep", "70002"]);
    let _added = sandbox.spawn(&["exec", "c", "sleep", "70003"]);
    let _terminal = sandbox.terminal(&["exec", "--it", "c", "sleep", "70004"]);
    for (seconds, streams) in [
        ("70001", &["/dev/null", "pipe:"][..]),
        ("70002", &["/dev/pts/"]),
        ("70003", &["/dev/null", "pipe:"]),
        ("70004", &["/dev/pts/"]),
    ] {
        let pid = sandbox.pid_of(&["sleep", seconds]);
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let mut open: Vec<String> =
            fds.map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap().display().to_string()).collect();
        assert_eq!(open.len(), 3, "sleep {seconds}: {open:?}");
        open.retain(|leads| !streams.iter().any(|stream| leads.starts_with(stream)));
        assert!(open.is_empty(), "sleep {seconds}: {open:?}");
    }
}

#[test]
fn standard_input_is_empty_and_not_broken() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.out(&[], &["sh", "-c", "cat; echo $?"]), "0");
    sandbox.run(&["--name", "c"], &["sh", "-c", "cat; echo $?; sleep 1000"]);
    tinyd_e2e::wait_for("its word", 5, || (sandbox.ok(&["logs", "c"]) == "0").then_some(()));
    assert_eq!(sandbox.exec("c", &["sh", "-c", "cat; echo $?"]), "0");
}

#[test]
fn read_only_means_read_only() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.out(&["--read-only"], &["/bin/probe", "create", "/file"]), "EROFS 30");
    assert_eq!(
        sandbox.out(&["--read-only", "--tmpfs", "/tmp:size=1m"], &["/bin/probe", "create", "/tmp/file"]),
        "OK"
    );
    let full =
        sandbox.attached(&["--tmpfs", "/tmp:size=1m"], &["sh", "-c", "head -c 2000000 /dev/zero > /tmp/big"]);
    assert_ne!(full.code, 0, "a tmpfs of 1 MiB holds no 2 MB");
}

#[test]
fn the_cgroup_namespace_hides_the_path() {
    let sandbox = Sandbox::new();
    let groups = sandbox.out(&[], &["cat", "/proc/self/cgroup"]);
    for line in groups.lines() {
        let path = line.splitn(3, ':').nth(2).unwrap();
        assert!(path == "/" || path.starts_with("/.."), "{groups}");
        assert!(!path.contains("tinyd"), "{groups}");
    }
}

#[test]
fn ulimits_are_set() {
    let sandbox = Sandbox::new();
    let said = sandbox.out(&["--ulimit", "nofile=100:200"], &["sh", "-c", "ulimit -Sn; ulimit -Hn"]);
    assert_eq!(said, "100\n200");
}

#[test]
fn open_files_are_limited_as_the_daemon_was_when_it_was_started() {
    let wrap = ["sh", "-c", "ulimit -Sn 700 && exec \"$@\"", "sh"];
    let sandbox = Sandbox::with(Options { wrap: &wrap, ..Options::default() });
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    assert_eq!(sandbox.out(&[], &["sh", "-c", "ulimit -Sn"]), "700");
    assert_eq!(sandbox.exec("c", &["sh", "-c", "ulimit -Sn"]), "700");
}

#[test]
fn a_device_of_the_host_on_demand() {
    let sandbox = Sandbox::new();
    let said = sandbox.out(
        &["--device", "/dev/full:/dev/mine"],
        &["sh", "-c", "(echo x > /dev/mine) 2>&1; ls -l /dev/mine"],
    );
    assert!(said.contains("space") && said.starts_with(|c: char| c != 'x'), "{said}");
}

#[test]
fn the_copy_driver_works_everywhere() {
    let sandbox = Sandbox::with(Options { daemon_args: &["--storage-driver", "copy"], ..Options::default() });
    assert!(sandbox.ok(&["system", "info"]).contains("copy"));
    let script = "echo changed > /etc/image-mark; cat /etc/image-mark";
    assert_eq!(sandbox.out(&[], &["sh", "-c", script]), "changed");
    assert_eq!(sandbox.out(&[], &["cat", "/etc/image-mark"]), "as the image has it");
}

#[test]
fn aufs_where_the_kernel_has_it_and_a_clear_error_elsewhere() {
    let has = fs::read_to_string("/proc/filesystems").unwrap().contains("aufs");
    let mut sandbox =
        Sandbox::without_daemon(Options { daemon_args: &["--storage-driver", "aufs"], ..Options::default() });
    if has {
        sandbox.start_daemon();
        assert_eq!(sandbox.out(&[], &["echo", "on aufs"]), "on aufs");
    } else {
        sandbox.spawn_daemon();
        assert_ne!(sandbox.wait_daemon(), 0);
        assert!(sandbox.daemon_log().contains("aufs"), "{}", sandbox.daemon_log());
    }
}
