//! Images that are made here: `export`, `import` and `commit`.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tinyd_e2e::{Options, Recipe, Sandbox, archive, busybox, patience, wait_for};

/// A line for everything below a root: its name, mode, owner, kind, and a file's size; but what the engine mounts there.
const LIST: &str = "cd $ROOT && find . -xdev | grep -vE '^[.]/(dev|proc|sys|etc/(hosts|hostname|resolv.conf))(/|$)' | sort | while IFS= read -r name; do \
                    if test -f \"$name\" && ! test -L \"$name\"; then stat -c '%n %a %u:%g %F %s %Y' \"$name\"; else stat -c '%n %a %u:%g %F' \"$name\"; fi; done";

/// An image of busybox with two layers above it, the upper of which hides something of the lower.
fn load(sandbox: &Sandbox, name: &str, config: Value) {
    let below = sandbox.make_dir("below");
    for (path, text) in
        [("d/gone", "x"), ("d/kept", "below\n"), ("o/hidden", "x"), ("r/a", "x"), ("r/b/c", "x")]
    {
        let _ = sandbox.file(&format!("below/{path}"), text);
    }
    std::os::unix::fs::chown(format!("{below}/d/kept"), Some(1000), Some(50)).unwrap();
    let _ = sandbox
        .host()
        .sh(&format!(
            "cp /bin/true {below}/ping && chmod 755 {below}/ping && setcap cap_net_raw+ep {below}/ping"
        ))
        .expect_ok();
    let above = sandbox.make_dir("above");
    for (path, text) in [("d/.wh.gone", ""), ("o/.wh..wh..opq", ""), ("o/new", "x")] {
        let _ = sandbox.file(&format!("above/{path}"), text);
    }
    let root = busybox();
    let (names, layers) = ([name], [root.as_str(), &below, &above]);
    let path = archive(sandbox.dir(), "image.tar", &Recipe { names: &names, config, layers: &layers });
    sandbox.ok(&["load", "-q", "-i", &path]);
}

/// What of a listing of `LIST` is on one side only.
fn differences(one: &str, other: &str) -> Vec<String> {
    let lines = |text: &str| text.lines().map(|line| (line.to_owned(), ())).collect::<BTreeMap<_, _>>();
    let (one, other) = (lines(one), lines(other));
    let only = |a: &BTreeMap<String, ()>, b: &BTreeMap<String, ()>, sign: char| {
        a.keys().filter(|line| !b.contains_key(*line)).map(|line| format!("{sign}{line}")).collect::<Vec<_>>()
    };
    [only(&one, &other, '-'), only(&other, &one, '+')].concat()
}

/// What a container changes: everything that overlay has a word for.
const CHANGES: &str = "mkdir /srv/new && echo new >/srv/new/file && chown 1000:50 /srv/new/file && chmod 4750 /srv/new/file; \
     rm /d/kept; rm -r /o; mkdir /o; echo own >/o/own; mv /r /moved; ln -s /nowhere /link; ln /srv/new/file /hard; \
     mkfifo /pipe; touch -d 2001-02-03 /ping; echo more >>/etc/image-mark; rm /bin/probe";

