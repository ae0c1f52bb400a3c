//! Images by name: loaded, run, looked at, named, saved, removed.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tinyd_e2e::{Recipe, Sandbox, archive, busybox};

/// A directory of the test's own with these files in it; its path.
fn layer(sandbox: &Sandbox, name: &str, files: &[(&str, &str)]) -> String {
    let dir = sandbox.make_dir(name);
    for (path, text) in files {
        let _ = sandbox.file(&format!("{name}/{path}"), text);
    }
    dir
}

/// Loads an image of busybox and these layers above it.
fn load(sandbox: &Sandbox, name: &str, config: &Value, layers: &[&str]) {
    let root = busybox();
    let layers: Vec<&str> = std::iter::once(root.as_str()).chain(layers.iter().copied()).collect();
    let names = [name];
    let recipe = Recipe { names: &names, config: config.clone(), layers: &layers };
    let path = archive(sandbox.dir(), &format!("{}.tar", name.replace([':', '/'], "-")), &recipe);
    let tagged = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
    assert_eq!(sandbox.ok(&["load", "-q", "-i", &path]), format!("Loaded image: {tagged}"));
    fs::remove_file(path).unwrap();
}

/// Runs a container to its end; what it wrote.
fn run(sandbox: &Sandbox, words: &[&str]) -> String {
    sandbox.ok(&[&["run", "--rm", "-a"], words].concat())
}

#[test]
fn a_loaded_image_runs_as_its_configuration_says() {
    let sandbox = Sandbox::new();
    let top = layer(&sandbox, "top", &[("srv/app/mark", "top\n")]);
    let config = json!({
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["id -un; pwd; cat mark; echo $COLOR $SIZE"],
        "Env": ["PATH=/bin", "COLOR=red", "SIZE=big"],
        "WorkingDir": "/srv/app",
        "User": "alice",
        "Labels": { "tier": "front" },
        "StopSignal": "SIGQUIT",
    });
    load(&sandbox, "app:1", &config, &[&top]);
    assert_eq!(run(&sandbox, &["app:1"]), "alice\n/srv/app\ntop\nred big");
    assert_eq!(
        run(&sandbox, &["-e", "COLOR=blue", "-u", "0", "-w", "/", "app:1", "id -un; pwd; echo $COLOR"]),
        "root\n/\nblue"
    );
    // Another entrypoint has none of the image's arguments.
    assert_eq!(run(&sandbox, &["--entrypoint", "echo", "app:1", "hello"]), "hello");
    let id = sandbox.ok(&["create", "app:1"]);
    let shown = sandbox.ok(&["inspect", "--format", "{{.Config.Labels.tier}} {{.Config.StopSignal}}", &id]);
    assert_eq!(shown, "front SIGQUIT");
}

#[test]
fn layers_lie_on_each_other_in_a_user_namespace_of_its_own() {
    let sandbox = Sandbox::new();
    let below = layer(&sandbox, "below", &[("d/gone", "x"), ("d/kept", "below\n"), ("o/hidden", "x")]);
    let above = layer(&sandbox, "above", &[("d/.wh.gone", ""), ("o/.wh..wh..opq", ""), ("o/new", "x")]);
    std::os::unix::fs::chown(format!("{below}/d/kept"), Some(1000), Some(50)).unwrap();
    load(&sandbox, "layered", &json!({ "Cmd": ["sh"] }), &[&below, &above]);
    let script = "ls d o; stat -c %u:%g d/kept /bin/busybox; cat /proc/self/uid_map | tr -s ' '; echo more >>d/kept; cat d/kept";
    let said = run(&sandbox, &["layered:latest", "sh", "-c", script]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..6], ["d:", "kept", "", "o:", "new", "1000:50"]);
    assert_eq!(lines[6], "0:0");
    assert!(lines[7].starts_with(" 0 1") && lines[7].ends_with(" 65536"), "{said}");
    assert_eq!(lines[8..], ["below", "more"]);
    // The image is as it was.
    assert_eq!(run(&sandbox, &["layered", "cat", "/d/kept"]), "below");
}

#[test]
fn what_a_layer_hides_as_a_whole_is_not_there() {
    let sandbox = Sandbox::new();
    let below = layer(&sandbox, "below", &[("secret", "x")]);
    let hiding = sandbox.make_dir("hiding");
    let copied =
        sandbox.host().sh(&format!("cp -a {}/. {hiding}/ && touch {hiding}/.wh..wh..opq", busybox()));
    let _ = copied.expect_ok();
    let recipe =
        Recipe { names: &["hides"], config: json!({ "Cmd": ["ls", "/"] }), layers: &[&below, &hiding] };
    let path = archive(sandbox.dir(), "hides.tar", &recipe);
    sandbox.ok(&["load", "-i", &path]);
    let said = run(&sandbox, &["hides"]);
    assert!(said.contains("bin") && !said.contains("secret"), "{said}");
}

