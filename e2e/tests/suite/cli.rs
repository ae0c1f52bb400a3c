//! The command line as the issue writes it: spellings, tables, streams, exit codes.

use std::{io::Read, process::Stdio};

use rustix::process::Signal;
use tinyd_e2e::{Sandbox, busybox, wait_for};

#[test]
fn a_container_whose_reader_leaves_runs_on_and_its_client_says_so() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let mut client = sandbox.client(&["run", "--rm", "--attach", "--name", "y", "-i", &image, "yes"]);
    let mut client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One piece is read, then nobody reads.
    let mut first = [0; 2];
    client.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let said = client.wait_with_output().unwrap();
    assert_eq!((&first, said.status.code()), (b"y\n", Some(141)));
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(said.contains("nobody reads the output any more: the container runs on"), "{said}");
    assert!(sandbox.ok(&["ps"]).contains("RUNNING"));
    sandbox.ok(&["kill", "y"]);
}

/// A line of a table, cut at two spaces or more.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

fn is_id(text: &str) -> bool {
    matches!(text.len(), 12 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[test]
fn run_and_ps_are_as_in_the_manual() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let said = sandbox.ok(&[
        "run",
        "-i",
        &image,
        "--cpu",
        "10000",
        "--mem",
        "500m",
        "--name",
        "c1",
        "-p",
        "8080:80",
        "/bin/sleep",
        "3000",
    ]);
    let id = said.strip_prefix("Create ContainerId ").and_then(|rest| rest.strip_suffix(" Successfully"));
    assert!(id.is_some_and(is_id), "{said:?}");

    let table = sandbox.ok(&["ps"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    let head = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "VOLUME", "NAMES"];
    assert_eq!(cells(lines[0]), head);
    let row = cells(lines[1]);
    assert_eq!(row.len(), 8, "{table}");
    assert!(is_id(row[0]) && id.unwrap().starts_with(row[0]), "{table}");
    assert_eq!((row[1], row[2]), (image.as_str(), "/bin/sleep 3000"));
    assert!(row[3].len() == 5 && row[3].as_bytes()[2] == b':', "HH:MM: {table}");
    assert_eq!(row[4..], ["RUNNING", "8080:80;", "-", "c1"], "{table}");
}

#[test]
fn ps_tells_the_living_and_all_on_demand() {
    let sandbox = Sandbox::new();
    let up = sandbox.run(&["--name", "up"], &["sleep", "1000"]);
    let ended = sandbox.run(&["--name", "ended"], &["true"]);
    sandbox.ok(&["wait", "ended"]);
    let living = sandbox.ok(&["ps"]);
    assert!(living.contains("up") && !living.contains("ended"), "{living}");
    let all = sandbox.ok(&["ps", "-a"]);
    assert!(all.contains("up") && all.contains("ended") && all.contains("EXITED"), "{all}");
    let ids = sandbox.ids();
    assert_eq!(ids.len(), 2);
    assert!(ended.starts_with(&ids[0]) && up.starts_with(&ids[1]), "newest first: {ids:?}");
    let rows = sandbox.json(&["ps", "-a"]);
    assert_eq!(rows.len(), 2, "{rows:?}");
}

#[test]
fn detached_run_prints_the_id_alone() {
    let sandbox = Sandbox::new();
    let id = sandbox.run(&[], &["sleep", "1000"]);
    assert!(id.len() == 64 && is_id(&id), "{id:?}");
}

#[test]
fn the_image_may_be_the_first_word() {
    let sandbox = Sandbox::new();
    let said = sandbox.ok(&["run", "--rm", "--attach", &busybox(), "echo", "-n", "hello"]);
    assert_eq!(said, "hello");
}

#[test]
fn habits_of_docker() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let out = sandbox.tinyd_with_input(&["run", "-i", "--rm", &image, "cat"], b"through").expect_ok();
    assert_eq!(out.stdout, "through", "-i before another option is standard input");
    let id = sandbox.ok(&["run", "-ditp", "8080:80", "-i", &image, "sh"]);
    assert_eq!(sandbox.ok(&["ps", "--format", "{{.ID}} {{.Ports}}"]), format!("{} 8080:80;", &id[..12]));
    sandbox.run(&["--name", "ended"], &["true"]);
    sandbox.ok(&["wait", "ended"]);
    assert_eq!(sandbox.ok(&["ps", "-l", "--format", "{{.Names}}"]), "ended");
    assert_eq!(sandbox.ok(&["ps", "-q", "-n", "2"]).lines().count(), 2);
    let table = sandbox.ok(&["ps", "--format", "table {{.Names}}\\t{{.State}}"]);
    assert_eq!(cells(table.lines().next().unwrap()), ["NAMES", "STATE"], "{table}");
    let here = sandbox.make_dir("here/data");
    std::fs::write(format!("{here}/file"), "found").unwrap();
    let mut client =
        sandbox.client(&["run", "--rm", "-a", "-v", "./data:/data", "-i", &image, "cat", "/data/file"]);
    let said = client.current_dir(format!("{here}/..")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "found", "{said:?}");
    let _ = sandbox
        .tinyd_with_input(&["volume", "prune"], b"")
        .expect_error(1, &["--force", "nothing is removed"]);
}

#[test]
fn attached_run_has_two_streams_and_the_exit_status() {
    let sandbox = Sandbox::new();
    let out = sandbox.attached(&[], &["sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!((out.code, out.stdout.as_str()), (42, "out\n"), "{out:?}");
    assert_eq!(out.stderr, "err\n");
    sandbox.expect_nothing();
}

#[test]
fn attached_output_is_whole() {
    let sandbox = Sandbox::new();
    let out = sandbox.attached(&[], &["sh", "-c", "seq 1 200000"]).expect_ok();
    assert_eq!(out.stdout.lines().count(), 200_000);
    assert!(out.stdout.ends_with("\n200000\n"));
}

#[test]
fn a_signal_is_128_and_its_number() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    assert_eq!(sandbox.tinyd(&["exec", "c", "sh", "-c", "kill -TERM $$"]).code, 128 + 15);
    sandbox.ok(&["kill", "c"]);
    assert_eq!(sandbox.ok(&["wait", "c"]), "137");
}

#[test]
fn exit_codes_of_the_engine_are_dockers() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let run = |command: &str| sandbox.tinyd(&["run", "--rm", "--attach", "-i", &image, command]);
    let _ = run("no-such-program").expect_error(127, &["no-such-program"]);
    let _ = run("/bin/not-executable").expect_error(126, &["/bin/not-executable"]);
    let _ = run("/etc").expect_error(126, &["/etc"]);
    let script = sandbox.file("script", "#!/no/such/sh\n");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let volume = format!("{script}:/script");
    let _ =
        sandbox.attached(&["-v", &volume], &["/script"]).expect_error(127, &["\"/script\"", "interpreter"]);
    let _ = sandbox.error(125, &["run", "-i", "/no/such/image", "true"], &["/no/such/image"]);
    sandbox.expect_nothing();
}

#[test]
fn a_terminal_is_a_terminal() {
    let sandbox = Sandbox::new();
    let image = busybox();
    for spelling in ["--it", "-it"] {
        let mut shell = sandbox.terminal(&["run", spelling, "-i", &image, "--rm", "/bin/sh"]);
        shell.write("echo $((40+2))-is-the-answer; tty\n");
        shell.expect("42-is-the-answer");
        shell.expect("/dev/");
        shell.write("stty size\n");
        shell.expect("24 80");
        shell.resize(40, 132);
        wait_for("the new size inside", 10, || {
            shell.write("stty size\n");
            std::thread::sleep(std::time::Duration::from_millis(50));
            shell.screen().contains("40 132").then_some(())
        });
        shell.write("exit 3\n");
        assert_eq!(shell.wait(), 3);
    }
    sandbox.expect_nothing();
}

#[test]
fn ctrl_d_leaves_the_shell() {
    let sandbox = Sandbox::new();
    let mut shell = sandbox.terminal(&["run", "--it", "-i", &busybox(), "--name", "c2", "/bin/sh"]);
    shell.write("echo ready-$((1+1))\n");
    shell.expect("ready-2");
    shell.write("\x04");
    assert_eq!(shell.wait(), 0);
    let table = sandbox.ok(&["ps", "-a"]);
    assert!(table.contains("EXITED"), "{table}");
}

#[test]
fn ctrl_c_reaches_the_program() {
    let sandbox = Sandbox::new();
    let mut shell = sandbox.terminal(&["run", "--it", "--rm", "-i", &busybox(), "/bin/sh"]);
    shell.write("trap 'echo caught-$((1+1))' INT; echo ready-$((1+1))\n");
    shell.expect("ready-2");
    shell.write("\x03");
    shell.expect("caught-2");
    shell.write("exit\n");
    shell.wait();
}

#[test]
fn exec_streams_and_ends_as_the_command_does() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c1"], &["sleep", "1000"]);
    let root = sandbox.exec("c1", &["ls", "/"]);
    assert!(root.lines().any(|line| line == "proc"), "{root}");
    let out = sandbox.tinyd(&["exec", "c1", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (7, "out\n", "err\n"));
    let out = sandbox.tinyd(&["exec", "c1", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(out.code, 137);
    let _ = sandbox.error(127, &["exec", "c1", "no-such-program"], &["no-such-program"]);
    let _ = sandbox.error(126, &["exec", "c1", "/bin/not-executable"], &["/bin/not-executable"]);
    let _ = sandbox.error(125, &["exec", "nobody", "true"], &["nobody"]);
}

#[test]
fn exec_takes_standard_input() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c1"], &["sleep", "1000"]);
    let input = "line of input\n".repeat(50_000);
    let out = sandbox.tinyd_with_input(&["exec", "-i", "c1", "wc", "-c"], input.as_bytes()).expect_ok();
    assert_eq!(out.trimmed(), input.len().to_string());
}

#[test]
fn exec_has_a_terminal_on_demand() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c1"], &["sleep", "1000"]);
    let mut shell = sandbox.terminal(&["exec", "--it", "c1", "sh"]);
    shell.write("stty size; echo done-$((1+1))\n");
    shell.expect("24 80");
    shell.expect("done-2");
    shell.write("exit 5\n");
    assert_eq!(shell.wait(), 5);
}

#[test]
fn exec_has_options_of_its_own() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c1", "-e", "A=1"], &["sleep", "1000"]);
    let said = sandbox.ok(&[
        "exec",
        "-e",
        "B=2",
        "-w",
        "/etc",
        "-u",
        "alice",
        "c1",
        "sh",
        "-c",
        "echo $A$B $(pwd) $(id -un)",
    ]);
    assert_eq!(said, "12 /etc alice");
}

