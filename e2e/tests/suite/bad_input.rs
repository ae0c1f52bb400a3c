//! Bad input: each answer names the field, the value and the rule; nothing is created.

use std::fs;

use tinyd_e2e::{Sandbox, busybox};

/// `run` with these options must be refused with these words, and leave nothing.
fn refused(sandbox: &Sandbox, options: &[&str], words: &[&str]) {
    let image = busybox();
    let args = [&["run"], options, &["-i", &image, "sleep", "1000"]].concat();
    let out = sandbox.error(125, &args, words);
    assert_eq!(out.stdout, "", "{}", out.line);
    sandbox.expect_nothing();
}

#[test]
fn sizes_and_shares() {
    let sandbox = Sandbox::new();
    refused(&sandbox, &["--cpu", "5"], &["--cpu", "5", "10000"]);
    refused(&sandbox, &["--cpu", "10000000"], &["--cpu", "10000000", "10000"]);
    refused(&sandbox, &["--cpu", "many"], &["--cpu", "many"]);
    refused(&sandbox, &["--cpus", "0.01"], &["--cpus", "10000"]);
    refused(&sandbox, &["--mem", "5q"], &["--mem", "5q", "512m"]);
    refused(&sandbox, &["--mem", "1k"], &["--mem", "minimum", "6m"]);
    refused(&sandbox, &["--pids-limit", "-5"], &["--pids-limit", "-5"]);
    refused(&sandbox, &["--cpuset-cpus", "0-"], &["--cpuset-cpus", "0-"]);
    refused(&sandbox, &["--cpuset-cpus", "999"], &["--cpuset-cpus", "999"]);
    refused(&sandbox, &["--ulimit", "nofile"], &["--ulimit", "nofile"]);
    refused(&sandbox, &["--ulimit", "nofile=99999999999"], &["--ulimit", "99999999999", "most"]);
}

#[test]
fn ports() {
    let sandbox = Sandbox::new();
    refused(&sandbox, &["-p", "99999:80"], &["-p", "99999", "65535"]);
    refused(&sandbox, &["-p", "80"], &["-p", "80", "HOST:CONTAINER"]);
    refused(&sandbox, &["-p", "80:80/sctp"], &["-p", "sctp"]);
    refused(&sandbox, &["-p", "8080:80", "-p", "8080:81"], &["-p", "8080"]);
    refused(&sandbox, &["-p", "198.51.100.7:8080:80"], &["198.51.100.7"]);
}

#[test]
fn volumes() {
    let sandbox = Sandbox::new();
    refused(&sandbox, &["-v", "relative/path:/x"], &["-v", "relative", "absolute"]);
    refused(&sandbox, &["-v", "/a"], &["-v", "/a", "HOST:CONTAINER"]);
    refused(&sandbox, &["-v", "/a:b"], &["-v", "/a:b", "absolute"]);
    refused(&sandbox, &["-v", "/a:/"], &["-v", "/a:/"]);
    refused(&sandbox, &["-v", "/a:/b:rx"], &["-v", "rx"]);
    refused(&sandbox, &["-v", "/tmp:/proc/x"], &["/proc/x"]);
    refused(&sandbox, &["-v", "/a:/x", "-v", "/b:/x"], &["-v", "/x"]);
    assert!(!fs::exists("/a").unwrap(), "a refused run makes no directory");
}

#[test]
fn issue_2_spells_a_relative_volume_so() {
    // `relative` could be the name of a volume. Docker would make one; here a volume is made by `volume create` alone.
    let sandbox = Sandbox::new();
    refused(&sandbox, &["-v", "relative:/x"], &["-v", "\"relative\"", "absolute", "volume create relative"]);
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]), "");
    refused(&sandbox, &["-v", "relative/dir:/x"], &["-v", "relative/dir", "absolute"]);
}

#[test]
fn image_directories() {
    let sandbox = Sandbox::new();
    let (file, empty) = (sandbox.file("file", ""), sandbox.make_dir("empty"));
    let missing = sandbox.dir().join("missing").display().to_string();
    for image in [&missing, &file, &empty] {
        let _ = sandbox.error(125, &["run", "-i", image, "true"], &[image]);
    }
    let _ = sandbox.error(125, &["run", "--pull", "never", "-i", "relative/dir", "true"], &["relative/dir"]);
    sandbox.expect_nothing();
}

#[test]
fn names() {
    let sandbox = Sandbox::new();
    refused(&sandbox, &["--name", "a/b"], &["--name", "a/b"]);
    refused(&sandbox, &["--name", ""], &["--name"]);
    refused(&sandbox, &["--name", "-x"], &["-x"]);
    refused(&sandbox, &["--name", &"n".repeat(200)], &["--name", "128"]);
    let image = busybox();
    let out = sandbox.error(125, &["run", "--name", "a\x1b[31mb", "-i", &image, "true"], &["--name"]);
    assert!(!out.stderr.contains('\x1b'), "control characters are not echoed raw: {:?}", out.stderr);
    sandbox.expect_nothing();
    let id = sandbox.run(&["--name", "taken"], &["sleep", "1000"]);
    let _ = sandbox.error(
        125,
        &["run", "--name", "taken", "-i", &image, "true"],
        &["--name", "taken", &id[..12]],
    );
    assert_eq!(sandbox.ids().len(), 1);
}

