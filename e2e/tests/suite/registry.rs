//! Images from registries and to them: Debian's docker-registry on the test's own host, with TLS of a private authority and passwords.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::{Value, json};
use tinyd_e2e::{
    Background, Dam, Options, PASSWORD, Recipe, Registry, Sandbox, USER, archive_for, busybox, wait_for,
};

const HOST_ARCH: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// A host with a daemon, and with a registry that it trusts.
fn world() -> (Sandbox, Registry) {
    world_with(&[])
}

/// The same with more arguments for the daemon.
fn world_with(daemon_args: &[&str]) -> (Sandbox, Registry) {
    let mut sandbox = Sandbox::with(Options { daemon_args, ..Options::default() });
    sandbox.own_etc();
    let registry = Registry::start(&sandbox, 5000);
    registry.trust(&sandbox, &[]);
    (sandbox, registry)
}

/// An archive of busybox and a layer above it, whose file `/mark` says this.
fn marked(sandbox: &Sandbox, architecture: &str, mark: &str) -> String {
    let dir = sandbox.make_dir(&format!("mark-{mark}"));
    let _ = sandbox.file(&format!("mark-{mark}/mark"), &format!("{mark}\n"));
    let root = busybox();
    let recipe =
        Recipe { names: &["made"], config: json!({ "Cmd": ["cat", "/mark"] }), layers: &[&root, &dir] };
    archive_for(architecture, sandbox.dir(), &format!("{architecture}-{mark}.tar"), &recipe)
}

/// Puts such an image into the registry, with skopeo; its digest.
fn seed(sandbox: &Sandbox, registry: &Registry, name: &str, mark: &str) -> String {
    seed_for(sandbox, registry, HOST_ARCH, name, mark)
}

fn seed_for(sandbox: &Sandbox, registry: &Registry, architecture: &str, name: &str, mark: &str) -> String {
    let path = marked(sandbox, architecture, mark);
    registry.skopeo(sandbox, &format!("copy -q docker-archive:{path} @/{name}"));
    fs::remove_file(path).unwrap();
    digest(sandbox, registry, name)
}

fn digest(sandbox: &Sandbox, registry: &Registry, name: &str) -> String {
    registry
        .skopeo(sandbox, &format!("inspect --no-tags --format {{{{.Digest}}}} @/{name}"))
        .trimmed()
        .to_owned()
}

fn log_in(sandbox: &Sandbox, host: &str) {
    let words = ["login", "-u", USER, "--password-stdin", host];
    let out = sandbox.tinyd_with_input(&words, format!("{PASSWORD}\n").as_bytes()).expect_ok();
    assert_eq!(out.stdout, "Login Succeeded\n");
}

/// The file of the user's own credentials.
fn auth_file(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.dir().join(".config/tinyd/auth.json")
}

fn line_of<'a>(text: &'a str, begin: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(begin)).unwrap_or_else(|| panic!("no {begin:?}: {text}"))
}

