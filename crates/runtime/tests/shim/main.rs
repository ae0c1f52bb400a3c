//! The supervisor as a daemon sees it: the real binary, driven over its socket. Needs root and a static busybox.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "a test fails by panicking, at any answer but the right one"
)]

mod driver;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use driver::{Client, Shim, exec_plan, process, until};
use tinyd_core::{
    Kind,
    config::Protocol,
    oci::{ConsoleSize, Hook, Hooks},
    wire::{ExecPlan, FAILPOINTS, Forward, FrameKind, Message, Request, Seccomp},
};

fn failed(message: Message) -> (Kind, String) {
    match message {
        Message::Failed(error) => (error.kind(), error.message().to_owned()),
        other => panic!("{other:?}"),
    }
}

/// Whether a process has ended; it may wait for whoever has become its parent.
fn is_dead(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])))
}

fn attached(shim: &Shim, stdin: bool) -> Client {
    let mut client = shim.connect();
    client.done(&Request::Attach { stdin });
    client
}

#[test]
fn hooks_run_for_the_daemons_containers_as_for_others() {
    let mut shim = Shim::start();
    let mut plan = shim.plan("exit 3");
    let log = shim.dir.join("hooks");
    let hook = |point: &str| {
        let text = format!("{{ printf '{point} '; grep -o '\"status\":\"[a-z]*\"'; }} >> {}", log.display());
        vec![Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), text],
            env: vec!["PATH=/usr/bin:/bin".into()],
            timeout: Some(10),
        }]
    };
    plan.spec.hooks = Some(Hooks {
        create_runtime: hook("createRuntime"),
        poststart: hook("poststart"),
        poststop: hook("poststop"),
        ..Hooks::default()
    });
    shim.run(plan);
    until("the shim to end", || shim.is_gone());
    let told = std::fs::read_to_string(&log).unwrap();
    let points = [("createRuntime", "creating"), ("poststart", "running"), ("poststop", "stopped")];
    let expected: String =
        points.iter().map(|(point, status)| format!("{point} \"status\":\"{status}\"\n")).collect();
    assert_eq!(told, expected, "{}", shim.said());
}

#[test]
fn output_goes_to_clients_and_log_and_the_exit_to_disk_first() {
    let mut shim = Shim::start();
    let mut client = shim.connect();
    client.create(shim.plan("echo out; echo err >&2; printf end; exit 7"));
    assert_eq!(client.fds.len(), 2, "the network namespace and a socket inside");
    let mut stream = attached(&shim, false);
    let mut watcher = shim.connect();
    let Message::Status(first) = watcher.ask(&Request::Watch) else { panic!("no status") };
    let mut words = vec![first.state.map_or("none", |state| state.word())];
    client.start();

    let (out, err, exit) = stream.output();
    let exit = exit.unwrap();
    assert_eq!((out.as_str(), err.as_str(), exit.code, exit.signal), ("out\nend", "err\n", 7, None));
    assert_eq!(shim.exit_file(), Some(exit));
    assert_eq!((shim.log("stdout").as_str(), shim.log("stderr").as_str()), ("out\nend", "err\n"));

    while let Some(Message::Status(status)) = watcher.message() {
        words.push(status.state.map_or("none", |state| state.word()));
    }
    assert_eq!(words, ["created", "running", "stopped"]);
    assert!(shim.is_gone());
}

#[test]
fn input_passes_with_backpressure_and_ends() {
    let mut shim = Shim::start();
    let mut plan = shim.plan("cat");
    plan.stdin_open = true;
    plan.log_path = None;
    shim.run(plan);
    let mut stream = attached(&shim, true);
    let mut wanted = String::new();
    for n in 0..30 {
        let line = format!("{n}{}\n", "x".repeat(50_000));
        stream.send_stream(FrameKind::Stdin, line.as_bytes());
        // Read along, as a client does: neither side holds more than its buffers.
        let mut came = 0;
        while came < line.len() {
            came += stream.next().unwrap().1.len();
        }
        wanted = line;
    }
    stream.send_stream(FrameKind::Stdin, wanted.as_bytes());
    stream.send_stream(FrameKind::StdinEnd, b"");
    let (out, _, exit) = stream.output();
    assert!(out == wanted);
    assert_eq!(exit.unwrap().code, 0);
    assert!(shim.is_gone());
}

