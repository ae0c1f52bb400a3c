//! What callers look for: runc's texts, exit codes, tables and JSON.

use serde_json::{Value, json};

use crate::driver::{Bundle, until_stopped};

/// One state, and what each verb says in it.
fn refusals(bundle: &Bundle, table: &[(&[&str], &str)]) {
    for (verb, words) in table {
        let (name, rest) = verb.split_first().unwrap();
        // Options first, then the id, then the rest.
        let options = rest.iter().take_while(|word| word.starts_with('-')).count();
        let line = [&[*name], &rest[..options], &[bundle.id.as_str()], &rest[options..]].concat();
        let code = if *name == "exec" { 255 } else { 1 };
        bundle.tinyrun(&line).fails(code, words);
    }
}

#[test]
fn refusals_have_the_words_that_callers_look_for() {
    let bundle = Bundle::new("words").args(&["sleep", "1000"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    let nowhere = "container does not exist";
    refusals(
        &bundle,
        &[
            (&["state"], nowhere),
            (&["start"], nowhere),
            (&["exec", "true"], nowhere),
            (&["kill", "KILL"], nowhere),
            (&["delete"], nowhere),
            (&["pause"], nowhere),
            (&["resume"], nowhere),
            (&["update", "--pids-limit=9"], nowhere),
            (&["events", "--stats"], nowhere),
            (&["ps"], nowhere),
        ],
    );
    bundle.tinyrun(&["create", "-b", dir, &bundle.id]).says("");
    bundle.tinyrun(&["create", "-b", dir, &bundle.id]).fails(1, "container with given ID already exists");
    bundle.tinyrun(&["run", "-b", dir, &bundle.id]).fails(1, "container with given ID already exists");
    // Whatever else is wrong with it.
    let wrong = bundle.dir.join("wrong.json");
    let mut spec = bundle.spec.clone();
    spec["process"]["cwd"] = "relative".into();
    std::fs::write(&wrong, spec.to_string()).unwrap();
    let wrong = wrong.to_str().unwrap();
    for verb in ["create", "run"] {
        let line = [verb, "-b", dir, "--config", wrong, &bundle.id];
        bundle.tinyrun(&line).fails(1, "container with given ID already exists");
    }
    refusals(&bundle, &[(&["resume"], "container not paused")]);
    bundle.tinyrun(&["start", &bundle.id]).says("");
    let not_stopped = format!("cannot delete container {} that is not stopped: running", bundle.id);
    refusals(
        &bundle,
        &[
            (&["start"], "cannot start an already running container"),
            (&["resume"], "container not paused"),
            (&["delete"], &not_stopped),
            (&["exec", "nope"], "\"nope\": executable file not found in $PATH"),
            (&["exec", "/nope"], "no such file or directory"),
            (&["exec", "/etc/passwd"], "permission denied"),
            (&["exec", "/etc"], "\"/etc\": permission denied"),
            (&["exec", "/dev/null"], "\"/dev/null\": permission denied"),
        ],
    );
    // Somebody is there.
    bundle.tinyrun(&["kill", &bundle.id, "0"]).says("");
    bundle.tinyrun(&["pause", &bundle.id]).says("");
    refusals(
        &bundle,
        &[
            (&["start"], "cannot start a container in the paused state"),
            (&["pause"], "container not running"),
            (&["exec", "true"], "cannot exec in a paused container (use --ignore-paused to override)"),
            (&["delete"], "that is not stopped: paused"),
        ],
    );
    bundle.tinyrun(&["resume", &bundle.id]).says("");
    bundle.tinyrun(&["kill", &bundle.id, "KILL"]).says("");
    until_stopped(&bundle);
    let no_stats = format!("container with id {} is not running", bundle.id);
    refusals(
        &bundle,
        &[
            (&["start"], "cannot start a container that has stopped"),
            (&["exec", "true"], "cannot exec in a stopped container"),
            (&["kill", "KILL"], "container not running"),
            (&["kill", "0"], "container not running"),
            (&["pause"], "container not running"),
            (&["resume"], "container not paused"),
            (&["update", "--pids-limit=9"], "container not running"),
            (&["events", "--stats"], &no_stats),
        ],
    );
    bundle.tinyrun(&["kill", "--all", &bundle.id, "KILL"]).says("");
}

#[test]
fn state_and_list_have_runcs_members() {
    let mut bundle = Bundle::new("members").args(&["sleep", "1000"]);
    bundle.spec["annotations"] = json!({ "a": "b" });
    bundle.write();
    bundle.tinyrun(&["list", "-f", "json"]).says("[]");
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let state = bundle.state();
    let listed: Value = serde_json::from_str(&bundle.tinyrun(&["list", "-f", "json"]).out).unwrap();
    assert_eq!(listed, json!([state]));
    let members: Vec<&String> = state.as_object().unwrap().keys().collect();
    let all = ["annotations", "bundle", "created", "id", "ociVersion", "owner", "pid", "rootfs", "status"];
    assert_eq!(members, all);
    assert_eq!((&state["owner"], &state["annotations"]), (&json!("root"), &json!({ "a": "b" })));
    assert_eq!(state["rootfs"], bundle.rootfs("").to_str().unwrap().trim_end_matches('/'));
    let table = bundle.tinyrun(&["list"]).out;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let pid = state["pid"].to_string();
    let created = state["created"].as_str().unwrap();
    assert_eq!(rows[1], [&bundle.id, &pid, "running", bundle.dir.to_str().unwrap(), created, "root"]);
    bundle.tinyrun(&["list", "-f", "xml"]).fails(1, "--format: \"xml\"");
}

#[test]
fn processes_are_shown_as_the_hosts_ps_does() {
    let bundle = Bundle::new("ps").script("sleep 997 & exec sleep 998");
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let id = bundle.id.as_str();
    let json =
        || -> Vec<i32> { serde_json::from_str(&bundle.tinyrun(&["ps", "--format=json", id]).out).unwrap() };
    while json().len() != 2 {
        std::thread::yield_now();
    }
    let ps = |args: &[&str]| bundle.tinyrun(&[&["ps", id], args].concat());
    let has_ps = std::process::Command::new("ps").arg("-V").output().is_ok();
    if !has_ps {
        assert_eq!(ps(&[]).out.lines().next(), Some("PID"));
        ps(&["-ef"]).fails(1, "this host has no ps in PATH");
        return;
    }
    let table = ps(&[]).out;
    assert!(table.starts_with("UID "), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("sleep 997") && table.contains("sleep 998"), "{table}");
    for args in [&["-eo", "pid,comm"][..], &["--", "-eo", "pid,comm"]] {
        let table = ps(args).out;
        assert_eq!(table.lines().next().map(str::trim_start), Some("PID COMMAND"), "{table}");
        assert_eq!(table.lines().count(), 3, "{table}");
    }
    ps(&["-eo", "comm"]).fails(1, "it prints no column PID");
    ps(&["--no-such-option"]).fails(1, "arguments of ps: it ends with status 1");
    // A host without it shows the numbers.
    let said = bundle.tinyrun_in(&["env", "PATH=/nonexistent"], &["ps", id]);
    let numbers: String = json().iter().map(|pid| format!("\n{pid}")).collect();
    said.says(&format!("PID{numbers}"));
}

/// Engines tell by these words that the command is at fault, and exit with 127.
#[test]
fn a_program_without_its_interpreter_is_a_file_that_is_missing() {
    let bundle = Bundle::new("interpreter").args(&["/bin/script"]);
    std::fs::write(bundle.rootfs("bin/script"), "#!/none\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.rootfs("bin/script"), mode).unwrap();
    bundle.run().fails(1, "\"/bin/script\": no such file or directory: /bin/script is there; what is missing is its interpreter");
}
