//! Images to and from others' tools: Debian's skopeo, umoci, podman and docker, unmodified.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use tinyd_e2e::{Recipe, Sandbox, archive, busybox};

use crate::peers::{Peer, docker, podman_with, tinyrun};

/// A line for everything below a root, but for what an engine mounts or makes there.
const LIST: &str = "cd $ROOT && find . -xdev | grep -vE '^[.]/(dev|proc|sys|run|etc/(hosts|hostname|resolv.conf|mtab))(/|$)|^[.]/[.]dockerenv$' | sort | \
                    while IFS= read -r name; do if test -f \"$name\" && ! test -L \"$name\"; then stat -c '%n %a %u:%g %F %h %s %Y' \"$name\"; \
                    else stat -c '%n %a %u:%g %F' \"$name\"; fi; done";

/// Loads an image with all that a layer can have: hidden files, an opaque directory, a capability, hard and symbolic links, set-id bits.
fn load(sandbox: &Sandbox, name: &str) {
    let (below, above) = (sandbox.make_dir("below"), sandbox.make_dir("above"));
    let made = format!(
        "cd {below} && mkdir -p d o srv && echo x >d/gone && echo kept >d/kept && echo x >o/hidden && ln d/kept d/hard && ln -s /d/kept link && \
         cp /bin/true ping && setcap cap_net_raw+ep ping && cp /bin/true srv/su && chown 0:50 srv/su && chmod 2755 srv/su && mkfifo pipe && \
         cd {above} && mkdir -p d o && touch d/.wh.gone o/.wh..wh..opq && echo new >o/new && chown 1000:50 o && chmod 1770 o"
    );
    let _ = sandbox.host().sh(&made).expect_ok();
    let root = busybox();
    let (names, layers) = ([name], [root.as_str(), &below, &above]);
    let config = json!({ "Cmd": ["cat", "/o/new"], "Env": ["PATH=/bin", "A=b"], "Labels": { "tier": "front" }, "User": "0:0" });
    let path = archive(sandbox.dir(), "image.tar", &Recipe { names: &names, config, layers: &layers });
    sandbox.ok(&["load", "-q", "-i", &path]);
}

fn facts(sandbox: &Sandbox, image: &str) -> (String, Value) {
    let inspected = &sandbox.json(&["image", "inspect", image])[0];
    (inspected["Id"].as_str().unwrap().to_owned(), inspected["RootFS"]["Layers"].clone())
}

/// What a container of the image sees.
fn seen(sandbox: &Sandbox, image: &str) -> String {
    sandbox.ok(&["run", "--rm", "-a", image, "sh", "-c", &LIST.replace("$ROOT", "/")])
}

fn assert_same_tree(one: &str, other: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (one, other) = (lines(one), lines(other));
    let differences: Vec<_> = one.symmetric_difference(&other).collect();
    assert!(one.len() > 200 && differences.is_empty(), "{differences:#?}");
}

