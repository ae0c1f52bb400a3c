//! Other people's engines with `tinyrun` as their runtime: Debian's podman, containerd and docker, unmodified, each with roots of its
//! own on a host of its own. What they say and how they end is held against what they say and do with crun.

use std::fs::{self, File};

use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use serde_json::json;
use tinyd_e2e::{
    Background, Options, Output, Recipe, Registry, Sandbox, archive, bin_dir, busybox, wait_for,
};

/// One line of the comparison: its exit status and what it printed.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    line: &'static str,
    code: i32,
    stdout: String,
}

/// Runs the lines one after the other under both runtimes.
pub(crate) fn assert_same(ours: &Peer, theirs: &Peer, lines: &[&'static str]) {
    for line in lines {
        let (said, why) = ours.say(line);
        assert_eq!(said, theirs.say(line).0, "ours: {why}");
    }
}

/// An engine on a host of its own.
pub(crate) struct Peer {
    sandbox: Sandbox,
    /// Sets the environment of every command line.
    pub(crate) prelude: String,
    daemons: Vec<Background>,
    /// podman's cgroups are in one of one name, whoever's they are: who has this may use it, and who is the only one takes it away.
    cgroups: Option<File>,
}

pub(crate) fn tinyrun() -> String {
    bin_dir().join("tinyrun").display().to_string()
}

impl Peer {
    /// A host on which the engines see what they know: they refuse v1 controllers beside an empty v2 hierarchy.
    fn host(prelude: &str) -> Peer {
        let sandbox = Sandbox::without_daemon(Options::default());
        let dir = sandbox.make_dir("peer");
        let prepared = sandbox.host().sh(&format!(
            "{{ ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; }} && mount -t tmpfs peer {dir} \
             && for own in /run/netns /run/containerd /run/docker; do mkdir -p $own && mount -t tmpfs peer $own; done"
        ));
        let _ = prepared.expect_ok();
        let id = sandbox.dir().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let prelude = prelude.replace("@DIR@", &dir).replace("@ID@", &id);
        Peer { prelude, sandbox, daemons: Vec::new(), cgroups: None }
    }

    /// Unique on this machine: the engine's cgroups are below it.
    fn id(&self) -> String {
        self.sandbox.dir().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn dir(&self) -> String {
        self.sandbox.dir().join("peer").display().to_string()
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        // The engine's directory is a mount of its host, out of sight from here.
        let path = format!("{}/{name}", self.dir());
        let text =
            text.replace("@DIR@", &self.dir()).replace("@TINYRUN@", &tinyrun()).replace("@ID@", &self.id());
        let _ = self.sandbox.host().sh(&format!("cat >{path} <<'END'\n{text}\nEND")).expect_ok();
    }

    pub(crate) fn start(&mut self, words: &str) {
        let line = format!("{} exec {words}", self.prelude).replace("@DIR@", &self.dir());
        self.daemons.push(self.sandbox.host().spawn(&["sh", "-c", &line]));
    }

    pub(crate) fn sh(&self, line: &str) -> Output {
        self.sandbox.host().sh(&format!("{} {line}", self.prelude).replace("@DIR@", &self.dir()))
    }

    /// The second value is for whoever wonders why.
    fn say(&self, line: &'static str) -> (Said, String) {
        let out = self.sh(line);
        (Said { line, code: out.code, stdout: out.stdout }, out.stderr)
    }

    fn share_cgroups(&mut self) {
        let everybodys = File::open(bin_dir()).expect("open the directory of the programs");
        flock(&everybodys, FlockOperation::LockShared).expect("flock");
        self.cgroups = Some(everybodys);
    }

    /// Ends the daemons, the last one first, and takes the mounts away, after `line` has removed the containers.
    pub(crate) fn end(mut self, line: &str) {
        let _ = self.sh(line);
        while let Some(mut daemon) = self.daemons.pop() {
            daemon.signal(Signal::TERM);
            daemon.wait();
        }
        let line = format!(
            "for own in /run/netns /run/containerd /run/docker /etc/subuid /etc/subgid /etc/passwd {}; do umount -R $own; done; ip link delete docker0; \
             find /sys/fs/cgroup -depth -type d -path '*/{}-peer*' -exec rmdir {{}} ';'",
            self.dir(),
            self.id()
        );
        // What an engine has not made is not there to be removed.
        let _ = self.sandbox.host().sh(&line);
        if self
            .cgroups
            .as_ref()
            .is_some_and(|last| flock(last, FlockOperation::NonBlockingLockExclusive).is_ok())
        {
            let line = "find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' -exec rmdir {} ';'";
            let _ = self.sandbox.host().sh(line);
        }
    }
}

/// podman, with a runtime by name or path.
fn podman(runtime: &str) -> Peer {
    podman_with(runtime, "cgroupfs")
}

/// The same, with somebody who makes cgroups.
pub(crate) fn podman_with(runtime: &str, cgroup_manager: &str) -> Peer {
    let mut peer = Peer::host(
        "export CONTAINERS_CONF=@DIR@/containers.conf CONTAINERS_STORAGE_CONF=@DIR@/storage.conf TMPDIR=@DIR@; \
         podman() { command podman --log-level=error \"$@\"; }; ",
    );
    peer.share_cgroups();
    // This machine has no CAP_SYS_RESOURCE: limits above its own cannot be asked for.
    let conf = "[engine]\nruntime=\"@RUNTIME@\"\ncgroup_manager=\"@MANAGER@\"\nevents_logger=\"file\"\nlock_type=\"file\"\n\
                tmp_dir=\"@DIR@/libpod\"\nstatic_dir=\"@DIR@/root/libpod\"\nvolume_path=\"@DIR@/root/volumes\"\n\
                [network]\nnetwork_config_dir=\"@DIR@/networks\"\n\
                [containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1024:1024\"]\n";
    let conf = conf.replace("@RUNTIME@", runtime).replace("@MANAGER@", cgroup_manager);
    peer.file("containers.conf", &conf);
    peer.file(
        "storage.conf",
        "[storage]\ndriver=\"overlay\"\nrunroot=\"@DIR@/run\"\ngraphroot=\"@DIR@/root\"\n",
    );
    // Of these it takes the ids of `--userns=auto`.
    peer.file("subid", "containers:400000:65536");
    let _ = peer.sh("for to in /etc/subuid /etc/subgid; do mount --bind @DIR@/subid $to; done").expect_ok();
    let _ = peer.sh(&format!("tar -C {} -c . | podman import -q - bb", busybox())).expect_ok();
    peer
}

/// podman of an ordinary user, who has 65536 more ids and no cgroup.
fn podman_of_a_user(runtime: &str) -> Peer {
    let peer = Peer::host(
        "export HOME=@DIR@/home XDG_RUNTIME_DIR=@DIR@/xdg USER=somebody CONTAINERS_CONF=@DIR@/containers.conf \
         CONTAINERS_STORAGE_CONF=@DIR@/storage.conf TMPDIR=@DIR@; cd @DIR@; \
         podman() { setpriv --reuid=1000 --regid=1000 --clear-groups podman --log-level=error \"$@\"; }; ",
    );
    // The runtime's own directory may be root's alone.
    let conf = "[engine]\nruntime=\"@RUNTIME@\"\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\nlock_type=\"file\"\n\
                runtime_supports_nocgroup=[\"crun\", \"tinyrun\"]\n[engine.runtimes]\ntinyrun=[\"@DIR@/tinyrun\"]\n\
                [containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1024:1024\"]\n";
    peer.file("containers.conf", &conf.replace("@RUNTIME@", runtime));
    peer.file("storage.conf", "[storage]\ndriver=\"vfs\"\n");
    peer.file("subid", "somebody:100000:65536");
    peer.file("passwd", "root:x:0:0:root:/root:/bin/sh\nsomebody:x:1000:1000::@DIR@/home:/bin/sh");
    let _ = peer
        .sh(&format!(
            "cp {} tinyrun && mkdir home xdg && chown -R 1000:1000 . && mount --bind passwd /etc/passwd && \
             for to in /etc/subuid /etc/subgid; do mount --bind subid $to; done && \
             tar -C {} -c . | podman import -q - bb",
            tinyrun(),
            busybox()
        ))
        .expect_ok();
    peer
}

#[test]
fn podman_of_a_user_runs_on_it_as_on_crun() {
    const LINES: [&str; 23] = [
        "podman run --rm --network none bb sh -c 'id -u; cat /proc/self/uid_map; echo x >/dev/null; exit 7'",
        "podman run --rm --network none bb /nope",
        "podman run --rm --network none --userns=keep-id bb sh -c 'id -u; cat /proc/self/uid_map'",
        "podman run --rm --network none --userns=nomap bb cat /proc/self/uid_map",
        "podman run --rm --network none --uidmap 0:1:100 bb cat /proc/self/uid_map",
        "podman run --rm --network none --cgroups=disabled bb echo nowhere",
        "podman run -d --network none --name c1 bb sleep 1000 >id",
        "podman exec c1 sh -c 'echo in; exit 3'",
        "podman exec -u 5:6 -w /tmp -e A=b c1 sh -c 'id; pwd; echo $A'",
        "script -qec \"setpriv --reuid=1000 --regid=1000 --clear-groups podman exec -it c1 sh -c 'test -t 0 && test -t 1 && echo terminal'\" \
         /dev/null | grep -o terminal",
        "podman run --rm --network none --pid container:c1 bb ps -o args | grep -c 'sleep 1000'",
        "podman run --rm --network container:c1 --userns=keep-id bb ls /sys/class/net",
        "podman run --rm --network none --ipc container:c1 --userns=keep-id bb grep -o 'mqueue mqueue' /proc/mounts",
        "podman stop -t 1 c1",
        "podman start c1",
        "podman kill c1",
        "podman rm -f -t 0 c1",
        "podman run --rm --network host --read-only --tmpfs /t bb sh -c 'touch /x || touch /t/x && echo writable'",
        "mkdir -p vol; chown 1000 vol; podman run --rm --network none -v @DIR@/vol:/v bb touch /v/g; stat -c %u vol/g",
        "podman run --rm --network none -v @DIR@/vol:/v:ro bb touch /v/h 2>/dev/null || echo read-only",
        "podman run --rm --network none --security-opt no-new-privileges bb grep -e NoNewPrivs -e Seccomp: -e Cap /proc/self/status",
        "podman run --rm --network none --init bb true",
        "podman pod create --name po --userns=keep-id --infra-image bb --infra-command '/bin/sleep 1000' >id && \
         podman run -d --pod po --name pc bb sleep 1000 >id && podman exec pc id -u && podman pod rm -f -t 0 po >id",
    ];
    let (ours, theirs) = (podman_of_a_user("tinyrun"), podman_of_a_user("crun"));
    assert_same(&ours, &theirs, &LINES);
    for peer in [ours, theirs] {
        // One process keeps the user's namespaces between two commands.
        peer.end("podman rm -af -t 0; podman pod rm -af; kill $(cat xdg/libpod/tmp/pause.pid)");
    }
}

/// What an ordinary user's container sees, and what becomes of what it may not.
const LOOK_AROUND: &str = "id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; readlink /dev/fd; \
     stat -c '%n %a %u %t:%T' /dev/null /dev/tty /dev/shm /dev/pts /dev /proc /sys; grep -e Cap -e NoNew /proc/self/status; \
     cat /proc/self/cgroup; for at in /dev/pts /dev/shm /sys; do grep -o \" $at [a-z,]* - [a-z]*\" /proc/self/mountinfo; done; \
     touch /x /proc/sys/x /sys/x; ls /proc/1/ns/user /proc/acpi; hostname; exit 7";

#[test]
fn the_bundle_of_a_user_runs_as_on_crun_and_runc() {
    let peer = Peer::host(
        "cd @DIR@; export XDG_RUNTIME_DIR=@DIR@/xdg; user() { setpriv --reuid=1000 --regid=1000 --clear-groups \"$@\"; }; ",
    );
    // crun of Debian's reads no newer specification.
    let _ = peer
        .sh(&format!(
            "cp {} tinyrun && mkdir xdg rootfs && tar -C {} -c . | tar -C rootfs -x && chown -R 1000:1000 . && \
             user ./tinyrun spec --rootless && sed -i -e 's/\"terminal\": true/\"terminal\": false/' \
             -e 's/\"ociVersion\": \"[^\"]*\"/\"ociVersion\": \"1.0.2\"/' -e 's|^ *\"sh\"|\"sh\", \"/look\"|' config.json",
            tinyrun(),
            busybox()
        ))
        .expect_ok();
    peer.file("rootfs/look", LOOK_AROUND);
    let said = |line: &str| {
        let out = peer.sh(line);
        (out.code, out.stdout, out.stderr)
    };
    let ours = said("user ./tinyrun run c1");
    assert_eq!(ours.0, 7, "{ours:?}");
    assert_eq!(ours, said("user crun run c1"));
    assert_eq!(ours, said("user runc run c1"));
    // A limit that nobody could hold to: an error under runc too.
    let _ = peer
        .sh("sed -i 's/\"linux\": {/\"linux\": {\"resources\": {\"pids\": {\"limit\": 9}},/' config.json")
        .expect_ok();
    assert_eq!(said("user ./tinyrun run c1").0, 1);
    assert_eq!(said("user runc run c1").0, 1);
    peer.end("true");
}

#[test]
fn podman_runs_on_it_as_on_crun() {
    const LINES: [&str; 35] = [
        "podman run --rm bb sh -c 'echo out; exit 7'",
        "podman run --rm bb /nope",
        "podman run -d --name c1 bb sleep 1000 >@DIR@/id",
        "podman exec c1 sh -c 'echo in; exit 3'",
        "podman exec c1 /nope",
        "podman exec -e A=b -w /tmp -u 5:6 c1 sh -c 'echo $A; pwd; id'",
        "script -qec \"podman run --rm -it bb sh -c 'test -t 0 && test -t 1 && echo terminal'\" /dev/null | grep -o terminal",
        "script -qec \"podman exec -it c1 sh -c 'test -t 0 && test -t 1 && echo terminal'\" /dev/null | grep -o terminal",
        "podman pause c1",
        "podman ps -a --format '{{.Names}} {{.State}}'",
        "podman unpause c1",
        "podman stats --no-stream --format '{{.Name}} {{.PIDs}}' c1",
        "podman top c1 args",
        "podman kill -s USR1 c1",
        "podman stop -t 1 c1",
        "podman start c1",
        "podman update --cpus 0.3 c1 >/dev/null",
        "podman exec c1 cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true",
        "podman rm -f -t 0 c1",
        "podman run --rm --read-only bb sh -c 'touch /x || echo read-only'",
        "podman run --rm --read-only --tmpfs /t bb sh -c 'touch /t/x && echo writable'",
        "mkdir -p @DIR@/vol; echo data >@DIR@/vol/f; podman run --rm -v @DIR@/vol:/v:ro bb sh -c 'cat /v/f; touch /v/g || echo ro'",
        "podman run --rm -v @DIR@/vol:/v bb touch /v/g; ls @DIR@/vol",
        // Words of the engine's own, and some of the kernel's, that come as options of a bind mount.
        "n=0; for o in nocopy copy z Z U private slave rslave shared noexec,nosuid,nodev exec,suid,dev rbind idmap; do \
         n=$((n + 1)); podman run --rm -v v$n:/v:$o bb true && podman run --rm -v @DIR@/vol:/v:$o bb true && echo $o; done; podman volume rm -a >/dev/null",
        "podman run --rm --cpus 0.5 -m 64m --pids-limit 20 bb sh -c 'cd /sys/fs/cgroup; \
         cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max memory.max cpu.max pids.max 2>/dev/null; true'",
        "podman run -d --name h --health-cmd true --health-interval disable bb sleep 1000 >@DIR@/id",
        "podman healthcheck run h",
        "podman rm -f -t 0 h",
        "podman pod create --name po --infra-image bb --infra-command '/bin/sleep 1000' >@DIR@/id && \
         podman run -d --pod po --name pc bb sleep 1000 >@DIR@/id && podman exec pc hostname && podman pod rm -f -t 0 po >@DIR@/id",
        "podman run --rm --uidmap 0:1000:100 bb cat /proc/self/uid_map",
        "podman run --rm --userns=auto:size=1000 bb sh -c 'cat /proc/self/uid_map; touch /x && stat -c %u /x'",
        "podman run --rm --init bb true",
        "podman run --rm --sysctl net.ipv4.ip_forward=1 bb cat /proc/sys/net/ipv4/ip_forward",
        "podman run --rm --preserve-fds 2 bb sh -c 'cat <&3' 3</etc/hostname 4</dev/null",
        "podman create --name cc bb echo late >@DIR@/id && podman init cc && podman start -a cc && podman rm cc",
    ];
    let (ours, theirs) = (podman(&tinyrun()), podman("/usr/bin/crun"));
    assert_same(&ours, &theirs, &LINES);
    // What crun cannot do without CAP_SYS_RESOURCE, and what the user is told.
    let _ = ours.sh("podman run --rm --privileged bb mount -t tmpfs x /tmp").expect_ok();
    assert!(ours.sh("podman run --rm bb /nope").stderr.contains("no such file or directory"));
    assert!(ours.sh("podman run --rm -w '' --entrypoint nope bb").stderr.contains("not found in $PATH"));
    for peer in [ours, theirs] {
        peer.end("podman rm -af -t 0; podman pod rm -af");
    }
}

/// containerd, with the image imported.
pub(crate) fn containerd() -> Peer {
    let mut peer = Peer::host(
        "export CONTAINERD_ADDRESS=@DIR@/c.sock CONTAINERD_NAMESPACE=@ID@-peer DOCKER_HOST=unix://@DIR@/d.sock HOME=@DIR@; ",
    );
    peer.file(
        "containerd.toml",
        "version = 2\nroot = \"@DIR@/croot\"\nstate = \"@DIR@/cstate\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"@DIR@/c.sock\"\n",
    );
    peer.start("containerd -c @DIR@/containerd.toml >@DIR@/containerd.log 2>&1");
    wait_for("containerd", 20, || peer.sh("ctr version").ok().then_some(()));
    peer
}

/// docker with a containerd of its own, a runtime by name, and an image `bb` of busybox.
pub(crate) fn docker(runtime: &str) -> Peer {
    let mut peer = containerd();
    let runtimes = r#"{"runtimes":{"tinyrun":{"path":"@TINYRUN@"},"crun":{"path":"/usr/bin/crun"}},"default-runtime":"@DEFAULT@","cgroup-parent":"/@ID@-peer"}"#;
    peer.file("daemon.json", &runtimes.replace("@DEFAULT@", runtime));
    peer.start(
        "dockerd --config-file @DIR@/daemon.json --containerd @DIR@/c.sock --data-root @DIR@/droot --exec-root @DIR@/drun \
         -H unix://@DIR@/d.sock -p @DIR@/pid --iptables=false --ip6tables=false >@DIR@/dockerd.log 2>&1",
    );
    wait_for("dockerd", 30, || peer.sh("docker version >/dev/null 2>&1").ok().then_some(()));
    let _ = peer.sh(&format!("tar -C {} -c . | docker import - bb", busybox())).expect_ok();
    peer
}

#[test]
fn docker_runs_on_it_as_on_crun() {
    const LINES: [&str; 28] = [
        "docker run --rm bb sh -c 'echo out; exit 7'",
        "docker run -d --name c1 bb sleep 1000 >@DIR@/id",
        "docker exec c1 sh -c 'echo in; exit 3'",
        "docker exec -u 5:6 -w /tmp -e A=b c1 sh -c 'id; pwd; echo $A'",
        "script -qec \"docker run --rm -it bb sh -c 'test -t 0 && test -t 1 && echo terminal'\" /dev/null | grep -o terminal",
        "script -qec \"docker exec -it c1 sh -c 'test -t 0 && test -t 1 && echo terminal'\" /dev/null | grep -o terminal",
        "docker pause c1",
        "docker inspect --format '{{.State.Status}}' c1",
        "docker unpause c1",
        "docker stats --no-stream --format '{{.Name}} {{.PIDs}}' c1",
        "docker top c1 | grep -c 'sleep 1000'",
        "docker update --cpus 0.3 -m 100m --memory-swap 100m c1",
        "docker exec c1 sh -c 'cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory/memory.limit_in_bytes'",
        "docker stop -t 1 c1",
        "docker start c1",
        "docker restart -t 1 c1",
        "docker kill c1",
        "docker wait c1",
        "docker rm c1",
        "docker run --rm --read-only bb sh -c 'touch /x || echo read-only'",
        "docker run --rm -m 64m --cpus .5 --pids-limit 20 bb sh -c 'cd /sys/fs/cgroup; \
         cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max'",
        "mkdir -p @DIR@/vol; echo data >@DIR@/vol/f; docker run --rm -v @DIR@/vol:/v:ro bb sh -c 'cat /v/f; touch /v/g || echo ro'",
        "for o in nocopy z Z private rprivate slave ro; do docker run --rm -v v$o:/v:$o bb true && echo $o; done",
        "docker run --rm --tmpfs /t bb sh -c 'touch /t/x && echo writable'",
        "docker run --rm --pid host --ipc host --uts host bb true",
        "docker run --rm --security-opt no-new-privileges bb cat /proc/self/status | grep -e NoNewPrivs -e Seccomp: -e Cap",
        "docker run --rm --sysctl net.ipv4.ip_forward=1 bb cat /proc/sys/net/ipv4/ip_forward",
        "docker run --rm --device /dev/null:/dev/mine bb sh -c 'echo x >/dev/mine && test -c /dev/mine && echo device'",
    ];
    let (ours, theirs) = (docker("tinyrun"), docker("crun"));
    assert_same(&ours, &theirs, &LINES);
    // Docker tells these apart by runc's words, which crun has not.
    assert_eq!(ours.sh("docker run --rm bb /nope").code, 127);
    assert_eq!(ours.sh("docker run --rm bb /etc").code, 126);
    let _ = ours.sh("docker run --rm --privileged bb mount -t tmpfs x /tmp").expect_ok();
    for peer in [ours, theirs] {
        peer.end("docker rm -f $(docker ps -aq)");
    }
}

#[test]
fn docker_and_tinyd_pull_what_the_other_has_pushed() {
    let mut peer = docker("crun");
    peer.sandbox.start_daemon();
    peer.sandbox.own_etc();
    let registry = Registry::plain(&peer.sandbox, 5000);
    registry.trust(&peer.sandbox, &[]);
    let (theirs, ours) = (registry.name("theirs:1"), registry.name("ours:1"));
    let _ = peer.sh(&format!("docker tag bb {theirs}; docker push -q {theirs}")).expect_ok();
    let sandbox = &peer.sandbox;
    sandbox.ok(&["pull", "-q", &theirs]);
    let id = |name: &str| sandbox.ok(&["images", "-q", "--no-trunc", name]);
    let their_id =
        |name: &str| peer.sh(&format!("docker images -q --no-trunc {name}")).expect_ok().trimmed().to_owned();
    assert_eq!(id(&theirs), their_id("bb"));
    assert_eq!(sandbox.ok(&["run", "--rm", "-a", &theirs, "cat", "/etc/image-mark"]), "as the image has it");
    // An archive's image, whose layer has another digest than docker would give it.
    let recipe = Recipe { names: &["made"], config: json!({ "Cmd": ["true"] }), layers: &[&busybox()] };
    let path = archive(sandbox.dir(), "made.tar", &recipe);
    sandbox.ok(&["load", "-q", "-i", &path]);
    sandbox.ok(&["tag", "made", &ours]);
    let pushed = sandbox.ok(&["push", &ours]);
    let pulled = peer.sh(&format!("docker pull {ours}")).expect_ok().stdout;
    let digest = pulled.lines().find_map(|line| line.strip_prefix("Digest: ")).unwrap_or_default();
    assert!(
        !digest.is_empty() && pushed.contains(&format!("1: digest: {digest} size: ")),
        "{pushed} {pulled}"
    );
    assert_eq!(their_id(&ours), id(&ours));
    registry.end();
    peer.end("docker rmi -f $(docker images -aq)");
}

#[test]
fn containerd_runs_on_it_as_on_crun() {
    const LINES: [&str; 15] = [
        "ctr run --rm $R bb a sh -c 'echo hi; exit 4'",
        "ctr run -d $R bb b sleep 1000",
        "ctr t exec --exec-id e1 b sh -c 'echo in; exit 3'",
        "script -qec \"ctr run --rm -t $R bb t sh -c 'test -t 0 && echo terminal'\" /dev/null | grep -o terminal",
        "ctr t pause b",
        "ctr t ls | awk '$1 == \"b\" {print $3}'",
        "ctr t resume b",
        "ctr t ps b | wc -l",
        "ctr t metrics b | grep -c -e memory.usage -e pids.current",
        "ctr t kill -s 9 b; for i in $(seq 100); do ctr t ls | grep -q STOPPED && break; sleep 0.05; done; ctr t rm b 2>/dev/null",
        "ctr c rm b",
        "ctr run --rm $R --memory-limit 67108864 bb m cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
        "ctr run --rm $R --seccomp bb s cat /proc/self/status | grep -e NoNewPrivs -e Seccomp: -e Cap",
        "ctr run --rm $R --uidmap 0:1000:1000 --gidmap 0:1000:1000 bb u cat /proc/self/uid_map",
        "ctr run --rm $R --net-host --cwd /tmp --env A=b bb n sh -c 'pwd; echo $A'",
    ];
    let archive = oci_archive();
    let start = |runtime: &str| {
        let mut peer = containerd();
        peer.prelude.push_str(&format!("R='--runc-binary {runtime}'; export R; "));
        let _ = peer.sh(&format!("ctr image import --index-name bb {archive}")).expect_ok();
        peer
    };
    let (ours, theirs) = (start(&tinyrun()), start("/usr/bin/crun"));
    assert_same(&ours, &theirs, &LINES);
    let missing = ours.sh("ctr run --rm $R bb x /nope");
    assert!(missing.stderr.contains("\"/nope\": no such file or directory"), "{missing:?}");
    let _ = ours.sh("ctr run --rm $R --privileged bb p mount -t tmpfs x /tmp").expect_ok();
    for peer in [ours, theirs] {
        peer.end("for c in $(ctr c ls -q); do ctr t kill -s 9 $c; ctr t rm -f $c; ctr c rm $c; done");
    }
    fs::remove_file(archive).unwrap();
}

/// An OCI image archive of the busybox root, made with podman's save; its path.
fn oci_archive() -> String {
    let peer = podman(&tinyrun());
    let archive = format!("/var/tmp/te-archive-{}.tar", std::process::id());
    let _ = peer.sh(&format!("podman save -q --format oci-archive -o {archive} bb")).expect_ok();
    peer.end("podman rmi -af");
    archive
}