#[test]
fn processes_begin_with_clean_signals() {
    let mut shim = Shim::start();
    let mut client = shim.connect();
    client.create(shim.plan("grep -E 'Sig(Blk|Ign)' /proc/self/status; read line"));
    let mut stream = attached(&shim, false);
    client.start();
    let (out, _, _) = stream.output();
    // What the shell's own child sees is what the shell got. Signals 32 and 33 are the C library's own.
    let set = |line: &str| u64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap();
    let sets: Vec<u64> = out.lines().map(set).map(|set| set & !(3 << 31)).collect();
    assert_eq!(sets, [0, 0], "{out}");
    assert!(shim.is_gone());
}

#[test]
fn memory_beyond_the_limit_is_told() {
    let mut shim = Shim::start();
    let mut plan = shim.plan("exec dd if=/dev/zero of=/dev/null bs=100M");
    if let Some(linux) = &mut plan.spec.linux {
        let resources = serde_json::json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } });
        linux.resources = Some(serde_json::from_value(resources).unwrap());
    }
    plan.spec.mounts.iter_mut().filter(|mount| mount.destination == "/dev").for_each(|mount| {
        mount.options.push("size=64k".into());
    });
    let mut client = shim.connect();
    client.create(plan);
    let mut stream = attached(&shim, false);
    client.start();
    let exit = stream.output().2.unwrap();
    assert_eq!((exit.code, exit.signal, exit.oom), (137, Some(9), true));
    assert!(shim.is_gone());
}

#[test]
fn connections_that_vanish_leave_no_descriptor() {
    let mut shim = Shim::start();
    shim.run(shim.plan("yes"));
    let open = |shim: &Shim| std::fs::read_dir(format!("/proc/{}/fd", shim.child.id())).unwrap().count();
    // The connection that started it is closed by then.
    std::thread::sleep(Duration::from_millis(200));
    let before = open(&shim);
    for n in 0..200 {
        let mut client = shim.connect();
        match n % 4 {
            0 => client.send(&Request::Attach { stdin: true }, &[]),
            1 => client.send(&Request::Watch, &[]),
            2 => client.stream.write_all(&[0, 255, 255, 0, 0, 1]).unwrap(),
            _ => {}
        }
    }
    until("all are closed", || open(&shim) == before);
    shim.connect().done(&Request::Destroy);
    assert!(shim.is_gone());
}

#[test]
fn a_client_that_does_not_read_costs_nothing_and_one_that_is_gone_holds_nobody() {
    let mut shim = Shim::start();
    let mut plan = shim.plan("yes");
    plan.log_path = None;
    shim.run(plan);
    let lazy = attached(&shim, false);
    // Time for memory to grow, were it to.
    std::thread::sleep(Duration::from_millis(500));
    assert!(shim.memory_kib("Private_Dirty") < 2048);
    // Another one gets nothing either, until the first has gone.
    let mut eager = attached(&shim, false);
    drop(lazy);
    let mut came = 0;
    while came < 1 << 20 {
        came += eager.next().unwrap().1.len();
    }
    shim.connect().done(&Request::Signal { number: 9 });
    let exit = eager.output().2.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert!(shim.is_gone());
}

#[test]
fn an_exec_has_its_own_streams_and_status() {
    let mut shim = Shim::start();
    shim.run(shim.plan("sleep 1000"));
    let mut client = shim.connect();
    let (mut out, their_out) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    client.send(
        &exec_plan("echo $$ >/dev/stdout; id -u; exit 3"),
        &[null.as_fd(), their_out.as_fd(), null.as_fd()],
    );
    drop(their_out);
    assert!(matches!(client.message(), Some(Message::ExecStarted { .. })));
    assert_eq!(client.message(), Some(Message::ExecExited { code: 3 }));
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("\n0\n") && text != "1\n0\n", "{text}");

    let error = failed(client.ask(&Request::Exec(Box::new(ExecPlan {
        process: tinyd_core::oci::Process { args: vec!["nosuch".into()], terminal: true, ..process("") },
        seccomp: Seccomp::Unconfined,
    }))));
    assert_eq!(error.0, Kind::CommandNotFound, "{error:?}");
    shim.connect().done(&Request::Destroy);
    assert!(shim.is_gone());
}