#[test]
fn what_is_pushed_is_what_is_pulled_with_the_same_digest_on_both_sides() {
    // It says all that it can, and no secret.
    let (sandbox, registry) = world_with(&["--log-level", "trace"]);
    let name = registry.name("team/app:1");
    sandbox.ok(&["load", "-q", "-i", &marked(&sandbox, HOST_ARCH, "first")]);
    sandbox.ok(&["tag", "made", &name]);
    sandbox.error(
        1,
        &["push", &name],
        &[&registry.host, "401", &format!("tinyd login {} first", registry.host)],
    );

    let wrong = ["login", "-u", USER, "--password-stdin", &registry.host];
    let refused = sandbox.tinyd_with_input(&wrong, b"wrong horse\n");
    refused.expect_error(1, &["log in to", &registry.host, "401"]);
    assert!(!auth_file(&sandbox).exists(), "what was refused is kept");
    log_in(&sandbox, &registry.host);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&auth_file(&sandbox)), 0o600);
    assert_eq!(mode(auth_file(&sandbox).parent().unwrap()), 0o700);

    let pushed = sandbox.ok(&["push", &name]);
    let told = line_of(&pushed, "1: digest: ").split(' ').next().unwrap().to_owned();
    assert_eq!(digest(&sandbox, &registry, "team/app:1"), told);
    let pinned = format!("{}@{told}", registry.name("team/app"));
    let digests = ["image", "inspect", "--format", "{{json .RepoDigests}}", &name];
    assert_eq!(sandbox.ok(&digests), format!("[{pinned:?}]"));
    let again = sandbox.tinyd(&["image", "push", &name]).expect_ok();
    assert!(again.stderr.contains("Layer already exists"), "{}", again.stderr);

    let id = sandbox.ok(&["images", "-q", "--no-trunc", "made"]);
    sandbox.ok(&["rmi", "made"]);
    sandbox.ok(&["rmi", &name]);
    assert_eq!(sandbox.ok(&["images", "-q"]), "");
    let pulled = sandbox.tinyd(&["pull", &name]).expect_ok();
    assert_eq!(pulled.stdout, format!("Digest: {told}\nStatus: Downloaded newer image for {name}\n{name}\n"));
    assert!(pulled.stderr.starts_with("1: Pulling from team/app\n"), "{}", pulled.stderr);
    assert!(pulled.stderr.contains(": Pull complete\n"), "{}", pulled.stderr);
    assert_eq!(sandbox.ok(&["images", "-q", "--no-trunc"]), id);
    let again = sandbox.ok(&["image", "pull", &name]);
    assert_eq!(line_of(&again, "Status: "), format!("Image is up to date for {name}"));
    assert_eq!(sandbox.ok(&["pull", "-q", &pinned]), pinned);
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", &name]), "first");

    assert_eq!(
        sandbox.ok(&["logout", &registry.host]),
        format!("Removing login credentials for {}", registry.host)
    );
    assert_eq!(sandbox.ok(&["logout", &registry.host]), format!("Not logged in to {}", registry.host));
    sandbox.error(1, &["pull", &name], &["401", "tinyd login"]);
    let log = sandbox.daemon_log();
    assert!(log.contains(" DEBUG "), "{log}");
    assert!(!log.contains("horse") && !log.contains("d2hvOmNvcnJlY3Q"), "{log}");
}

#[test]
fn run_and_create_pull_what_is_missing() {
    let (sandbox, registry) = world();
    log_in(&sandbox, &registry.host);
    let name = registry.name("app:1");
    seed(&sandbox, &registry, "app:1", "first");
    let never = ["run", "--rm", "-a", "--pull", "never", &name];
    sandbox.error(125, &never, &["-i: No such image", &name, "--pull never"]);
    let first = sandbox.tinyd(&["run", "--rm", "-a", &name]).expect_ok();
    assert_eq!(first.stdout, "first\n");
    assert!(
        first.stderr.starts_with(&format!("Unable to find image '{name}' locally\n")),
        "{}",
        first.stderr
    );
    assert!(first.stderr.contains("Status: Downloaded newer image"), "{}", first.stderr);
    // It is here now: nothing is asked, and nothing is said.
    seed(&sandbox, &registry, "app:1", "second");
    let here = sandbox.tinyd(&["run", "--rm", "-a", &name]).expect_ok();
    assert_eq!((here.stdout.as_str(), here.stderr.as_str()), ("first\n", ""));
    let always = sandbox.tinyd(&["run", "--rm", "-a", "--pull", "always", "-q", &name]).expect_ok();
    assert_eq!((always.stdout.as_str(), always.stderr.as_str()), ("second\n", ""));
    // Standard output of what is scripted has the id alone.
    sandbox.ok(&["rmi", "-f", &name]);
    let id = sandbox.ok(&["create", &name]);
    assert!(id.len() == 64 && sandbox.ids().len() == 1, "{id}");
    sandbox.ok(&["rm", &id]);
    // A directory is nothing that a registry has.
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "--pull", "always", "-i", &busybox(), "echo", "x"]), "x");
    let other = ["run", "--rm", "-a", "--pull", "never", "--platform", "linux/s390x", &name];
    sandbox.error(125, &other, &["for linux/s390x", "what is here is for linux/"]);
    let other = ["run", "--rm", "-a", "--platform", "linux/s390x", &name];
    sandbox.error(125, &other, &["pull ", "not for linux/s390x"]);
    sandbox.error(125, &["run", "--platform", "a/b/c/d", &name], &["--platform", "a/b/c/d"]);
    sandbox.error(125, &["run", &registry.name("nothing")], &[&registry.host, "404"]);
}

