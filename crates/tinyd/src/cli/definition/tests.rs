use std::{collections::BTreeMap, io, net::IpAddr};

use clap::{Args, Command, FromArgMatches};
use proptest::prelude::*;
use tinyd_core::config::{MountSource, NetworkMode, SeccompChoice, UsernsChoice};

use super::*;

/// A directory, an environment and files that a test makes up.
#[derive(Default)]
struct Made {
    env: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, &'static str>,
}

impl Here for Made {
    fn absolute(&self, path: &str) -> io::Result<String> {
        Ok(format!("/here/{}", path.trim_start_matches("./")))
    }

    fn env(&self, key: &str) -> Option<String> {
        self.env.get(key).map(|value| (*value).to_owned())
    }

    fn text(&self, path: &str) -> io::Result<String> {
        self.files.get(path).map(|text| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn made() -> Made {
    Made {
        env: BTreeMap::from([("HOME", "/root")]),
        files: BTreeMap::from([
            ("env", "# comment\n\n  A=1\nB=x # y\nHOME\nNOPE\nC=\n"),
            ("bad env", "A=1\nB C=2\n"),
            ("profile.json", r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#),
            ("broken.json", "{"),
        ]),
    }
}

fn config(words: &[&str]) -> Result<ContainerConfig> {
    let command = Definition::augment_args(Command::new("run").args_override_self(true));
    let words = std::iter::once("run").chain(words.iter().copied());
    let matches = command.try_get_matches_from(words).unwrap_or_else(|error| panic!("{error}"));
    Definition::from_arg_matches(&matches).unwrap().config(&made())
}

#[test]
fn a_dotted_volume_is_a_directory_here() {
    let source =
        |text: &str| config(&["-v", text, "-i", "/x", "sh"]).map(|config| config.mounts[0].source.clone());
    assert_eq!(source("./data:/data:ro").unwrap(), MountSource::Host("/here/data".into()));
    assert!(matches!(source("data:/data").unwrap(), MountSource::Volume(_)));
    assert!(source("./data").is_err());
}

#[test]
fn the_line_of_the_manual() {
    let config = config(&[
        "--it",
        "-v",
        "/root/vol:/root/vol:ro",
        "-i",
        "/root/redis",
        "--net",
        "mynet",
        "-p",
        "8080:80/udp",
        "--name",
        "c1",
        "--cpu",
        "10000",
        "--mem",
        "500m",
        "/bin/sleep",
        "3000",
    ])
    .unwrap();
    assert!(config.tty && config.stdin_open && !config.auto_remove);
    assert_eq!(config.image, "/root/redis");
    assert_eq!(config.command, ["/bin/sleep", "3000"]);
    assert_eq!(config.name.unwrap().as_str(), "c1");
    assert_eq!(config.resources.cpu_quota_us, Some(10_000));
    assert_eq!(config.resources.memory_bytes, Some(500 << 20));
    assert_eq!(config.ports[0].to_string(), "8080:80/udp");
    assert_eq!(config.mounts[0].source, MountSource::Host("/root/vol".into()));
    assert!(config.mounts[0].read_only);
    assert!(matches!(config.network, NetworkMode::Named(name) if name.as_str() == "mynet"));
}

#[test]
fn without_i_the_first_word_is_the_image() {
    let by_word = config(&["redis:7", "redis-server"]).unwrap();
    assert_eq!(
        (by_word.image.as_str(), by_word.command.as_slice()),
        ("redis:7", &["redis-server".to_owned()][..])
    );
    assert_eq!(config(&["-i", "./rootfs", "sh"]).unwrap().image, "/here/rootfs");
    assert_eq!(config(&["-i", "x"]).unwrap().command, [""; 0]);
    for none in [&[][..], &["-i", ""], &["--", ""]] {
        assert_eq!(config(none).unwrap_err().field(), Some("-i"));
    }
}

#[test]
fn variables_come_from_files_then_flags_then_here() {
    let config =
        config(&["--env-file", "env", "-e", "A=2", "-e", "HOME", "-e", "NOPE", "-e", "E=", "x"]).unwrap();
    assert_eq!(config.env, ["A=1", "B=x # y", "HOME=/root", "C=", "A=2", "HOME=/root", "E="]);
}

#[test]
fn an_option_said_twice_is_the_last_and_lists_grow() {
    let config =
        config(&["--it", "-t", "--name", "a", "--name", "b", "-p", "1:1", "-p", "2:2", "x"]).unwrap();
    assert!(config.tty);
    assert_eq!(config.name.unwrap().as_str(), "b");
    assert_eq!(config.ports.len(), 2);
}

#[test]
fn other_spellings_and_the_rest() {
    let config = config(&[
        "-m",
        "1g",
        "--memory-swap",
        "-1",
        "--cpus",
        "1.5",
        "--pids-limit",
        "-1",
        "--ulimit",
        "nofile=10:20",
        "--network",
        "container:c9",
        "--dns",
        "1.1.1.1",
        "--add-host",
        "db:[::1]",
        "--tmpfs",
        "/tmp:size=1m",
        "-v",
        "data:/d",
        "--cap-add",
        "cap_net_admin",
        "--cap-drop",
        "all",
        "--userns",
        "host",
        "--security-opt",
        "seccomp=profile.json",
        "--security-opt",
        "no-new-privileges:true",
        "--device",
        "/dev/fuse",
        "-u",
        "1000:50",
        "-w",
        "/srv",
        "--entrypoint",
        "",
        "--init",
        "--stop-signal",
        "INT",
        "--stop-timeout",
        "3",
        "--label",
        "a=b=c",
        "--label",
        "bare",
        "--rm",
        "--read-only",
        "--hostname",
        "h",
        "x",
    ])
    .unwrap();
    assert_eq!(config.resources.memory_bytes, Some(1 << 30));
    assert_eq!(config.resources.memory_swap_bytes, Some(-1));
    assert_eq!(config.resources.cpu_quota_us, Some(150_000));
    assert_eq!(config.resources.pids_limit, Some(-1));
    assert_eq!(config.network, NetworkMode::Container("c9".into()));
    assert_eq!(config.dns, ["1.1.1.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.add_hosts, ["db:::1"]);
    assert_eq!(config.mounts[0].source, MountSource::Volume(Name::parse("", "data").unwrap()));
    assert_eq!(config.mounts[1].target, "/tmp");
    assert_eq!(config.security.cap_add, ["NET_ADMIN"]);
    assert_eq!(config.security.cap_drop, ["ALL"]);
    assert_eq!(config.security.userns, UsernsChoice::Host);
    assert!(
        matches!(&config.security.seccomp, SeccompChoice::Profile(text) if text.contains("SCMP_ACT_ALLOW"))
    );
    assert!(config.security.no_new_privileges && config.security.read_only);
    assert_eq!(config.security.devices[0].access, "rwm");
    assert_eq!(config.user.unwrap().to_string(), "1000:50");
    assert_eq!(config.entrypoint, Some(Vec::new()));
    assert_eq!(config.stop_signal.unwrap().number(), 2);
    assert_eq!(config.stop_timeout_secs, Some(3));
    assert_eq!(config.labels, BTreeMap::from([("a".into(), "b=c".into()), ("bare".into(), String::new())]));
    assert!(config.auto_remove && config.init);
}

#[test]
fn each_bad_word_is_told_with_its_flag_and_rule() {
    for (words, flag, rule) in [
        (&["--cpu", "x", "i"][..], "--cpu", "from 10000 to 100000"),
        (&["--cpu", "-5", "i"], "--cpu", "from 10000"),
        (&["--mem", "5q", "i"], "--mem", "\"5q\" is not a size"),
        (&["--mem", "1k", "i"], "--mem", "minimum is 6m"),
        (&["-p", "99999:80", "i"], "-p", "1 to 65535"),
        (&["-p", "80", "i"], "-p", "HOST:CONTAINER"),
        (&["--cpus", "0.01", "i"], "--cpus", "10000"),
        (&["-v", "rel/x:/x", "i"], "-v", "not absolute"),
        (&["-v", "/a", "i"], "-v", "HOST:CONTAINER"),
        (&["--name", "a/b", "i"], "--name", "not a name"),
        (&["--name", "a\nb", "i"], "--name", "not a name"),
        (&["-u", "4294967296", "i"], "-u", "2147483647"),
        (&["-w", "srv", "i"], "-w", "begins with /"),
        (&["--net", "a b", "i"], "--net", "not a name"),
        (&["--net", "container:", "i"], "--net", "names no container"),
        (&["--dns", "1.2.3", "i"], "--dns", "not an IP address"),
        (&["--add-host", "db", "i"], "--add-host", "HOST:IP"),
        (&["--pids-limit", "-2", "i"], "--pids-limit", "1 or more"),
        (&["--ulimit", "nofiles=1", "i"], "--ulimit", "nofile"),
        (&["--cap-add", "net admin", "i"], "--cap-add", "NET_ADMIN"),
        (&["--security-opt", "apparmor=x", "i"], "--security-opt", "seccomp=FILE"),
        (&["--security-opt", "seccomp=none.json", "i"], "--security-opt", "none.json"),
        (&["--security-opt", "seccomp=broken.json", "i"], "--security-opt", "EOF"),
        (&["--device", "/etc/passwd", "i"], "--device", "below /dev"),
        (&["--stop-signal", "NOPE", "i"], "--stop-signal", "not a signal"),
        (&["--stop-timeout", "-1", "i"], "--stop-timeout", "seconds"),
        (&["-e", "=x", "i"], "-e", "KEY=VALUE"),
        (&["--env-file", "bad env", "i"], "--env-file", "line 2"),
        (&["--env-file", "missing", "i"], "--env-file", "missing"),
        (&["--label", "=x", "i"], "--label", "KEY=VALUE"),
        (&["i", "a\0b"], "COMMAND", "NUL"),
    ] {
        let error = config(words).expect_err(flag);
        assert_eq!(error.field(), Some(flag), "{error}");
        assert!(error.message().contains(rule), "{error}");
    }
}

proptest! {
    #[test]
    fn no_words_panic(words in proptest::collection::vec("(--(it|rm|env|cpu|mem|label|net|userns)|-[eivptuwmi]|\\PC{0,8})", 0..8)) {
        let command = Definition::augment_args(Command::new("run").args_override_self(true));
        if let Ok(matches) = command.try_get_matches_from(std::iter::once("run".to_owned()).chain(words)) {
            let _ = Definition::from_arg_matches(&matches).unwrap().config(&made());
        }
    }
}