#[test]
fn an_export_is_what_the_container_sees() {
    let sandbox = Sandbox::new();
    load(&sandbox, "app", json!({ "Cmd": ["sleep", "1000"] }));
    sandbox.ok(&["volume", "create", "data"]);
    sandbox.ok(&["run", "-d", "--name", "c", "-v", "data:/data", "app"]);
    sandbox.exec("c", &["sh", "-c", CHANGES]);
    sandbox.exec("c", &["sh", "-c", "echo not of the container >/data/file"]);
    let seen = sandbox.exec("c", &["sh", "-c", &LIST.replace("$ROOT", "/")]);
    let (tar, root) = (sandbox.dir().join("c.tar"), sandbox.make_dir("exported"));
    // Frozen: busybox's shell writes nothing, but nobody has to know that.
    sandbox.ok(&["pause", "c"]);
    assert_eq!(sandbox.ok(&["export", "-o", tar.to_str().unwrap(), "c"]), "");
    let unpack =
        format!("tar -xp --numeric-owner --xattrs --xattrs-include='*' -f {} -C {root}", tar.display());
    let _ = sandbox.host().sh(&unpack).expect_ok();
    let list = LIST.replace("$ROOT", &root).replace("find . -xdev", "find .");
    let written = sandbox.host().sh(&list).expect_ok();
    let lines: Vec<_> = differences(&seen, written.trimmed())
        .into_iter()
        // The volume's root is what is mounted there.
        .filter(|line| !line.contains("./data "))
        .collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    assert!(seen.lines().count() > 200, "{seen}");
    assert!(!Path::new(&root).join("data/file").exists(), "a volume is none of the container's files");
    let caps = sandbox.host().sh(&format!("getcap {root}/ping")).expect_ok();
    assert!(caps.stdout.contains("cap_net_raw=ep"), "{caps:?}");
    // The same bytes on standard output; and none on a terminal.
    let piped = sandbox.host().sh(&format!("sha256sum <{}", tar.display())).expect_ok();
    let client = format!("{} export c | sha256sum", tinyd_e2e::bin_dir().join("tinyd").display());
    let again =
        sandbox.host().sh(&format!("TINYD_HOST=unix://{} {client}", sandbox.socket().display())).expect_ok();
    assert_eq!(piped.stdout, again.stdout);
    let mut terminal = sandbox.terminal(&["export", "c"]);
    terminal.expect("an archive is nothing for a terminal");
    assert_eq!(terminal.wait(), 1);
    sandbox.error(1, &["export", "nobody"], &["nobody"]);
    sandbox.ok(&["rm", "-f", "c"]);
    sandbox.ok(&["create", "--name", "never", "app"]);
    let never = sandbox.tinyd(&["export", "never"]).expect_ok();
    assert!(never.stdout.contains("etc/image-mark"), "one that never ran has its image's files");
}

