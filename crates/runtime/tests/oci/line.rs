//! The command line of every verb: help, options before and after the id, and what is none.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Output, Stdio},
};

use crate::driver::{Bundle, Said, tinyrun};

/// Every verb, as the help lists them, and words that make each whole.
fn verbs(bundle: &Bundle) -> Vec<(String, &'static [&'static str])> {
    let help = bundle.tinyrun(&["--help"]).out;
    let commands = help.split_once("commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = commands.lines().map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.map(|name| (name.clone(), after(&name))).collect()
}

/// What follows the id.
fn after(verb: &str) -> &'static [&'static str] {
    match verb {
        "exec" => &["true"],
        "kill" => &["KILL"],
        "mounts" => &["/dev/null"],
        _ => &[],
    }
}

fn call(bundle: &Bundle, verb: &str, options: &[&str], id: &[&str]) -> Said {
    let before: &[&str] = if verb == "mounts" { &["add"] } else { &[] };
    let rest = if id.is_empty() { &[] } else { after(verb) };
    bundle.tinyrun(&[&[verb], options, before, id, rest].concat())
}

/// Verbs without an id.
const WITHOUT: [&str; 3] = ["list", "features", "spec"];

#[test]
fn every_verb_explains_itself() {
    let bundle = Bundle::new("line-help");
    let verbs = verbs(&bundle);
    assert!(verbs.len() > 15, "{verbs:?}");
    for (verb, _) in verbs {
        for help in ["--help", "-h", "-?"] {
            let said = bundle.tinyrun(&[&verb, help]);
            assert_eq!(said.code, 0, "{said:?}");
            assert!(said.out.contains(&format!("usage: tinyrun {verb}")), "{said:?}");
            assert!(said.out.contains(&format!("example: tinyrun {verb}")), "{said:?}");
        }
    }
}

#[test]
fn every_verb_refuses_what_is_no_option_and_what_is_no_id() {
    let bundle = Bundle::new("line-wrong");
    bundle.write();
    let long = "x".repeat(1025);
    let bad = ["../x", "a/b", "/", "", ".", "..", "a b", "a\nb", "ä", &long];
    for (verb, _) in verbs(&bundle) {
        let code = if verb == "exec" { 255 } else { 1 };
        for option in ["--no-such-option", "-Z", "--no-such=x", "-ZZ"] {
            call(&bundle, &verb, &[option], &["x"]).fails(code, "there is no such option");
        }
        if WITHOUT.contains(&verb.as_str()) {
            continue;
        }
        let whole: &[&str] = if verb == "update" { &["--pids-limit=9"] } else { &[] };
        let said = call(&bundle, &verb, whole, &[]);
        assert_eq!(said.code, code, "{verb}: {said:?}");
        for id in bad {
            // Nothing is looked for under such a name.
            call(&bundle, &verb, whole, &[id]).fails(code, "is not a container id");
        }
        // The longest, and one that looks like an option's beginning.
        let longest = "x".repeat(1024);
        let in_bundle: &[&str] = match verb.as_str() {
            "create" | "run" => continue,
            _ => whole,
        };
        for id in [longest.as_str(), ".x", "x+y_z-1.2"] {
            let said = call(&bundle, &verb, in_bundle, &[id]);
            assert!(
                said.err.contains("container does not exist") || said.err.contains("too long"),
                "{said:?}"
            );
        }
    }
}

#[test]
fn options_stand_before_and_after_the_id() {
    let bundle = Bundle::new("line-order").args(&["sleep", "1000"]);
    bundle.write();
    let (dir, id) = (bundle.dir.to_str().unwrap(), bundle.id.as_str());
    let pid = bundle.dir.join("pid");
    let pid = pid.to_str().unwrap();
    bundle.tinyrun(&["create", id, "--bundle", dir, "--pid-file", pid]).says("");
    bundle.tinyrun(&["update", id, "--pids-limit", "100"]).says("");
    bundle.tinyrun(&["start", id]).says("");
    assert_eq!(bundle.tinyrun(&["events", id, "--stats"]).code, 0);
    // What follows exec's id is the program's.
    bundle.tinyrun(&["exec", "-e", "A=1", id, "sh", "-c", "echo $A $1", "x", "--env=B"]).says("1 --env=B");
    bundle.tinyrun(&["exec", "--", id, "echo", "-n", "x"]).says("x");
    bundle.tinyrun(&["kill", id, "--all", "USR1"]).says("");
    // Another directory of records has none of these.
    let elsewhere = bundle.dir.join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    bundle.tinyrun(&["--root", elsewhere, "state", id]).fails(1, "container does not exist");
    bundle.tinyrun(&["--root", elsewhere, "delete", "--force", id]).says("");
    assert_eq!(bundle.state()["status"], "running");
    bundle.tinyrun(&["delete", id, "--force"]).says("");
    bundle.tinyrun(&["run", "-d", id, "-b", dir]).says("");
    bundle.tinyrun(&["delete", "-f", id]).says("");
}

/// Everything that prints, with an id where it takes one.
const PRINTING: [&[&str]; 12] = [
    &["--version"],
    &["--help"],
    &["state", "--help"],
    &["features"],
    &["list"],
    &["list", "-q"],
    &["list", "-f", "json"],
    &["state", "ID"],
    &["ps", "ID"],
    &["ps", "-f", "json", "ID"],
    &["events", "--stats", "ID"],
    &["events", "ID"],
];

fn printed_to(bundle: &Bundle, words: &[&str], stdout: Stdio) -> Output {
    let words = words.iter().map(|word| if *word == "ID" { bundle.id.as_str() } else { word });
    let mut tinyrun = Command::new(tinyrun());
    tinyrun.arg("--root").arg(bundle.dir.join("records")).args(words);
    tinyrun
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
}

/// It panicked.
#[test]
fn what_cannot_be_printed_is_said_and_a_reader_who_has_gone_is_not() {
    const SIGPIPE: i32 = 13;
    let bundle = Bundle::new("line-print").args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    for words in PRINTING {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let said = printed_to(&bundle, words, full.into());
        let error = "tinyrun: write to stdout: No space left on device (os error 28)\n";
        assert_eq!(
            (said.status.code(), String::from_utf8_lossy(&said.stderr)),
            (Some(1), error.into()),
            "{words:?}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = printed_to(&bundle, words, writer.into());
        let ended = (said.status.signal(), String::from_utf8_lossy(&said.stderr));
        assert_eq!(ended, (Some(SIGPIPE), "".into()), "{words:?}");
        assert_eq!(bundle.state()["status"], "running");
    }
}