#[test]
fn networks_are_made_listed_and_deleted() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["network", "create", "--subnet", "192.168.10.0/24", "-d", "bridge", "mynet"]);
    let table = sandbox.ok(&["network", "ls"]);
    let row = table.lines().find(|line| line.contains("mynet")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("192.168.10") && row.contains("bridge"), "{table}");
    assert!(table.contains("Tiny-docker"), "{table}");
    sandbox.ok(&["network", "delete", "mynet"]);
    assert!(!sandbox.ok(&["network", "ls"]).contains("mynet"));
}

#[test]
fn kill_stop_and_rm_take_several() {
    let sandbox = Sandbox::new();
    for name in ["c1", "c2", "c3"] {
        sandbox.run(&["--name", name], &["sleep", "1000"]);
    }
    sandbox.ok(&["kill", "c1"]);
    sandbox.ok(&["stop", "-t", "0", "c2"]);
    sandbox.ok(&["wait", "c1", "c2"]);
    sandbox.ok(&["rm", "c1", "c2"]);
    let ids = sandbox.ids();
    assert_eq!(ids.len(), 1);
    let _ = sandbox.error(1, &["rm", "c3"], &["c3", "running"]);
    sandbox.ok(&["rm", "-f", &ids[0]]);
    sandbox.expect_nothing();
}

