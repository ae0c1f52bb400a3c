//! cgroup v1: one directory per hierarchy, its controllers mounted singly or together.
//!
//! A container joins every hierarchy whose controllers account for or confine it, as under runc, whether or not a limit was
//! asked for: entering all of them costs 0.07 ms (see [`Group::tasks`]), making them 0.3 to 0.5 ms. So is
//! `name=systemd`: where a host's systemd looks for processes, a container belongs to itself and not to whichever unit it was started from.
//! `perf_event` and the v2 hierarchy of a hybrid host are left alone: they limit nothing, and their owner is somebody else.

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    thread::sleep,
    time::{Duration, Instant},
};

use tinyd_core::{Error, Kind, Result, error::chain, oci};
use tinyd_sys::cgroup::{Dir, Layout, NAMED, V1Mount};

use super::{
    NOT_HANDED_DOWN, Reach, Stats,
    convert::{self, Setting},
    counters, devices,
    oom::OomEvents,
    settings::{self, Warnings},
    tree::{self, CgroupPath, Origin, gone_is_none, told},
};

/// Joined always, where mounted.
const ALWAYS: [&str; 9] =
    ["blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", NAMED, "pids"];
/// The period of a new cgroup, in microseconds (`default_cfs_period`, kernel/sched/fair.c).
const NEW_PERIOD: u64 = 100_000;
/// How long the freezer may take.
const FREEZE_MAX: Duration = Duration::from_secs(5);

/// A cgroup in each hierarchy.
#[derive(Debug)]
pub(super) struct Group {
    members: Vec<Member>,
    tasks: Vec<File>,
    reach: Reach,
}

/// The cgroup in one hierarchy.
#[derive(Debug)]
struct Member {
    controllers: Vec<String>,
    root: Dir,
    dir: Dir,
    fresh: Vec<String>,
}

impl Member {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

impl Group {
    /// Makes the cgroup in every hierarchy that counts and limits it.
    pub(super) fn create(
        layout: &Layout,
        path: &CgroupPath,
        resources: &oci::Resources,
        reach: Reach,
        warnings: &mut Warnings,
    ) -> Result<Option<Group>> {
        let settings = convert::v1(resources)?;
        let filter = devices::Filter::new(&resources.devices)?;
        let mut group = Group { members: Vec::new(), tasks: Vec::new(), reach };
        let made = group
            .join(layout, path, &settings)
            .and_then(|()| {
                if group.members.is_empty() {
                    Ok(())
                } else {
                    group.limit(settings, !path.is_given(), warnings)
                }
            })
            .and_then(|()| group.set_devices(&filter))
            .and_then(|()| group.open_tasks());
        match made {
            Ok(()) if group.members.is_empty() && reach == Reach::Allowed => Ok(None),
            Ok(()) => Ok(Some(group)),
            Err(error) => {
                group.members.iter().rev().for_each(|member| tree::unmake(&member.root, &member.fresh));
                Err(error)
            }
        }
    }

    fn join(&mut self, layout: &Layout, path: &CgroupPath, settings: &[Setting]) -> Result<()> {
        let wanted = |mount: &&V1Mount| {
            let asked = |name: &String| settings.iter().any(|setting| setting.controller == name);
            mount.controllers.iter().any(|name| ALWAYS.contains(&name.as_str()) || asked(name))
        };
        for mount in layout.v1.iter().filter(wanted) {
            let root = Dir::open(&mount.path).map_err(told)?;
            if self.reach == Reach::Allowed && !tree::may_make(&root, path) {
                continue;
            }
            let cpuset = mount.controllers.iter().any(|name| name == "cpuset");
            let inherit = |parent: &Dir, child: &Dir, origin| match cpuset {
                true => inherit_cpuset(parent, child, origin),
                false => Ok(()),
            };
            let made = tree::make(&root, path, |_| Ok(()), inherit)?;
            self.members.push(Member {
                controllers: mount.controllers.clone(),
                root,
                dir: made.leaf,
                fresh: made.fresh,
            });
        }
        Ok(())
    }