#[test]
fn all_tags_go_and_come_at_once() {
    let (sandbox, registry) = world();
    log_in(&sandbox, &registry.host);
    for mark in ["one", "two"] {
        sandbox.ok(&["load", "-q", "-i", &marked(&sandbox, HOST_ARCH, mark)]);
        sandbox.ok(&["tag", "made", &registry.name(&format!("many:{mark}"))]);
    }
    let repository = registry.name("many");
    let pushed = sandbox.ok(&["push", "--all-tags", &repository]);
    assert!(pushed.contains("one: digest: sha256:") && pushed.contains("two: digest: sha256:"), "{pushed}");
    sandbox.ok(&["image", "prune", "-af"]);
    let pulled = sandbox.ok(&["pull", "-q", "-a", &repository]);
    assert_eq!(pulled, format!("{repository}:one\n{repository}:two"));
    for mark in ["one", "two"] {
        let name = registry.name(&format!("many:{mark}"));
        assert_eq!(sandbox.ok(&["run", "--rm", "-a", "--pull", "never", &name]), mark);
    }
    sandbox.error(1, &["pull", "-a", &format!("{repository}:one")], &["--all-tags", "has a tag"]);
    sandbox.error(1, &["push", &registry.name("none")], &["does not exist locally with the tag"]);
    sandbox.error(1, &["push", "-a", &registry.name("none")], &["does not exist locally with the name"]);
}

#[test]
fn of_an_index_comes_the_image_for_the_platform() {
    let (sandbox, registry) = world();
    log_in(&sandbox, &registry.host);
    let mut manifests = Vec::new();
    for architecture in ["amd64", "arm64", "s390x"] {
        let tag = format!("app:{architecture}");
        let digest = seed_for(&sandbox, &registry, architecture, &tag, architecture);
        let raw = registry.skopeo(&sandbox, &format!("inspect --raw @/{tag}")).stdout;
        let kind: Value = serde_json::from_str(&raw).unwrap();
        manifests.push(json!({ "mediaType": kind["mediaType"], "digest": digest, "size": raw.len(),
            "platform": { "os": "linux", "architecture": architecture } }));
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests }).to_string();
    registry.put_manifest(&sandbox, "app", "multi", kind, &index);
    let name = registry.name("app:multi");
    let told = sandbox.ok(&["pull", &name]);
    assert_eq!(line_of(&told, "Digest: "), digest(&sandbox, &registry, "app:multi"));
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", &name]), HOST_ARCH);
    let shown = |name: &str| sandbox.ok(&["image", "inspect", "--format", "{{.Architecture}}", name]);
    sandbox.ok(&["pull", "--platform", "linux/s390x", &name]);
    assert_eq!(shown(&name), "s390x");
    // The same name, for this machine again.
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "--platform", HOST_ARCH, &name]), HOST_ARCH);
    assert_eq!(shown(&name), HOST_ARCH);
    sandbox.error(1, &["pull", "--platform", "linux/riscv64", &name], &["riscv64", "linux/s390x"]);
    sandbox.error(1, &["pull", "--platform", "x/y/z/w", &name], &["--platform"]);
}