#[test]
fn each_of_several_ids_is_tried_and_all_errors_are_told() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c1"], &["true"]);
    sandbox.ok(&["wait", "c1"]);
    let _ = sandbox.error(1, &["rm", "ghost1", "c1", "ghost2"], &["ghost1", "ghost2"]);
    sandbox.expect_nothing();
}

#[test]
fn a_unique_prefix_of_an_id_is_enough() {
    let sandbox = Sandbox::new();
    let id = sandbox.run(&[], &["sleep", "1000"]);
    assert_eq!(sandbox.exec(&id[..6], &["echo", "x"]), "x");
    sandbox.ok(&["rm", "-f", &id[..8]]);
    sandbox.expect_nothing();
}

#[test]
fn a_prefix_of_two_ids_is_refused() {
    let sandbox = Sandbox::new();
    // Seventeen ids begin with sixteen digits at most.
    let mut ids: Vec<String> = (0..17).map(|_| sandbox.ok(&["create", "-i", &busybox(), "true"])).collect();
    ids.sort();
    let twin = ids.windows(2).find(|pair| pair[0][..1] == pair[1][..1]).map(|pair| pair[0][..1].to_owned());
    let _ = sandbox.error(1, &["inspect", &twin.unwrap()], &["beginning"]);
}

#[test]
fn logs_have_options() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sh", "-c", "echo one; echo two >&2; echo three"]);
    sandbox.ok(&["wait", "c"]);
    let out = sandbox.tinyd(&["logs", "c"]).expect_ok();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("one\nthree\n", "two\n"));
    assert_eq!(sandbox.ok(&["logs", "--since", "2200-01-01T00:00:00Z", "c"]), "");
    assert_eq!(sandbox.ok(&["logs", "--since", "1h", "c"]), "one\nthree");

    sandbox.run(&["--name", "d"], &["sh", "-c", "seq 1 1000"]);
    sandbox.ok(&["wait", "d"]);
    assert_eq!(sandbox.ok(&["logs", "--tail", "2", "d"]), "999\n1000");
    assert_eq!(sandbox.ok(&["logs", "--tail", "0", "d"]), "");
    let stamped = sandbox.ok(&["logs", "-t", "--tail", "1", "d"]);
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(time.contains('T') && time.ends_with('Z') && text == "1000", "{stamped}");
}