    /// Opens the cgroup where it exists.
    pub(super) fn open(layout: &Layout, path: &CgroupPath) -> Result<Option<Group>> {
        let mut group = Group { members: Vec::new(), tasks: Vec::new(), reach: Reach::All };
        for mount in &layout.v1 {
            let root = Dir::open(&mount.path).map_err(told)?;
            if let Some(dir) = gone_is_none(root.open_beneath(&path.relative()))? {
                let controllers = mount.controllers.clone();
                group.members.push(Member { controllers, root, dir, fresh: Vec::new() });
            }
        }
        if group.members.is_empty() {
            return Ok(None);
        }
        let opened: tinyd_sys::Result<Vec<File>> =
            group.members.iter().map(|member| member.dir.open_write("tasks")).collect();
        // Somebody may remove it at this moment.
        let Some(tasks) = gone_is_none(opened)? else { return Ok(None) };
        Ok(Some(Group { tasks, ..group }))
    }

    /// Opens what the entering process writes `0` to.
    ///
    /// `tasks`, not `cgroup.procs`: moving its own only thread, a process needs no lock against new threads, and the kernel
    /// (5.18 and later) takes none. Moving a "whole process" takes a global lock behind an RCU grace period, 6.6 to 12 ms.
    fn open_tasks(&mut self) -> Result<()> {
        self.tasks = self
            .members
            .iter()
            .map(|member| member.dir.open_write("tasks").map_err(told))
            .collect::<Result<_>>()?;
        Ok(())
    }

    /// One below is what processes enter, in the hierarchies of some controllers or of all.
    pub(super) fn enter_below(&mut self, controllers: Option<&[&str]>, relative: &str) -> Result<()> {
        let unknown = controllers.unwrap_or_default().iter().find(|name| self.dir_of(name).is_none());
        if let Some(name) = unknown {
            return Err(Error::new(
                Kind::InvalidArgument,
                format!("the container has no {name:?} controller"),
            ));
        }
        let is_meant =
            |member: &Member| controllers.is_none_or(|names| names.iter().any(|name| member.has(name)));
        for member in self.members.iter_mut().filter(|member| is_meant(member)) {
            member.dir = member.dir.open_beneath(relative).map_err(told)?;
        }
        self.open_tasks()
    }

    /// The directory in the hierarchy of this name.
    pub(super) fn hierarchy(&self, name: &OsStr) -> Option<BorrowedFd<'_>> {
        let member = self.members.iter().find(|member| member.root.path().file_name() == Some(name));
        member.map(|member| member.dir.as_fd())
    }

    /// The `tasks` files, open for writing.
    pub(super) fn tasks(&self) -> &[File] {
        &self.tasks
    }

    /// Writes limits again.
    pub(super) fn apply(&self, resources: &oci::Resources, warnings: &mut Warnings) -> Result<()> {
        self.limit(convert::v1(resources)?, false, warnings)?;
        if resources.devices.is_empty() {
            return Ok(());
        }
        self.set_devices(&devices::Filter::new(&resources.devices)?)
    }

    /// `is_new`: what is set by now is what the kernel begins with.
    fn limit(&self, mut settings: Vec<Setting>, is_new: bool, warnings: &mut Warnings) -> Result<()> {
        self.order_memory(&mut settings, is_new)?;
        self.order_cpu(&mut settings, is_new)?;
        let absent = match self.reach {
            Reach::All => "no such controller",
            Reach::Allowed => NOT_HANDED_DOWN,
        };
        settings.iter().try_for_each(|setting| match self.dir_of(setting.controller) {
            Some(dir) => settings::write(dir, setting, warnings),
            None => settings::missing(setting, absent, warnings),
        })
    }