#[test]
fn a_commit_is_the_changes_as_a_layer_above_the_images() {
    let sandbox = Sandbox::new();
    load(
        &sandbox,
        "app",
        json!({ "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["sleep 1000"], "Env": ["PATH=/bin"], "Labels": { "a": "1" }, "Volumes": { "/data": {} } }),
    );
    sandbox.ok(&["run", "-d", "--name", "c", "-e", "B=2", "-p", "8080:80", "app"]);
    sandbox.exec("c", &["sh", "-c", CHANGES]);
    sandbox.exec("c", &["sh", "-c", "echo not of the container >/data/file"]);
    let seen = sandbox.exec("c", &["sh", "-c", &LIST.replace("$ROOT", "/")]);
    let id = sandbox.ok(&[
        "commit",
        "-a",
        "Ann",
        "-m",
        "words",
        "-c",
        "ENV C=$B-3",
        "-c",
        "EXPOSE 90",
        "c",
        "app:2",
    ]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert!(sandbox.ok(&["ps"]).contains("RUNNING"), "it goes on");
    let made = &sandbox.json(&["image", "inspect", "app:2"])[0];
    let config = &made["Config"];
    assert_eq!(config["Env"], json!(["PATH=/bin", "B=2", "C=2-3"]));
    assert_eq!((&config["Cmd"], &config["Entrypoint"]), (&json!(["sleep 1000"]), &json!(["/bin/sh", "-c"])));
    assert_eq!(config["ExposedPorts"], json!({ "80/tcp": {}, "90/tcp": {} }));
    assert_eq!((&config["Labels"], &config["Volumes"]), (&json!({ "a": "1" }), &json!({ "/data": {} })));
    assert_eq!((made["Author"].as_str(), made["Id"].as_str()), (Some("Ann"), Some(id.as_str())));
    let base = &sandbox.json(&["image", "inspect", "app"])[0];
    let layers = |image: &Value| image["RootFS"]["Layers"].as_array().unwrap().clone();
    assert_eq!(layers(made)[..3], layers(base)[..]);
    assert_eq!(layers(made).len(), 4);
    let steps = sandbox.ok(&["history", "--format", "{{.CreatedBy}}|{{.Comment}}", "app:2"]);
    assert_eq!(steps.lines().next(), Some("/bin/sh -c sleep 1000|words"));
    assert_eq!(steps.lines().count(), 4);
    // A container of it sees what that one saw.
    sandbox.ok(&["run", "-d", "--name", "d", "app:2"]);
    let again = sandbox.exec("d", &["sh", "-c", &LIST.replace("$ROOT", "/")]);
    let lines = differences(&seen, &again);
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    assert_eq!(sandbox.exec("d", &["sh", "-c", "ls /data; readlink /link; stat -c %h /hard"]), "/nowhere\n2");
    // Nothing of overlay's own is in the layer, and the capability is as an archive has it.
    let layer = layer_of(&sandbox, &id);
    let list = sandbox.host().sh(&format!("gzip -dc {layer} | tar -tf - | sort")).expect_ok();
    for name in ["./", "d/.wh.kept", "o/.wh..wh..opq", "o/own", ".wh.r", "moved/b/c", "bin/.wh.probe"] {
        assert!(list.lines().contains(&name), "{name}: {list:?}");
    }
    let words = sandbox.host().sh(&format!("gzip -dc {layer} | grep -ac 'overlay' || true")).expect_ok();
    assert_eq!(words.trimmed(), "0");
    let root = sandbox.make_dir("layer");
    let unpack = format!(
        "gzip -dc {layer} | tar -xp --xattrs --xattrs-include='*' -C {root} && getcap -n {root}/ping"
    );
    let caps = sandbox.host().sh(&unpack).expect_ok();
    assert!(caps.stdout.contains("cap_net_raw=ep") && !caps.stdout.contains("rootid"), "{caps:?}");
    // One without a change has no layer of its own.
    sandbox.ok(&["create", "--name", "e", "app:2"]);
    sandbox.ok(&["commit", "-c", "USER 1000", "e", "app:3"]);
    assert_eq!(layers(&sandbox.json(&["image", "inspect", "app:3"])[0]), layers(made));
    sandbox.error(1, &["commit", "-c", "RUN make", "c"], &["--change", "is for a build"]);
    sandbox.error(1, &["commit", "c", "A B"], &["NAME"]);
    sandbox.ok(&["rm", "-f", "c", "d", "e"]);
}

/// Where the uppermost layer of an image is, packed.
fn layer_of(sandbox: &Sandbox, image: &str) -> String {
    let inspected = &sandbox.json(&["image", "inspect", image])[0];
    let digest =
        inspected["Layers"].as_array().unwrap().last().unwrap()["Digest"].as_str().unwrap().to_owned();
    sandbox.root().join("blobs/sha256").join(digest.trim_start_matches("sha256:")).display().to_string()
}

#[test]
fn of_a_directory_or_an_image_that_is_gone_the_whole_tree_is_committed() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c", "-w", "/srv"], &["sleep", "1000"]);
    sandbox.exec("c", &["sh", "-c", "echo mine >/srv/file; rm /etc/image-mark"]);
    sandbox.ok(&["commit", "-c", "CMD [\"cat\", \"file\"]", "c", "whole"]);
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "whole"]), "mine");
    assert_eq!(
        sandbox.ok(&["run", "--rm", "-a", "whole", "ls", "/etc"]),
        "group\nhostname\nhosts\npasswd\nresolv.conf"
    );
    load(&sandbox, "app", json!({ "Cmd": ["sleep", "1000"] }));
    sandbox.ok(&["run", "-d", "--name", "d", "app"]);
    sandbox.exec("d", &["sh", "-c", "echo own >/srv/own"]);
    sandbox.ok(&["kill", "d"]);
    sandbox.ok(&["rmi", "-f", "app"]);
    let made = sandbox.tinyd(&["commit", "d", "saved"]).expect_ok();
    assert!(made.stderr.contains("is gone: the new one is one layer"), "{made:?}");
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "saved", "sh", "-c", "cat /srv/own; ls /o"]), "own\nnew");
    sandbox.ok(&["rm", "-f", "c", "d"]);
}

