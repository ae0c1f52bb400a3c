//! What has broken other engines, tried on the daemon's containers. The runtime's own part is in its tests; docs/threats.md has both.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use tinyd_e2e::{Sandbox, busybox};

/// Containers that are started at least while somebody exchanges what is on the way of their mounts.
const STARTS: u32 = 12;

/// How long they are started at least.
fn at_least() -> Duration {
    let seconds = std::env::var("TINYD_SWAP_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// An image of its own: busybox, with what `line` plants into `$I`.
fn image(sandbox: &Sandbox, name: &str, line: &str) -> String {
    let image = sandbox.make_dir(name);
    let _ = sandbox.host().sh(&format!("cp -a {}/. {image}/ && I={image} && {line}", busybox())).expect_ok();
    image
}

/// CVE-2021-30465, CVE-2024-45310: a container that shares a volume exchanges path components with `renameat2(RENAME_EXCHANGE)`
/// while others start whose mounts go through them.
#[test]
fn a_container_that_exchanges_path_components_catches_nobody() {
    let sandbox = Sandbox::new();
    let (volume, outside, data) =
        (sandbox.make_dir("volume"), sandbox.make_dir("outside"), sandbox.make_dir("data"));
    for dir in ["bind", "tmpfs", "work"] {
        fs::create_dir(format!("{outside}/{dir}")).unwrap();
    }
    fs::create_dir(format!("{volume}/a")).unwrap();
    symlink(&outside, format!("{volume}/link")).unwrap();
    let file = sandbox.file("file", "from the host\n");
    let shared = format!("{volume}:/vol");
    sandbox.run(&["--name", "swapper", "-v", &shared], &["/bin/probe", "swap", "/vol", "a", "link"]);
    tinyd_e2e::wait_for("the exchange", 10, || (sandbox.ok(&["logs", "swapper"]) == "ready").then_some(()));
    let listing = || sandbox.host().sh(&format!("find {outside} -printf '%p %y %T@ %m\\n' | sort")).stdout;
    let (before, begun) = (listing(), Instant::now());
    let (bind, one) = (format!("{data}:/vol/a/bind"), format!("{file}:/vol/a/file:ro"));
    let options = [
        "run",
        "--rm",
        "--attach",
        "-v",
        &shared,
        "-v",
        &bind,
        "-v",
        &one,
        "--tmpfs",
        "/vol/a/tmpfs:size=76k",
    ];
    let image = busybox();
    let (mut ran, mut tries) = (0, 0);
    while ran < STARTS || begun.elapsed() < at_least() {
        tries += 1;
        assert!(tries < 50 * STARTS || ran > tries / 20, "{ran} of {tries} containers could be started");
        let out = sandbox.tinyd(
            &[&options[..], &["-w", "/vol/a/work", "-i", &image, "cat", "/proc/self/mountinfo"]].concat(),
        );
        assert_eq!(listing(), before, "something landed outside: {out:?}");
        if out.code == 0 {
            ran += 1;
            // What has landed outside of the root is lost with the old one.
            for what in ["/data ", "/file ", "size=76k"] {
                assert!(out.stdout.contains(what), "{what}: {out:?}");
            }
        } else {
            assert!(out.code == 125, "{out:?}");
        }
    }
    let status = sandbox.exec("swapper", &["grep", "-E", "ctxt|Uid", "/proc/1/status"]);
    assert!(status.contains("Uid:\t0"), "it has gone on all the time: {status}");
}

/// What all engines together mask and make read-only, as far as this machine has it.
#[test]
fn everything_on_the_lists_is_masked_or_read_only() {
    let sandbox = Sandbox::new();
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kallsyms",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/sys/fs/selinux",
        "/sys/kernel/debug",
        "/sys/kernel/security",
    ];
    let thermal = sandbox.host().sh("ls -d /sys/devices/system/cpu/cpu*/thermal_throttle 2>/dev/null").stdout;
    let masked: Vec<&str> =
        masked.into_iter().chain(thermal.lines()).filter(|path| Path::new(path).exists()).collect();
    assert!(masked.len() > 4, "{masked:?}");
    for options in [&[][..], &["--userns", "host"]] {
        let name = format!("c{}", options.len());
        sandbox.run(&[&["--name", &name], options].concat(), &["sleep", "1000"]);
        for path in &masked {
            let line = format!(
                "if [ -d {path} ]; then ls -A {path}; else cat {path}; fi; grep -c ' {path} ' /proc/self/mountinfo"
            );
            assert_eq!(sandbox.exec(&name, &["sh", "-c", &line]), "1", "{path} {options:?}");
        }
        for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
            if !Path::new(path).exists() {
                continue;
            }
            let line = format!("grep ' {path} ' /proc/self/mountinfo | cut -d' ' -f6");
            let said = sandbox.exec(&name, &["sh", "-c", &line]);
            assert!(said.split(',').any(|option| option == "ro"), "{path} {options:?}: {said}");
        }
        let said = sandbox.exec(
            &name,
            &["sh", "-c", "grep -E ' /sys(/fs/cgroup[^ ]*)? ' /proc/self/mountinfo | cut -d' ' -f5,6"],
        );
        let of_cgroup = |line: &&str| line.starts_with("/sys/fs/cgroup");
        assert!(said.lines().filter(of_cgroup).count() > 0, "{said}");
        for line in said.lines() {
            assert!(line.contains(" ro,"), "{line}");
        }
    }
}

