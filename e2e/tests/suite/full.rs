//! Images where there is no room: an error, nothing half, and the space comes back. And a daemon that is killed at any moment.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use tinyd_e2e::{Options, Recipe, Sandbox, archive, busybox, patience, wait_for};

/// What a full file system is told as.
const FULL: &str = "No space left on device";

/// A daemon whose data root is a file system of its own, with these options of tmpfs.
fn on_small_disk(options: &str) -> Sandbox {
    let mut sandbox = Sandbox::without_daemon(Options::default());
    let root = sandbox.make_dir("root");
    let _ = sandbox.host().sh(&format!("mount -t tmpfs -o mode=700,{options} small {root}")).expect_ok();
    sandbox.start_daemon();
    sandbox
}

/// Ends the daemon and takes its file system away.
fn end(mut sandbox: Sandbox) {
    assert_eq!(sandbox.stop_daemon(), 0);
    let _ = sandbox.host().sh(&format!("umount {}", sandbox.root().display())).expect_ok();
}

/// A number of `df`: used kilobytes, or inodes with `-i`.
fn used(sandbox: &Sandbox, option: &str) -> u64 {
    let line = format!("df {option} {} | tail -n 1 | awk '{{print $3}}'", sandbox.root().display());
    sandbox.host().sh(&line).expect_ok().trimmed().parse().unwrap()
}

/// Names on the disk that are of no image and no layer: what is half.
fn half(sandbox: &Sandbox) -> String {
    let root = sandbox.root();
    let line = format!(
        "cd {} && find ingest layers images trash -mindepth 1 -maxdepth 1 '(' -name '.*' -o -path 'ingest/*' -o -path 'trash/*' ')'",
        root.display()
    );
    sandbox.host().sh(&line).expect_ok().trimmed().to_owned()
}

/// Everything is as before: nothing half, and the space is back.
fn expect_back(sandbox: &Sandbox, before: u64) {
    wait_for("the space", 15, || {
        (used(sandbox, "-k") <= before + 64 && half(sandbox).is_empty()).then_some(())
    });
    let told: Value = serde_json::from_str(&sandbox.ok(&["system", "check", "--format", "json"])).unwrap();
    assert_eq!(told["Problems"], json!([]));
}

/// An archive of busybox and a directory above it.
fn image(sandbox: &Sandbox, name: &str, make: &str) -> String {
    image_with(sandbox, name, make, json!({ "Cmd": ["sleep", "1000"] }))
}

/// The same, with this configuration.
fn image_with(sandbox: &Sandbox, name: &str, make: &str, config: Value) -> String {
    let top = sandbox.make_dir(&format!("top-{name}"));
    let _ = sandbox.host().sh(&format!("cd {top} && {make}")).expect_ok();
    let root = busybox();
    let (names, layers) = ([name], [root.as_str(), top.as_str()]);
    let recipe = Recipe { names: &names, config, layers: &layers };
    archive(sandbox.dir(), &format!("{name}.tar"), &recipe)
}

#[test]
fn a_volume_that_has_no_room_for_what_the_image_has_there_is_not_left() {
    let sandbox = on_small_disk("size=64m");
    let make = "mkdir data && dd if=/dev/urandom of=data/big bs=1M count=16 2>/dev/null";
    let archive = image_with(&sandbox, "db", make, json!({ "Volumes": { "/data": {} }, "Cmd": ["true"] }));
    sandbox.ok(&["load", "-q", "-i", &archive]);
    let ballast = "dd if=/dev/zero of=ballast bs=64k; truncate -s -8M ballast";
    let _ = sandbox.host().sh(&format!("cd {} && {ballast}", sandbox.root().display())).expect_ok();
    let before = used(&sandbox, "-k");
    for words in [&["create", "db"][..], &["run", "--rm", "db"]] {
        sandbox.error(125, words, &["fill volume", FULL]);
        assert_eq!(sandbox.ok(&["volume", "ls", "-q"]) + &sandbox.ok(&["ps", "-aq"]), "");
        expect_back(&sandbox, before);
    }
    end(sandbox);
}

