//! A daemon in small: starts the real `tinyrun shim` on a socket, speaks the protocol, and looks that nothing is left.

use std::{
    collections::VecDeque,
    io::IoSlice,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{chown, symlink},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use tinyd_core::{
    ContainerId, Exit, oci,
    wire::{self, ExecPlan, FrameKind, Message, Plan, Request, Rootfs, Seccomp},
};
use tinyd_sys::socket;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// The first host id of the tests' user namespaces.
const IDS: u32 = 300_000;
const APPLETS: [&str; 15] = [
    "grep", "sh", "cat", "echo", "sleep", "yes", "stty", "id", "head", "dd", "ps", "true", "nc", "printf",
    "tr",
];

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A shim, its directory, its container's root.
pub(crate) struct Shim {
    pub(crate) dir: PathBuf,
    pub(crate) id: ContainerId,
    pub(crate) child: Child,
    cgroup: String,
}

impl Shim {
    pub(crate) fn start() -> Shim {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tinyd-test-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        make_root(&dir);
        let listener = UnixListener::bind(dir.join("shim.sock")).unwrap();
        let log = std::fs::File::create(dir.join("shim.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tinyrun"))
            .arg("shim")
            .env_clear()
            .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut random = [0; 32];
        random[..4].copy_from_slice(&std::process::id().to_le_bytes());
        random[4..8].copy_from_slice(&n.to_le_bytes());
        Shim { dir, id: ContainerId::from_bytes(random), child, cgroup: format!("/{name}/c") }
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.dir.join("shim.sock")).unwrap();
        Client { stream, bytes: VecDeque::new(), fds: Vec::new() }
    }

    /// A plan for `sh -c script`.
    pub(crate) fn plan(&self, script: &str) -> Plan {
        let namespaces = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"];
        let spec = serde_json::json!({
            "ociVersion": "1.2.1",
            "root": { "path": self.dir.join("merged") },
            "hostname": "test",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            ],
            "process": process(script),
            "linux": {
                "uidMappings": [{ "containerID": 0, "hostID": IDS, "size": 65536 }],
                "gidMappings": [{ "containerID": 0, "hostID": IDS, "size": 65536 }],
                "cgroupsPath": self.cgroup,
                "namespaces": namespaces.map(|kind| serde_json::json!({ "type": kind })),
            },
        });
        Plan {
            id: self.id.clone(),
            spec: serde_json::from_value(spec).unwrap(),
            rootfs: Rootfs::Overlay {
                lower: vec![self.dir.join("root")],
                upper: self.dir.join("upper"),
                work: self.dir.join("work"),
            },
            seccomp: Seccomp::Default,
            log_path: Some(self.dir.join("log")),
            stdin_open: false,
            init: false,
            run_dir: self.dir.clone(),
            forwards: Vec::new(),
            failpoint: String::new(),
        }
    }

    /// Creates and starts; the first process.
    pub(crate) fn run(&self, plan: Plan) -> i32 {
        let mut client = self.connect();
        let pid = client.create(plan);
        client.start();
        pid
    }

    /// What the file says that is written before anyone is told.
    pub(crate) fn exit_file(&self) -> Option<Exit> {
        let bytes = std::fs::read(self.dir.join(wire::EXIT_FILE)).ok()?;
        Some(tinyd_core::json::read(&bytes).unwrap())
    }

    /// The texts of the log's entries of one stream, put together.
    pub(crate) fn log(&self, stream: &str) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let mut text = String::new();
        for entry in log.lines() {
            let words: Vec<&str> = entry.splitn(4, ' ').collect();
            if words[1] == stream {
                text.push_str(words[3]);
                text.push_str(if words[2] == "F" { "\n" } else { "" });
            }
        }
        text
    }

    /// Waits for the shim's end, and looks that it has left nothing.
    pub(crate) fn is_gone(&mut self) -> bool {
        until("the shim ends", || self.child.try_wait().unwrap().is_some());
        assert_eq!(self.said(), "", "the shim had nothing to say");
        self.cgroups().is_empty()
    }

    /// What it has written to standard error.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.dir.join("shim.log")).unwrap_or_default()
    }

    /// The container's cgroup.
    pub(crate) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The directories of the container's cgroup.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let own = self.cgroup.trim_start_matches('/');
        let below = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path().join(own));
        below.chain([root.join(own)]).filter(|path| path.exists()).collect()
    }

    /// `Key` of /proc/PID/smaps_rollup in KiB.
    pub(crate) fn memory_kib(&self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A test that has failed may have left its container.
        for _ in 0..200 {
            if self.cgroups().iter().all(|path| kill_all(path)) {
                break;
            }
            sleep(Duration::from_millis(5));
        }
        for path in self.cgroups() {
            let _ = std::fs::remove_dir(path);
        }
        // The parent is the daemon's.
        let own = self.cgroup.trim_start_matches('/').split_once('/').map_or("", |(parent, _)| parent);
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(own));
        }
        let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(own));
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Kills what is in a cgroup of the test's own; whether there was nothing.
fn kill_all(cgroup: &Path) -> bool {
    let procs = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<i32> = procs.lines().filter_map(|line| line.parse().ok()).collect();
    pids.iter().for_each(|pid| drop(tinyd_sys::process::kill(*pid, 9)));
    pids.is_empty()
}