#[test]
fn others_read_what_we_push_and_we_what_they_push() {
    let (sandbox, registry) = world();
    log_in(&sandbox, &registry.host);
    // From skopeo's hands, in OCI's words, with zstd; on to the registry under another name; and back to skopeo.
    let path = marked(&sandbox, HOST_ARCH, "strange");
    for (tag, options) in [("gzip", "--format v2s2"), ("zstd", "--format oci --dest-compress-format zstd")] {
        registry.skopeo(&sandbox, &format!("copy -q {options} docker-archive:{path} @/theirs:{tag}"));
        let (theirs, ours) = (registry.name(&format!("theirs:{tag}")), registry.name(&format!("ours:{tag}")));
        sandbox.ok(&["pull", "-q", &theirs]);
        assert_eq!(sandbox.ok(&["run", "--rm", "-a", &theirs]), "strange");
        sandbox.ok(&["tag", &theirs, &ours]);
        sandbox.ok(&["push", "-q", &ours]);
        assert_eq!(
            digest(&sandbox, &registry, &format!("ours:{tag}")),
            digest(&sandbox, &registry, &format!("theirs:{tag}"))
        );
        let layout = sandbox.dir().join(format!("layout-{tag}"));
        registry.skopeo(&sandbox, &format!("copy -q @/ours:{tag} dir:{}", layout.display()));
    }
    // What came from an archive goes as it came, unpacked.
    sandbox.ok(&["load", "-q", "-i", &path]);
    sandbox.ok(&["tag", "made", &registry.name("ours:tar")]);
    sandbox.ok(&["push", "-q", &registry.name("ours:tar")]);
    // podman pulls it; by default it wants TLS, and trusts by the same directory.
    let dir = sandbox.make_dir("podman");
    let certs = sandbox.make_dir("etc/containers/certs.d/127.0.0.1:5000");
    fs::write(format!("{certs}/ca.crt"), registry.authority()).unwrap();
    let podman =
        format!("podman --root {dir}/root --runroot {dir}/run --storage-driver vfs --tmpdir {dir}/tmp");
    for tag in ["gzip", "zstd", "tar"] {
        let name = registry.name(&format!("ours:{tag}"));
        let pull = format!("{podman} pull -q --creds '{USER}:{PASSWORD}' {name}");
        let id = sandbox.host().sh(&pull).expect_ok();
        let ours = sandbox.ok(&["images", "-q", "--no-trunc", &name]);
        assert_eq!(format!("sha256:{}", id.trimmed()), ours, "{tag}");
    }
    let _ =
        sandbox.host().sh(&format!("{podman} rmi -af; umount {dir}/root/vfs 2>/dev/null; true")).expect_ok();
}

#[test]
fn twenty_who_pull_one_image_transfer_each_blob_once() {
    let (sandbox, registry) = world();
    log_in(&sandbox, &registry.host);
    seed(&sandbox, &registry, "app:1", "shared");
    let before = registry.access().len();
    let name = registry.name("app:1");
    let mut all: Vec<Background> = (0..20).map(|_| sandbox.spawn(&["pull", "-q", &name])).collect();
    for one in &mut all {
        assert_eq!(one.wait(), 0);
        assert_eq!(one.rest(), [name.as_str()]);
    }
    let given = registry.blobs_given(before);
    assert_eq!(given.len(), 3, "two layers and a configuration: {given:?}");
    assert!(given.iter().all(|(blob, count)| blob.ends_with(" 200") && *count == 1), "{given:?}");
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "--pull", "never", &name]), "shared");
}

/// An archive of one layer with this many MiB that do not get smaller, in the registry as `NAME`.
fn seed_large(sandbox: &Sandbox, registry: &Registry, name: &str, mebibytes: &[u32]) {
    let layers: Vec<String> = mebibytes
        .iter()
        .enumerate()
        .map(|(at, size)| {
            let dir = sandbox.make_dir(&format!("large-{at}"));
            let fill = format!("head -c {size}M /dev/urandom >{dir}/large-{at}");
            let _ = sandbox.host().sh(&fill).expect_ok();
            dir
        })
        .collect();
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    let recipe = Recipe { names: &["large"], config: json!({ "Cmd": ["/large-0"] }), layers: &layers };
    let path = archive_for(HOST_ARCH, sandbox.dir(), "large.tar", &recipe);
    registry.skopeo(sandbox, &format!("copy -q docker-archive:{path} @/{name}"));
    fs::remove_file(path).unwrap();
    layers.iter().for_each(|dir| fs::remove_dir_all(dir).unwrap());
}

/// A dam before the registry, which the daemon trusts as the registry.
fn dammed(sandbox: &Sandbox, registry: &Registry, bytes: u64) -> Dam {
    let dam = Dam::before(registry, sandbox, 6000, bytes);
    registry.trust(sandbox, &[&dam.host]);
    log_in(sandbox, &dam.host);
    dam
}