#[test]
fn a_full_disk_is_an_error_and_costs_nothing() {
    let mut sandbox = on_small_disk("size=64m");
    sandbox.ok(&["load", "-q", "-i", &image(&sandbox, "app", "echo x >mark")]);
    sandbox.ok(&["run", "-d", "--name", "c", "app"]);
    let before = used(&sandbox, "-k");
    assert!(
        (9_000..34_000).contains(&before),
        "{before}: 28 MiB have room beside it, and their copy has none"
    );
    let big = image(&sandbox, "big", "dd if=/dev/urandom of=big bs=1M count=60 2>/dev/null");
    sandbox.error(1, &["load", "-q", "-i", &big], &[FULL]);
    expect_back(&sandbox, before);
    let flat = format!("{}/flat.tar", sandbox.dir().display());
    let _ =
        sandbox.host().sh(&format!("tar -C {}/top-big -cf {flat} .", sandbox.dir().display())).expect_ok();
    sandbox.error(1, &["import", &flat, "flat"], &[FULL]);
    expect_back(&sandbox, before);
    sandbox.exec("c", &["dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=28"]);
    let before = used(&sandbox, "-k");
    sandbox.error(1, &["commit", "c", "made"], &["commit c", FULL]);
    assert!(sandbox.ok(&["ps"]).contains("RUNNING"), "it is not frozen");
    expect_back(&sandbox, before);
    assert_eq!(sandbox.ok(&["images", "--format", "{{.Repository}}"]), "app");
    // Not a byte is left.
    let _ = sandbox.tinyd(&["exec", "c", "sh", "-c", "cat /dev/zero >/rest"]);
    for words in [
        &["tag", "app", "app:2"][..],
        &["import", &flat, "flat"],
        &["create", "app"],
        &["commit", "c", "made"],
    ] {
        sandbox.error(if words[0] == "create" { 125 } else { 1 }, words, &[FULL]);
    }
    assert_eq!(sandbox.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), "app:latest");
    sandbox.kill_daemon();
    sandbox.start_daemon();
    assert_eq!(sandbox.exec("c", &["cat", "/mark"]), "x");
    // What is removed gives room, also there.
    sandbox.ok(&["rm", "-f", "c"]);
    sandbox.ok(&["tag", "app", "app:2"]);
    sandbox.ok(&["rmi", "app", "app:2"]);
    wait_for("the space", 15, || (used(&sandbox, "-k") < 2_000).then_some(()));
    sandbox.ok(&["load", "-q", "-i", &format!("{}/app.tar", sandbox.dir().display())]);
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "app", "cat", "/mark"]), "x");
    end(sandbox);
}

#[test]
fn no_inodes_are_an_error_and_cost_nothing() {
    let sandbox = on_small_disk("size=256m,nr_inodes=4000");
    sandbox.ok(&["load", "-q", "-i", &image(&sandbox, "app", "echo x >mark")]);
    let many = image(&sandbox, "many", "for i in $(seq 500); do : >f$i; done");
    let before = (used(&sandbox, "-k"), used(&sandbox, "-i"));
    let resize = |inodes: u64| {
        let line = format!("mount -o remount,nr_inodes={inodes} {}", sandbox.root().display());
        let _ = sandbox.host().sh(&line).expect_ok();
    };
    resize(before.1 + 200);
    sandbox.error(1, &["load", "-q", "-i", &many], &[FULL]);
    expect_back(&sandbox, before.0);
    assert_eq!(sandbox.ok(&["images", "-q"]).lines().count(), 1);
    resize(used(&sandbox, "-i"));
    sandbox.error(125, &["create", "app"], &[FULL]);
    sandbox.error(1, &["tag", "app", "app:2"], &[FULL]);
    resize(before.1 + 2000);
    wait_for("the inodes", 15, || (used(&sandbox, "-i") <= before.1 + 4).then_some(()));
    sandbox.ok(&["load", "-q", "-i", &many]);
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "many", "sh", "-c", "ls /f* | wc -l"]), "500");
    end(sandbox);
}

/// Names of everything that images have on the disk.
fn kept(sandbox: &Sandbox) -> Vec<String> {
    let mut all = Vec::new();
    for place in ["blobs/sha256", "layers", "images", "ingest"] {
        let entries = fs::read_dir(sandbox.root().join(place)).into_iter().flatten().flatten();
        all.extend(entries.map(|entry| format!("{place}/{}", entry.file_name().to_string_lossy())));
    }
    all.sort();
    all
}

#[test]
fn a_daemon_killed_at_any_moment_of_a_load_or_an_rmi_leaves_all_or_nothing() {
    let mut sandbox = Sandbox::new();
    let path = image(
        &sandbox,
        "app",
        "for i in $(seq 300); do echo $i >f$i; done; dd if=/dev/urandom of=big bs=1M count=8 2>/dev/null",
    );
    sandbox.ok(&["load", "-q", "-i", &path]);
    let whole = kept(&sandbox);
    for pause_ms in [0, 2, 5, 10, 20, 40, 80, 160, 320, 640] {
        for words in [&["rmi", "app"][..], &["load", "-q", "-i", &path]] {
            let mut client = sandbox.spawn(words);
            // The moment is what is varied: nobody can say where it falls.
            std::thread::sleep(patience(Duration::from_millis(pause_ms)));
            sandbox.kill_daemon();
            client.wait();
            sandbox.start_daemon();
            let is_there = !sandbox.ok(&["images", "-q", "app"]).is_empty();
            let expected = if is_there { whole.clone() } else { Vec::new() };
            wait_for("all of it or nothing", 15, || (kept(&sandbox) == expected).then_some(()));
            let told: Value =
                serde_json::from_str(&sandbox.ok(&["system", "check", "--format", "json"])).unwrap();
            assert_eq!(told["Problems"], json!([]), "{words:?} after {pause_ms} ms");
            if is_there {
                assert_eq!(sandbox.ok(&["run", "--rm", "-a", "app", "sh", "-c", "ls /f* | wc -l"]), "300");
            } else {
                sandbox.ok(&["load", "-q", "-i", &path]);
            }
        }
    }
    sandbox.ok(&["rmi", "app"]);
}
