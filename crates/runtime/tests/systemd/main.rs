//! Containers as systemd's units. For a machine whose first process is systemd, with cgroup v2: `./test vm` has one. What systemd knows is
//! asked of systemctl, what holds of the kernel's files.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod apparmor;
#[path = "../oci/driver.rs"]
#[expect(dead_code, reason = "what the other tests need of it is more")]
mod driver;
mod killed;
mod user;

use std::{fs, path::PathBuf, process::Command};

use driver::{Bundle, Said};
use serde_json::json;

/// A container of systemd's.
struct Scope {
    bundle: Bundle,
    unit: String,
}

impl Scope {
    fn new(name: &str) -> Scope {
        let bundle = Bundle::new(name).args(&["sleep", "1000"]);
        let unit = format!("tinyrun-{}.scope", bundle.id);
        Scope { bundle, unit }
    }

    fn tinyrun(&self, verb: &[&str]) -> Said {
        self.bundle.tinyrun(&[&["--systemd-cgroup"], verb].concat())
    }

    fn run_detached(&self) -> Said {
        self.bundle.write();
        self.tinyrun(&["run", "-d", "-b", self.bundle.dir.to_str().unwrap(), &self.bundle.id])
    }

    fn run(&self) -> Said {
        self.bundle.write();
        self.tinyrun(&["run", "-b", self.bundle.dir.to_str().unwrap(), &self.bundle.id])
    }

    fn delete(&self) -> Said {
        self.tinyrun(&["delete", "--force", &self.bundle.id])
    }

    /// Properties of the unit, one after the other.
    fn show(&self, names: &[&str]) -> Vec<String> {
        show(&["systemctl"], &self.unit, names)
    }

    /// Where its first process is.
    fn cgroup(&self) -> PathBuf {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.bundle.state()["pid"])).unwrap();
        PathBuf::from("/sys/fs/cgroup").join(text.trim().strip_prefix("0::/").unwrap())
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.cgroup().join(name)).unwrap().trim().to_owned()
    }

    /// systemd has nothing of it.
    #[track_caller]
    fn assert_gone(&self) {
        assert_eq!(self.show(&["LoadState", "ActiveState"]), ["not-found", "inactive"]);
        assert!(!PathBuf::from("/sys/fs/cgroup/system.slice").join(&self.unit).exists());
        self.bundle.assert_clean();
    }
}

/// What a manager says of a unit.
fn show(systemctl: &[&str], unit: &str, names: &[&str]) -> Vec<String> {
    let names_given = names.join(",");
    let line = [systemctl, &["show", "--property", &names_given, unit]].concat();
    let out = Command::new(line[0]).args(&line[1..]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let value = |name: &&str| {
        let found = text.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix('='));
        found.map_or_else(|| format!("no {name}"), str::to_owned)
    };
    names.iter().map(value).collect()
}

fn systemctl(words: &[&str]) {
    assert!(Command::new("systemctl").args(words).status().unwrap().success(), "{words:?}");
}