/// Who a process is, without a look into the files that may be traps.
const IDS: &str = "set -- $(grep -E '^[UG]id' /proc/self/status); echo $2 $7";

/// The container's files say who a name is: they are read as what they may be, something that an attacker has made.
#[test]
fn passwd_and_group_that_are_traps_are_not_sprung() {
    let sandbox = Sandbox::new();
    let evil = sandbox.file("evil", "evil:x:0:0::/:\n");
    let traps = [
        ("fifo", "rm $I/etc/passwd && mkfifo $I/etc/passwd"),
        ("endless", "rm $I/etc/passwd && mknod $I/etc/passwd c 1 5"),
        ("terminal", "rm $I/etc/passwd && mknod $I/etc/passwd c 5 0"),
        ("directory", "rm $I/etc/passwd && mkdir $I/etc/passwd"),
        ("link", &format!("ln -sf {evil} $I/etc/passwd")),
        ("climbing", &format!("ln -sf ../../../../../../../..{evil} $I/etc/passwd")),
        ("magic", &format!("ln -sf /proc/self/root{evil} $I/etc/passwd")),
        ("circle", "ln -sf passwd $I/etc/passwd"),
        (
            "whole-etc",
            &format!("rm -r $I/etc && ln -s {} $I/etc", Path::new(&evil).parent().unwrap().display()),
        ),
        ("huge", "truncate -s 64G $I/etc/passwd && printf '\\nevil:x:0:0::/:\\n' >> $I/etc/passwd"),
        ("groups", "rm $I/etc/group && mkfifo $I/etc/group"),
    ];
    for (name, line) in traps {
        let image = image(&sandbox, name, line);
        let _ = sandbox.error(
            125,
            &["run", "--rm", "--attach", "-u", "evil", "-i", &image, "true"],
            &["-u", "evil"],
        );
        let numbered = ["run", "--rm", "--attach", "-u", "1234", "-i", &image, "sh", "-c", IDS];
        let out = sandbox.tinyd(&numbered);
        // The engine puts files of its own into /etc: where it is a link, that may be refused.
        assert!(out.trimmed() == "1234 0" || (name == "whole-etc" && out.code == 125), "{name}: {out:?}");
    }
}