/// A process that is `sh -c script`.
pub(crate) fn process(script: &str) -> oci::Process {
    oci::Process {
        cwd: "/".into(),
        args: ["sh", "-c", script].map(Into::into).to_vec(),
        env: vec!["PATH=/bin".into()],
        ..oci::Process::default()
    }
}

pub(crate) fn exec_plan(script: &str) -> Request {
    Request::Exec(Box::new(ExecPlan { process: process(script), seccomp: Seccomp::Default }))
}

fn make_root(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
    for name in ["root/bin", "root/proc", "root/dev", "root/tmp", "upper", "work", "merged"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    chown(dir.join("upper"), Some(IDS), Some(IDS)).unwrap();
    std::fs::copy("/bin/busybox", dir.join("root/bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", dir.join("root/bin").join(applet)).unwrap();
    }
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    bytes: VecDeque<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Client {
    pub(crate) fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) {
        self.send_bytes(&wire::json_frame(request).unwrap(), fds);
    }

    pub(crate) fn send_stream(&mut self, kind: FrameKind, bytes: &[u8]) {
        let head = wire::head(kind, bytes.len() as u32);
        self.send_bytes(&[&head, bytes].concat(), &[]);
    }

    fn send_bytes(&mut self, mut bytes: &[u8], mut fds: &[BorrowedFd<'_>]) {
        let deadline = Instant::now() + PATIENCE;
        while !bytes.is_empty() {
            match socket::send(self.stream.as_fd(), &[IoSlice::new(bytes)], fds).unwrap() {
                Some(sent) => (bytes, fds) = (&bytes[sent..], &[]),
                None => sleep(Duration::from_millis(1)),
            }
            assert!(Instant::now() < deadline, "the shim does not read");
        }
    }

    /// The next frame; `None` when the shim has closed.
    pub(crate) fn next(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        let head: Vec<u8> = self.take(wire::HEAD_BYTES)?;
        let (kind, len) = wire::parse_head(head.try_into().unwrap()).unwrap();
        Some((kind, self.take(len as usize)?))
    }

    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 8192];
        while self.bytes.len() < len {
            match socket::receive(self.stream.as_fd(), &mut buffer, &mut self.fds) {
                Ok(Some(0)) | Err(_) => return None,
                Ok(Some(came)) => self.bytes.extend(&buffer[..came]),
                Ok(None) => sleep(Duration::from_millis(1)),
            }
            assert!(Instant::now() < deadline, "the shim says nothing");
        }
        Some(self.bytes.drain(..len).collect())
    }

    pub(crate) fn message(&mut self) -> Option<Message> {
        let (kind, payload) = self.next()?;
        assert_eq!(kind, FrameKind::Json);
        Some(tinyd_core::json::read(&payload).unwrap())
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Message {
        self.send(request, &[]);
        self.message().expect("an answer")
    }

    pub(crate) fn create(&mut self, plan: Plan) -> i32 {
        match self.ask(&Request::Create(Box::new(plan))) {
            Message::Created { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn start(&mut self) {
        let answer = self.ask(&Request::Start);
        assert!(matches!(answer, Message::Started { .. }), "{answer:?}");
    }

    pub(crate) fn done(&mut self, request: &Request) {
        assert_eq!(self.ask(request), Message::Done, "{request:?}");
    }

    /// All output until the end: standard output, standard error, how it ended.
    pub(crate) fn output(&mut self) -> (String, String, Option<Exit>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            match self.next() {
                Some((FrameKind::Stdout, bytes)) => out.extend(bytes),
                Some((FrameKind::Stderr, bytes)) => err.extend(bytes),
                Some((FrameKind::Json, json)) => match tinyd_core::json::read(&json).unwrap() {
                    Message::Exited(exit) => return (text(out), text(err), Some(exit)),
                    other => panic!("{other:?}"),
                },
                Some((kind, _)) => panic!("{kind:?}"),
                None => return (text(out), text(err), None),
            }
        }
    }

    /// Reads output until it contains `wanted`.
    pub(crate) fn output_until(&mut self, wanted: &str) {
        let mut out = Vec::new();
        while !String::from_utf8_lossy(&out).contains(wanted) {
            let (kind, bytes) = self.next().expect("more output");
            assert_eq!(kind, FrameKind::Stdout);
            out.extend(bytes);
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Waits for something to come true.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what}: not yet after {PATIENCE:?}");
        sleep(Duration::from_millis(5));
    }
}