#[test]
fn a_container_is_a_scope_and_its_limits_are_the_scopes() {
    let mut scope = Scope::new("limits");
    scope.bundle.spec["linux"]["resources"] = json!({
        "memory": { "limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20 },
        "cpu": { "shares": 512, "quota": 12_345, "period": 100_000, "cpus": "0" },
        "pids": { "limit": 20 },
        "unified": { "memory.high": "50331648" },
    });
    scope.bundle.spec["annotations"] = json!({
        "org.systemd.property.TimeoutStopSec": "7",
        "org.systemd.property.Documentation": "['man:tinyrun(8)']",
    });
    scope.run_detached().says("");
    let names = [
        "ActiveState",
        "Slice",
        "Delegate",
        "MemoryMax",
        "MemorySwapMax",
        "MemoryLow",
        "MemoryHigh",
        "TasksMax",
    ];
    let values = ["active", "system.slice", "yes", "67108864", "33554432", "33554432", "50331648", "20"];
    assert_eq!(scope.show(&names), values);
    let names = [
        "CPUWeight",
        "CPUQuotaPerSecUSec",
        "CPUQuotaPeriodUSec",
        "AllowedCPUs",
        "TimeoutStopUSec",
        "Documentation",
    ];
    // Systemd counts in hundredths of a CPU; the kernel gets what was asked for.
    assert_eq!(scope.show(&names), ["59", "130ms", "100ms", "0", "7s", "\"man:tinyrun(8)\""]);
    assert_eq!(
        scope.show(&["MemoryAccounting", "IOAccounting", "DefaultDependencies"]),
        ["yes", "yes", "no"]
    );
    assert_eq!(scope.cgroup(), PathBuf::from("/sys/fs/cgroup/system.slice").join(&scope.unit));
    let files = [
        "memory.max",
        "memory.swap.max",
        "memory.low",
        "memory.high",
        "pids.max",
        "cpu.weight",
        "cpuset.cpus",
    ];
    let limits = ["67108864", "33554432", "33554432", "50331648", "20", "59", "0"];
    assert_eq!(files.map(|file| scope.file(file)), limits);
    assert_eq!(scope.file("cpu.max"), "12345 100000");
    // The placeholder has gone, and systemd looks at everything again without taking anything back.
    assert_eq!(scope.file("cgroup.procs"), scope.bundle.state()["pid"].to_string());
    systemctl(&["daemon-reload"]);
    assert_eq!(files.map(|file| scope.file(file)), limits);
    // Devices are our own filter's, which systemd leaves alone.
    scope.tinyrun(&["exec", &scope.bundle.id, "sh", "-c", "mknod /tmp/x b 7 0; cat /tmp/x"]).fails(1, "x");
    scope.tinyrun(&["exec", &scope.bundle.id, "cat", "/proc/self/cgroup"]).says("0::/");
    scope
        .tinyrun(&[
            "update",
            "--memory",
            "80m",
            "--memory-swap",
            "80m",
            "--pids-limit",
            "30",
            &scope.bundle.id,
        ])
        .says("");
    assert_eq!(
        scope.show(&["MemoryMax", "MemorySwapMax", "TasksMax", "CPUWeight"]),
        ["83886080", "0", "30", "59"]
    );
    assert_eq!(
        ["memory.max", "pids.max", "cpu.weight"].map(|file| scope.file(file)),
        ["83886080", "30", "59"]
    );
    assert_eq!(scope.file("cpu.max"), "12345 100000");
    scope.delete().says("");
    scope.assert_gone();
}

#[test]
fn a_path_names_slice_and_scope() {
    let mut scope = Scope::new("path");
    scope.unit = format!("web-{}.scope", scope.bundle.id);
    scope.bundle.spec["linux"]["cgroupsPath"] = json!(format!("tinyd-test.slice:web:{}", scope.bundle.id));
    // As many as a program needs, and nobody else is counted for it.
    scope.bundle.spec["linux"]["resources"] = json!({ "pids": { "limit": 1 } });
    scope.bundle.spec["annotations"] = json!({ "run.oci.systemd.subgroup": "container" });
    scope.run_detached().says("");
    let above = PathBuf::from("/sys/fs/cgroup/tinyd.slice/tinyd-test.slice").join(&scope.unit);
    assert_eq!(scope.cgroup(), above.join("container"));
    assert_eq!(scope.file("pids.max"), "1");
    assert_eq!(scope.show(&["Slice", "TasksMax"]), ["tinyd-test.slice", "1"]);
    scope.delete().says("");
    assert!(!above.exists());
    assert_eq!(scope.show(&["LoadState"]), ["not-found"]);
    systemctl(&["stop", "tinyd.slice"]);
}

#[test]
fn its_end_is_the_scopes_end() {
    let mut scope = Scope::new("end");
    scope.bundle =
        std::mem::replace(&mut scope.bundle, Bundle::new("end-other")).args(&["cat", "/proc/self/cgroup"]);
    scope.run().says("0::/");
    scope.assert_gone();
    // Without a bus there is still systemd's own socket.
    let dir = scope.bundle.dir.to_str().unwrap();
    let nowhere = ["env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent"];
    let run = ["--systemd-cgroup", "run", "-b", dir, &scope.bundle.id];
    scope.bundle.tinyrun_in(&nowhere, &run).says("0::/");
    scope.assert_gone();
    // A program that cannot be executed leaves nothing either.
    scope.bundle.spec["process"]["args"] = json!(["/nope"]);
    scope.run().fails(1, "/nope");
    scope.assert_gone();
}

#[test]
fn a_life_in_single_steps_that_systemd_ends() {
    let scope = Scope::new("steps");
    scope.bundle.write();
    scope.tinyrun(&["create", "-b", scope.bundle.dir.to_str().unwrap(), &scope.bundle.id]).says("");
    assert_eq!(scope.show(&["ActiveState"]), ["active"]);
    scope.tinyrun(&["start", &scope.bundle.id]).says("");
    scope.tinyrun(&["pause", &scope.bundle.id]).says("");
    assert_eq!(scope.bundle.state()["status"], "paused");
    scope.tinyrun(&["resume", &scope.bundle.id]).says("");
    scope
        .tinyrun(&["ps", "-f", "json", &scope.bundle.id])
        .says(&format!("[\n  {}\n]", scope.bundle.state()["pid"]));
    systemctl(&["kill", "--signal", "KILL", &scope.unit]);
    driver::until_stopped(&scope.bundle);
    scope.tinyrun(&["delete", &scope.bundle.id]).says("");
    scope.assert_gone();
}

#[test]
fn what_is_killed_for_memory_leaves_no_failed_unit() {
    let mut scope = Scope::new("oom");
    scope.bundle = std::mem::replace(&mut scope.bundle, Bundle::new("oom-other"))
        .script("x=$(head -c 200000000 /dev/zero | /bin/busybox tr '\\0' x); echo survived");
    scope.bundle.spec["linux"]["resources"] = json!({ "memory": { "limit": 24 << 20, "swap": 24 << 20 } });
    let said = scope.run();
    assert!(!said.out.contains("survived"), "{said:?}");
    scope.assert_gone();
}

#[test]
fn a_name_that_is_taken_is_refused_and_its_owner_lives() {
    let (first, mut second) = (Scope::new("taken"), Scope::new("taken-too"));
    first.run_detached().says("");
    second.bundle.spec["linux"]["cgroupsPath"] = json!(format!(":tinyrun:{}", first.bundle.id));
    second.run_detached().fails(1, &format!("start unit \"{}\": it exists", first.unit));
    second.bundle.assert_clean();
    assert_eq!(first.bundle.state()["status"], "running");
    first.delete().says("");
    first.assert_gone();
}

#[test]
fn what_systemd_refuses_is_told_and_leaves_nothing() {
    let mut scope = Scope::new("refused");
    scope.bundle.spec["annotations"] = json!({ "org.systemd.property.KillMode": "true" });
    scope.run_detached().fails(1, "systemd: ");
    scope.assert_gone();
    scope.bundle.spec["annotations"] = json!({ "org.systemd.property.NoSuchThing": "'x'" });
    scope.run_detached().fails(1, "NoSuchThing");
    scope.assert_gone();
    scope.bundle.spec["annotations"] = json!({});
    scope.bundle.spec["linux"]["resources"] = json!({ "unified": { "memory.nope": "1" } });
    scope.run_detached().fails(1, "memory.nope");
    scope.assert_gone();
}