#[test]
fn ctrl_c_ends_a_pull_within_a_second_and_leaves_no_image() {
    let (sandbox, registry) = world();
    seed_large(&sandbox, &registry, "large:1", &[8]);
    let dam = dammed(&sandbox, &registry, 4 << 20);
    let name = format!("{}/large:1", dam.host);
    for words in [vec!["pull", name.as_str()], vec!["run", "-d", name.as_str()]] {
        let mut screen = sandbox.terminal(&words);
        screen.expect("Downloading");
        wait_for("the dam to be full", 20, || dam.is_full().then_some(()));
        screen.write("\x03");
        let begun = std::time::Instant::now();
        assert_eq!(screen.wait(), 130);
        wait_for("the end of the daemon's connections", 10, || (dam.connections() == 0).then_some(()));
        let took = begun.elapsed();
        assert!(took < tinyd_e2e::patience(std::time::Duration::from_secs(1)), "it took {took:?}");
        assert_eq!(sandbox.ok(&["images", "-q"]), "");
        sandbox.expect_nothing();
        dam.more(1 << 20);
    }
    // Another one who waits for it is not touched, and has all of it in the end.
    let mut waits = sandbox.spawn(&["pull", "-q", &name]);
    let mut leaves = sandbox.spawn(&["pull", "-q", &name]);
    wait_for("both", 20, || (dam.connections() > 0).then_some(()));
    leaves.signal(rustix::process::Signal::INT);
    assert_eq!(leaves.wait(), 130);
    dam.open();
    assert_eq!(waits.wait(), 0);
    assert_eq!(waits.rest(), [name.as_str()]);
}

#[test]
fn the_next_daemon_goes_on_with_a_pull_in_which_one_was_killed() {
    let (mut sandbox, registry) = world();
    seed_large(&sandbox, &registry, "large:1", &[1, 16]);
    let dam = dammed(&sandbox, &registry, 12 << 20);
    let name = format!("{}/large:1", dam.host);
    let mut client = sandbox.spawn(&["pull", &name]);
    wait_for("the dam to be full", 30, || dam.is_full().then_some(()));
    sandbox.kill_daemon();
    assert_eq!(client.wait(), 1);
    sandbox.start_daemon();
    assert_eq!(sandbox.ok(&["images", "-q"]), "");
    // One that is asked to end does not wait for it.
    dam.more(1 << 20);
    let mut client = sandbox.spawn(&["pull", &name]);
    wait_for("the dam to be full", 30, || dam.is_full().then_some(()));
    assert_eq!(sandbox.stop_daemon(), 0);
    assert_eq!(client.wait(), 1);
    sandbox.start_daemon();
    dam.open();
    let before = registry.access().len();
    sandbox.ok(&["pull", "-q", &name]);
    let given = registry.blobs_given(before);
    // Of the large layer the rest, and of the small one nothing.
    assert!(given.keys().any(|blob| blob.ends_with(" 206")), "{given:?}");
    assert!(given.keys().all(|blob| blob.ends_with(" 206")), "{given:?}");
    let entries = |place: &str| fs::read_dir(sandbox.root().join(place)).unwrap().count();
    assert_eq!((entries("ingest"), entries("layers")), (0, 2));
}

