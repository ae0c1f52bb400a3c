//! Each limit of the specification in the kernel's own files, as a configuration says it and as `update` changes it. What this host's
//! hierarchy does not have is an error or a warning that names it.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::driver::{Bundle, Said, wait_for};

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A disk of this host, as `major:minor`.
fn disk() -> (String, i64, i64) {
    let disks = fs::read_dir("/sys/block").unwrap().flatten();
    let number = |disk: fs::DirEntry| fs::read_to_string(disk.path().join("dev")).ok();
    let disk = disks.filter_map(number).max().expect("a block device").trim().to_owned();
    let (major, minor) = disk.split_once(':').unwrap();
    (disk.clone(), major.parse().unwrap(), minor.parse().unwrap())
}

impl Bundle {
    fn limited(name: &str, resources: Value) -> Bundle {
        let mut bundle = Bundle::new(name).args(&["sleep", "1000"]);
        bundle.spec["linux"]["resources"] = resources;
        bundle.write();
        bundle
    }

    fn run_on(&self) -> Said {
        self.tinyrun(&["run", "-d", "--bundle", self.dir.to_str().unwrap(), &self.id])
    }

    /// Where a file of its cgroup is: of this controller's hierarchy, or of the one on v2.
    fn path(&self, controller: &str, file: &str) -> PathBuf {
        let hierarchy = if is_v2() { "" } else { controller };
        Path::new("/sys/fs/cgroup").join(hierarchy).join(format!("tinyrun-{}", self.id)).join(file)
    }

    fn has_file(&self, controller: &str, file: &str) -> bool {
        self.path(controller, file).exists()
    }

    fn file(&self, controller: &str, file: &str) -> String {
        let path = self.path(controller, file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim_end().to_owned()
    }

    #[track_caller]
    fn has(&self, files: &[(&str, &str, &str)]) {
        for (controller, file, wanted) in files {
            let found = self.file(controller, file);
            assert!(found.lines().any(|line| line == *wanted), "{file}: {found:?} is not {wanted:?}");
        }
    }

    /// The first set on v1, the other on v2.
    #[track_caller]
    fn has_one_of(&self, v1: &[(&str, &str, &str)], v2: &[(&str, &str, &str)]) {
        self.has(if is_v2() { v2 } else { v1 });
    }
}

#[test]
fn every_limit_is_in_the_kernels_files() {
    let (disk, major, minor) = disk();
    let throttle = |rate: i64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let bundle = Bundle::limited(
        "limits-all",
        json!({
            "memory": { "limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20, "kernel": 1 << 20, "kernelTCP": 2 << 20,
                        "swappiness": 7, "disableOOMKiller": true },
            "cpu": { "shares": 512, "quota": 50000, "period": 100_000, "burst": 10000, "cpus": "0", "mems": "0" },
            "pids": { "limit": 50 },
            "blockIO": { "throttleReadBpsDevice": throttle(1_000_000), "throttleWriteBpsDevice": throttle(2_000_000),
                         "throttleReadIOPSDevice": throttle(300), "throttleWriteIOPSDevice": throttle(400) },
        }),
    );
    let said = bundle.run_on();
    assert_eq!(said.code, 0, "{said:?}");
    bundle.has(&[("pids", "pids.max", "50"), ("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.mems", "0")]);
    let line = |rate: &str| format!("{disk} {rate}");
    bundle.has_one_of(
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "134217728"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory", "memory.kmem.tcp.limit_in_bytes", "2097152"),
            ("memory", "memory.swappiness", "7"),
            ("memory", "memory.oom_control", "oom_kill_disable 1"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "100000"),
            ("cpu", "cpu.cfs_burst_us", "10000"),
            ("blkio", "blkio.throttle.read_bps_device", &line("1000000")),
            ("blkio", "blkio.throttle.write_bps_device", &line("2000000")),
            ("blkio", "blkio.throttle.read_iops_device", &line("300")),
            ("blkio", "blkio.throttle.write_iops_device", &line("400")),
        ],
        &[
            ("memory", "memory.max", "67108864"),
            ("memory", "memory.swap.max", "67108864"),
            ("memory", "memory.low", "33554432"),
            ("cpu", "cpu.weight", "59"),
            ("cpu", "cpu.max", "50000 100000"),
            ("cpu", "cpu.max.burst", "10000"),
            ("io", "io.max", &line("rbps=1000000 wbps=2000000 riops=300 wiops=400")),
        ],
    );
    // What does not hold is said.
    assert!(said.err.contains("warning: linux.resources.memory.kernel is ignored"), "{said:?}");
    for field in ["memory.kernelTCP", "memory.swappiness", "memory.disableOOMKiller"] {
        assert_eq!(said.err.contains(&format!("{field} is ignored")), is_v2(), "{field}: {said:?}");
    }
}