#[test]
fn logs_follow_until_the_end() {
    let sandbox = Sandbox::new();
    let dir = sandbox.make_dir("gate");
    let volume = format!("{dir}:/gate");
    let script = "echo first; until [ -e /gate/go ]; do sleep 0.05; done; echo second";
    sandbox.run(&["--name", "c", "-v", &volume], &["sh", "-c", script]);
    let mut logs = sandbox.spawn(&["logs", "-f", "c"]);
    assert_eq!(logs.next_line(), "first");
    std::fs::write(format!("{dir}/go"), "").unwrap();
    assert_eq!(logs.next_line(), "second");
    assert_eq!(logs.wait(), 0);
}

#[test]
fn create_start_restart_and_wait() {
    let sandbox = Sandbox::new();
    let image = busybox();
    sandbox.ok(&["create", "--name", "c", "-i", &image, "sh", "-c", "echo run; exit 4"]);
    assert!(sandbox.ok(&["ps", "-a"]).contains("CREATED"));
    sandbox.ok(&["start", "c"]);
    assert_eq!(sandbox.ok(&["wait", "c"]), "4");
    sandbox.ok(&["start", "c"]);
    assert_eq!(sandbox.ok(&["wait", "c"]), "4");
    assert_eq!(sandbox.ok(&["logs", "c"]), "run\nrun");

    sandbox.run(&["--name", "d"], &["sleep", "1000"]);
    let before = sandbox.exec("d", &["cat", "/proc/1/stat"]);
    sandbox.ok(&["restart", "-t", "0", "d"]);
    let after = sandbox.exec("d", &["cat", "/proc/1/stat"]);
    assert_ne!(before, after, "another process");
}

#[test]
fn a_paused_container_stands_still() {
    let sandbox = Sandbox::new();
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";
    sandbox.run(&["--name", "c"], &["sh", "-c", script]);
    sandbox.ok(&["pause", "c"]);
    assert!(sandbox.ok(&["ps"]).contains("PAUSED"));
    let lines = || sandbox.ok(&["logs", "c"]).lines().count();
    // That nothing comes can only be seen over a time: ten lines of one that is not paused.
    let (first, again) = (lines(), {
        std::thread::sleep(std::time::Duration::from_millis(200));
        lines()
    });
    assert_eq!(first, again);
    let _ = sandbox.error(1, &["pause", "c"], &["paused"]);
    sandbox.ok(&["unpause", "c"]);
    wait_for("more lines", 5, || (lines() > again).then_some(()));
}