#[test]
fn skopeo_copies_what_we_save_and_we_load_what_it_writes() {
    let sandbox = Sandbox::new();
    load(&sandbox, "app:1");
    sandbox.ok(&["create", "--name", "c", "-e", "B=c", "app:1"]);
    sandbox.ok(&["start", "c"]);
    sandbox.ok(&["wait", "c"]);
    sandbox.ok(&["commit", "-c", "LABEL made=here", "c", "made:2"]);
    let dir = sandbox.dir().display().to_string();
    let skopeo = |line: &str| {
        let line = format!("cd {dir} && TMPDIR={dir} skopeo --insecure-policy {line}");
        sandbox.host().sh(&line).expect_ok().trimmed().to_owned()
    };
    for (number, image) in ["app:1", "made:2"].into_iter().enumerate() {
        let (id, layers) = facts(&sandbox, image);
        let tree = seen(&sandbox, image);
        let (d, o) = (format!("{dir}/d{number}.tar"), format!("{dir}/o{number}.tar"));
        sandbox.ok(&["save", "-o", &d, image]);
        sandbox.ok(&["save", "--format", "oci-archive", "-o", &o, image]);
        // Into a directory, from both forms: the same image.
        skopeo(&format!("copy docker-archive:{d} oci:from-d{number}:it"));
        skopeo(&format!("copy oci-archive:{o} oci:from-o{number}:it"));
        for from in ["d", "o"] {
            let config: Value =
                serde_json::from_str(&skopeo(&format!("inspect --config oci:from-{from}{number}:it")))
                    .unwrap();
            assert_eq!(
                (&config["rootfs"]["diff_ids"], &config["config"]["Labels"]["tier"]),
                (&layers, &json!("front"))
            );
        }
        // We write such a directory too, and read theirs.
        sandbox.ok(&["save", "--format", "oci-dir", "-o", &format!("{dir}/ours{number}"), image]);
        let name = image.split_once(':').unwrap().1;
        skopeo(&format!("copy oci:ours{number}:{name} oci:again{number}:it"));
        for from in [format!("ours{number}"), format!("again{number}")] {
            let loaded = sandbox.ok(&["load", "-q", "-i", &format!("{dir}/{from}")]);
            assert_eq!(facts(&sandbox, loaded.rsplit_once(' ').unwrap().1).0, id, "{from}: {loaded}");
        }
        // And back, in every form and however its layers are packed.
        for (form, options) in [
            ("docker-archive:back.tar:back:1", ""),
            ("oci-archive:back.tar:back:1", ""),
            ("oci-archive:back.tar:back:1", "--dest-compress --dest-compress-format zstd"),
            ("oci:back:back", "--dest-compress --dest-compress-format gzip"),
        ] {
            skopeo(&format!("copy {options} oci:from-o{number}:it {form}"));
            if form.starts_with("oci:") {
                let _ = sandbox.host().sh(&format!("tar -C {dir}/back -czf {dir}/back.tar .")).expect_ok();
            }
            let loaded = sandbox.ok(&["load", "-q", "-i", &format!("{dir}/back.tar")]);
            let name = loaded.rsplit_once(' ').unwrap().1;
            assert_eq!(facts(&sandbox, name).1, layers, "{form} {options}");
            if !form.starts_with("docker") {
                assert_eq!(facts(&sandbox, name).0, id, "{form} {options}");
            }
            let _ = sandbox.host().sh(&format!("rm -r {dir}/back*")).expect_ok();
        }
        assert_same_tree(&tree, &seen(&sandbox, image));
        // What umoci unpacks is what a container sees, entry by entry.
        let bundle = format!("{dir}/bundle{number}");
        let _ =
            sandbox.host().sh(&format!("umoci unpack --image {dir}/from-o{number}:it {bundle}")).expect_ok();
        let list = LIST.replace("$ROOT", &format!("{bundle}/rootfs"));
        assert_same_tree(&tree, sandbox.host().sh(&list).expect_ok().trimmed());
        let caps = sandbox.host().sh(&format!("getcap -n {bundle}/rootfs/ping")).expect_ok();
        assert!(caps.stdout.contains("cap_net_raw=ep"), "{caps:?}");
    }
    sandbox.error(
        1,
        &["save", "--format", "oci-dir", "-o", &format!("{dir}/ours0"), "app:1"],
        &["--output", "it is there"],
    );
    sandbox.error(1, &["save", "--format", "oci-dir", "app:1"], &["--output", "no directory"]);
    sandbox.error(1, &["load", "-i", &format!("{dir}/bundle0")], &["--input", "without an index.json"]);
    sandbox.ok(&["rm", "c"]);
}

