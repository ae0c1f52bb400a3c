//! Conversions, files of fake cgroups, and real cgroups of this host (root only; each test has a cgroup of its own).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use proptest::prelude::*;
use tinyd_sys::cgroup::V1Mount;

use super::*;

/// A directory that plays a hierarchy's root; gone at the end of the test.
struct Fake(PathBuf);

impl Fake {
    fn new() -> Fake {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tinyd-cgroup-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Fake(dir)
    }

    /// Puts files with a content that is not what the test expects.
    fn with(self, files: &[(&str, &str)]) -> Fake {
        for (file, content) in files {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn resources(json: &str) -> oci::Resources {
    serde_json::from_str(json).unwrap()
}

fn v2_files(json: &str) -> Vec<(String, String)> {
    let settings = convert::v2(&resources(json)).unwrap();
    settings.into_iter().map(|setting| (setting.file.into_owned(), setting.value)).collect()
}

fn pair(file: &str, value: &str) -> (String, String) {
    (file.to_owned(), value.to_owned())
}

#[test]
fn v2_words_are_those_of_runc() {
    assert_eq!(v2_files(r#"{"cpu":{"quota":50000,"period":100000}}"#), [pair("cpu.max", "50000 100000")]);
    assert_eq!(v2_files(r#"{"cpu":{"quota":-1,"period":100000}}"#), [pair("cpu.max", "max 100000")]);
    assert_eq!(v2_files(r#"{"cpu":{"shares":1024}}"#), [pair("cpu.weight", "100")]);
    assert_eq!(v2_files(r#"{"cpu":{"shares":2}}"#), [pair("cpu.weight", "1")]);
    assert_eq!(v2_files(r#"{"cpu":{"shares":262144}}"#), [pair("cpu.weight", "10000")]);
    assert_eq!(v2_files(r#"{"pids":{"limit":-1}}"#), [pair("pids.max", "max")]);
    assert_eq!(
        v2_files(r#"{"memory":{"limit":1048576,"swap":2097152,"reservation":4096}}"#),
        [pair("memory.swap.max", "1048576"), pair("memory.max", "1048576"), pair("memory.low", "4096")]
    );
    assert_eq!(
        v2_files(r#"{"memory":{"limit":-1}}"#),
        [pair("memory.swap.max", "max"), pair("memory.max", "max")]
    );
    assert_eq!(
        v2_files(r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":99}]}}"#),
        [pair("io.max", "8:0 rbps=99")]
    );
    assert_eq!(v2_files(r#"{"unified":{"memory.high":"5"}}"#), [pair("memory.high", "5")]);
}

#[test]
fn v1_words_keep_their_scale() {
    let settings = convert::v1(&resources(
        r#"{"cpu":{"shares":512,"quota":10000,"period":100000},"memory":{"limit":100,"swap":100},"pids":{"limit":7}}"#,
    ));
    let settings: Vec<_> =
        settings.unwrap().into_iter().map(|setting| pair(&setting.file, &setting.value)).collect();
    let expected = [
        pair("cpu.shares", "512"),
        pair("cpu.cfs_period_us", "100000"),
        pair("cpu.cfs_quota_us", "10000"),
        pair("memory.limit_in_bytes", "100"),
        pair("memory.memsw.limit_in_bytes", "100"),
        pair("pids.max", "7"),
    ];
    assert_eq!(settings, expected);
}

#[test]
fn contradictions_and_foreign_files_are_refused() {
    for (json, field) in [
        (r#"{"memory":{"limit":200,"swap":100}}"#, "linux.resources.memory.swap"),
        (r#"{"memory":{"swap":100}}"#, "linux.resources.memory.swap"),
        (r#"{"unified":{"../x/memory.max":"1"}}"#, "linux.resources.unified"),
        (r#"{"unified":{"cgroup.procs":"1"}}"#, "linux.resources.unified"),
        (r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#, "linux.resources.hugepageLimits"),
        (r#"{"rdma":{"a b":{"hcaHandles":1}}}"#, "linux.resources.rdma"),
    ] {
        let error = convert::v2(&resources(json)).unwrap_err();
        assert_eq!((error.kind(), error.field()), (Kind::InvalidArgument, Some(field)), "{json}");
    }
}

#[test]
fn a_path_stays_below_the_root() {
    assert_eq!(CgroupPath::parse("/tinyd-1//ID").unwrap().relative(), "tinyd-1/ID");
    for bad in ["", "/", "/../x", "/a/..", "/a/./b", "/a\nb", "/cgroup.procs", "/a/tasks", &"x/".repeat(1100)]
    {
        assert_eq!(CgroupPath::parse(bad).unwrap_err().kind(), Kind::InvalidArgument, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_path_leads_out(path in "[a./\\x00-\\x20]{0,20}") {
        if let Ok(path) = CgroupPath::parse(&path) {
            prop_assert!(path.relative().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        }
    }

    #[test]
    fn a_weight_is_one_that_v2_takes(shares in any::<u64>()) {
        let settings = convert::v2(&oci::Resources {
            cpu: Some(oci::Cpu { shares: Some(shares), ..oci::Cpu::default() }),
            ..oci::Resources::default()
        }).unwrap();
        prop_assert!(settings.iter().all(|setting| (1..=10_000).contains(&setting.value.parse::<u64>().unwrap())));
    }
}

/// Two hierarchies, one of them with two controllers, as distributions mount `cpu,cpuacct`.
fn fake_v1(fake: &Fake) -> v1::Group {
    let mount = |name: &str| V1Mount {
        path: fake.0.join(name),
        controllers: name.split(',').map(String::from).collect(),
    };
    let layout = Layout { v1: vec![mount("cpu,cpuacct"), mount("memory")], unified: None };
    v1::Group::open(&layout, &CgroupPath::parse("c").unwrap()).unwrap().unwrap()
}

#[test]
fn v1_writes_where_controllers_are_mounted_together() {
    let fake = Fake::new().with(&[
        ("cpu,cpuacct/c/tasks", ""),
        ("cpu,cpuacct/c/cpu.shares", "1024"),
        ("memory/c/tasks", ""),
        ("memory/c/memory.limit_in_bytes", "9223372036854771712"),
    ]);
    let mut warnings = Vec::new();
    let asked = resources(r#"{"cpu":{"shares":99},"memory":{"limit":4096,"swap":8192}}"#);
    fake_v1(&fake).apply(&asked, &mut warnings).unwrap();
    assert_eq!(fake.read("cpu,cpuacct/c/cpu.shares"), "99");
    assert_eq!(fake.read("memory/c/memory.limit_in_bytes"), "4096");
    // No swap accounting: told, because an amount was asked for.
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("memory.memsw.limit_in_bytes"), "{warnings:?}");

    let none_beyond = resources(r#"{"memory":{"limit":4096,"swap":4096}}"#);
    warnings.clear();
    fake_v1(&fake).apply(&none_beyond, &mut warnings).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");

    let error = fake_v1(&fake).apply(&resources(r#"{"pids":{"limit":5}}"#), &mut warnings).unwrap_err();
    assert_eq!((error.kind(), error.field()), (Kind::Unsupported, Some("linux.resources.pids.limit")));
}

#[test]
fn v2_fits_settings_to_the_kernel() {
    let fake = Fake::new().with(&[
        ("c/cpu.max", "20000 100000"),
        ("c/io.weight", "default 100"),
        ("c/memory.max", "max"),
    ]);
    let group = v2::Group::open(&fake.0, &CgroupPath::parse("c").unwrap()).unwrap().unwrap();
    let mut warnings = Vec::new();
    let asked = resources(
        r#"{"cpu":{"period":50000},"blockIO":{"weight":1000},"memory":{"limit":8192,"swap":8192}}"#,
    );
    group.apply(&asked, &mut warnings).unwrap();
    assert_eq!(fake.read("c/cpu.max"), "20000 50000");
    assert_eq!(fake.read("c/io.weight"), "default 10000");
    assert_eq!(fake.read("c/memory.max"), "8192");
    assert!(warnings.is_empty(), "{warnings:?}");
    // A disk's own weight has the same scale; leaves have none on v2.
    let of_disk =
        resources(r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":10,"leafWeight":7}]}}"#);
    group.apply(&of_disk, &mut warnings).unwrap();
    assert_eq!(fake.read("c/io.weight").lines().next(), Some("8:0 1"));

    let with_bfq = fake.with(&[("c/io.bfq.weight", "default 100")]);
    group.apply(&asked, &mut warnings).unwrap();
    assert_eq!(with_bfq.read("c/io.bfq.weight"), "1000");
    group.apply(&of_disk, &mut warnings).unwrap();
    assert_eq!(with_bfq.read("c/io.bfq.weight"), "8:0 10");
}

fn filter(json: &str) -> Result<devices::Filter> {
    devices::Filter::new(&serde_json::from_str::<Vec<oci::DeviceRule>>(json).unwrap())
}

#[test]
fn device_rules_become_one_list() {
    let standard = filter("[]").unwrap();
    let all = "a *:* rwm\n";
    let writes = standard.v1_writes(all);
    assert_eq!(writes[0], ("devices.deny", "a".to_owned()));
    assert!(writes.contains(&("devices.allow", "c 1:3 rwm".to_owned())), "{writes:?}");
    // Nothing that is in both lists is touched, not even for a moment.
    let listed = "c *:* m\nb *:* m\nc 1:3 rwm\nc 1:5 rwm\nc 1:7 rwm\nc 1:8 rwm\nc 1:9 rwm\nc 5:0 rwm\nc 5:2 r\nc 136:* rwm\nc 7:7 rw\nc 9:9 r\n";
    let seven = filter(r#"[{"allow":true,"type":"c","major":7,"minor":7,"access":"rm"}]"#).unwrap();
    let writes = [
        ("devices.allow", "c 7:7 m".to_owned()),
        ("devices.allow", "c 5:2 wm".to_owned()),
        ("devices.deny", "c 7:7 w".to_owned()),
        ("devices.deny", "c 9:9 r".to_owned()),
    ];
    assert_eq!(seven.v1_writes(listed), writes);
    // Privileged: everything, and the standard nodes need no word.
    let open = filter(r#"[{"allow":true,"access":"rwm"}]"#).unwrap();
    assert_eq!(open.v1_writes("c 1:3 rwm\n"), [("devices.allow", "a".to_owned())]);
    // A rule with a hole in it means the same on v1 and v2: it is refused.
    let hole = r#"[{"allow":true,"type":"c","major":7,"access":"rwm"},{"allow":false,"type":"c","major":7,"minor":1,"access":"rwm"}]"#;
    assert_eq!(filter(hole).unwrap_err().kind(), Kind::Unsupported);
    for bad in [
        r#"[{"allow":true,"type":"x"}]"#,
        r#"[{"allow":true,"access":"z"}]"#,
        r#"[{"allow":true,"type":"c","major":-2}]"#,
    ] {
        assert_eq!(filter(bad).unwrap_err().kind(), Kind::InvalidArgument, "{bad}");
    }
}

/// A real cgroup of this test's own, and a process in it.
struct Real {
    cgroup: Cgroup,
    children: Vec<Child>,
}

/// Makes a cgroup in the hierarchies at `root`.
fn create_in(root: &Path, path: &str, resources: &oci::Resources) -> Result<(Cgroup, Vec<String>)> {
    Cgroup::create(&Layout::detect(root).map_err(told)?, path, resources)
}

/// The last container beside this one ends between the look at the parent and the directory in it.
#[test]
fn a_parent_that_vanishes_is_made_again() {
    let mounts = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
    let Some(mount) = mounts.into_iter().find(|mount| tinyd_sys::cgroup::is_hierarchy(mount)) else { return };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let root = tinyd_sys::cgroup::Dir::open(mount).unwrap();
    let name = format!("tinyd-vanish-{}", std::process::id());
    let path = CgroupPath::parse(&format!("{name}/c")).unwrap();
    root.make(&name).unwrap();
    let taken = std::cell::Cell::new(false);
    let take_parent = |parent: &tinyd_sys::cgroup::Dir| {
        if parent.path() != mount && !taken.replace(true) {
            root.remove(&name).unwrap();
        }
        Ok(())
    };
    let made = tree::make(&root, &path, take_parent, |_, _, _| Ok(())).unwrap();
    assert!(taken.get() && root.has(&format!("{name}/c/cgroup.procs")));
    // Both are this one's now.
    tree::unmake(&root, &made.fresh);
    assert!(!root.has(&name));
}

impl Real {
    fn new(root: &str, name: &str, limits: &str) -> Option<Real> {
        // Without root or hierarchies there is nothing to test here; the end-to-end suite runs as root always.
        if !rustix::process::geteuid().is_root() || !Path::new(root).exists() {
            return None;
        }
        let path = format!("/tinyd-test-{}/{name}", std::process::id());
        let (cgroup, warnings) = create_in(Path::new(root), &path, &resources(limits)).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        Some(Real { cgroup, children: Vec::new() })
    }

    /// Starts `script` in the cgroup: the shell enters as the container's first process would, then becomes it.
    fn run(&mut self, root: &str, script: &str) {
        let path = self.cgroup.path();
        let enter = match self.cgroup.clone_fd() {
            Some(_) => format!("echo 0 > {root}{path}/cgroup.procs"),
            None => format!("for t in {root}/*{path}/tasks; do echo 0 > $t; done"),
        };
        let child = Command::new("sh")
            .args(["-c", &format!("{enter}; echo in; {script}")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        self.children.push(child);
        let mut word = [0; 3];
        std::io::Read::read_exact(self.children.last_mut().unwrap().stdout.as_mut().unwrap(), &mut word)
            .unwrap();
        assert_eq!(&word, b"in\n");
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.cgroup.remove().unwrap();
        // The parent that these tests share goes with the last of them.
        let parent = Path::new(self.cgroup.path()).parent().unwrap().strip_prefix("/").unwrap().to_owned();
        let mounts = fs::read_dir(ROOT).unwrap().flatten().map(|entry| entry.path()).chain([ROOT.into()]);
        mounts.for_each(|mount| drop(fs::remove_dir(mount.join(&parent))));
        self.children.iter_mut().for_each(|child| drop(child.wait()));
    }
}

/// `kill` of a container that was paused a moment ago thaws it in the middle of the next `pause`, which then waited in vain.
#[test]
fn who_is_thawed_meanwhile_is_frozen_again() {
    use std::sync::atomic::{AtomicBool, Ordering};
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let Some(mut real) = Real::new(root, "thawed", "{}") else { continue };
        real.run(root, "exec sleep 1000");
        let begun = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2000 {
                    real.cgroup.thaw().unwrap();
                    begun.store(true, Ordering::Relaxed);
                }
            });
            while !begun.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            real.cgroup.freeze().unwrap();
        });
        real.cgroup.freeze().unwrap();
        assert!(real.cgroup.frozen().unwrap());
        real.cgroup.thaw().unwrap();
    }
}

/// A privileged container can move its processes about: one is left in a single hierarchy.
#[test]
fn a_process_that_is_hidden_in_all_hierarchies_but_one_is_killed() {
    let root = "/sys/fs/cgroup";
    if !Path::new("/sys/fs/cgroup/pids").is_dir() {
        return;
    }
    let Some(mut real) = Real::new(root, "hidden", "{}") else { return };
    real.run(root, "for h in /sys/fs/cgroup/*/tasks; do case $h in */pids/*) ;; *) echo $$ > $h ;; esac; done; sleep 1000");
    let left =
        || real.cgroup.hierarchy("freezer".as_ref()).is_some() && real.cgroup.pids().unwrap().len() == 1;
    assert!(left());
    let frozen = Path::new(root).join(format!("freezer{}/tasks", real.cgroup.path()));
    while !fs::read_to_string(&frozen).unwrap().is_empty() {}
    real.cgroup.remove().unwrap();
    real.children[0].wait().unwrap();
    assert!(!Path::new(root).join(format!("pids{}", real.cgroup.path())).exists());
}

fn lifecycle(root: &str, limits: &str) {
    let Some(mut real) = Real::new(root, "life", limits) else { return };
    assert!(real.cgroup.pids().unwrap().is_empty());
    real.run(root, "sleep 1000 & sleep 1000 & wait");
    let pids = loop {
        let pids = real.cgroup.pids().unwrap();
        if pids.len() == 3 {
            break pids;
        }
    };
    assert!(pids.contains(&(real.children[0].id() as i32)));

    let taken = create_in(Path::new(root), real.cgroup.path(), &oci::Resources::default());
    assert_eq!(taken.unwrap_err().kind(), Kind::AlreadyExists);

    assert!(!real.cgroup.frozen().unwrap());
    real.cgroup.freeze().unwrap();
    assert!(real.cgroup.frozen().unwrap());
    let again = Cgroup::open_in(Path::new(root), real.cgroup.path()).unwrap();
    again.kill_all().unwrap();
    assert!(again.pids().unwrap().is_empty());
    // The children are not reaped yet: what has ended does not keep a cgroup.
    again.remove().unwrap();
    again.remove().unwrap();
    assert_eq!(Cgroup::open_in(Path::new(root), again.path()).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_real_cgroup_of_this_host_lives_and_goes() {
    lifecycle(ROOT, r#"{"pids":{"limit":100}}"#);
}

#[test]
fn a_real_v2_cgroup_lives_and_goes() {
    lifecycle("/sys/fs/cgroup/unified", "{}");
}

#[test]
fn a_fork_bomb_ends() {
    let Some(mut real) = Real::new(ROOT, "bomb", r#"{"pids":{"limit":60}}"#) else { return };
    real.run(ROOT, "f() { f & f & }; while :; do f; done 2>/dev/null");
    // In the middle of its growth; any moment must do.
    std::thread::sleep(Duration::from_millis(50));
    real.cgroup.kill_all().unwrap();
    assert!(real.cgroup.pids().unwrap().is_empty());
}

#[test]
fn cgroups_made_inside_go_too() {
    let Some(mut real) = Real::new(ROOT, "nest", "{}") else { return };
    let everywhere = if real.cgroup.clone_fd().is_some() { ROOT.to_owned() } else { format!("{ROOT}/*") };
    let own = format!("{everywhere}{}", real.cgroup.path());
    real.run(ROOT, &format!("for d in {own}; do mkdir $d/inner $d/inner/x; done; sleep 1000 & wait"));
    while real.cgroup.pids().unwrap().len() < 2 {}
    real.cgroup.remove().unwrap();
    assert_eq!(Cgroup::open(real.cgroup.path()).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn an_error_half_way_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let path = format!("/tinyd-test-{}-half/x", std::process::id());
    let error = create_in(Path::new(ROOT), &path, &resources(r#"{"cpu":{"cpus":"0-9999"}}"#)).unwrap_err();
    assert_eq!(error.field(), Some("linux.resources.cpu.cpus"), "{error}");
    let layout = Layout::detect(Path::new(ROOT)).unwrap();
    let mounts = layout.v1.iter().map(|mount| &mount.path).chain(&layout.unified);
    for mount in mounts {
        assert!(!mount.join(format!("tinyd-test-{}-half", std::process::id())).exists(), "{mount:?}");
    }
}

#[test]
fn memory_limits_move_up_and_down() {
    let Some(real) = Real::new(ROOT, "memory", r#"{"memory":{"limit":8388608,"swap":8388608}}"#) else {
        return;
    };
    for limit in [67_108_864u64, 16_777_216] {
        let asked = format!(r#"{{"memory":{{"limit":{limit},"swap":{limit}}}}}"#);
        assert!(real.cgroup.apply(&resources(&asked)).unwrap().is_empty());
        assert_eq!(real.cgroup.stats().unwrap().memory_limit_bytes, Some(limit));
    }
}

#[test]
fn memory_kills_are_counted_and_cpu_time_too() {
    let Some(mut real) = Real::new(ROOT, "oom", r#"{"memory":{"limit":8388608,"swap":8388608}}"#) else {
        return;
    };
    assert_eq!(real.cgroup.oom_kills().unwrap(), 0);
    real.run(ROOT, "head -c 100000000 /dev/zero | tail > /dev/null; true");
    real.children[0].wait().unwrap();
    assert!(real.cgroup.oom_kills().unwrap() > 0);
    assert!(real.cgroup.stats().unwrap().cpu_nanos > 0);
}

#[test]
fn devices_are_filtered() {
    for root in [ROOT, "/sys/fs/cgroup/unified"] {
        let Some(mut real) = Real::new(root, "devices", "{}") else { return };
        // /dev/kmsg (1:11) is not among the standard nodes, /dev/null is.
        let script = "head -c1 /dev/zero >/dev/null && ! true 2>/dev/null </dev/kmsg && echo right";
        real.run(root, script);
        let child = real.children.pop().unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "right\n", "{root}");
        // A change of the rules reaches those that are in.
        let all = resources(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
        real.cgroup.apply(&all).unwrap();
        real.run(root, "true </dev/kmsg && echo open");
        let out = real.children.pop().unwrap().wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "open\n", "{root}");
        let back = resources(
            r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":7,"minor":7,"access":"r"}]}"#,
        );
        real.cgroup.apply(&back).unwrap();
        real.run(root, script);
        let out = real.children.pop().unwrap().wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "right\n", "{root}");
    }
}

#[test]
fn detection_is_quick_and_right() {
    let start = Instant::now();
    let layout = Layout::detect(Path::new(ROOT)).unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_millis(50), "{took:?}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    // Beside systemd's there may be others without a controller, which are nobody's business.
    let is_ours = |line: &&str| !line.contains("name=") || line.contains("name=systemd");
    let v1 = mounts.lines().filter(|line| line.contains(" cgroup ")).filter(is_ours).count();
    assert_eq!(layout.v1.len(), v1);
    let v2 = mounts.lines().any(|line| line.contains(" cgroup2 "));
    assert_eq!(layout.unified.is_some(), v2);
}