#[test]
fn strangers() {
    let sandbox = Sandbox::new();
    for spelling in ["--net", "--network"] {
        refused(&sandbox, &[spelling, "ghost"], &["--net: ", "ghost"]);
    }
    refused(&sandbox, &["-u", "ghost"], &["-u: ", "ghost"]);
    refused(&sandbox, &["-u", "70000"], &["-u: ", "70000", "0 to 65535"]);
    for verb in [
        "stop", "kill", "rm", "start", "logs", "inspect", "wait", "pause", "unpause", "top", "port",
        "restart",
    ] {
        let out = sandbox.error(1, &[verb, "ghost"], &["ghost"]);
        assert_eq!(out.stdout.trim(), if verb == "inspect" { out.stdout.trim() } else { "" }, "{verb}");
    }
    let _ = sandbox.error(125, &["exec", "ghost", "true"], &["ghost"]);
}

#[test]
fn commands() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let _ = sandbox.error(125, &["run", "-i", &image], &["command"]);
    let _ = sandbox.error(127, &["run", "--attach", "-i", &image, "no-such"], &["no-such"]);
    let _ = sandbox.error(127, &["run", "-i", &image, "/no/such"], &["/no/such"]);
    let _ = sandbox.error(126, &["run", "-i", &image, "/bin/not-executable"], &["/bin/not-executable"]);
    sandbox.expect_nothing();
}

#[test]
fn long_words() {
    let sandbox = Sandbox::new();
    let image = busybox();
    // The kernel refuses a word of 128 KiB before tinyd sees it; more of them come through the environment's file.
    let long = "x".repeat(131_000);
    let out = sandbox
        .tinyd(&["run", "--rm", "--attach", "-i", &image, "sh", "-c", "echo ${#1}", "sh", &long])
        .expect_ok();
    assert_eq!(out.trimmed(), "131000");
    let file = sandbox.file("env", &format!("BIG={}\n", "x".repeat(200_000)));
    refused(&sandbox, &["--env-file", &file], &["BIG"]);
    let huge: String = (0..60).map(|n| format!("E{n}={}\n", "x".repeat(100_000))).collect();
    let file = sandbox.file("huge", &huge);
    let out = sandbox.tinyd(&["run", "--env-file", &file, "-i", &image, "true"]);
    assert_eq!(out.code, 125, "a request of 6 MB: {out:?}");
    sandbox.expect_nothing();
}

#[test]
fn environment() {
    let sandbox = Sandbox::new();
    refused(&sandbox, &["-e", "=x"], &["=x"]);
    refused(&sandbox, &["--env-file", "/no/such/file"], &["/no/such/file"]);
    refused(&sandbox, &["--label", "=x"], &["--label"]);
    refused(&sandbox, &["--hostname", "a b"], &["--hostname", "a b"]);
    refused(&sandbox, &["-w", "relative"], &["-w: ", "relative"]);
    refused(&sandbox, &["-w", "/bin/busybox"], &["-w: ", "/bin/busybox", "Not a directory"]);
    refused(&sandbox, &["--stop-signal", "NOPE"], &["NOPE"]);
    refused(&sandbox, &["--add-host", "nocolon"], &["nocolon"]);
    refused(&sandbox, &["--dns", "not-an-ip"], &["not-an-ip"]);
    refused(&sandbox, &["--device", "/etc/passwd"], &["/etc/passwd"]);
    refused(&sandbox, &["--tmpfs", "/x:size=lots"], &["lots"]);
    refused(&sandbox, &["--security-opt", "nonsense"], &["nonsense"]);
    refused(&sandbox, &["--userns", "maybe"], &["maybe"]);
}

#[test]
fn subnets() {
    let sandbox = Sandbox::new();
    let refused = |subnet: &str, words: &[&str]| {
        let _ = sandbox.error(1, &["network", "create", "--subnet", subnet, "net"], words);
    };
    refused("300.1.1.0/24", &["300.1.1.0/24"]);
    refused("10.0.0.0/31", &["10.0.0.0/31"]);
    refused("10.0.0.0/33", &["10.0.0.0/33"]);
    refused("10.0.0.0", &["10.0.0.0"]);
    refused("10.0.0.5/24", &["10.0.0.5/24", "10.0.0.0/24"]);
    refused("127.0.0.0/8", &["127.0.0.0/8"]);
    refused("224.0.0.0/8", &["224.0.0.0/8"]);
    let _ = sandbox.error(1, &["network", "create", "-d", "carrier-pigeon", "net"], &["carrier-pigeon"]);
    let _ = sandbox.error(1, &["network", "create", "a/b"], &["a/b"]);
    let names = sandbox.ok(&["network", "ls", "-q"]);
    assert!(!names.lines().any(|name| name == "net"), "{names}");
}

#[test]
fn flags() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let _ = sandbox.error(125, &["run", "--no-such-flag", "-i", &image, "true"], &["--no-such-flag"]);
    let _ = sandbox.error(1, &["no-such-command"], &["no-such-command"]);
    let _ = sandbox.error(1, &["kill", "-s", "NOPE", "x"], &["NOPE"]);
    sandbox.expect_nothing();
}