#[test]
fn a_copied_container_is_committed_as_a_whole() {
    let sandbox = Sandbox::with(Options { daemon_args: &["--storage-driver", "copy"], ..Options::default() });
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    sandbox.exec("c", &["sh", "-c", "echo mine >/srv/file; rm /etc/image-mark"]);
    sandbox.ok(&["commit", "c", "whole"]);
    sandbox.ok(&["rm", "-f", "c"]);
    sandbox.ok(&["run", "-d", "--name", "d", "whole"]);
    assert_eq!(sandbox.exec("d", &["cat", "/srv/file"]), "mine");
    sandbox.exec("d", &["sh", "-c", "echo more >>/srv/file"]);
    let made = sandbox.tinyd(&["commit", "d", "again"]).expect_ok();
    assert!(made.stderr.contains("keeps no changes apart"), "{made:?}");
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "again", "cat", "/srv/file"]), "mine\nmore");
    sandbox.ok(&["rm", "-f", "d"]);
}

#[test]
fn a_container_is_frozen_while_it_is_committed_and_one_that_was_stays_so() {
    let sandbox = Sandbox::new();
    // Two files that are always written one after the other, and much to be read in between.
    let script = "dd if=/dev/urandom of=/m bs=1M count=12 2>/dev/null; i=0; while :; do i=$((i+1)); echo $i >/.a; mv /.a /a; echo $i >/.z; mv /.z /z; done";
    sandbox.run(&["--name", "c"], &["sh", "-c", script]);
    wait_for("both files", 20, || sandbox.tinyd(&["exec", "c", "cat", "/z"]).ok().then_some(()));
    sandbox.ok(&["commit", "c", "frozen"]);
    let said = sandbox.ok(&["run", "--rm", "-a", "frozen", "cat", "/a", "/z"]);
    let numbers: Vec<i64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert!((0..=1).contains(&(numbers[0] - numbers[1])), "{numbers:?}");
    sandbox.ok(&["commit", "--pause=false", "c", "torn"]);
    assert!(sandbox.ok(&["ps"]).contains("RUNNING"));
    sandbox.ok(&["pause", "c"]);
    sandbox.ok(&["commit", "c"]);
    assert!(sandbox.ok(&["ps"]).contains("PAUSED"), "it was paused before");
    sandbox.ok(&["rm", "-f", "c"]);
}

/// What is on its way below the data root, or has no name there.
fn unfinished(sandbox: &Sandbox) -> Vec<String> {
    let mut all = Vec::new();
    for place in ["ingest", "layers"] {
        let entries = fs::read_dir(sandbox.root().join(place)).into_iter().flatten().flatten();
        all.extend(
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| name.starts_with('.')),
        );
    }
    all
}

#[test]
fn a_daemon_killed_at_any_moment_of_a_commit_leaves_no_half_image_and_nobody_frozen() {
    let mut sandbox = Sandbox::new();
    load(&sandbox, "app", json!({ "Cmd": ["sleep", "1000"] }));
    sandbox.ok(&["run", "-d", "--name", "c", "app"]);
    sandbox.exec("c", &["dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=8"]);
    let blobs = |sandbox: &Sandbox| fs::read_dir(sandbox.root().join("blobs/sha256")).unwrap().count();
    let before = blobs(&sandbox);
    for pause_ms in [0, 20, 60, 150, 300, 500, 800, 1200] {
        let mut client = sandbox.spawn(&["commit", "c", "made"]);
        // The moment is what is varied: nobody can say where in the commit it falls.
        std::thread::sleep(patience(Duration::from_millis(pause_ms)));
        sandbox.kill_daemon();
        client.wait();
        sandbox.start_daemon();
        wait_for("no container frozen", 10, || sandbox.ok(&["ps"]).contains("RUNNING").then_some(()));
        assert!(unfinished(&sandbox).is_empty(), "{:?}", unfinished(&sandbox));
        if sandbox.ok(&["images", "-q", "made"]).is_empty() {
            wait_for("the space", 10, || (blobs(&sandbox) == before).then_some(()));
        } else {
            assert_eq!(sandbox.ok(&["run", "--rm", "-a", "made", "sh", "-c", "wc -c </big"]), "8388608");
            sandbox.ok(&["rmi", "made"]);
            wait_for("the space", 10, || (blobs(&sandbox) == before).then_some(()));
        }
    }
    sandbox.ok(&["commit", "c", "made"]);
    sandbox.ok(&["rm", "-f", "c"]);
}