    /// The kernel wants `memory <= memory and swap` after each single write: what grows is written with the sum first.
    fn order_memory(&self, settings: &mut [Setting], is_new: bool) -> Result<()> {
        let at = |file: &str| settings.iter().position(|setting| setting.file == file);
        let (Some(limit), Some(sum)) = (at("memory.limit_in_bytes"), at("memory.memsw.limit_in_bytes"))
        else {
            return Ok(());
        };
        let Some(dir) = self.dir_of("memory") else { return Ok(()) };
        let now = match is_new {
            true => u64::MAX,
            false => number(&dir.read("memory.limit_in_bytes").map_err(told)?),
        };
        let then = settings[limit].value.parse().unwrap_or(u64::MAX);
        if then > now {
            settings.swap(limit, sum);
        }
        Ok(())
    }

    /// The kernel wants the share of a cgroup's quota in its period to be no more than its parent's after each single write: a
    /// shorter period is written after the quota, a longer one before. The burst goes by the quota; a new cgroup has none to shrink.
    fn order_cpu(&self, settings: &mut [Setting], is_new: bool) -> Result<()> {
        let at = |file: &str| settings.iter().position(|setting| setting.file == file);
        let (period, quota) = (at("cpu.cfs_period_us"), at("cpu.cfs_quota_us"));
        let Some(dir) = self.dir_of("cpu") else { return Ok(()) };
        if let (Some(period), Some(quota)) = (period, quota) {
            let now = match is_new {
                true => NEW_PERIOD,
                false => gone_is_none(dir.read("cpu.cfs_period_us"))?.map_or(0, |text| number(&text)),
            };
            let then = settings[period].value.parse().unwrap_or(u64::MAX);
            if then < now {
                settings.swap(period, quota);
            }
        }
        if is_new { Ok(()) } else { settings::order_burst(dir, settings) }
    }

    fn set_devices(&self, filter: &devices::Filter) -> Result<()> {
        let Some(dir) = self.dir_of("devices") else {
            if self.reach == Reach::Allowed {
                return Ok(());
            }
            return devices::unfiltered(filter, "this host has no devices controller");
        };
        let now = dir.read("devices.list").map_err(told)?;
        let writes = filter.v1_writes(&now);
        let mut runs = writes.chunk_by(|(a, _), (b, _)| a == b).filter_map(|run| Some((run.first()?.0, run)));
        match runs
            .try_for_each(|(file, run)| dir.write_each(file, run.iter().map(|(_, value)| value.as_str())))
        {
            // The kernel leaves the list to root. Who is not can make no node, and open only what it could without a container.
            Err(error) if error.errno() == Some(libc::EPERM) => {
                if self.reach == Reach::Allowed {
                    Ok(())
                } else {
                    devices::unfiltered(filter, &chain(&error))
                }
            }
            written => written.map_err(told),
        }
    }

    fn dir_of(&self, controller: &str) -> Option<&Dir> {
        self.members.iter().find(|member| member.has(controller)).map(|member| &member.dir)
    }

    fn freezer(&self) -> Result<&Dir> {
        self.dir_of("freezer")
            .ok_or_else(|| Error::new(Kind::Unsupported, "this host has no freezer controller"))
    }

    /// Freezes, and thaws again when it does not get there.
    pub(super) fn freeze(&self) -> Result<()> {
        let deadline = Instant::now() + FREEZE_MAX;
        let dir = self.freezer()?;
        for round in 1u32.. {
            dir.write("freezer.state", "FROZEN").map_err(told)?;
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
            // A process that waits for a frozen one (vfork) freezes only after that has run a little.
            if round.is_multiple_of(50) {
                self.thaw()?;
            }
            sleep(Duration::from_micros(u64::from(round.min(20)) * 50));
        }
        Ok(())
    }

    /// Thaws.
    pub(super) fn thaw(&self) -> Result<()> {
        self.freezer()?.write("freezer.state", "THAWED").map_err(told)
    }

    /// Whether every process is frozen.
    pub(super) fn frozen(&self) -> Result<bool> {
        let Some(dir) = self.dir_of("freezer") else { return Ok(false) };
        // The directory can be gone already, when its last process has been moved out of it.
        Ok(gone_is_none(dir.read("freezer.state"))?.is_some_and(|state| state.trim() == "FROZEN"))
    }

