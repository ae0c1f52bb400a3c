//! The daemon and the binaries themselves.

use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tinyd_e2e::{Background, Options, Sandbox, bin_dir, busybox, wait_for};

#[test]
fn the_daemon_executes_nothing_but_tinyrun() {
    let trace = std::env::temp_dir().join(format!("te-strace-{}", std::process::id()));
    let file = trace.display().to_string();
    let sandbox = Sandbox::with(Options {
        wrap: &["strace", "-f", "-qq", "-e", "trace=execve,execveat", "-s", "200", "-o", &file],
        ..Options::default()
    });
    sandbox.ok(&["network", "create", "--subnet", "192.168.10.0/24", "mynet"]);
    sandbox.ok(&["volume", "create", "vol"]);
    sandbox.run(
        &["--name", "c", "--net", "mynet", "-p", "8080:80", "-v", "vol:/vol", "--mem", "64m"],
        &["sleep", "1000"],
    );
    sandbox.exec("c", &["echo", "executed"]);
    sandbox.ok(&["rm", "-f", "c"]);
    sandbox.ok(&["network", "delete", "mynet"]);
    let left = sandbox.leaks();
    assert!(left.is_empty(), "{left:?}");
    let calls = std::fs::read_to_string(&trace).unwrap();
    std::fs::remove_file(&trace).unwrap();
    let of_container = ["\"/bin/sleep\"", "\"sleep\"", "\"echo\"", "\"/bin/echo\""];
    let strangers: Vec<&str> = calls
        .lines()
        .filter(|line| line.contains("exec") && line.contains("= 0"))
        .filter(|line| {
            !line.contains("\"tinyrun\"") && !line.contains("/tinyrun\"") && !line.contains("/tinyd\"")
        })
        .filter(|line| !of_container.iter().any(|program| line.contains(program)))
        .collect();
    assert!(calls.contains("tinyrun"), "the trace sees the runtime: {calls}");
    assert!(strangers.is_empty(), "{strangers:#?}");
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused() {
    let sandbox = Sandbox::new();
    let tinyd = bin_dir().join("tinyd").display().to_string();
    let root = sandbox.root().display().to_string();
    let run_dir = sandbox.make_dir("other-run");
    let line = format!(
        "timeout 10 {tinyd} daemon --root {root} --run-dir {run_dir}; echo status $?; mountpoint -q {run_dir} && umount {run_dir}; true"
    );
    let out = sandbox.host().sh(&line);
    assert!(
        out.stderr.contains(&sandbox.daemon_pid().to_string()) && out.stderr.contains("--root"),
        "{out:?}"
    );
    assert!(!out.stdout.contains("status 0") && !out.stdout.contains("status 124"), "{out:?}");
    assert!(sandbox.tinyd(&["ps"]).ok(), "the first goes on");
}

#[test]
fn a_stale_socket_is_no_obstacle() {
    let mut sandbox = Sandbox::new();
    sandbox.kill_daemon();
    assert!(sandbox.socket().exists());
    sandbox.start_daemon();
    assert!(sandbox.tinyd(&["ps"]).ok());
}

#[test]
fn two_daemons_live_on_one_host() {
    let one = Sandbox::new();
    let other = Sandbox::new();
    one.run(&["--name", "c"], &["sleep", "1000"]);
    other.run(&["--name", "c"], &["sleep", "1000"]);
    assert_eq!((one.ids().len(), other.ids().len()), (1, 1));
}

#[test]
fn a_request_of_five_mebibytes_is_refused_and_the_daemon_lives() {
    let sandbox = Sandbox::new();
    let labels: String = (0..55).map(|n| format!("E{n}={}\n", "y".repeat(99_000))).collect();
    let file = sandbox.file("env", &labels);
    let out = sandbox.tinyd(&["create", "--env-file", &file, "-i", &busybox(), "true"]);
    let _ = out.expect_error(125, &["request", "4 MiB"]);
    assert!(sandbox.tinyd(&["ps"]).ok(), "the daemon lives");
    sandbox.expect_nothing();
}

/// The quickest of many starts: what others on the machine do is not in it.
fn quickest_start(program: &str, arg: &str) -> Duration {
    let times = (0..60).map(|_| {
        let begun = Instant::now();
        let status = Command::new(program)
            .arg(arg)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{program} {arg}");
        begun.elapsed()
    });
    times.min().unwrap_or_default()
}

#[test]
fn both_binaries_start_as_fast_as_true() {
    let limit = tinyd_e2e::patience(Duration::from_millis(1));
    let base = quickest_start("/bin/true", "--version");
    for name in ["tinyd", "tinyrun"] {
        let took = quickest_start(&bin_dir().join(name).display().to_string(), "--version");
        assert!(took < base + limit, "{name} --version takes {took:?}, /bin/true {base:?}");
    }
}

#[test]
fn an_idle_shim_costs_little() {
    let sandbox = Sandbox::new();
    // The program's own pages are one copy for all shims of a daemon: a few of them show what one costs.
    let seconds: Vec<String> = (10_980..10_990).map(|n: u32| n.to_string()).collect();
    for second in &seconds {
        sandbox.run(&[], &["sleep", second]);
    }
    let pss = |second: &String| -> u64 {
        let shim = sandbox.parent_of(sandbox.pid_of(&["sleep", second]));
        let smaps = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
        let line = smaps.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // A shim gives back what it needed to begin once it rests.
    wait_for("shims of 500 KiB", 10, || {
        let mut found: Vec<u64> = seconds.iter().map(pss).collect();
        found.sort_unstable();
        (found[found.len() / 2] <= 500).then_some(())
    });
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").parse().ok())
        .unwrap()
}

#[test]
fn a_client_that_does_not_read_costs_no_memory() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let before = resident_kib(sandbox.daemon_pid());
    let client = sandbox.client(&[
        "run",
        "--rm",
        "--attach",
        "--name",
        "c",
        "-i",
        &image,
        "yes",
        "a line that nobody reads",
    ]);
    let mut client = Background::unread(client, "an attached client that does not read");
    wait_for("the container", 10, || sandbox.ok(&["ps"]).contains("RUNNING").then_some(()));
    // Time for memory to grow, were it to.
    std::thread::sleep(Duration::from_secs(2));
    let after = resident_kib(sandbox.daemon_pid());
    client.signal(Signal::KILL);
    client.wait();
    assert!(after < before + 8 * 1024, "{before} KiB became {after} KiB");
}

/// How many descriptors the daemon has.
fn descriptors(sandbox: &Sandbox) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", sandbox.daemon_pid())).unwrap().count()
}