#[test]
fn an_exec_that_does_not_get_to_its_program_keeps_nobody_waiting() {
    let mut shim = Shim::start();
    shim.run(shim.plan("sleep 1000"));
    // Frozen behind the shim's back: the process stands still as soon as it is in the cgroup.
    let cgroup = tinyd_runtime::cgroup::Cgroup::open(shim.cgroup()).unwrap();
    let others = cgroup.pids().unwrap().len();
    cgroup.freeze().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let fds = [null.as_fd(), null.as_fd(), null.as_fd()];
    let (mut patient, mut gone) = (shim.connect(), shim.connect());
    patient.send(&exec_plan("exit 3"), &fds);
    gone.send(&exec_plan("sleep 1001"), &fds);
    let asked = std::time::Instant::now();
    until("both stand in the cgroup", || cgroup.pids().unwrap().len() == others + 2);
    drop(gone);
    assert!(matches!(shim.connect().ask(&Request::Status), Message::Status(_)));
    assert!(asked.elapsed().as_secs() < 5, "the shim waited for the process");
    cgroup.thaw().unwrap();
    assert!(matches!(patient.message(), Some(Message::ExecStarted { .. })));
    assert_eq!(patient.message(), Some(Message::ExecExited { code: 3 }));
    until("the process of the client that left is killed", || cgroup.pids().unwrap().len() == others);
    shim.connect().done(&Request::Destroy);
    assert!(shim.is_gone());
}

#[test]
fn an_exec_with_a_terminal_gives_its_master() {
    let mut shim = Shim::start();
    shim.run(shim.plan("sleep 1000"));
    let mut client = shim.connect();
    let size = ConsoleSize { height: 31, width: 99 };
    let process = tinyd_core::oci::Process {
        terminal: true,
        console_size: Some(size),
        ..process("stty size; read line; echo got-$line; sleep 1000")
    };
    client.send(&Request::Exec(Box::new(ExecPlan { process, seccomp: Seccomp::Unconfined })), &[]);
    assert!(matches!(client.message(), Some(Message::ExecStarted { .. })));
    let mut master = std::fs::File::from(client.fds.pop().unwrap());
    let mut text = String::new();
    let mut buffer = [0; 100];
    while !text.contains("got-hello") {
        let len = master.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
        if text.contains("31 99") && !text.contains("hello") {
            master.write_all(b"hello\n").unwrap();
        }
    }
    // Closing the master hangs up.
    drop(master);
    assert_eq!(client.message(), Some(Message::ExecExited { code: 129 }));
    shim.connect().done(&Request::Destroy);
    assert!(shim.is_gone());
}

#[test]
fn a_terminal_is_resized_and_read() {
    let mut shim = Shim::start();
    let mut plan = shim.plan("while read line; do stty size; done");
    if let Some(process) = &mut plan.spec.process {
        process.terminal = true;
        process.console_size = Some(ConsoleSize { height: 20, width: 70 });
    }
    shim.run(plan);
    let mut stream = attached(&shim, true);
    stream.send_stream(FrameKind::Stdin, b"\n");
    stream.output_until("20 70");
    stream.send(&Request::Resize { rows: 44, cols: 111 }, &[]);
    stream.send_stream(FrameKind::Stdin, b"\n");
    stream.output_until("44 111");
    // Ctrl-D ends the input of a terminal; the frame that says so does not.
    stream.send_stream(FrameKind::StdinEnd, b"");
    stream.send_stream(FrameKind::Stdin, b"\n");
    stream.output_until("44 111");
    stream.send_stream(FrameKind::Stdin, b"\x04");
    assert!(stream.output().2.is_some());
    assert!(shim.is_gone());
}

#[test]
fn pausing_is_seen_by_those_who_watch() {
    let mut shim = Shim::start();
    let pid = shim.run(shim.plan("while :; do :; done"));
    let mut watcher = shim.connect();
    assert!(matches!(watcher.ask(&Request::Watch), Message::Status(_)));
    let mut client = shim.connect();
    client.done(&Request::Pause);
    assert_eq!(failed(client.ask(&Request::Pause)).0, Kind::WrongState);
    assert_eq!(failed(client.ask(&exec_plan("true"))).0, Kind::WrongState);
    assert_eq!(client.ask(&Request::Processes), Message::Processes { pids: vec![pid] });
    client.done(&Request::Resume);
    client.done(&Request::Pause);
    // Even a frozen container is killed.
    client.done(&Request::Signal { number: 9 });
    let mut words = vec!["running"];
    while let Some(Message::Status(status)) = watcher.message() {
        assert!(status.state.is_some_and(|state| state.pid().is_none_or(|it| it == pid)));
        words.push(status.state.map_or("none", |state| state.word()));
    }
    let wanted = ["running", "paused", "running", "paused", "running", "stopped"];
    assert_eq!(words, wanted);
    assert!(shim.is_gone());
}