#[test]
fn mirrors_are_asked_first_and_the_registry_itself_behind_them() {
    let (sandbox, registry) = world();
    let mirror = Registry::start(&sandbox, 5001);
    seed(&sandbox, &mirror, "library/app:1", "of-the-mirror");
    seed(&sandbox, &registry, "library/other:1", "of-the-registry");
    let ca = sandbox.file("ca/mirror.crt", &mirror.authority());
    let own = sandbox.file("ca/own.crt", &registry.authority());
    let hosts = format!(
        "server = \"https://{}\"\nca = {own:?}\n[host.\"https://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = {ca:?}\n",
        registry.host, mirror.host
    );
    let _ = sandbox.file("etc/tinyd/certs.d/docker.io/hosts.toml", &hosts);
    // The registry's password is not the mirror's, who does not see it; the daemon is not told what the user has for other hosts.
    let who = json!({ "username": USER, "password": PASSWORD });
    let logins = json!({ "auths": { "docker.io": who, &mirror.host: who } });
    let _ = sandbox.file(".docker/config.json", &logins.to_string());
    sandbox.error(1, &["pull", "app:1"], &[&registry.host, "404", "before that", &mirror.host, "401"]);
    let header =
        "[host.\"https://127.0.0.1:5001\".header]\n  Authorization = [\"Basic d2hvOmNvcnJlY3QgaG9yc2U=\"]\n";
    let _ = sandbox.file("etc/tinyd/certs.d/docker.io/hosts.toml", &(hosts + header));
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "app:1"]), "of-the-mirror");
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "other:1"]), "of-the-registry");
}

#[test]
fn a_registry_is_trusted_only_by_what_is_said_of_it() {
    let mut sandbox = Sandbox::new();
    sandbox.own_etc();
    let (registry, plain) = (Registry::start(&sandbox, 5000), Registry::plain(&sandbox, 5001));
    let name = plain.name("app:1");
    seed(&sandbox, &plain, "app:1", "plain");
    let words = ["login", "-u", USER, "--password-stdin", &registry.host];
    let login = || sandbox.tinyd_with_input(&words, PASSWORD.as_bytes());
    login().expect_error(1, &[&registry.host, "certificate cannot be trusted", "ca.crt"]);
    registry.trust(&sandbox, &[]);
    let _ = login().expect_ok();
    sandbox.error(1, &["pull", &name], &[&plain.host, "does not speak TLS"]);
    sandbox.error(125, &["run", &name], &[&plain.host, "does not speak TLS"]);
    // As podman is told.
    let conf = format!("[[registry]]\nlocation = {:?}\ninsecure = true\n", plain.host);
    let path = sandbox.file("etc/containers/registries.conf", &conf);
    assert_eq!(sandbox.ok(&["pull", "-q", &name]), name);
    fs::remove_file(path).unwrap();
    sandbox.error(1, &["pull", &name], &["does not speak TLS"]);
    plain.trust(&sandbox, &[]);
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", "--pull", "always", &name]), "plain");
}

#[test]
fn credentials_are_found_where_others_keep_them() {
    let (sandbox, registry) = world();
    seed(&sandbox, &registry, "app:1", "kept");
    let name = registry.name("app:1");
    let pull = |env: &[(&str, &str)]| {
        let mut command = sandbox.client(&["pull", "-q", &name]);
        command.envs(env.iter().copied());
        command.output().unwrap()
    };
    assert!(!pull(&[]).status.success());
    // Docker's file and podman's, by their variables.
    let packed = json!({ "auths": { &registry.host: { "auth": "d2hvOmNvcnJlY3QgaG9yc2U=" } } }).to_string();
    let dir = sandbox.make_dir("elsewhere");
    let _ = sandbox.file("elsewhere/config.json", &packed);
    let file = sandbox.file("elsewhere/own.json", &packed);
    let _ = sandbox.file("elsewhere/containers/auth.json", &packed);
    for env in [("DOCKER_CONFIG", dir.as_str()), ("REGISTRY_AUTH_FILE", &file), ("XDG_RUNTIME_DIR", &dir)] {
        assert!(pull(&[env]).status.success(), "{env:?}");
    }
    // A helper: it has the secret in a file, and notes what it is asked and with which words.
    let secret = sandbox.file("secret", PASSWORD);
    let script = format!(
        "#!/bin/sh\nread -r asked || true\necho \"$# $1 $asked\" >>{dir}/asked\ncase $1 in\n\
         get) [ -s {secret} ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\n\
         printf '{{\"ServerURL\":\"%s\",\"Username\":\"{USER}\",\"Secret\":\"%s\"}}' \"$asked\" \"$(cat {secret})\" ;;\n\
         store) echo \"$asked\" | sed 's/.*\"Secret\":\"\\([^\"]*\\)\".*/\\1/' >{secret} ;;\n\
         erase) : >{secret} ;;\nesac\n"
    );
    let helper = sandbox.file("bin/docker-credential-test", &script);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.dir().join("bin").display(), std::env::var("PATH").unwrap());
    let _ = sandbox.file(".docker/config.json", &json!({ "credsStore": "test" }).to_string());
    let without = pull(&[("PATH", "/usr/bin:/bin")]);
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(
        !without.status.success() && said.contains("docker-credential-test get: there is no such program"),
        "{said}"
    );
    let with = pull(&[("PATH", &path)]);
    assert!(with.status.success(), "{}", String::from_utf8_lossy(&with.stderr));
    assert_eq!(fs::read_to_string(format!("{dir}/asked")).unwrap(), format!("1 get {}\n", registry.host));
    // tinyd's own file may name one, too: then login and logout are its.
    fs::remove_file(sandbox.dir().join(".docker/config.json")).unwrap();
    let own = sandbox
        .file(".config/tinyd/auth.json", &json!({ "credHelpers": { &registry.host: "test" } }).to_string());
    fs::write(&secret, "").unwrap();
    let with_path = |words: &[&str], input: &str| {
        let mut command = sandbox.client(words);
        command.env("PATH", &path);
        let input = sandbox.file("input", input);
        command.stdin(fs::File::open(input).unwrap());
        let out = command.output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    assert!(!pull(&[("PATH", &path)]).status.success());
    with_path(&["login", "-u", USER, "--password-stdin", &registry.host], PASSWORD);
    assert_eq!(fs::read_to_string(&secret).unwrap().trim(), PASSWORD);
    assert!(!fs::read_to_string(&own).unwrap().contains("auths"));
    assert!(pull(&[("PATH", &path)]).status.success());
    with_path(&["logout", &registry.host], "");
    assert!(!pull(&[("PATH", &path)]).status.success());
}