#[test]
fn clients_that_disappear_are_let_go() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    let before = wait_for("the daemon at rest", 5, || {
        let count = descriptors(&sandbox);
        sandbox.ok(&["ps"]);
        (descriptors(&sandbox) == count).then_some(count)
    });
    for args in [&["logs", "-f", "c"][..], &["exec", "c", "sleep", "999"], &["attach", "c"], &["wait", "c"]] {
        let clients: Vec<_> = (0..5).map(|_| sandbox.spawn(args)).collect();
        wait_for("the clients", 10, || (descriptors(&sandbox) >= before + 5).then_some(()));
        for client in &clients {
            client.signal(Signal::KILL);
        }
        let what = format!("the descriptors of {args:?} to be closed");
        wait_for(&what, 2, || (descriptors(&sandbox) <= before).then_some(()));
    }
    assert_eq!(sandbox.exec("c", &["echo", "it runs on"]), "it runs on");
}

/// How long a process has kept a CPU busy.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Fields 14 and 15 of proc_pid_stat(5): user and system time, in hundredths of a second.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_daemon_out_of_descriptors_rests_and_serves_again() {
    let sandbox = Sandbox::with(Options { wrap: &["prlimit", "--nofile=64:64"], ..Options::default() });
    let flood: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(sandbox.socket()).unwrap()).collect();
    let told = || sandbox.daemon_log().matches("WARN cannot accept connections").count();
    wait_for("the daemon to be out of descriptors", 10, || (told() > 0).then_some(()));
    let before = cpu_time(sandbox.daemon_pid());
    // What it burns is measured over a time; clients that say nothing are kept for ten seconds.
    std::thread::sleep(Duration::from_secs(2));
    let burned = cpu_time(sandbox.daemon_pid()) - before;
    assert!(burned < Duration::from_millis(200), "{burned:?} in two seconds");
    assert!(sandbox.daemon_log().contains("Too many open files"), "{}", sandbox.daemon_log());
    drop(flood);
    wait_for("the daemon to serve again", 10, || sandbox.tinyd(&["ps"]).ok().then_some(()));
    assert!(told() < 30, "{} lines", told());
    sandbox.run(&["--rm", "--name", "c"], &["sleep", "1000"]);
}

#[test]
fn the_socket_is_for_root_and_one_group() {
    let sandbox = Sandbox::with(Options { daemon_args: &["--group", "4242"], ..Options::default() });
    let meta = std::fs::metadata(sandbox.socket()).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o660, 0, 4242));

    let (tinyd, socket) = (sandbox.dir().join("tinyd"), sandbox.socket());
    std::fs::copy(bin_dir().join("tinyd"), &tinyd).unwrap();
    let ask = |who: &str| {
        let (tinyd, socket) = (tinyd.display(), socket.display());
        sandbox.host().sh(&format!("HOME=/ setpriv --reuid 65534 {who} {tinyd} --host unix://{socket} ps"))
    };
    let stranger = "--regid 65534 --clear-groups";
    let _ = ask("--regid 4242 --clear-groups").expect_ok();
    let _ = ask("--regid 65534 --groups 4242").expect_ok();
    let _ = ask(stranger).expect_error(1, &["Permission denied"]);

    // Somebody opens the way: then the kernel lets everybody through, and the daemon still asks who it is.
    let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    open(sandbox.run_dir(), 0o755);
    open(&socket, 0o666);
    let _ = ask(stranger).expect_error(1, &["it closed the connection"]);
    wait_for("the refusal in the log", 5, || {
        let log = sandbox.daemon_log();
        let told = |line: &str| {
            line.contains("refused a connection")
                && line.contains("uid 65534")
                && line.contains("neither root nor in the group that is served")
        };
        log.lines().any(told).then_some(())
    });
    let _ = ask("--regid 4242 --clear-groups").expect_ok();
}
