//! What is kept: `system df`, `system prune`, `system check`.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tinyd_e2e::{Recipe, Sandbox, archive, busybox, wait_for};

/// Loads an image of busybox with one more file of `bytes`.
fn load(sandbox: &Sandbox, name: &str, config: &Value, bytes: usize) -> String {
    let top = sandbox.make_dir(&format!("top-{name}"));
    fs::write(format!("{top}/file-of-{name}"), vec![7; bytes]).unwrap();
    let root = busybox();
    let (names, layers) = ([name], [root.as_str(), top.as_str()]);
    let recipe = Recipe { names: &names, config: config.clone(), layers: &layers };
    let path = archive(sandbox.dir(), &format!("{name}.tar"), &recipe);
    sandbox.ok(&["load", "-q", "-i", &path]);
    path
}

fn used(sandbox: &Sandbox, kind: &str) -> (u64, u64, u64, u64) {
    let rows = sandbox.json(&["system", "df"]);
    let row = rows.iter().find(|row| row["Type"] == kind).unwrap();
    let number = |key: &str| row[key].as_u64().unwrap();
    (number("TotalCount"), number("Active"), number("Size"), number("Reclaimable"))
}

#[test]
fn what_is_kept_is_counted_once_and_what_nobody_needs_goes() {
    let sandbox = Sandbox::new();
    load(&sandbox, "one", &json!({ "Cmd": ["sleep", "1000"], "Volumes": { "/data": {} } }), 1 << 20);
    let alone = used(&sandbox, "Images");
    load(&sandbox, "two", &json!({ "Cmd": ["sleep", "1000"], "Labels": { "keep": "" } }), 1 << 20);
    let both = used(&sandbox, "Images");
    assert_eq!((both.0, both.1, both.2), (2, 0, both.3));
    // The busybox below is there once; a file of the second is there packed and unpacked.
    assert!((both.2 - alone.2) > (2 << 20) && (both.2 - alone.2) < (3 << 20), "{alone:?} {both:?}");
    sandbox.ok(&["run", "-d", "--name", "c", "one"]);
    sandbox.exec("c", &["dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3"]);
    sandbox.exec("c", &["dd", "if=/dev/zero", "of=/data/big", "bs=1M", "count=2"]);
    let (images, containers) = (used(&sandbox, "Images"), used(&sandbox, "Containers"));
    assert_eq!((images.1, containers.0, containers.1, containers.3), (1, 1, 1, 0));
    assert!(images.3 > (2 << 20) && images.3 < (3 << 20), "{images:?}");
    assert!(containers.2 >= 3 << 20, "{containers:?}");
    assert!(used(&sandbox, "Volumes").2 >= 2 << 20);
    let details = sandbox.ok(&["system", "df", "-v"]);
    for words in ["SHARED SIZE", "one:latest", "CONTAINER ID", "VOLUME NAME"] {
        assert!(details.contains(words), "{details}");
    }
    let told: Value = serde_json::from_str(&sandbox.ok(&["system", "df", "-v", "--format", "json"])).unwrap();
    assert_eq!(told["Images"].as_array().unwrap().len(), 2);
    assert!(told["Images"][0]["SharedSize"].as_u64().unwrap() > 1 << 20);

    // Nothing of what runs goes, and nothing that is not asked for.
    sandbox.ok(&["network", "create", "idle"]);
    sandbox.ok(&["volume", "create", "named"]);
    sandbox.ok(&["create", "--name", "old", "--label", "keep", "two"]);
    sandbox.error(1, &["system", "prune"], &["nobody answers"]);
    let text = sandbox.ok(&["system", "prune", "-f", "--filter", "label!=keep", "--filter", "until=1h"]);
    assert_eq!(text, "Total reclaimed space: 0B");
    let text = sandbox.ok(&["system", "prune", "-f", "--filter", "label!=keep"]);
    assert!(text.contains("Deleted Networks:\nidle\n") && !text.contains("Containers"), "{text}");
    sandbox.error(
        1,
        &["system", "prune", "-f", "--volumes", "--filter", "until=1h"],
        &["--filter", "volumes"],
    );
    sandbox.error(1, &["system", "prune", "-f", "--filter", "x"], &["--filter", "until="]);
    let gone: Value =
        serde_json::from_str(&sandbox.ok(&["system", "prune", "-a", "-f", "--volumes", "--format", "json"]))
            .unwrap();
    assert_eq!(gone["ContainersDeleted"].as_array().unwrap().len(), 1);
    assert_eq!(gone["ImagesUntagged"], json!(["two:latest"]));
    assert!(gone["SpaceReclaimed"].as_u64().unwrap() > 2 << 20, "{gone}");
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]).lines().count(), 2, "one is in use, one has a name");
    sandbox.ok(&["rm", "-f", "c"]);
    let gone = sandbox.ok(&["system", "prune", "-a", "-f", "--volumes"]);
    assert!(gone.contains("Deleted Volumes:\n") && gone.contains("untagged: one:latest"), "{gone}");
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]), "named");
    assert_eq!(used(&sandbox, "Images"), (0, 0, 0, 0));
    let mut terminal = sandbox.terminal(&["system", "prune"]);
    terminal.expect("Go on? [y/N]");
    terminal.write("y\n");
    terminal.expect("Total reclaimed space: 0B");
    assert_eq!(terminal.wait(), 0);
}