#[test]
fn a_person_logs_in_at_the_terminal() {
    let (sandbox, registry) = world();
    let mut screen = sandbox.terminal(&["login", &registry.host]);
    screen.expect("Username: ");
    screen.write(&format!("{USER}\n"));
    screen.expect("Password: ");
    screen.write(&format!("{PASSWORD}\n"));
    screen.expect("Login Succeeded");
    assert_eq!(screen.wait(), 0);
    assert!(!screen.screen().contains("horse"), "{}", screen.screen());
    // Ctrl-C while the password is typed, too.
    let mut screen = sandbox.terminal(&["login", "-u", USER, &registry.host]);
    screen.expect("Password: ");
    screen.write("corr\x03");
    assert_eq!(screen.wait(), 130);
    sandbox.error(1, &["login", "-u", USER, &registry.host], &["--password-stdin", "nobody at a terminal"]);
    sandbox.error(1, &["login", &registry.host], &["--username"]);
    sandbox.error(
        1,
        &["login", "-u", USER, "--password-stdin", "team/app"],
        &["SERVER", "not a registry's host"],
    );
}

#[test]
fn how_far_it_is_is_shown_on_a_terminal_in_lines_and_as_json() {
    let (sandbox, registry) = world();
    log_in(&sandbox, &registry.host);
    seed_large(&sandbox, &registry, "large:1", &[8]);
    let name = registry.name("large:1");
    let mut screen = sandbox.terminal(&["pull", &name]);
    assert_eq!(screen.wait(), 0);
    for shown in
        ["1: Pulling from large", "Pull complete", "Digest: sha256:", "Status: Downloaded newer image"]
    {
        screen.expect(shown);
    }
    assert!(screen.screen().contains("MiB"), "{}", screen.screen());
    sandbox.ok(&["rmi", &name]);
    let events = sandbox.json(&["pull", &name]);
    assert_eq!(events[0], json!({ "id": "1", "status": "Pulling from large" }));
    let words: Vec<&str> = events.iter().filter_map(|event| event["status"].as_str()).collect();
    assert!(words.contains(&"Downloading") && words.contains(&"Pull complete"), "{words:?}");
    let last = events.last().unwrap();
    assert_eq!(last["reference"], name.as_str());
    assert_eq!(last["status"], format!("Downloaded newer image for {name}"));
    assert_eq!(last["digest"], digest(&sandbox, &registry, "large:1"));
    let events = sandbox.json(&["push", &name]);
    assert!(events.iter().any(|event| event["status"] == "Layer already exists"), "{events:?}");
    assert_eq!(events.last().unwrap()["digest"], last["digest"]);
    sandbox.error(1, &["pull", "--format", "yaml", &name], &["--format", "json"]);
}

