//! cgroup v2: one directory, controllers handed down from the root to its parent.

use std::{
    cell::RefCell,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use tinyd_core::{Error, Kind, Result, oci};
use tinyd_sys::cgroup::Dir;

use super::{
    Reach, Stats,
    convert::{self, KEEP_QUOTA, Missing, Setting},
    counters, devices,
    oom::OomEvents,
    settings::{self, Warnings},
    tree::{self, CgroupPath, gone_is_none, told},
};

/// What is handed down, where the kernel has it.
const CONTROLLERS: [&str; 7] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma"];
/// How long the freezer may take.
const FREEZE_MAX: Duration = Duration::from_secs(5);

/// A cgroup of the v2 hierarchy.
#[derive(Debug)]
pub(super) struct Group {
    root: Dir,
    dir: Dir,
}

impl Group {
    /// Makes the cgroup and writes its limits.
    pub(super) fn create(
        mount: &Path,
        path: &CgroupPath,
        resources: &oci::Resources,
        reach: Reach,
        warnings: &mut Warnings,
    ) -> Result<Option<Group>> {
        let settings = convert::v2(resources)?;
        let filter = devices::Filter::new(&resources.devices)?;
        let root = Dir::open(mount).map_err(told)?;
        if reach == Reach::Allowed && !tree::may_make(&root, path) {
            return Ok(None);
        }
        let refusals = RefCell::new(Vec::new());
        let enable = |parent: &Dir| enable_controllers(parent, &mut refusals.borrow_mut());
        let made = tree::make(&root, path, enable, |_, _, _| Ok(()))?;
        let group = Group { root, dir: made.leaf };
        let limited = group
            .limit(&settings, &refusals.borrow(), warnings)
            .and_then(|()| group.set_devices(&filter, reach));
        match limited {
            Ok(()) => Ok(Some(group)),
            Err(error) => {
                tree::unmake(&group.root, &made.fresh);
                Err(error)
            }
        }
    }

    /// Opens the cgroup if it exists.
    pub(super) fn open(mount: &Path, path: &CgroupPath) -> Result<Option<Group>> {
        let root = Dir::open(mount).map_err(told)?;
        let dir = gone_is_none(root.open_beneath(&path.relative()))?;
        Ok(dir.map(|dir| Group { root, dir }))
    }

    /// One below is what processes enter.
    pub(super) fn enter_below(&mut self, relative: &str) -> Result<()> {
        self.dir = self.dir.open_beneath(relative).map_err(told)?;
        Ok(())
    }

    /// The directory, for `clone3`.
    pub(super) fn clone_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Writes limits again.
    pub(super) fn apply(&self, resources: &oci::Resources, warnings: &mut Warnings) -> Result<()> {
        self.check(resources)?;
        let mut settings = convert::v2(resources)?;
        settings::order_burst(&self.dir, &mut settings)?;
        self.limit(&settings, &[], warnings)?;
        if resources.devices.is_empty() {
            return Ok(());
        }
        self.set_devices(&devices::Filter::new(&resources.devices)?, Reach::All)
    }

    /// Writing a limit below what is in use would have the kernel kill; whoever asks for the check does not want that.
    pub(super) fn check(&self, resources: &oci::Resources) -> Result<()> {
        let wanted = resources.memory.as_ref().filter(|memory| memory.check_before_update == Some(true));
        let Some(memory) = wanted else { return Ok(()) };
        let used = first_number(&self.dir.read("memory.current").map_err(told)?);
        match memory.limit.and_then(|limit| u64::try_from(limit).ok()) {
            Some(limit) if limit > 0 && limit < used => Err(Error::invalid(
                "linux.resources.memory.limit",
                format!("{limit} bytes is less than the {used} bytes in use"),
            )),
            _ => Ok(()),
        }
    }

    fn limit(&self, settings: &[Setting], refusals: &[String], warnings: &mut Warnings) -> Result<()> {
        for setting in settings {
            let setting = self.fit(setting)?;
            match self.dir.write(&setting.file, &setting.value) {
                Ok(()) => {}
                Err(error) if error.errno() == Some(libc::ENOENT) => {
                    let why = match refusals {
                        [] => format!("the {} controller is not here", setting.controller),
                        _ => refusals.join("; "),
                    };
                    settings::missing(&setting, &why, warnings)?;
                }
                Err(error) => return Err(settings::refused(&setting, &error)),
            }
        }
        Ok(())
    }

    /// The setting as this kernel takes it.
    fn fit(&self, setting: &Setting) -> Result<Setting> {
        let mut setting = setting.clone();
        if let Some(period) = setting.value.strip_prefix(KEEP_QUOTA) {
            let now = gone_is_none(self.dir.read("cpu.max"))?.unwrap_or_default();
            let quota = now.split_whitespace().next().unwrap_or("max");
            setting.value = format!("{quota}{period}");
        }
        if setting.file == "io.bfq.weight" && !self.dir.has("io.bfq.weight") {
            setting.file = "io.weight".into();
            let (at, weight) = setting.value.rsplit_once(' ').unwrap_or(("default", &setting.value));
            setting.value = format!("{at} {}", convert::io_weight(weight.parse().unwrap_or(100)));
        }
        // "No swap" on a kernel without swap needs no file.
        if setting.file == "memory.swap.max" && setting.value == "0" {
            setting.missing = Missing::Ignore;
        }
        Ok(setting)
    }

    fn set_devices(&self, filter: &devices::Filter, reach: Reach) -> Result<()> {
        match devices::attach(self.dir.as_fd(), &filter.program()) {
            Ok(()) => Ok(()),
            // It is left to root. Who is not can make no node, and open only what it could without a container.
            Err(error) if reach == Reach::Allowed && error.errno() == Some(libc::EPERM) => Ok(()),
            Err(error) if matches!(error.errno(), Some(libc::EPERM | libc::ENOSYS | libc::EINVAL)) => {
                devices::unfiltered(filter, &tinyd_core::error::chain(&error))
            }
            Err(error) => Err(told(error).context("filter devices")),
        }
    }

    /// Freezes, and thaws again when it does not get there.
    pub(super) fn freeze(&self) -> Result<()> {
        let deadline = Instant::now() + FREEZE_MAX;
        let mut pause = Duration::from_micros(50);
        loop {
            // Each time: `kill` of a container that was paused just before thaws it.
            self.dir.write("cgroup.freeze", "1").map_err(told)?;
            if self.frozen()? {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.thaw()?;
                return Err(Error::new(
                    Kind::Internal,
                    format!("processes did not freeze in {FREEZE_MAX:?}"),
                ));
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    /// Thaws.
    pub(super) fn thaw(&self) -> Result<()> {
        self.dir.write("cgroup.freeze", "0").map_err(told)
    }

    /// Whether every process is frozen.
    pub(super) fn frozen(&self) -> Result<bool> {
        Ok(settings::keyed(&self.dir.read("cgroup.events").map_err(told)?, "frozen") == 1)
    }

    /// One round of killing: the kernel's own, which nobody can outrun; by hand before Linux 5.14.
    pub(super) fn kill_round(&self, round: u32) -> Result<usize> {
        match self.dir.write("cgroup.kill", "1") {
            Ok(()) => Ok(self.pids()?.len()),
            Err(error) if error.errno() == Some(libc::ENOENT) && self.dir.has("cgroup.procs") => {
                let frozen = round > 0 && self.freeze().is_ok();
                let signalled = tree::kill_once(&self.dir);
                if frozen {
                    self.thaw()?;
                }
                signalled
            }
            Err(error) => gone_is_none::<()>(Err(error)).map(|_| 0),
        }
    }

    /// Every process here and below.
    pub(super) fn pids(&self) -> Result<Vec<i32>> {
        tree::pids(&self.dir)
    }

    /// Kills by the OOM killer, here and below.
    pub(super) fn oom_kills(&self) -> Result<u64> {
        let events = gone_is_none(self.dir.read("memory.events"))?.unwrap_or_default();
        Ok(settings::keyed(&events, "oom_kill"))
    }

    /// Word of memory that has run out, here and below.
    pub(super) fn oom_events(&self) -> Result<Option<OomEvents>> {
        OomEvents::v2(&self.dir)
    }

    /// What the kernel has counted.
    pub(super) fn stats(&self) -> Result<Stats> {
        let read = |file: &str| Ok::<_, Error>(gone_is_none(self.dir.read(file))?.unwrap_or_default());
        let limit = read("memory.max")?;
        Ok(Stats {
            cpu_nanos: settings::keyed(&read("cpu.stat")?, "usage_usec").saturating_mul(1000),
            memory_bytes: first_number(&read("memory.current")?),
            memory_reclaimable_bytes: settings::keyed(&read("memory.stat")?, "inactive_file"),
            memory_limit_bytes: limit.trim().parse().ok(),
            pids: first_number(&read("pids.current")?),
        })
    }

    /// What the kernel has counted, with runc's names.
    pub(super) fn counters(&self) -> Result<serde_json::Value> {
        tree::still_there(&self.dir)?;
        Ok(counters::v2(&|_, file| self.dir.read(file).unwrap_or_default()))
    }

    /// Removes the directory if nobody and nothing is in it; whether it is gone.
    pub(super) fn remove_empty(&self, path: &CgroupPath) -> bool {
        tree::remove_empty(&self.root, &path.relative())
    }

    /// Removes the directory and all below.
    pub(super) fn remove(&self, path: &CgroupPath) -> Vec<Error> {
        tree::remove(&self.root, &path.relative(), tree::busy_until()).err().into_iter().collect()
    }
}

/// Hands controllers down to the children of `parent`. One that the kernel refuses is remembered: it matters only to a limit that
/// needs it.
fn enable_controllers(parent: &Dir, refusals: &mut Vec<String>) -> Result<()> {
    let available = parent.read("cgroup.controllers").map_err(told)?;
    let enabled = parent.read("cgroup.subtree_control").map_err(told)?;
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    let missing: Vec<&str> =
        CONTROLLERS.into_iter().filter(|name| has(&available, name) && !has(&enabled, name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
    if parent.write("cgroup.subtree_control", &all.join(" ")).is_ok() {
        return Ok(());
    }
    for name in missing {
        if let Err(error) = parent.write("cgroup.subtree_control", &format!("+{name}")) {
            let refusal = refusal(parent, name, &error);
            // It is asked again when a parent has vanished.
            if !refusals.contains(&refusal) {
                refusals.push(refusal);
            }
        }
    }
    Ok(())
}

fn refusal(parent: &Dir, controller: &str, error: &tinyd_sys::Error) -> String {
    let hint = match error.errno() {
        Some(libc::EBUSY) => " (processes are in that cgroup itself)",
        Some(libc::EINVAL) if controller == "cpu" => " (a realtime process is in the way)",
        _ => "",
    };
    format!("{:?} does not hand down {controller}: {}{hint}", parent.path(), tinyd_core::error::chain(error))
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}