#[test]
fn a_command_that_is_not_there_ends_everything() {
    let mut shim = Shim::start();
    let mut client = shim.connect();
    let mut plan = shim.plan("");
    if let Some(process) = &mut plan.spec.process {
        process.args = vec!["/bin/nosuch".into()];
    }
    let created = client.ask(&Request::Create(Box::new(plan)));
    let answer = match created {
        Message::Created { .. } => client.ask(&Request::Start),
        other => other,
    };
    let (kind, message) = failed(answer);
    assert_eq!(kind, Kind::CommandNotFound);
    assert!(message.contains("/bin/nosuch"), "{message}");
    assert_eq!(shim.exit_file(), None);
    assert!(shim.is_gone());
}

#[test]
fn requests_out_of_turn_are_refused() {
    let mut shim = Shim::start();
    let mut client = shim.connect();
    for request in [Request::Start, Request::KillAll, Request::Attach { stdin: false }, exec_plan("true")] {
        assert_eq!(failed(client.ask(&request)).0, Kind::WrongState, "{request:?}");
    }
    client.create(shim.plan("true"));
    let again = Request::Create(Box::new(shim.plan("true")));
    assert_eq!(failed(client.ask(&again)).0, Kind::WrongState);
    assert_eq!(failed(client.ask(&Request::Signal { number: 15 })).0, Kind::WrongState);
    assert_eq!(failed(client.ask(&Request::Pause)).0, Kind::WrongState);
    client.done(&Request::Destroy);
    assert!(shim.is_gone());
}

#[test]
fn garbage_ends_one_connection_alone() {
    let mut shim = Shim::start();
    let mut bad = shim.connect();
    bad.stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(failed(bad.message().unwrap()).0, Kind::InvalidArgument);
    assert!(bad.message().is_none());
    let mut client = shim.connect();
    client.create(shim.plan("true"));
    client.done(&Request::Destroy);
    assert!(shim.is_gone());
}

#[test]
fn a_killed_shim_takes_its_container_along() {
    let mut shim = Shim::start();
    let pid = shim.run(shim.plan("sleep 1000 & sleep 1000"));
    shim.child.kill().unwrap();
    let killed = Instant::now();
    until("the container dies", || is_dead(pid));
    assert!(killed.elapsed() < Duration::from_secs(1));
}

#[test]
fn failpoints_leave_nothing() {
    for failpoint in FAILPOINTS {
        let at_create = !["shim.start", "exec"].contains(&failpoint);
        let mut shim = Shim::start();
        let mut client = shim.connect();
        let mut plan = shim.plan("sleep 1000");
        plan.failpoint = failpoint.into();
        let answer = match at_create {
            true => client.ask(&Request::Create(Box::new(plan))),
            false => {
                client.create(plan);
                client.ask(&Request::Start)
            }
        };
        let (kind, message) = failed(answer);
        assert!(kind == Kind::Internal && message.contains(failpoint), "{failpoint}: {message}");
        assert!(client.message().is_none());
        assert!(shim.is_gone());
    }
}

#[test]
fn ports_are_forwarded_while_the_program_runs() {
    let mut shim = Shim::start();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let outer = listener.local_addr().unwrap();
    let mut plan = shim.plan("sleep 1000");
    plan.forwards = vec![Forward { protocol: Protocol::Tcp, target: target.local_addr().unwrap() }];
    let mut client = shim.connect();
    client.send(&Request::Create(Box::new(plan)), &[listener.as_fd()]);
    drop(listener);
    assert!(matches!(client.message(), Some(Message::Created { .. })));
    client.start();
    let mut outside = TcpStream::connect(outer).unwrap();
    outside.write_all(b"ping").unwrap();
    let (mut inside, _) = target.accept().unwrap();
    let mut buffer = [0; 4];
    inside.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"ping");
    shim.connect().done(&Request::Destroy);
    assert!(shim.is_gone());
    assert!(TcpStream::connect(outer).is_err());
}