#[test]
fn a_large_image_costs_the_daemon_little_memory() {
    let (sandbox, registry) = world();
    log_in(&sandbox, &registry.host);
    seed_large(&sandbox, &registry, "large:1", &[120, 100, 80]);
    // What it has once it has spoken to the registry at all.
    seed(&sandbox, &registry, "small:1", "small");
    sandbox.ok(&["pull", "-q", &registry.name("small:1")]);
    let pid = sandbox.daemon_pid();
    let idle = kibibytes(pid, "VmRSS:");
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    sandbox.ok(&["pull", "-q", &registry.name("large:1")]);
    let most = kibibytes(pid, "VmHWM:");
    assert!(most <= idle + (64 << 10), "idle {idle} KiB, in the pull {most} KiB");
    sandbox.ok(&["tag", &registry.name("large:1"), &registry.name("copy:1")]);
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    sandbox.ok(&["push", "-q", &registry.name("copy:1")]);
    let most = kibibytes(pid, "VmHWM:");
    assert!(most <= idle + (64 << 10), "idle {idle} KiB, in the push {most} KiB");
}

fn kibibytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    line_of(&status, field).trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn what_stands_in_the_way_is_told_with_the_registrys_name() {
    let (sandbox, registry) = world();
    log_in(&sandbox, &registry.host);
    sandbox.error(1, &["pull", &registry.name("none:1")], &["pull ", &registry.host, "404", "none"]);
    // Nobody listens there; a name that no server knows.
    fs::write(sandbox.dir().join("etc/resolv.conf"), "nameserver 127.0.0.53\n").unwrap();
    let names = sandbox.host().in_network(|| std::net::UdpSocket::bind("127.0.0.53:53").unwrap());
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = names.recv_from(&mut query) {
            // An answer: there is no such name.
            query[2] |= 0x80;
            query[3] = (query[3] & 0xf0) | 3;
            let _ = names.send_to(&query[..length], from);
        }
    });
    let begun = std::time::Instant::now();
    sandbox.error(125, &["run", "registry.invalid/app"], &["registry.invalid", "there is no host"]);
    assert!(begun.elapsed() < tinyd_e2e::patience(std::time::Duration::from_secs(5)), "it is asked again");
    // One that limits pulls, for longer than anybody waits.
    let limits = sandbox.host().in_network(|| std::net::TcpListener::bind("127.0.0.1:7000").unwrap());
    let _ =
        sandbox.file("etc/tinyd/certs.d/127.0.0.1:7000/hosts.toml", "server = \"http://127.0.0.1:7000\"\n");
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut asked in limits.incoming().map_while(Result::ok) {
            let _ = asked.read(&mut [0; 4096]);
            let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
            let _ = write!(
                asked,
                "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nRateLimit-Remaining: 0;w=21600\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let words = [
        "127.0.0.1:7000",
        "429",
        "reached your pull rate limit",
        "left 0;w=21600",
        "again in 3600 s",
        "tinyd login 127.0.0.1:7000",
    ];
    sandbox.error(1, &["pull", "127.0.0.1:7000/app"], &words);
    sandbox.error(125, &["create", "127.0.0.1:7000/app"], &words);
    // One that is away for a moment: the user is told, and has the image in the end.
    seed(&sandbox, &registry, "app:1", "late");
    registry.end();
    let name = "127.0.0.1:5000/app:1";
    let mut screen = sandbox.terminal(&["pull", name]);
    screen.expect("Retrying in 1 s: 127.0.0.1:5000: ");
    let _registry = Registry::start(&sandbox, 5000);
    assert_eq!(screen.wait(), 0, "{}", screen.screen());
    screen.expect("Status: Downloaded newer image");
}