#[test]
fn images_are_listed_named_looked_at_and_forgotten() {
    let sandbox = Sandbox::new();
    let top = layer(&sandbox, "top", &[("mark", "x")]);
    load(&sandbox, "app:1", &json!({ "Cmd": ["cat", "/mark"], "Labels": { "tier": "front" } }), &[&top]);
    sandbox.ok(&["tag", "app:1", "registry.example.com:5000/team/app"]);
    let table = sandbox.ok(&["images"]);
    assert!(table.starts_with("REPOSITORY "), "{table}");
    assert_eq!(table.lines().count(), 3);
    let names =
        sandbox.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "label=tier=front"]);
    assert_eq!(names, "app:1\nregistry.example.com:5000/team/app:latest");
    let id = sandbox.ok(&["images", "-q"]);
    assert_eq!(id.len(), 12);
    assert_eq!(
        sandbox
            .ok(&["image", "inspect", "--format", "{{json .RepoTags}} {{.Config.Cmd}}", &id[..5]])
            .lines()
            .count(),
        1
    );
    assert_eq!(
        sandbox.ok(&["history", "-q", "app:1"]).lines().collect::<Vec<_>>(),
        [id.as_str(), "<missing>"]
    );
    // The name goes, then the image.
    assert_eq!(sandbox.ok(&["rmi", "app:1"]), "Untagged: app:1");
    sandbox.error(1, &["image", "inspect", "app:1"], &["No such image: app:1"]);
    let gone = sandbox.ok(&["rmi", &id]);
    assert!(
        gone.starts_with("Untagged: registry.example.com:5000/team/app:latest\nDeleted: sha256:"),
        "{gone}"
    );
    assert_eq!(sandbox.ok(&["images", "-q"]), "");
    sandbox.error(125, &["run", "--pull", "never", "app:1"], &["No such image: app:1", "--pull never"]);
}

#[test]
fn an_image_that_a_container_has_stays_and_its_space_comes_back_after() {
    let sandbox = Sandbox::new();
    let empty = space(&sandbox);
    load(&sandbox, "app", &json!({ "Cmd": ["sleep", "600"] }), &[]);
    let id = sandbox.ok(&["run", "-d", "app"]);
    let words = ["image is being used by running container", &id[..12]];
    sandbox.error(1, &["rmi", "app"], &words);
    sandbox.error(1, &["rmi", "-f", "app"], &words);
    sandbox.ok(&["kill", &id]);
    sandbox.ok(&["wait", &id]);
    sandbox.error(1, &["rmi", "app"], &["is using its referenced image"]);
    assert!(sandbox.ok(&["rmi", "-f", "app"]).contains("Deleted: sha256:"));
    // Its layers are the container's now.
    sandbox.ok(&["start", &id]);
    assert_eq!(sandbox.ok(&["exec", &id, "cat", "/etc/image-mark"]), "as the image has it");
    sandbox.ok(&["rm", "-f", &id]);
    sandbox.ok(&["image", "prune", "-f"]);
    tinyd_e2e::wait_for("the space", 10, || (space(&sandbox) == empty).then_some(()));
}

/// Files of blobs, layers and images below the data root.
fn space(sandbox: &Sandbox) -> Vec<String> {
    let mut all = Vec::new();
    for place in ["blobs/sha256", "layers", "images", "ingest"] {
        let entries = fs::read_dir(sandbox.root().join(place)).into_iter().flatten().flatten();
        all.extend(entries.map(|entry| entry.path().display().to_string()));
    }
    all
}

