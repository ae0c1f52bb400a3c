//! A failure leaves nothing, a dead daemon loses nothing.

use std::{io::Read, net::TcpStream, time::Duration};

use tinyd_e2e::{Options, Sandbox, busybox, wait_for};

/// The quoted words of the list called `FAILPOINTS` in a source file of the product.
fn failpoints(source: &'static str) -> Vec<&'static str> {
    let list = source.split_once("const FAILPOINTS").and_then(|(_, rest)| rest.split_once('='));
    let list = list.and_then(|(_, rest)| rest.split_once(';')).map_or("", |(list, _)| list);
    list.split('"').skip(1).step_by(2).collect()
}

fn sweep(points: &[&str]) {
    assert!(!points.is_empty(), "the list of failpoints was not found");
    let image = busybox();
    for point in points {
        let sandbox = Sandbox::with(Options { env: &[("TINYD_FAIL", point)], ..Options::default() });
        let dir = sandbox.make_dir("vol");
        let args = [
            "run",
            "-v",
            &format!("{dir}:/vol"),
            "-p",
            "8080:80",
            "--mem",
            "64m",
            "-i",
            &image,
            "sleep",
            "1000",
        ];
        let out = sandbox.tinyd(&args);
        assert_eq!(out.code, 125, "{point}: {out:?}");
        assert!(out.stderr.contains(point) || out.stderr.contains("failpoint"), "{point}: {}", out.stderr);
        sandbox.expect_nothing();
        let out = sandbox.tinyd(&[&["run", "--rm", "--attach"], &args[1..]].concat());
        assert_eq!(out.code, 125, "{point}, attached: {out:?}");
        sandbox.expect_nothing();
        let left = sandbox.leaks();
        assert!(left.is_empty(), "{point} leaves\n  {}", left.join("\n  "));
    }
}

#[test]
fn each_step_of_the_engine_fails_and_leaves_nothing() {
    sweep(&failpoints(include_str!("../../../crates/engine/src/failpoint.rs")));
}

#[test]
fn each_step_of_the_runtime_fails_and_leaves_nothing() {
    sweep(&failpoints(include_str!("../../../crates/core/src/wire.rs")));
}

fn ask(sandbox: &Sandbox, address: &str) -> Option<String> {
    sandbox.host().in_network(|| {
        let mut stream =
            TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    })
}

#[test]
fn containers_outlive_a_killed_daemon() {
    let mut sandbox = Sandbox::new();
    let counter = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done";
    sandbox.run(&["--name", "counter"], &["sh", "-c", counter]);
    sandbox.run(&["--name", "web", "-p", "8080:80"], &["/bin/probe", "serve", "tcp", "80", "hello"]);
    let gate = sandbox.make_dir("gate");
    let ends = "until [ -e /gate/go ]; do sleep 0.02; done; exit 33";
    sandbox.run(&["--name", "ends", "-v", &format!("{gate}:/gate")], &["sh", "-c", ends]);
    wait_for("the server", 5, || ask(&sandbox, "127.0.0.1:8080"));
    let before = sandbox.ok(&["exec", "counter", "cat", "/proc/1/stat"]);
    let supervisor = sandbox.parent_of(sandbox.pid_of(&["sh", "-c", ends]));

    sandbox.kill_daemon();
    assert!(ask(&sandbox, "127.0.0.1:8080").is_some(), "ports work without a daemon");
    std::fs::write(format!("{gate}/go"), "").unwrap();
    let gone = format!("/proc/{supervisor}");
    wait_for("the end of the container, and of its supervisor", 5, || {
        (!std::fs::exists(&gone).unwrap()).then_some(())
    });
    sandbox.start_daemon();

    let table = sandbox.ok(&["ps", "-a"]);
    assert!(table.contains("EXITED") && table.matches("RUNNING").count() == 2, "{table}");
    assert_eq!(sandbox.ok(&["wait", "ends"]), "33", "the exit code of one that ended meanwhile");
    let fields = |stat: &str| stat.split(' ').nth(21).map(str::to_owned);
    let after = sandbox.ok(&["exec", "counter", "cat", "/proc/1/stat"]);
    assert_eq!(fields(&before), fields(&after), "the same process");
    assert!(ask(&sandbox, "127.0.0.1:8080").is_some(), "ports work after");
    sandbox.ok(&["stop", "-t", "0", "counter"]);
    let log = sandbox.ok(&["logs", "counter"]);
    for (at, line) in log.lines().enumerate() {
        assert_eq!(line, format!("line {}", at + 1), "no line is lost or doubled");
    }
    assert!(log.lines().count() > 50, "the log went on");
    sandbox.ok(&["rm", "-f", "web", "counter", "ends"]);
    assert_eq!(ask(&sandbox, "127.0.0.1:8080"), None);
    // The address and the port are free again.
    sandbox.run(&["-p", "8080:80"], &["sleep", "1000"]);
}

#[test]
fn a_stopped_daemon_leaves_containers_running() {
    let mut sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    sandbox.run(&["--name", "p"], &["sleep", "1000"]);
    sandbox.ok(&["pause", "p"]);
    sandbox.restart_daemon();
    let table = sandbox.ok(&["ps"]);
    assert!(table.contains("RUNNING") && table.contains("PAUSED"), "{table}");
    assert_eq!(sandbox.exec("c", &["echo", "x"]), "x");
    sandbox.ok(&["unpause", "p"]);
}

#[test]
fn names_networks_and_volumes_are_remembered() {
    let mut sandbox = Sandbox::new();
    sandbox.ok(&["network", "create", "--subnet", "192.168.10.0/24", "mynet"]);
    // Its subnet is the one after the default network's: side by side they were once refused by the kernel at the restart.
    sandbox.ok(&["network", "create", "beside"]);
    sandbox.ok(&["volume", "create", "data"]);
    sandbox.run(&["--name", "c", "--net", "mynet", "--label", "a=b"], &["sleep", "1000"]);
    sandbox.kill_daemon();
    sandbox.start_daemon();
    assert!(sandbox.ok(&["network", "ls"]).contains("192.168.10"));
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]), "data");
    let image = busybox();
    let _ = sandbox.error(125, &["run", "--name", "c", "-i", &image, "true"], &["c"]);
    let first = sandbox.exec("c", &["ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
    let second = sandbox.out(&["--net", "mynet"], &["ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
    let address = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    assert_ne!(address(&first), address(&second), "an address in use is not given again");
}

#[test]
fn a_lost_run_directory_costs_no_container() {
    let mut sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sh", "-c", "echo kept >> /file; exec sleep 1000"]);
    wait_for("the file", 10, || sandbox.tinyd(&["exec", "c", "cat", "/file"]).ok().then_some(()));
    sandbox.kill_daemon();
    std::fs::remove_dir_all(sandbox.run_dir().join("containers")).unwrap();
    sandbox.start_daemon();
    // It cannot be asked any more, so it is ended; what it wrote is there.
    assert!(sandbox.ok(&["ps", "-a"]).contains("EXITED"), "{}", sandbox.ok(&["ps", "-a"]));
    sandbox.ok(&["start", "c"]);
    wait_for("the file again", 10, || (sandbox.exec("c", &["cat", "/file"]) == "kept\nkept").then_some(()));
}

#[test]
fn a_daemon_killed_at_any_moment_of_run_leaves_nothing_that_the_next_does_not_clear() {
    let image = busybox();
    for pause_ms in [0, 2, 5, 10, 20, 30, 45, 60] {
        let mut sandbox = Sandbox::new();
        let dir = sandbox.make_dir("vol");
        let volume = format!("{dir}:/vol");
        let mut client =
            sandbox.spawn(&["run", "-v", &volume, "-p", "8080:80", "-i", &image, "sleep", "1000"]);
        // The moment is what is varied: nobody can say where in the run it falls.
        std::thread::sleep(tinyd_e2e::patience(Duration::from_millis(pause_ms)));
        sandbox.kill_daemon();
        client.wait();
        sandbox.start_daemon();
        for row in sandbox.ok(&["ps", "-a"]).lines().skip(1) {
            assert!(["RUNNING", "EXITED", "CREATED"].iter().any(|word| row.contains(word)), "{row}");
        }
        let ids = sandbox.ids();
        if !ids.is_empty() {
            sandbox.ok(&[&["rm", "-f"][..], &ids.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        }
        sandbox.run(&["-p", "8080:80", "-v", &volume], &["sleep", "1000"]);
        let left = sandbox.leaks();
        assert!(left.is_empty(), "killed after {pause_ms} ms leaves\n  {}", left.join("\n  "));
    }
}

#[test]
fn who_is_killed_has_ended_when_kill_says_so() {
    let sandbox = Sandbox::new();
    for _ in 0..10 {
        sandbox.run(&["--name", "c"], &["sh", "-c", "sleep 1000 & sleep 1000"]);
        sandbox.ok(&["kill", "c"]);
        let table = sandbox.ok(&["ps", "-a"]);
        assert!(table.contains("EXITED"), "{table}");
        sandbox.ok(&["rm", "c"]);
    }
}

#[test]
fn a_killed_shim_takes_its_container_with_it() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "21098"]);
    let shim = sandbox.parent_of(sandbox.pid_of(&["sleep", "21098"]));
    let _ = sandbox.host().sh(&format!("kill -9 {shim}")).expect_ok();
    wait_for("word of it", 5, || sandbox.ok(&["ps", "-a"]).contains("EXITED").then_some(()));
    assert_eq!(sandbox.ok(&["wait", "c"]), "137");
    assert!(sandbox.inspect("c").to_string().contains("supervisor"), "says why");
}

#[test]
fn a_log_is_whole_when_the_daemon_dies_while_it_is_followed() {
    let mut sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sh", "-c", "seq 1 50000; sleep 1000"]);
    sandbox.kill_daemon();
    sandbox.start_daemon();
    wait_for("the whole log", 10, || {
        let log = sandbox.ok(&["logs", "c"]);
        (log.lines().count() == 50_000).then_some(())
    });
}
