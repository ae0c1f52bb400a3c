//! `tinyrun` as an OCI runtime, the way containerd and podman call one.

use std::fs;

use serde_json::{Value, json};
use tinyd_e2e::{Options, Output, Sandbox, bin_dir, busybox, wait_for};

/// A bundle that runs these words, and a state directory.
struct Bundle {
    sandbox: Sandbox,
    state: String,
    bundle: String,
    /// Unique on this machine, for the cgroup that is named after it.
    id: String,
}

impl Bundle {
    fn new(args: &[&str]) -> Bundle {
        let sandbox = Sandbox::without_daemon(Options::default());
        let (state, bundle) = (sandbox.make_dir("state"), sandbox.make_dir("bundle"));
        let id = sandbox.run_dir().file_name().unwrap().to_string_lossy().into_owned();
        let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
        let spec = json!({
            "ociVersion": "1.2.0",
            "process": {
                "args": args, "cwd": "/", "env": ["PATH=/bin", "TERM=xterm"], "user": {"uid": 0, "gid": 0},
                "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
                "noNewPrivileges": true,
            },
            "root": {"path": busybox(), "readonly": true},
            "hostname": "bundle",
            "mounts": [
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755"]),
                mount("/tmp", "tmpfs", &["nosuid"]),
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}, {"type": "cgroup"}],
                "resources": {"pids": {"limit": 50}, "memory": {"limit": 67_108_864}},
                "maskedPaths": ["/proc/kcore"],
                "readonlyPaths": ["/proc/sys"],
            },
        });
        fs::write(format!("{bundle}/config.json"), spec.to_string()).unwrap();
        Bundle { sandbox, state, bundle, id }
    }

    fn tinyrun(&self, words: &str) -> Output {
        let tinyrun = bin_dir().join("tinyrun").display().to_string();
        self.sandbox.host().sh(&format!("{tinyrun} --root {} {words}", self.state))
    }

    fn status(&self) -> String {
        let state = self.tinyrun(&format!("state {}", self.id)).expect_ok();
        let state: Value = serde_json::from_str(&state.stdout).unwrap();
        assert_eq!(state["id"], json!(self.id));
        state["status"].as_str().unwrap().to_owned()
    }
}

#[test]
fn run_is_the_programs_output_and_status() {
    let bundle = Bundle::new(&["sh", "-c", "hostname; echo err >&2; exit 5"]);
    let out = bundle.tinyrun(&format!("run --bundle {} {}", bundle.bundle, bundle.id));
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (5, "bundle\n", "err\n"), "{out:?}");
    assert!(fs::read_dir(&bundle.state).unwrap().next().is_none(), "no state is left");
}

#[test]
fn create_start_kill_delete() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let (dir, id) = (&bundle.bundle, &bundle.id);
    // The container keeps the streams that create was given.
    let _ = bundle
        .tinyrun(&format!(
            "create --bundle {dir} --pid-file {dir}/pid {id} </dev/null >/dev/null 2>{dir}/err"
        ))
        .expect_ok();
    assert_eq!(bundle.status(), "created");
    let pid: u32 = fs::read_to_string(format!("{dir}/pid")).unwrap().trim().parse().unwrap();
    assert!(fs::exists(format!("/proc/{pid}")).unwrap());
    let _ = bundle.tinyrun(&format!("start {id}")).expect_ok();
    assert_eq!(bundle.status(), "running");
    let out = bundle.tinyrun(&format!("exec {id} cat /proc/1/cmdline")).expect_ok();
    assert!(out.stdout.starts_with("sleep"), "{out:?}");
    assert_ne!(bundle.tinyrun(&format!("delete {id}")).code, 0, "it runs");
    let _ = bundle.tinyrun(&format!("kill {id} KILL")).expect_ok();
    wait_for("its end", 5, || (bundle.status() == "stopped").then_some(()));
    let _ = bundle.tinyrun(&format!("delete {id}")).expect_ok();
    assert_ne!(bundle.tinyrun(&format!("state {id}")).code, 0);
}

#[test]
fn delete_by_force() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let (dir, id) = (&bundle.bundle, &bundle.id);
    let _ =
        bundle.tinyrun(&format!("create --bundle {dir} {id} </dev/null >/dev/null 2>{dir}/err")).expect_ok();
    let _ = bundle.tinyrun(&format!("delete --force {id}")).expect_ok();
}

#[test]
fn a_failure_names_the_step_and_leaves_nothing() {
    let bundle = Bundle::new(&["no-such-program"]);
    let out = bundle.tinyrun(&format!("run --bundle {} {}", bundle.bundle, bundle.id));
    assert!(out.code != 0 && out.stderr.contains("no-such-program"), "{out:?}");
    let out = bundle.tinyrun(&format!("run --bundle /no/such/bundle {}", bundle.id));
    assert!(out.code != 0 && out.stderr.contains("/no/such/bundle"), "{out:?}");
    let out = bundle.tinyrun("state ghost");
    assert!(out.code != 0 && out.stderr.contains("ghost"), "{out:?}");
}

#[test]
fn a_parent_cgroup_that_somebody_has_only_just_made_will_do() {
    // Two containers that start at once share a new parent: one makes it, the other must not find its cpuset empty (ENOSPC).
    let bundle = Bundle::new(&["echo", "entered"]);
    let parent = bundle.id.as_str();
    let hierarchy =
        ["/sys/fs/cgroup/cpuset", "/sys/fs/cgroup"].into_iter().find(|dir| fs::exists(dir).unwrap());
    let dir = std::path::Path::new(hierarchy.unwrap()).join(parent);
    fs::create_dir(&dir).unwrap();
    let config = format!("{}/config.json", bundle.bundle);
    let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    spec["linux"]["cgroupsPath"] = json!(format!("/{parent}/c"));
    fs::write(config, spec.to_string()).unwrap();
    let out = bundle.tinyrun(&format!("run --bundle {} {}", bundle.bundle, bundle.id)).expect_ok();
    assert_eq!(out.stdout, "entered\n");
    // A parent that was named is its namer's, in every hierarchy.
    fs::remove_dir(dir).unwrap();
    for entry in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(entry.path().join(parent));
    }
}