#[test]
fn a_daemon_that_is_asked_to_end_leaves_nobody_frozen() {
    let mut sandbox = Sandbox::new();
    sandbox.run(
        &["--name", "c"],
        &["sh", "-c", "dd if=/dev/urandom of=/m bs=1M count=32 2>/dev/null; echo x >/done; exec sleep 1000"],
    );
    wait_for("the file", 20, || sandbox.tinyd(&["exec", "c", "cat", "/done"]).ok().then_some(()));
    let mut client = sandbox.spawn(&["commit", "c", "made"]);
    wait_for("a frozen container", 10, || sandbox.ok(&["ps"]).contains("PAUSED").then_some(()));
    assert_eq!(sandbox.stop_daemon(), 0);
    assert_eq!(client.wait(), 1);
    sandbox.start_daemon();
    assert!(sandbox.ok(&["ps"]).contains("RUNNING"), "{}", sandbox.ok(&["ps"]));
    assert_eq!(sandbox.ok(&["images", "-q"]), "");
    sandbox.ok(&["rm", "-f", "c"]);
}

#[test]
fn a_root_file_system_is_imported_however_it_is_packed() {
    let sandbox = Sandbox::new();
    let root = busybox();
    let dir = sandbox.dir().display().to_string();
    let made = format!(
        "cd {dir} && tar -C {root} -cf r.tar . && gzip -k r.tar && zstd -q -k r.tar && xz -0 -k r.tar && head -c 100000 r.tar.gz >cut.gz && : >empty && echo no archive >text"
    );
    let _ = sandbox.host().sh(&made).expect_ok();
    let mut layers = Vec::new();
    for (file, name) in [("r.tar", "plain"), ("r.tar.gz", "gzip"), ("r.tar.zst", "zstd")] {
        let id = sandbox.ok(&[
            "import",
            "-c",
            "CMD [\"cat\", \"/etc/image-mark\"]",
            "-m",
            "from tar",
            &format!("{dir}/{file}"),
            name,
        ]);
        assert!(id.lines().last().unwrap().starts_with("sha256:"), "{id}");
        assert_eq!(sandbox.ok(&["run", "--rm", "-a", name]), "as the image has it");
        layers.push(sandbox.json(&["image", "inspect", name])[0]["RootFS"]["Layers"].clone());
    }
    assert!(layers.windows(2).all(|pair| pair[0] == pair[1]), "{layers:?}");
    assert!(sandbox.ok(&["history", "plain"]).contains("from tar"));
    let other = fs::read(format!("{dir}/r.tar")).unwrap();
    let id = sandbox.tinyd_with_input(&["import", "--platform", "linux/arm64", "-"], &other).expect_ok();
    let shown =
        sandbox.ok(&["image", "inspect", "--format", "{{.Architecture}} {{len .RepoTags}}", id.trimmed()]);
    assert_eq!(shown, "arm64 0");
    for (file, words) in [
        ("r.tar.xz", &["is packed with xz", "xz -dc"][..]),
        ("cut.gz", &["read the archive"]),
        ("empty", &["nothing in the archive"]),
        ("text", &["archive"]),
        ("missing", &["FILE", "missing"]),
        ("", &["it is a directory"]),
    ] {
        sandbox.error(1, &["import", &format!("{dir}/{file}"), "bad"], words);
    }
    sandbox.error(1, &["import", "https://example.com/x.tar", "bad"], &["FILE", "curl"]);
    sandbox.error(1, &["import", "-c", "FROM x", &format!("{dir}/r.tar"), "bad"], &["--change"]);
    sandbox.error(
        1,
        &["import", "--platform", "windows/amd64", &format!("{dir}/r.tar"), "bad"],
        &["--platform"],
    );
    assert_eq!(sandbox.ok(&["images", "-q", "bad"]), "");
    assert!(unfinished(&sandbox).is_empty());
    // The way round: what was exported is the same again.
    sandbox.ok(&["create", "--name", "c", "plain"]);
    sandbox.ok(&["export", "-o", &format!("{dir}/c.tar"), "c"]);
    sandbox.ok(&["import", "-c", "CMD [\"sh\"]", &format!("{dir}/c.tar"), "again"]);
    let list = LIST.replace("$ROOT", "/");
    let seen = |image: &str| sandbox.ok(&["run", "--rm", "-a", image, "sh", "-c", &list]);
    let lines = differences(&seen("plain"), &seen("again"));
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