/// Which file has weights depends on the kernel: a container without any shows it.
#[test]
fn weights_of_disks_where_the_kernel_has_them() {
    let (disk, major, minor) = disk();
    let plain = Bundle::limited("weights-none", json!({}));
    plain.run_on().says("");
    let (controller, files) = if is_v2() {
        ("io", &["io.bfq.weight", "io.weight"][..])
    } else {
        ("blkio", &["blkio.bfq.weight"][..])
    };
    let here = files.iter().copied().find(|file| plain.has_file(controller, file));
    let wanted = match here {
        // 10 to 1000 become 1 to 10000.
        Some("io.weight") => ["default 2930", "default 3940"],
        Some("io.bfq.weight") => ["default 300", "default 400"],
        _ => ["300", "400"],
    };
    let bundle = Bundle::limited("weights", json!({ "blockIO": { "weight": 300 } }));
    let said = bundle.run_on();
    let Some(file) = here else {
        return said.fails(1, "linux.resources.blockIO.weight: ");
    };
    said.says("");
    bundle.has(&[(controller, file, wanted[0])]);
    let update = |block: Value| {
        let change = json!({ "blockIO": block }).to_string();
        bundle.tinyrun_reading(&change, &["update", "-r", "-", &bundle.id])
    };
    update(json!({ "weight": 400 })).says("");
    bundle.has(&[(controller, file, wanted[1])]);
    update(json!({ "weight": 1001 })).fails(1, "linux.resources.blockIO.weight: ");
    bundle.has(&[(controller, file, wanted[1])]);

    let said = update(json!({ "weightDevice": [{ "major": major, "minor": minor, "weight": 500 }] }));
    let scheduler = fs::read_to_string(format!("/sys/dev/block/{disk}/queue/scheduler")).unwrap_or_default();
    if file.contains("bfq") && scheduler.contains("[bfq]") {
        said.says("");
        let of_device = if is_v2() { file } else { "blkio.bfq.weight_device" };
        bundle.has(&[(controller, of_device, &format!("{disk} 500"))]);
    } else if said.code != 0 {
        said.fails(1, "linux.resources.blockIO.weightDevice: ");
        said.fails(1, "nothing schedules that disk by weight (bfq does)");
    }

    let leaf = Bundle::limited("weights-leaf", json!({ "blockIO": { "leafWeight": 200 } }));
    let said = leaf.run_on();
    if is_v2() {
        assert!(said.err.contains("linux.resources.blockIO.leafWeight is ignored"), "{said:?}");
    } else if !plain.has_file(controller, "blkio.leaf_weight") {
        said.fails(1, "linux.resources.blockIO.leafWeight: blkio.leaf_weight = 200 cannot be set here");
    }
}

#[test]
fn a_container_that_is_idle_and_one_with_realtime() {
    let bundle = Bundle::limited("limits-idle", json!({ "cpu": { "idle": 1, "shares": 512 } }));
    bundle.run_on().says("");
    bundle.has(&[("cpu", "cpu.idle", "1")]);
    let realtime = json!({ "cpu": { "realtimePeriod": 500_000, "realtimeRuntime": 100 } });
    let bundle = Bundle::limited("limits-realtime", realtime);
    let said = bundle.run_on();
    if is_v2() {
        assert!(said.err.contains("linux.resources.cpu.realtimeRuntime is ignored"), "{said:?}");
    } else if Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        said.says("");
        bundle.has(&[("cpu", "cpu.rt_period_us", "500000"), ("cpu", "cpu.rt_runtime_us", "100")]);
    } else {
        said.fails(1, "linux.resources.cpu.realtimePeriod: cpu.rt_period_us = 500000 cannot be set here");
    }
}