/// The same for a process that is added, when the container's root has had time to prepare.
#[test]
fn passwd_of_a_running_container_may_be_a_trap() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    assert_eq!(sandbox.ok(&["exec", "-u", "alice", "c", "id", "-u"]), "1000");
    for line in [
        "rm /etc/passwd; mkfifo /etc/passwd",
        "rm /etc/passwd; mkdir /etc/passwd",
        "rm -r /etc/passwd; ln -s /proc/self/fd/0 /etc/passwd",
        "rm /etc/passwd; ln -s ../../../../../../etc/passwd /etc/passwd",
    ] {
        let _ = sandbox.tinyd(&["exec", "c", "sh", "-c", line]).expect_ok();
        let _ = sandbox.error(125, &["exec", "-u", "daemon", "c", "true"], &["-u", "daemon"]);
        assert_eq!(sandbox.ok(&["exec", "-u", "1234", "c", "sh", "-c", IDS]), "1234 0");
    }
}

#[test]
fn a_number_is_never_looked_up_as_a_name() {
    let sandbox = Sandbox::new();
    let accounts =
        "1234:x:0:0::/:\\n4294967296:x:0:0::/:\\n0x0:x:0:0::/:\\n+7:x:7:7::/:\\nbig:x:4294967296:0::/:\\n";
    let groups = "1234:x:0:\\nmany:x:4294967296:alice\\n";
    let image = image(
        &sandbox,
        "numbers",
        &format!("printf '{accounts}' >> $I/etc/passwd; printf '{groups}' >> $I/etc/group"),
    );
    let run = |user: &str| {
        sandbox.tinyd(&["run", "--rm", "--attach", "-u", user, "-i", &image, "sh", "-c", "id -u; id -g"])
    };
    assert_eq!(run("1234").trimmed(), "1234\n0");
    assert_eq!(run("1234:1234").trimmed(), "1234\n1234");
    assert_eq!(run("007").trimmed(), "7\n7");
    // An account whose number does not fit is none.
    for user in ["4294967296", "2147483648", "-1", "big", "1234:4294967296", "alice:many"] {
        let out = run(user);
        assert!(out.code == 125 && out.stderr.contains(user.rsplit(':').next().unwrap()), "{user}: {out:?}");
    }
    // What is no number is a name, and then the image's to give.
    assert_eq!(run("0x0").trimmed(), "0\n0");
}

#[test]
fn control_characters_are_refused_at_the_edge() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let refused = |options: &[&str], flag: &str| {
        let out = sandbox.error(125, &[&["run"], options, &["-i", &image, "true"]].concat(), &[flag]);
        assert!(!out.stderr.contains(['\x1b', '\x07']), "{flag}: {:?}", out.stderr);
    };
    for (flag, value) in [
        ("--name", "a\nb"),
        ("--hostname", "a\nb"),
        ("-w", "/a\x1b[31m"),
        ("-u", "root\n"),
        ("-v", "/tmp\n:/x"),
        ("-v", "/tmp:/x\x07"),
        ("--tmpfs", "/x\n"),
        ("--label", "a\nb=c"),
        ("-e", "A\nB=c"),
        ("--net", "a\nb"),
        ("--device", "/dev/null\n"),
        ("--cpuset-cpus", "0\n"),
        ("--add-host", "a\nb:10.0.0.1"),
        ("--dns", "10.0.0.1\n"),
        ("-p", "80:80\n"),
        ("--ulimit", "nofile=5\n"),
        ("--stop-signal", "TERM\n"),
        ("--cap-add", "KILL\n"),
        ("--userns", "host\n"),
    ] {
        refused(&[flag, value], flag);
    }
    let _ = sandbox.error(1, &["volume", "create", "a\nb"], &["a\\nb"]);
    let _ = sandbox.error(1, &["network", "create", "a\nb"], &["a\\nb"]);
    let _ = sandbox.error(125, &["run", "-i", "/a\x1b[31m", "true"], &["/a"]);
    sandbox.expect_nothing();
}