#[test]
fn what_the_image_calls_a_volume_is_one_filled_and_goes_with_the_container() {
    let sandbox = Sandbox::new();
    let top = layer(&sandbox, "top", &[("data/first", "from the image\n")]);
    std::os::unix::fs::chown(format!("{top}/data"), Some(1000), Some(50)).unwrap();
    load(
        &sandbox,
        "db",
        &json!({ "Volumes": { "/data": {} }, "Cmd": ["sh", "-c", "stat -c %u:%g /data; cat /data/first; grep -c ' /data ' /proc/mounts"] }),
        &[&top],
    );
    assert_eq!(run(&sandbox, &["db"]), "1000:50\nfrom the image\n1");
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]), "");
    // A volume with a name is filled once, and stays.
    sandbox.ok(&["volume", "create", "keep"]);
    run(&sandbox, &["-v", "keep:/data", "db", "sh", "-c", "rm /data/first; echo mine >/data/own"]);
    assert_eq!(run(&sandbox, &["-v", "keep:/data", "db", "ls", "/data"]), "own");
    let id = sandbox.ok(&["create", "db"]);
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]).lines().count(), 2);
    sandbox.ok(&["rm", "-v", &id]);
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]), "keep");
    sandbox.ok(&["volume", "rm", "keep"]);
}

#[test]
fn whoever_hears_of_an_end_finds_none_of_the_volumes_that_went_with_it() {
    let sandbox = Sandbox::new();
    load(&sandbox, "db", &json!({ "Volumes": { "/data": {} } }), &[]);
    // So many files that their removal takes longer than the next question.
    let many = "i=0; while [ $i -lt 5000 ]; do : >/f$i; i=$((i+1)); done";
    run(&sandbox, &["db", "sh", "-c", many]);
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_load_that_is_cut_leaves_nothing() {
    let mut sandbox = Sandbox::new();
    let recipe = Recipe { names: &["app"], config: json!({ "Cmd": ["true"] }), layers: &[&busybox()] };
    let path = archive(sandbox.dir(), "app.tar", &recipe);
    let bytes = fs::read(&path).unwrap();
    let half = sandbox.dir().join("half.tar");
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let half = half.display().to_string();
    let _ = sandbox.error(1, &["load", "-i", &half], &["archive"]);
    tinyd_e2e::wait_for("nothing of the archive", 10, || space(&sandbox).is_empty().then_some(()));
    // The daemon dies in the middle of it, at several places.
    for pieces in [1, 4, 9] {
        let script = format!("head -c {} {path}; sleep 600", (pieces * bytes.len()) / 10);
        let mut sender = sandbox.client(&["load"]);
        let mut feeder = std::process::Command::new("sh")
            .arg("-c")
            .arg(&script)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        sender
            .stdin(feeder.stdout.take().unwrap())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut sender = sender.spawn().unwrap();
        tinyd_e2e::wait_for("something of the archive", 10, || (!space(&sandbox).is_empty()).then_some(()));
        sandbox.kill_daemon();
        assert!(!sender.wait().unwrap().success());
        let _ = feeder.kill();
        let _ = feeder.wait();
        sandbox.start_daemon();
        assert_eq!(sandbox.ok(&["images", "-q"]), "");
        tinyd_e2e::wait_for("nothing of the archive", 10, || space(&sandbox).is_empty().then_some(()));
    }
    sandbox.ok(&["load", "-i", &path]);
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "app", "echo", "whole"]), "whole");
    assert!(Path::new(&path).exists());
}

#[test]
fn what_an_image_says_reaches_its_container_and_nobody_else() {
    let sandbox = Sandbox::new();
    let leak = sandbox.dir().join("leak").display().to_string();
    // Words that tinyd, tinyrun or the C library would act on, if they came to them.
    let config = json!({
        "Env": ["PATH=/bin", "TINYD_FAIL=engine.running", "TINYRUN_SEALED=1", "LD_PRELOAD=/evil.so", "MARK=of-the-image"],
        "Cmd": ["sleep", "4567"],
        "Labels": { "run.oci.hooks.stdout": leak, "run.oci.keep_original_groups": "1", "org.systemd.property.Slice": "'x.slice'" },
    });
    load(&sandbox, "loud", &config, &[]);
    sandbox.ok(&["run", "-d", "--name", "c1", "loud"]);
    let first = sandbox.pid_of(&["sleep", "4567"]);
    for pid in [sandbox.daemon_pid(), sandbox.parent_of(first)] {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let said = String::from_utf8_lossy(&environment).into_owned();
        assert!(!said.contains("of-the-image") && !said.contains("LD_PRELOAD"), "{pid}: {said}");
    }
    let inside = sandbox.ok(&["exec", "c1", "env"]);
    assert!(inside.contains("MARK=of-the-image") && inside.contains("LD_PRELOAD=/evil.so"), "{inside}");
    assert_eq!(sandbox.ok(&["exec", "c1", "id", "-G"]), "0");
    assert!(!Path::new(&leak).exists());
    // The same words of another image: the next container starts as this one did.
    sandbox.ok(&["run", "-d", "--name", "c2", "loud", "sleep", "1"]);
}