/// What `system check` says, and what it exits with.
fn check(sandbox: &Sandbox, options: &[&str]) -> (i32, Vec<Value>) {
    let out = sandbox.tinyd(&[&["system", "check", "--format", "json"], options].concat());
    let told: Value = serde_json::from_str(&out.stdout).unwrap_or_else(|error| panic!("{error}: {out:?}"));
    (out.code, told["Problems"].as_array().unwrap().clone())
}

/// A check finds this alone; with `--repair` it is put right, and then nothing is wrong.
fn repairs(sandbox: &Sandbox, what: &str) {
    let (code, problems) = check(sandbox, &[]);
    assert_eq!((code, problems.len()), (1, 1), "{what}: {problems:?}");
    assert!(problems[0]["What"].as_str().unwrap().contains(what), "{what}: {problems:?}");
    let (code, problems) = check(sandbox, &["--repair"]);
    assert_eq!((code, &problems[0]["Repaired"]), (0, &json!(true)), "{what}: {problems:?}");
    assert_eq!(check(sandbox, &[]), (0, Vec::new()), "{what}");
}

#[test]
fn a_check_finds_what_is_damaged_and_puts_right_what_can_be() {
    let mut sandbox = Sandbox::new();
    let path = load(&sandbox, "app", &json!({ "Cmd": ["sleep", "1000"] }), 1 << 20);
    sandbox.ok(&["volume", "create", "data"]);
    sandbox.ok(&["create", "--name", "c", "-v", "data:/data", "app"]);
    let text = sandbox.ok(&["system", "check"]);
    assert!(
        text.starts_with("1 images, 4 contents (")
            && text.ends_with("2 layers, 1 containers, 1 volumes: all is well"),
        "{text}"
    );
    let root = sandbox.root();
    let only = |dir: PathBuf, kind: &str| {
        let mut all = fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.path());
        all.find(|path| path.to_string_lossy().ends_with(kind))
            .unwrap_or_else(|| panic!("{dir:?} has no {kind}"))
    };
    let layer = |sandbox: &Sandbox| {
        let all = fs::read_dir(sandbox.root().join("layers")).unwrap().flatten();
        all.map(|entry| entry.path()).find(|path| path.join("diff/file-of-app").exists()).unwrap()
    };
    fs::remove_dir_all(layer(&sandbox)).unwrap();
    let (code, problems) = check(&sandbox, &[]);
    assert_eq!((code, problems.len()), (1, 2), "the image and the container: {problems:?}");
    assert_eq!(check(&sandbox, &["--repair"]).0, 0);
    assert_eq!(check(&sandbox, &["--quick"]), (0, Vec::new()));
    fs::write(only(root.join("images"), ".json"), "{").unwrap();
    repairs(&sandbox, "its record cannot be read");
    let container = root.join("containers").join(sandbox.inspect("c")["Id"].as_str().unwrap());
    fs::remove_file(container.join("config.json")).unwrap();
    repairs(&sandbox, "its record is not there");
    fs::write(container.join("state.json"), "no JSON").unwrap();
    repairs(&sandbox, "its state cannot be read");
    fs::write(root.join("volumes/data/_data/file"), "kept").unwrap();
    fs::remove_file(root.join("volumes/data/volume.json")).unwrap();
    repairs(&sandbox, "its record is not there");
    assert_eq!(fs::read(root.join("volumes/data/_data/file")).unwrap(), b"kept");
    fs::create_dir_all(root.join("containers/nobody/upper")).unwrap();
    repairs(&sandbox, "it is no container");
    fs::write(root.join("layers/stranger"), "x").unwrap();
    repairs(&sandbox, "nothing that the store knows");
    // What is repaired is what the next daemon reads.
    sandbox.kill_daemon();
    sandbox.start_daemon();
    assert_eq!(check(&sandbox, &[]), (0, Vec::new()));

    // A daemon that cannot read an image's record keeps its content, and finds it again.
    let id = sandbox.json(&["image", "inspect", "app"])[0]["Id"].as_str().unwrap().to_owned();
    sandbox.kill_daemon();
    fs::write(only(root.join("images"), ".json"), "{").unwrap();
    sandbox.start_daemon();
    sandbox.error(1, &["image", "prune", "-f"], &["cannot be read", "system check"]);
    assert_eq!((sandbox.ok(&["images", "-q"]), check(&sandbox, &[]).0), (String::new(), 1));
    assert_eq!(check(&sandbox, &["--repair"]).0, 0);
    sandbox.ok(&["tag", &id, "app"]);
    assert_eq!(check(&sandbox, &[]), (0, Vec::new()));

    // A content comes again with its image, and not before.
    let blobs = fs::read_dir(root.join("blobs/sha256")).unwrap().flatten();
    let packed = blobs.map(|entry| entry.path()).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&packed).unwrap();
    bytes[1000] ^= 1;
    fs::write(&packed, bytes).unwrap();
    assert_eq!(check(&sandbox, &["--quick"]).0, 0, "its size is right");
    let (code, problems) = check(&sandbox, &["--repair"]);
    assert_eq!((code, &problems[0]["Repaired"]), (1, &json!(false)), "{problems:?}");
    assert!(problems[0]["Remedy"].as_str().unwrap().contains("load or pull the image again"), "{problems:?}");
    sandbox.ok(&["load", "-q", "-i", &path]);
    assert_eq!(check(&sandbox, &[]), (0, Vec::new()));
    sandbox.ok(&["rm", "c"]);
}