#[test]
fn a_paused_container_can_be_stopped_and_removed() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "a"], &["sleep", "1000"]);
    sandbox.run(&["--name", "b"], &["sleep", "1000"]);
    sandbox.ok(&["pause", "a", "b"]);
    sandbox.ok(&["stop", "-t", "1", "a"]);
    sandbox.ok(&["rm", "-f", "b"]);
}

#[test]
fn stop_is_polite_and_then_is_not() {
    let sandbox = Sandbox::new();
    let polite = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    sandbox.run(&["--name", "polite"], &["sh", "-c", polite]);
    wait_for("the trap", 5, || sandbox.ok(&["logs", "polite"]).contains("ready").then_some(()));
    sandbox.ok(&["stop", "polite"]);
    assert_eq!(sandbox.ok(&["wait", "polite"]), "9");
    assert!(sandbox.ok(&["logs", "polite"]).contains("bye"));

    // As process 1 sleep ignores SIGTERM.
    sandbox.run(&["--name", "deaf"], &["sleep", "1000"]);
    let out = sandbox.tinyd(&["stop", "-t", "1", "deaf"]).expect_ok();
    let limit = tinyd_e2e::patience(std::time::Duration::from_millis(2500));
    assert!(out.took.as_secs_f64() > 0.9 && out.took < limit, "{:?}", out.took);
    assert_eq!(sandbox.ok(&["wait", "deaf"]), "137");

    let usr = "trap 'exit 12' USR1; echo ready; while :; do sleep 0.05; done";
    sandbox.run(&["--name", "usr", "--stop-signal", "USR1"], &["sh", "-c", usr]);
    wait_for("the trap", 5, || sandbox.ok(&["logs", "usr"]).contains("ready").then_some(()));
    sandbox.ok(&["stop", "usr"]);
    assert_eq!(sandbox.ok(&["wait", "usr"]), "12");
}

#[test]
fn a_signal_other_than_kill_leaves_it_running() {
    let sandbox = Sandbox::new();
    let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done";
    sandbox.run(&["--name", "c"], &["sh", "-c", script]);
    wait_for("the trap", 5, || sandbox.ok(&["logs", "c"]).contains("ready").then_some(()));
    sandbox.ok(&["kill", "-s", "USR1", "c"]);
    wait_for("the signal", 5, || sandbox.ok(&["logs", "c"]).contains("usr1").then_some(()));
    assert!(sandbox.ok(&["ps"]).contains("RUNNING"));
}

#[test]
fn attach_detaches_with_ctrl_p_ctrl_q() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let mut shell = sandbox.terminal(&["run", "--it", "-i", &image, "--name", "c", "/bin/sh"]);
    shell.write("echo ready-$((1+1))\n");
    shell.expect("ready-2");
    shell.write("\x10\x11");
    assert_eq!(shell.wait(), 0);
    assert!(sandbox.ok(&["ps"]).contains("RUNNING"));
    let mut again = sandbox.terminal(&["attach", "c"]);
    again.write("echo back-$((1+1))\n");
    again.expect("back-2");
    again.write("exit 6\n");
    assert_eq!(again.wait(), 6);
}

#[test]
fn attach_without_a_terminal_ends_with_the_container() {
    let sandbox = Sandbox::new();
    let dir = sandbox.make_dir("gate");
    let script = "until [ -e /gate/go ]; do echo early; sleep 0.05; done; echo late; exit 8";
    sandbox.run(&["--name", "c", "-v", &format!("{dir}:/gate")], &["sh", "-c", script]);
    let mut client = sandbox.spawn(&["attach", "c"]);
    assert_eq!(client.next_line(), "early");
    std::fs::write(format!("{dir}/go"), "").unwrap();
    let rest = client.rest();
    assert_eq!(rest.iter().filter(|line| *line != "early").collect::<Vec<_>>(), ["late"]);
    assert_eq!(client.wait(), 8);
}

#[test]
fn signals_of_an_attached_client_go_to_the_program() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let script = "trap 'echo got-term; exit 21' TERM; echo ready; while :; do sleep 0.05; done";
    let mut client = sandbox.spawn(&["run", "--rm", "--attach", "-i", &image, "sh", "-c", script]);
    assert_eq!(client.next_line(), "ready");
    client.signal(Signal::TERM);
    assert_eq!(client.next_line(), "got-term");
    assert_eq!(client.wait(), 21);
}

