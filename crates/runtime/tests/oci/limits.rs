//! Limits that change while a container runs, as the container itself reads them.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::driver::{Bundle, Said};

fn running(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name).args(&["sleep", "1000"]);
    bundle.spec["linux"]["resources"]["cpu"] =
        json!({ "quota": 40000, "period": 100_000, "shares": 512, "cpus": "0", "mems": "0" });
    bundle.spec["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    bundle.write();
    bundle.tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["start", &bundle.id]).says("");
    bundle
}

impl Bundle {
    fn update(&self, options: &[&str]) -> Said {
        self.tinyrun(&[&["update"], options, &[self.id.as_str()]].concat())
    }

    /// What one of two files of the cgroup says: v1's, or v2's.
    fn limit(&self, v1: &str, v2: &str) -> String {
        let script = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
        let said = self.tinyrun(&["exec", &self.id, "sh", "-c", &script]);
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    }
}

#[test]
fn update_changes_what_it_names_and_nothing_else() {
    let bundle = running("update");
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    bundle.update(&["--memory", "128m", "--pids-limit", "77"]).says("");
    assert_eq!(bundle.limit("memory/memory.limit_in_bytes", "memory.max"), (128 << 20).to_string());
    assert_eq!(bundle.limit("pids/pids.max", "pids.max"), "77");
    let quota = || bundle.limit("cpu/cpu.cfs_quota_us", "cpu.max");
    assert_eq!(quota(), if v2 { "40000 100000" } else { "40000" });
    // A shorter period and its quota at once, then a longer one: neither order of writes is right for both.
    bundle.update(&["--cpu-period", "20000", "--cpu-quota", "10000"]).says("");
    assert_eq!(quota(), if v2 { "10000 20000" } else { "10000" });
    bundle.update(&["--cpu-period", "200000", "--cpu-quota", "150000"]).says("");
    assert_eq!(quota(), if v2 { "150000 200000" } else { "150000" });
    let change = r#"{"cpu":{"quota":-1},"memory":{"limit":33554432}}"#;
    bundle.tinyrun_reading(change, &["update", "--resources", "-", &bundle.id]).says("");
    assert_eq!(quota(), if v2 { "max 200000" } else { "-1" });
    assert_eq!(bundle.limit("memory/memory.limit_in_bytes", "memory.max"), (32 << 20).to_string());
    assert_eq!(bundle.limit("cpu/cpu.shares", "cpu.weight"), if v2 { "59" } else { "512" });
}

#[test]
fn update_refuses_what_is_no_limit_and_who_does_not_run() {
    let bundle = running("update-bad");
    // Engines ask for nothing, too: everything stays.
    bundle.update(&[]).says("");
    bundle.tinyrun_reading("{}", &["update", "-r", "-", &bundle.id]).says("");
    bundle.update(&["--kernel-memory", "1m"]).says("");
    bundle.update(&["--memory", "5q"]).fails(1, "--memory: ");
    bundle.update(&["--cpuset-cpus", "99999"]).fails(1, "linux.resources.cpu.cpus: ");
    bundle.tinyrun_reading("{", &["update", "-r", "-", &bundle.id]).fails(1, "--resources: ");
    bundle.tinyrun(&["update", "--memory", "1g", "nobody"]).fails(1, "does not exist");
    bundle.tinyrun(&["kill", &bundle.id, "KILL"]).says("");
    crate::driver::until_stopped(&bundle);
    bundle.update(&["--memory", "128m"]).fails(1, "container not running");
}

#[test]
fn events_tell_what_is_used_until_the_end() {
    let bundle = running("events");
    let said = bundle.tinyrun(&["events", "--stats", &bundle.id]);
    let stats: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((stats["type"].as_str(), stats["id"].as_str()), (Some("stats"), Some(bundle.id.as_str())));
    assert_eq!(stats["data"]["pids"]["current"], 1);
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 64 << 20);
    assert!(stats["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert_eq!(stats["data"]["cpuset"]["cpus"], json!([0]));
    assert_eq!(stats["data"]["cpuset"]["mems"], json!([0]));
    if !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        assert_eq!(stats["data"]["cpuset"]["sched_relax_domain_level"], -1);
        let usage = &stats["data"]["cpu"]["usage"];
        let all = usage["percpu"].as_array().unwrap().len();
        for name in ["percpu_kernel", "percpu_user"] {
            assert_eq!(usage[name].as_array().map(Vec::len), Some(all), "{name}: {usage}");
        }
    }
    bundle.tinyrun(&["events", "--interval", "5", &bundle.id]).fails(1, "--interval: ");
    let records = bundle.dir.join("records");
    let mut following = Command::new(crate::driver::tinyrun())
        .args(["--root", records.to_str().unwrap(), "events", "--interval", "20ms", &bundle.id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().take(2).all(|line| line.unwrap().contains("\"stats\"")));
    bundle.tinyrun(&["kill", &bundle.id, "KILL"]).says("");
    lines.for_each(drop);
    assert!(following.wait().unwrap().success(), "it ends when the container does");
    crate::driver::until_stopped(&bundle);
    bundle.tinyrun(&["events", "--stats", &bundle.id]).fails(1, "is not running");
}