#[test]
fn a_shim_without_descriptors_rests_and_goes_on() {
    let shim = Shim::start();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outer = listener.local_addr().unwrap();
    let mut plan = shim.plan("sleep 1000");
    plan.forwards = vec![Forward { protocol: Protocol::Tcp, target: target.local_addr().unwrap() }];
    let mut client = shim.connect();
    client.send(&Request::Create(Box::new(plan)), &[listener.as_fd()]);
    assert!(matches!(client.message(), Some(Message::Created { .. })));
    client.start();

    const NOFILE: u32 = 7;
    let pid = shim.child.id() as i32;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    tinyd_sys::resources::set_rlimit(pid, NOFILE, open + 5, 4096).unwrap();
    let mut streams: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(outer).unwrap()).collect();
    until("descriptors run out", || shim.said().contains("rest"));
    // It still hears those it knows, and wastes no time.
    assert!(matches!(client.ask(&Request::Status), Message::Status(_)));
    // A spin is seen over a time: half a second of it would be 50 ticks.
    let used = cpu_ticks(pid);
    std::thread::sleep(Duration::from_millis(500));
    assert!(cpu_ticks(pid) - used < 10, "it spins");

    tinyd_sys::resources::set_rlimit(pid, NOFILE, 1024, 4096).unwrap();
    let last = streams.last_mut().unwrap();
    last.write_all(b"x").unwrap();
    last.shutdown(std::net::Shutdown::Write).unwrap();
    target.set_nonblocking(true).unwrap();
    let mut inside = Vec::new();
    until("the waiting connections come through", || {
        inside.extend(target.accept().ok());
        // Those whose other side could not be connected were reset.
        inside.iter_mut().any(|(stream, _)| {
            let _ = stream.set_nonblocking(true);
            stream.read(&mut [0; 1]).is_ok_and(|len| len == 1)
        })
    });
    assert_eq!(shim.said().lines().count(), 1, "{}", shim.said());
    shim.connect().done(&Request::Destroy);
}

/// CPU time used by a process, in ticks of ten milliseconds.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn without_a_pid_namespace_leftovers_are_killed() {
    let mut shim = Shim::start();
    let mut plan = shim.plan("sleep 1000 & (sleep 1000 &) ; echo up");
    if let Some(linux) = &mut plan.spec.linux {
        linux.namespaces.retain(|namespace| namespace.kind != tinyd_core::oci::NamespaceKind::Pid);
    }
    // A process of the host's PID namespace cannot mount a proc of its own.
    plan.spec.mounts.retain(|mount| mount.destination != "/proc");
    let mut client = shim.connect();
    client.create(plan);
    let mut stream = attached(&shim, false);
    client.start();
    assert_eq!(stream.output().0, "up\n");
    assert!(shim.is_gone());
}

#[test]
fn a_shim_that_nobody_wants_ends() {
    let mut shim = Shim::start();
    assert!(shim.is_gone());
}

/// What a shim costs that has nothing to do. A build with debug assertions is only looked at.
#[test]
fn an_idle_shim_is_small() {
    let mut shim = Shim::start();
    shim.run(shim.plan("sleep 1000"));
    let mut client = shim.connect();
    let null = std::fs::File::open("/dev/null").unwrap();
    client.send(&exec_plan("true"), &[null.as_fd(), null.as_fd(), null.as_fd()]);
    assert!(matches!(client.message(), Some(Message::ExecStarted { .. })));
    assert_eq!(client.message(), Some(Message::ExecExited { code: 0 }));
    drop(client);
    // It trims itself when it has had nothing to do for a while.
    std::thread::sleep(Duration::from_secs(1));
    let (pss, dirty) = (shim.memory_kib("Pss:"), shim.memory_kib("Private_Dirty"));
    eprintln!("an idle shim: Pss {pss} KiB, {dirty} KiB of it changed");
    assert!(cfg!(debug_assertions) || pss <= 500, "{pss}");
    shim.connect().done(&Request::Destroy);
    assert!(shim.is_gone());
}