#[test]
fn a_client_that_disappears_leaves_the_container() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let script = "echo ready; while :; do sleep 0.05; done";
    let mut client = sandbox.spawn(&["run", "--attach", "--name", "c", "-i", &image, "sh", "-c", script]);
    assert_eq!(client.next_line(), "ready");
    client.signal(Signal::KILL);
    client.wait();
    assert_eq!(sandbox.exec("c", &["echo", "x"]), "x");
}

#[test]
fn options_of_the_process() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("env", "# a comment\nFROM_FILE=yes\n");
    let options = ["-e", "A=a b", "--env-file", &file, "-w", "/srv", "-u", "1000:50", "--hostname", "box"];
    let said =
        sandbox.out(&options, &["sh", "-c", "echo $A,$FROM_FILE,$(pwd),$(id -u),$(id -g),$(hostname)"]);
    assert_eq!(said, "a b,yes,/srv,1000,50,box");
    assert_eq!(sandbox.out(&["--entrypoint", "/bin/echo"], &["a", "-n", "b"]), "a -n b");
}

#[test]
fn rm_removes_at_the_end_also_in_the_background() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--rm"], &["true"]);
    wait_for("its removal", 5, || sandbox.ids().is_empty().then_some(()));
    sandbox.expect_nothing();
}

#[test]
fn labels_volumes_and_ports_show_in_ps() {
    let sandbox = Sandbox::new();
    let dir = sandbox.make_dir("vol");
    let options = [
        "--label",
        "tier=web",
        "-v",
        &format!("{dir}:/vol"),
        "-p",
        "8080:80",
        "-p",
        "5353:53/udp",
        "--name",
        "c",
    ];
    sandbox.run(&options, &["sleep", "1000"]);
    let table = sandbox.ok(&["ps"]);
    assert!(table.contains(&format!("{dir}:/vol")), "{table}");
    assert!(table.contains("8080:80;") && table.contains("5353:53/udp;"), "{table}");
    let ports = sandbox.ok(&["port", "c"]);
    assert!(ports.contains("80/tcp") && ports.contains("8080") && ports.contains("53/udp"), "{ports}");
    assert!(sandbox.inspect("c").to_string().contains("tier"), "labels");
}

#[test]
fn top_shows_the_processes() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sh", "-c", "sleep 4321 & exec sleep 1234"]);
    wait_for("both processes", 5, || {
        let table = sandbox.ok(&["top", "c"]);
        (table.contains("sleep 4321") && table.contains("sleep 1234")).then_some(())
    });
}

#[test]
fn inspect_tells_as_json_and_by_template() {
    let sandbox = Sandbox::new();
    let id = sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    let all = sandbox.inspect("c").to_string();
    assert!(all.contains(&id) && all.contains("\"c\""), "{all}");
    let time =
        all.split('"').find(|word| word.contains('T') && word.ends_with('Z') && word.starts_with("20"));
    assert!(time.is_some(), "RFC 3339: {all}");
    let name = sandbox.ok(&["inspect", "--format", "{{.Name}}", "c"]);
    assert_eq!(name.trim_start_matches('/'), "c");
    let _ = sandbox.error(1, &["inspect", "ghost"], &["ghost"]);
}

#[test]
fn facts_about_the_daemon() {
    let sandbox = Sandbox::new();
    let version = sandbox.ok(&["version"]);
    assert!(version.contains("0.1.0"), "{version}");
    let info = sandbox.ok(&["system", "info"]);
    assert!(info.contains("overlay") && info.contains(&sandbox.root().display().to_string()), "{info}");
}

#[test]
fn completion_is_a_script() {
    let sandbox = Sandbox::without_daemon(tinyd_e2e::Options::default());
    for shell in ["bash", "zsh", "fish"] {
        assert!(sandbox.ok(&["completion", shell]).contains("tinyd"), "{shell}");
    }
}

#[test]
fn without_a_daemon_the_client_says_so() {
    let sandbox = Sandbox::without_daemon(tinyd_e2e::Options::default());
    let socket = sandbox.socket().display().to_string();
    let _ = sandbox.error(1, &["ps"], &[&socket]);
    let _ = sandbox.error(125, &["run", "-i", "/x", "true"], &[&socket]);
}
