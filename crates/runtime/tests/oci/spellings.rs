//! crun's words for things: podman's users and crun's write them.

use std::fs;

use serde_json::json;

use crate::driver::Bundle;

#[test]
fn a_configuration_of_another_name_is_the_bundles() {
    let bundle = Bundle::new("config").script("echo other");
    fs::create_dir(bundle.dir.join("conf")).unwrap();
    bundle.write();
    fs::rename(bundle.dir.join("config.json"), bundle.dir.join("conf/other.json")).unwrap();
    let dir = bundle.dir.to_str().unwrap();
    let run = |flags: &[&str]| bundle.tinyrun(&[&["run", "-b", dir], flags, &[&bundle.id]].concat());
    run(&["--config", "conf/other.json"]).says("other");
    run(&["-f", bundle.dir.join("conf/other.json").to_str().unwrap()]).says("other");
    run(&["-f", "missing.json"]).fails(1, "--config: open");
    run(&[]).fails(1, "--bundle: open");
}

#[test]
fn signals_and_deletion_by_expression_reach_those_that_match() {
    let bundle = Bundle::new("regex").args(&["sleep", "1000"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    let id = |name: &str| format!("{}-{name}", bundle.id);
    for name in ["a1", "a2", "b1"] {
        bundle.tinyrun(&["create", "-b", dir, &id(name)]).says("");
    }
    let listed = || bundle.tinyrun(&["list", "-q"]).out;
    assert_eq!(listed(), [id("a1"), id("a2"), id("b1")].join("\n"));
    bundle.tinyrun(&["delete", "--regex", "a["]).fails(1, "--regex: \"a[\": a [ without a ]");
    bundle.tinyrun(&["kill", "-r", "a[0-9]$", "KILL"]).says("");
    bundle.tinyrun(&["delete", "-r", "a[0-9]$"]).says("");
    assert_eq!(listed(), id("b1"));
    bundle.tinyrun(&["start", &id("b1")]).says("");
    bundle.tinyrun(&["delete", "--regex", "b1$"]).fails(1, "that is not stopped");
    bundle.tinyrun(&["delete", "-fr", "b1$"]).says("");
    // Nobody is no error, as with crun.
    bundle.tinyrun(&["delete", "--regex", "."]).says("");
    assert_eq!(listed(), "");
}

#[test]
fn the_version_has_lines_that_engines_read() {
    let bundle = Bundle::new("version");
    for flag in ["--version", "-v", "-V"] {
        let said = bundle.tinyrun(&[flag]);
        let lines: Vec<&str> = said.out.lines().collect();
        // docker reads "NAME version VERSION", podman's users the words of the last line.
        assert!(lines[0].starts_with("tinyrun version "), "{said:?}");
        assert!(lines[1].starts_with("spec: 1."), "{said:?}");
        assert!(lines[2].split(' ').all(|word| word.starts_with('+')), "{said:?}");
        assert!(lines[2].contains("+SECCOMP"), "{said:?}");
    }
}

#[test]
fn options_of_the_whole_command_are_checked() {
    let bundle = Bundle::new("global").script("true");
    for good in [&["--rootless=auto"][..], &["--rootless", "false"], &["--log-format", "text"], &["--debug"]]
    {
        bundle.tinyrun(&[good, &["list", "-q"]].concat()).says("");
    }
    bundle.tinyrun(&["--rootless=perhaps", "list"]).fails(1, "--rootless: \"perhaps\"");
    bundle.tinyrun(&["--log-format=xml", "list"]).fails(1, "--log-format: \"xml\" is neither text nor json");
    bundle.tinyrun(&["--log=journald:x", "list"]).fails(1, "--log: ");
    let log = bundle.dir.join("log");
    let to_file = format!("file:{}", log.display());
    bundle.tinyrun(&["--log", &to_file, "--log-format=json", "state", "none"]).fails(1, "does not exist");
    let line: serde_json::Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(line["level"], json!("error"));
}