#[test]
fn a_check_leaves_a_container_that_runs_alone() {
    let sandbox = Sandbox::new();
    load(&sandbox, "app", &json!({ "Cmd": ["sleep", "1000"] }), 1 << 10);
    sandbox.ok(&["run", "-d", "--name", "c", "app"]);
    let pid = sandbox.pid_of(&["sleep", "1000"]);
    let all = fs::read_dir(sandbox.root().join("layers")).unwrap().flatten();
    let layer = all.map(|entry| entry.path()).find(|path| path.join("diff/file-of-app").exists()).unwrap();
    fs::write(layer.join("layer.json"), "{").unwrap();
    let (code, problems) = check(&sandbox, &["--repair"]);
    assert_eq!(code, 1);
    assert!(problems[0]["Remedy"].as_str().unwrap().contains("stop container c"), "{problems:?}");
    assert_eq!(fs::read(format!("/proc/{pid}/root/file-of-app")).unwrap().len(), 1024);
    sandbox.ok(&["kill", "c"]);
    wait_for("its end", 10, || sandbox.ok(&["ps", "-a"]).contains("EXITED").then_some(()));
    let (code, problems) = check(&sandbox, &["--repair"]);
    assert_eq!(code, 0, "{problems:?}");
    sandbox.ok(&["start", "c"]);
    assert_eq!(sandbox.exec("c", &["sh", "-c", "wc -c </file-of-app"]), "1024");
    sandbox.ok(&["rm", "-f", "c"]);
}