#[test]
fn files_of_v2_by_their_own_names_and_devices_that_nobody_has() {
    let bundle = Bundle::limited("limits-unified", json!({ "unified": { "memory.high": "33554432" } }));
    let said = bundle.run_on();
    if is_v2() {
        said.says("");
        bundle.has(&[("memory", "memory.high", "33554432")]);
        bundle
            .tinyrun_reading(r#"{"unified":{"memory.high":"16777216"}}"#, &["update", "-r", "-", &bundle.id])
            .says("");
        bundle.has(&[("memory", "memory.high", "16777216")]);
    } else {
        said.fails(1, "linux.resources.unified: this host has cgroup v1");
    }
    let bundle = Bundle::limited("limits-rdma", json!({ "rdma": { "nobody_1": { "hcaHandles": 3 } } }));
    bundle.run_on().fails(1, "linux.resources.rdma: ");
}

#[test]
fn update_has_each_limit() {
    let bundle = Bundle::limited("limits-update", json!({ "memory": { "limit": 64 << 20 } }));
    bundle.run_on().says("");
    let update = |options: &[&str]| {
        let said = bundle.tinyrun(&[&["update"], options, &[bundle.id.as_str()]].concat());
        assert_eq!(said.code, 0, "{options:?}: {said:?}");
        said
    };
    update(&["--memory-swap", "96m", "--memory-reservation", "16m", "--cpu-share", "512"]);
    update(&["--cpu-quota", "50000", "--cpu-period", "100000"]);
    update(&["--cpu-burst", "10000", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "30"]);
    bundle.has(&[("pids", "pids.max", "30"), ("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.mems", "0")]);
    bundle.has_one_of(
        &[
            ("memory", "memory.memsw.limit_in_bytes", "100663296"),
            ("memory", "memory.soft_limit_in_bytes", "16777216"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_burst_us", "10000"),
        ],
        &[
            ("memory", "memory.swap.max", "33554432"),
            ("memory", "memory.low", "16777216"),
            ("cpu", "cpu.weight", "59"),
            ("cpu", "cpu.max.burst", "10000"),
        ],
    );
    // The kernel takes no quota below the burst that there is, and no burst above the quota that there is.
    update(&["--cpu-quota", "5000", "--cpu-burst", "1000"]);
    bundle.has_one_of(
        &[("cpu", "cpu.cfs_quota_us", "5000"), ("cpu", "cpu.cfs_burst_us", "1000")],
        &[("cpu", "cpu.max", "5000 100000"), ("cpu", "cpu.max.burst", "1000")],
    );
    update(&["--cpu-quota", "60000", "--cpu-burst", "40000", "--cpu-period", "80000"]);
    bundle.has_one_of(
        &[("cpu", "cpu.cfs_quota_us", "60000"), ("cpu", "cpu.cfs_burst_us", "40000")],
        &[("cpu", "cpu.max", "60000 80000"), ("cpu", "cpu.max.burst", "40000")],
    );
    update(&["--cpu-quota", "5000", "--cpu-burst", "1000", "--cpu-period", "50000"]);
    // Swap is what it was when the memory alone changes: on v1 the sum, on v2 the swap.
    update(&["--memory", "80m"]);
    bundle.has_one_of(
        &[
            ("memory", "memory.memsw.limit_in_bytes", "100663296"),
            ("memory", "memory.limit_in_bytes", "83886080"),
        ],
        &[("memory", "memory.swap.max", "33554432"), ("memory", "memory.max", "83886080")],
    );
    let more = bundle.tinyrun(&["update", "--memory", "97m", &bundle.id]);
    if !is_v2() {
        more.fails(1, "linux.resources.memory.swap: 100663296 bytes");
    } else {
        more.says("");
        bundle.has(&[("memory", "memory.swap.max", "33554432")]);
        update(&["--memory-swap", "100m"]);
        bundle.has(&[("memory", "memory.swap.max", "3145728")]);
    }
    update(&["--cpu-idle", "1"]);
    bundle.has(&[("cpu", "cpu.idle", "1")]);
    let (disk, major, minor) = disk();
    let change =
        json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": 5000 }] } });
    bundle.tinyrun_reading(&change.to_string(), &["update", "-r", "-", &bundle.id]).says("");
    bundle.has_one_of(
        &[("blkio", "blkio.throttle.read_bps_device", &format!("{disk} 5000"))],
        &[("io", "io.max", &format!("{disk} rbps=5000 wbps=max riops=max wiops=max"))],
    );
    // What is ignored is said, and changes nothing.
    let said = update(&["--kernel-memory", "1m"]);
    assert_eq!(
        said.err,
        "tinyrun: warning: linux.resources.memory.kernel is ignored: no kernel has it any more"
    );
    if fs::read_to_string("/proc/mounts").unwrap().contains(" resctrl ") {
        return;
    }
    for option in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=20"] {
        let said = bundle.tinyrun(&["update", "--pids-limit", "40", option, &bundle.id]);
        said.fails(1, "linux.intelRdt: this host has no resctrl file system mounted");
    }
    bundle.has(&[("pids", "pids.max", "30")]);
}

/// As engines do it. What is not named stays; -1 is no limit any more.
#[test]
fn update_reads_each_limit_from_a_file() {
    let bundle = Bundle::limited(
        "limits-json",
        json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 }, "pids": { "limit": 9 } }),
    );
    bundle.run_on().says("");
    let update = |change: Value| {
        bundle.tinyrun_reading(&change.to_string(), &["update", "-r", "-", &bundle.id]).says("");
    };
    update(
        json!({ "memory": { "swap": 96 << 20, "reservation": 16 << 20 }, "cpu": { "cpus": "1", "mems": "0" } }),
    );
    bundle.has(&[("pids", "pids.max", "9"), ("cpuset", "cpuset.cpus", "1"), ("cpuset", "cpuset.mems", "0")]);
    bundle.has_one_of(
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "100663296"),
            ("memory", "memory.soft_limit_in_bytes", "16777216"),
        ],
        &[
            ("memory", "memory.max", "67108864"),
            ("memory", "memory.swap.max", "33554432"),
            ("memory", "memory.low", "16777216"),
        ],
    );
    bundle
        .tinyrun(&["exec", &bundle.id, "grep", "Cpus_allowed_list", "/proc/1/status"])
        .says("Cpus_allowed_list:\t1");
    update(json!({ "pids": { "limit": 20 } }));
    bundle.has(&[("pids", "pids.max", "20"), ("cpuset", "cpuset.cpus", "1")]);
    // Both at once, and each way: one of them would not fit beside the other's old value.
    for (limit, swap) in [(128, 160), (32, 48)] {
        update(json!({ "memory": { "limit": limit << 20, "swap": swap << 20 } }));
        let text = |mib: i64| (mib << 20).to_string();
        bundle.has_one_of(
            &[
                ("memory", "memory.limit_in_bytes", &text(limit)),
                ("memory", "memory.memsw.limit_in_bytes", &text(swap)),
            ],
            &[("memory", "memory.max", &text(limit)), ("memory", "memory.swap.max", &text(swap - limit))],
        );
    }
    update(json!({ "memory": { "swap": -1 }, "pids": { "limit": -1 }, "cpu": { "cpus": "0-1" } }));
    bundle.has(&[("pids", "pids.max", "max"), ("cpuset", "cpuset.cpus", "0-1")]);
    bundle.has_one_of(
        &[
            ("memory", "memory.limit_in_bytes", "33554432"),
            ("memory", "memory.memsw.limit_in_bytes", "9223372036854771712"),
        ],
        &[("memory", "memory.max", "33554432"), ("memory", "memory.swap.max", "max")],
    );
}