    /// One round of killing: quick first, and on stubborn trees with everything frozen, so that nobody forks meanwhile.
    pub(super) fn kill_round(&self, round: u32) -> Result<usize> {
        let frozen = round > 0 && self.dir_of("freezer").is_some() && self.freeze().is_ok();
        let signalled = self.process_dirs().map(tree::kill_once).sum();
        // A frozen process takes its SIGKILL only when it is thawed; one that was paused is in the same place.
        if frozen || self.frozen()? {
            self.thaw()?;
        }
        signalled
    }

    /// The processes of all hierarchies: they are the same, unless somebody inside has moved some in one of them.
    pub(super) fn pids(&self) -> Result<Vec<i32>> {
        let mut all = Vec::new();
        for dir in self.process_dirs() {
            all.extend(tree::pids(dir)?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Two hierarchies are asked: with one a privileged container could hide a process by moving it up.
    fn process_dirs(&self) -> impl Iterator<Item = &Dir> {
        let first = self.dir_of("freezer").or_else(|| self.members.first().map(|member| &member.dir));
        first.into_iter().chain(self.dir_of("pids"))
    }

    /// Kills by the OOM killer, here and below: v1 counts each cgroup for itself.
    pub(super) fn oom_kills(&self) -> Result<u64> {
        let Some(dir) = self.dir_of("memory") else { return Ok(0) };
        let texts = tree::each(dir, |dir| dir.read("memory.oom_control"))?;
        Ok(texts.iter().map(|text| settings::keyed(text, "oom_kill")).sum())
    }

    /// Word of memory that has run out here. A limit further down that a container sets itself is its own matter.
    pub(super) fn oom_events(&self) -> Result<Option<OomEvents>> {
        self.dir_of("memory").map_or(Ok(None), OomEvents::v1)
    }

    /// What the kernel has counted.
    pub(super) fn stats(&self) -> Result<Stats> {
        let read = |controller: &str, file: &str| match self.dir_of(controller) {
            Some(dir) => Ok(gone_is_none(dir.read(file))?.unwrap_or_default()),
            None => Ok(String::new()),
        };
        let limit = number(&read("memory", "memory.limit_in_bytes")?);
        Ok(Stats {
            cpu_nanos: number(&read("cpuacct", "cpuacct.usage")?),
            memory_bytes: number(&read("memory", "memory.usage_in_bytes")?),
            memory_reclaimable_bytes: settings::keyed(&read("memory", "memory.stat")?, "total_inactive_file"),
            // No limit is shown as the largest number of pages that fits 63 bits.
            memory_limit_bytes: (limit > 0 && limit < 1 << 62).then_some(limit),
            pids: number(&read("pids", "pids.current")?),
        })
    }

    /// What the kernel has counted, with runc's names.
    pub(super) fn counters(&self) -> Result<serde_json::Value> {
        let dir = self.members.first().map(|member| &member.dir);
        dir.map_or(Ok(()), tree::still_there)?;
        Ok(counters::v1(&|controller, file| {
            self.dir_of(controller).and_then(|dir| dir.read(file).ok()).unwrap_or_default()
        }))
    }

    /// Removes every directory, as long as nobody is in them; whether all are gone.
    pub(super) fn remove_empty(&self, path: &CgroupPath) -> bool {
        let relative = path.relative();
        self.members.iter().all(|member| tree::remove_empty(&member.root, &relative))
    }

    /// Removes every directory; goes on after a failure.
    pub(super) fn remove(&self, path: &CgroupPath) -> Vec<Error> {
        let relative = path.relative();
        let deadline = tree::busy_until();
        let removed = self.members.iter().map(|member| tree::remove(&member.root, &relative, deadline));
        removed.filter_map(Result::err).collect()
    }
}

/// A new cpuset has no CPU and no memory node, and nobody can enter it: it takes its parent's.
fn inherit_cpuset(parent: &Dir, child: &Dir, origin: Origin) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if origin == Origin::Made || child.read(file).map_err(told)?.trim().is_empty() {
            let value = parent.read(file).map_err(told)?;
            child.write(file, value.trim()).map_err(told)?;
        }
    }
    Ok(())
}

/// A file that holds one number; nothing and `max` are 0.
fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}