#[test]
fn several_images_go_through_a_pipe_and_are_the_same() {
    let (from, to) = (Sandbox::new(), Sandbox::new());
    load(&from, "app:1");
    from.ok(&["tag", "app:1", "registry.example.com/team/app"]);
    from.ok(&["create", "--name", "c", "app:1"]);
    from.ok(&["commit", "-c", "LABEL made=here", "c", "made:2"]);
    let client = |sandbox: &Sandbox, words: &str| {
        format!(
            "TINYD_HOST=unix://{} {} {words}",
            sandbox.socket().display(),
            tinyd_e2e::bin_dir().join("tinyd").display()
        )
    };
    for form in ["docker-archive", "oci-archive"] {
        let save = client(&from, &format!("save --format {form} app:1 registry.example.com/team/app made:2"));
        for pack in ["cat", "gzip -1", "zstd -q"] {
            let line = format!("{save} | {pack} | {}", client(&to, "load -q"));
            let loaded = to.host().sh(&line).expect_ok();
            assert_eq!(
                loaded.lines(),
                [
                    "Loaded image: app:1",
                    "Loaded image: registry.example.com/team/app:latest",
                    "Loaded image: made:2"
                ],
                "{form} {pack}"
            );
            for image in ["app:1", "made:2"] {
                assert_eq!(facts(&from, image), facts(&to, image));
            }
            to.ok(&["rmi", "app:1", "registry.example.com/team/app", "made:2"]);
        }
    }
    from.ok(&["rm", "c"]);
}

/// A peer loads and runs what we save, and we what it saves: of an image that was loaded, and of one that is made of a container there.
fn exchange(name: &str, peer: &Peer) {
    let sandbox = Sandbox::new();
    load(&sandbox, "app:1");
    sandbox.ok(&["create", "--name", "c", "app:1"]);
    sandbox.ok(&["start", "c"]);
    sandbox.ok(&["wait", "c"]);
    sandbox.ok(&["commit", "-c", "LABEL made=here", "-c", "CMD [\"cat\", \"/d/kept\"]", "c", "made:2"]);
    let dir = sandbox.dir().display().to_string();
    // podman has a mode of its own for the root of every image.
    let below_root =
        |tree: &str| tree.lines().skip_while(|line| line.starts_with(". ")).collect::<Vec<_>>().join("\n");
    let list = format!("sh -c '{}'", LIST.replace("$ROOT", "/").replace('\'', "'\\''"));
    for (image, says) in [("app:1", "new"), ("made:2", "kept")] {
        let tar = format!("{dir}/to.tar");
        sandbox.ok(&["save", "-o", &tar, image]);
        let loaded = peer.sh(&format!("{name} load -i {tar}")).expect_ok();
        assert!(loaded.stdout.contains(image), "{loaded:?}");
        assert_eq!(peer.sh(&format!("{name} run --rm --network none {image}")).expect_ok().trimmed(), says);
        let tree = peer.sh(&format!("{name} run --rm --network none {image} {list}")).expect_ok();
        assert_same_tree(&below_root(&seen(&sandbox, image)), &below_root(tree.trimmed()));
    }
    let made = peer.sh(&format!(
        "{name} run --network none --name made app:1 sh -c 'rm /d/kept; rm -r /o; mkdir /o; echo theirs >/o/own' && \
         {name} commit made theirs:3 >/dev/null && {name} run --rm --network none theirs:3 {list}"
    ));
    let theirs = made.expect_ok();
    for image in ["app:1", "theirs:3"] {
        let tar = format!("{dir}/from.tar");
        let _ = peer.sh(&format!("{name} save -o {tar} {image}")).expect_ok();
        let loaded = sandbox.ok(&["load", "-q", "-i", &tar]);
        let own = loaded.rsplit_once(' ').unwrap().1.to_owned();
        assert!(own.ends_with(image), "{loaded}");
        let tree = seen(&sandbox, &own);
        match image {
            "app:1" => assert_eq!(facts(&sandbox, &own).1, facts(&sandbox, "app:1").1),
            _ => assert_same_tree(&below_root(theirs.trimmed()), &below_root(&tree)),
        }
        fs::remove_file(tar).unwrap();
    }
    sandbox.ok(&["rm", "c"]);
}

#[test]
fn podman_runs_what_we_save_and_we_what_it_saves() {
    let peer = podman_with(&tinyrun(), "cgroupfs");
    exchange("podman", &peer);
    peer.end("podman rm -af -t 0; podman rmi -af");
}

#[test]
fn docker_runs_what_we_save_and_we_what_it_saves() {
    let peer = docker("tinyrun");
    exchange("docker", &peer);
    peer.end("docker rm -f $(docker ps -aq)");
}