/// Hierarchies that hosts often have not mounted, in a view of their own.
#[test]
fn huge_pages_and_network_classes_on_v1() {
    /// What is mounted there already, and these two. A hierarchy ends when it is unmounted and has no cgroup left, not even one on its
    /// way out. There is none where somebody has a cgroup on v2 just then: 75.
    const VIEW: &str = "mount --rbind /sys/fs/cgroup $0 && mount -t tmpfs -o mode=755 x /sys/fs/cgroup || exit
        for dir in $0/*; do mkdir /sys/fs/cgroup/${dir##*/}; mount --rbind $dir /sys/fs/cgroup/${dir##*/}; done
        cd /sys/fs/cgroup; for name in hugetlb net_cls,net_prio; do mkdir $name; mount -t cgroup -o $name x $name || exit 75; done
        umount -l $0; \"$@\"; code=$?
        until [ $(grep -cP '^(hugetlb|net_cls)\\t\\d+\\t1\\t' /proc/cgroups) = 2 ] || [ $((n += 1)) -gt 1000 ]; do sleep 0.01; done
        umount hugetlb net_cls,net_prio; exit $code";
    let controllers = fs::read_to_string("/proc/cgroups").unwrap();
    let is_free = |name: &str| controllers.lines().any(|line| line.starts_with(&format!("{name}\t0\t1\t")));
    if is_v2() || !["hugetlb", "net_cls", "net_prio"].into_iter().all(is_free) {
        return;
    }
    let script =
        "cd /sys/fs/cgroup; cat net_cls,net_prio/net_cls.classid; grep lo net_cls,net_prio/net_prio.ifpriomap
        cat hugetlb/hugetlb.2MB.limit_in_bytes";
    let mut bundle = Bundle::new("limits-rare").script(script);
    bundle.spec["linux"]["resources"] = json!({
        "network": { "classID": 1_048_577, "priorities": [{ "name": "lo", "priority": 5 }] },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 << 20 }],
    });
    // Without them it is an error.
    bundle.run().fails(1, "hugetlb.2MB.limit_in_bytes = 4194304 cannot be set here: no such controller");
    let keep = bundle.dir.join("keep");
    fs::create_dir(&keep).unwrap();
    let around = ["unshare", "-m", "sh", "-c", VIEW, keep.to_str().unwrap()];
    let run = ["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
    let said = RefCell::new(bundle.tinyrun_in(&around, &run));
    wait_for("the time without a cgroup on v2", || {
        let is_busy = said.borrow().code == 75;
        if is_busy {
            said.replace(bundle.tinyrun_in(&around, &run));
        }
        !is_busy
    });
    wait_for("the end of the hierarchies", || {
        let left = fs::read_to_string("/proc/self/cgroup").unwrap();
        !left.contains("hugetlb") && !left.contains("net_cls")
    });
    said.borrow().says("1048577\nlo 5\n4194304");
}
