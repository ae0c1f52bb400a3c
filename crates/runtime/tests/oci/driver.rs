//! A bundle of its own for each test, and the leak check.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const PROGRAMS: [&str; 24] = [
    "sh", "true", "echo", "sleep", "cat", "ls", "id", "mknod", "mount", "touch", "grep", "hostname", "stat",
    "readlink", "kill", "ps", "env", "pwd", "umount", "head", "wc", "rm", "df", "ln",
];

static CALLS: AtomicU32 = AtomicU32::new(0);

/// The runtime: cargo's, or that of the directory `TINYD_BIN_DIR` where there is no cargo.
pub(crate) fn tinyrun() -> PathBuf {
    let dir = std::env::var_os("TINYD_BIN_DIR");
    dir.map_or_else(|| env!("CARGO_BIN_EXE_tinyrun").into(), |dir| Path::new(&dir).join("tinyrun"))
}

/// A bundle whose container has the test's own id.
pub(crate) struct Bundle {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    pub(crate) spec: Value,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Bundle {
    pub(crate) fn new(name: &str) -> Bundle {
        let id = format!("test-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(format!("tinyrun-{id}"));
        let _ = fs::remove_dir_all(&dir);
        make_root(&dir.join("rootfs"));
        let made = Command::new(tinyrun()).args(["spec", "--bundle"]).arg(&dir).status().unwrap();
        assert!(made.success());
        let mut spec: Value = tinyd_core::json::read(&fs::read(dir.join("config.json")).unwrap()).unwrap();
        spec["process"]["terminal"] = json!(false);
        Bundle { id, dir, spec }
    }

    /// With a user namespace: root inside is 100000 outside, and owns the root.
    pub(crate) fn with_users(mut self) -> Bundle {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        std::os::unix::fs::lchown(self.dir.join("rootfs"), Some(100_000), Some(100_000)).unwrap();
        self.spec["linux"]["uidMappings"] = map.clone();
        self.spec["linux"]["gidMappings"] = map;
        self.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Bundle {
        self.spec["process"]["args"] = json!(args);
        self
    }

    pub(crate) fn script(self, script: &str) -> Bundle {
        self.args(&["sh", "-c", script])
    }

    pub(crate) fn mount(mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Bundle {
        let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    pub(crate) fn write(&self) {
        fs::write(self.dir.join("config.json"), serde_json::to_vec(&self.spec).unwrap()).unwrap();
    }

    pub(crate) fn run(&self) -> Said {
        self.write();
        self.tinyrun(&["run", "--bundle", self.dir.to_str().unwrap(), &self.id])
    }

    pub(crate) fn tinyrun(&self, args: &[&str]) -> Said {
        self.tinyrun_in(&[], args)
    }

    /// With a text on standard input.
    pub(crate) fn tinyrun_reading(&self, input: &str, args: &[&str]) -> Said {
        let path = self.dir.join(format!("in-{}", CALLS.fetch_add(1, Ordering::Relaxed)));
        fs::write(&path, input).unwrap();
        let around = ["sh", "-c", "exec \"$@\" <\"$0\"", path.to_str().unwrap()];
        self.tinyrun_in(&around, args)
    }

    /// With another program around it, such as `unshare -m`.
    pub(crate) fn tinyrun_in(&self, around: &[&str], args: &[&str]) -> Said {
        // Files and not pipes: a container that stays holds its ends.
        let place = |name: &str| self.dir.join(format!("{name}-{}", CALLS.fetch_add(1, Ordering::Relaxed)));
        let (out, err) = (place("out"), place("err"));
        let (tinyrun, records) = (tinyrun(), self.dir.join("records"));
        let tinyrun = [tinyrun.to_str().unwrap(), "--root", records.to_str().unwrap()];
        let line = [around, &tinyrun, args].concat();
        let status = Command::new(line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .status()
            .unwrap();
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).trim_end().to_owned();
        Said { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err) }
    }

    pub(crate) fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path)
    }

    pub(crate) fn state(&self) -> Value {
        let said = self.tinyrun(&["state", &self.id]);
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    }

    /// Nothing of the container is left.
    pub(crate) fn assert_clean(&self) {
        let records = fs::read_dir(self.dir.join("records")).map_or(0, Iterator::count);
        assert_eq!(records, 0, "records are left");
        let own = format!("tinyrun-{}", self.id);
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let path = hierarchy.unwrap().path().join(&own);
            assert!(!path.exists(), "{} is left", path.display());
        }
        assert!(!Path::new("/sys/fs/cgroup").join(&own).exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.to_str().unwrap()), "a mount is left: {mounts}");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.tinyrun(&["delete", "--force", &self.id]);
        if !std::thread::panicking() {
            self.assert_clean();
        }
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// Waits until its first process has ended.
pub(crate) fn until_stopped(bundle: &Bundle) {
    until_stopped_by(|| bundle.tinyrun(&["state", &bundle.id]));
}

/// The same for whoever asks in another way.
pub(crate) fn until_stopped_by(state: impl Fn() -> Said) {
    wait_for("the end of the first process", || state().out.contains("\"stopped\""));
}

/// Waits until something is so, ten seconds at most: for what nobody tells of, because it is another process's child or in a file.
pub(crate) fn wait_for(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} does not come");
        // The kernel is asked again, and has the CPU meanwhile.
        sleep(Duration::from_millis(2));
    }
}

impl Said {
    /// It worked and said this.
    #[track_caller]
    pub(crate) fn says(&self, out: &str) {
        assert_eq!((self.code, self.out.as_str()), (0, out), "{self:?}");
    }

    /// It did not work, and the message has this in it.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, message: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(message), "{self:?}");
    }
}

fn make_root(root: &Path) {
    for dir in ["bin", "proc", "sys", "dev", "etc", "tmp", "root"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.expect("busybox-static is installed"), root.join("bin/busybox")).unwrap();
    for program in PROGRAMS {
        symlink("busybox", root.join("bin").join(program)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
}
