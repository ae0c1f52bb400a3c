//! A container's cgroup on v1, hybrid and v2 hosts: made and limited before anyone enters, frozen, killed, counted, removed.
//!
//! This file is the door. It never puts a process anywhere itself: the entering process does that, by [`Cgroup::clone_fd`]
//! (v2) or by writing `0` to each of [`Cgroup::procs`] (v1).

mod convert;
mod counters;
mod devices;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod ignored;
mod manager;
mod oom;
pub(crate) mod own;
mod settings;
pub mod systemd;
#[cfg(test)]
mod tests;
mod tree;
mod unit;
mod v1;
mod v2;

use std::{
    ffi::OsStr,
    fs::File,
    os::fd::BorrowedFd,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use ignored::Hierarchy;
pub use manager::CgroupManager;
pub use oom::OomEvents;
use systemd::{Holder, Unit};
use tinyd_core::{Error, Kind, Result, oci};
pub use tinyd_sys::cgroup::Layout;
use tinyd_sys::cgroup::ROOT;
use tree::{CgroupPath, told};

/// How long killed processes may take to end.
const KILL_MAX: Duration = Duration::from_secs(10);
/// How many rounds of killing may be refused by the kernel.
const KILL_REFUSALS_MAX: u32 = 3;

/// A container's cgroup: one directory on v2, one per hierarchy on v1.
#[derive(Debug)]
pub struct Cgroup {
    path: CgroupPath,
    spelled: String,
    world: World,
    /// systemd's unit that it is of.
    unit: Option<InUnit>,
}

/// What there is beside the cgroup of a unit.
#[derive(Debug)]
struct InUnit {
    unit: Unit,
    /// Keeps it until the container's first process is there.
    holder: Option<Holder>,
    /// Whether the kernel lets this process put others into it.
    reachable: bool,
}

#[derive(Debug)]
enum World {
    /// The container stays where its caller is.
    Nowhere,
    V1(v1::Group),
    V2(v2::Group),
}

/// What the kernel has counted for a cgroup and everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time used, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory in use, page cache included, in bytes.
    pub memory_bytes: u64,
    /// The part of it that is page cache not lately used, in bytes: what `docker stats` takes off.
    pub memory_reclaimable_bytes: u64,
    /// The memory limit in bytes; `None` is no limit.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
}

impl Cgroup {
    /// The hierarchies of this host.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn layout() -> Result<Layout> {
        Layout::detect(Path::new(ROOT)).map_err(told)
    }

    /// Whether they are v1's. That they are not is for [`Cgroup::layout`] to say.
    #[must_use]
    pub fn is_surely_v1() -> bool {
        Layout::is_surely_v1(Path::new(ROOT))
    }

    /// Makes the cgroup `path` (below the cgroup root, such as `/tinyd-1234/ID`) and writes its limits. The second value
    /// is what could not be done and was not asked for by name, one line each.
    ///
    /// # Errors
    /// `InvalidArgument` for a path with `..` and the like or a limit that the kernel refuses, `AlreadyExists` when a
    /// process is in a cgroup of that name, `Unsupported` when a limit needs a controller that this host lacks. Nothing of the
    /// attempt is left.
    pub fn create(layout: &Layout, path: &str, resources: &oci::Resources) -> Result<(Cgroup, Vec<String>)> {
        Cgroup::create_at(layout, CgroupPath::parse(path)?, path, resources, Reach::All)
    }

    /// The same for somebody who is not root: in the hierarchies where it may, without a list of devices, and nowhere when there is no
    /// such hierarchy.
    ///
    /// # Errors
    /// As [`Cgroup::create`]; `Unsupported` for a limit whose controller is not the caller's to use.
    pub fn create_where_allowed(
        layout: &Layout,
        path: &str,
        resources: &oci::Resources,
    ) -> Result<(Cgroup, Vec<String>)> {
        Cgroup::create_at(layout, CgroupPath::parse(path)?, path, resources, Reach::Allowed)
    }

    fn create_at(
        layout: &Layout,
        path: CgroupPath,
        spelled: &str,
        resources: &oci::Resources,
        reach: Reach,
    ) -> Result<(Cgroup, Vec<String>)> {
        let mut warnings = Vec::new();
        let world = match v2_mount(layout) {
            Ok(Some(mount)) => {
                v2::Group::create(mount, &path, resources, reach, &mut warnings)?.map(World::V2)
            }
            Ok(None) => v1::Group::create(layout, &path, resources, reach, &mut warnings)?.map(World::V1),
            Err(_) if reach == Reach::Allowed => None,
            Err(error) => return Err(error),
        };
        match world {
            Some(world) => {
                let cgroup = Cgroup { path, spelled: spelled.to_owned(), world, unit: None };
                warnings.extend(cgroup.ignored(resources));
                Ok((cgroup, warnings))
            }
            None => require_no_limits(resources).map(|()| (Cgroup::nowhere(), warnings)),
        }
    }

    /// Has systemd make the cgroup, as a unit of the container's own, and writes its limits as [`Cgroup::create`] does. It is gone again
    /// when nobody has entered it before [`Cgroup::settle`].
    ///
    /// # Errors
    /// As [`Cgroup::create`], and systemd's refusal. Nothing of the attempt is left.
    pub fn create_in_unit(
        unit: &Unit,
        path: &str,
        id: &str,
        spec: &oci::Spec,
    ) -> Result<(Cgroup, Vec<String>)> {
        let path_below = CgroupPath::parse(path)?.given();
        let default = oci::Resources::default();
        let resources = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()).unwrap_or(&default);
        let layout = Cgroup::layout()?;
        let unified = v2_mount(&layout)?;
        let held = unit::with_room(resources);
        let holder = unit.start(id, &unit::limits(&held, unified.is_some())?, &spec.annotations)?;
        let reach = if unit.is_users() { Reach::Allowed } else { Reach::All };
        let made = unit::enter_subgroup(unified, path, spec, holder.as_ref())
            .and_then(|()| Cgroup::create_at(&layout, path_below, path, &held, reach));
        match made {
            Ok((cgroup, warnings)) => Ok((cgroup.in_unit(unit.clone(), holder), warnings)),
            Err(error) => {
                drop(holder);
                // The error that is told is the one that led here.
                let _ = unit.stop();
                Err(error)
            }
        }
    }

    /// No cgroup at all: nothing is limited, counted or frozen, and nobody is found by it.
    #[must_use]
    pub fn nowhere() -> Cgroup {
        Cgroup { path: CgroupPath::default(), spelled: String::new(), world: World::Nowhere, unit: None }
    }

    /// This one, if there is one.
    ///
    /// # Errors
    /// `WrongState` for [`Cgroup::nowhere`].
    pub fn required(self) -> Result<Cgroup> {
        if self.is_somewhere() { Ok(self) } else { Err(no_cgroup()) }
    }

    /// Cgroups below this one, for a process to enter instead: `PATH`, or on v1 `CONTROLLER[,CONTROLLER]:PATH` for some hierarchies
    /// alone. They exist already.
    ///
    /// # Errors
    /// `InvalidArgument` for one that is not there, and for controllers where they are not known.
    pub fn below(mut self, places: &[String]) -> Result<Cgroup> {
        for place in places {
            let (controllers, path) = match place.split_once(':') {
                Some((controllers, path)) => (Some(controllers.split(',').collect::<Vec<_>>()), path),
                None => (None, place.as_str()),
            };
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            let relative = if parts.is_empty() { ".".to_owned() } else { parts.join("/") };
            let entered = match (&mut self.world, &controllers) {
                (World::Nowhere, _) => Err(no_cgroup()),
                (World::V1(group), _) => group.enter_below(controllers.as_deref(), &relative),
                (World::V2(group), None) => group.enter_below(&relative),
                (World::V2(_), Some(_)) => {
                    Err(Error::new(Kind::InvalidArgument, "cgroup v2 has one path for all controllers"))
                }
            };
            entered.map_err(|error| Error::new(error.kind(), format!("{place:?}: {}", error.message())))?;
        }
        Ok(self)
    }

    /// On v2, the cgroup below this one that process `pid` is in. What hands controllers down to others can hold no process itself: a
    /// container whose first process has made itself at home below, as systemd does, is entered there.
    ///
    /// # Errors
    /// When it is somewhere else.
    pub fn where_is(&self, pid: i32) -> Result<Cgroup> {
        let cgroup = Cgroup::open(&self.spelled)?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let own = format!("/{}", self.path.relative());
        let below = text.lines().find_map(|line| line.strip_prefix("0::")?.strip_prefix(&own));
        let below = below.ok_or_else(|| {
            Error::new(Kind::Internal, format!("process {pid} has left cgroup {}", self.spelled))
        })?;
        cgroup.below(&[below.to_owned()])
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_somewhere(&self) -> bool {
        !matches!(self.world, World::Nowhere)
    }

    /// Opens a cgroup that exists.
    ///
    /// # Errors
    /// `NotFound` when no hierarchy has it.
    pub fn open(path: &str) -> Result<Cgroup> {
        Cgroup::open_in(Path::new(ROOT), path)
    }

    fn open_in(root: &Path, spelled: &str) -> Result<Cgroup> {
        let path = CgroupPath::parse(spelled)?;
        let layout = Layout::detect(root).map_err(told)?;
        let world = match v2_mount(&layout)? {
            Some(mount) => v2::Group::open(mount, &path)?.map(World::V2),
            None => v1::Group::open(&layout, &path)?.map(World::V1),
        };
        let world = world.ok_or_else(|| Error::new(Kind::NotFound, format!("no cgroup {spelled:?}")))?;
        Ok(Cgroup { path, spelled: spelled.to_owned(), world, unit: None })
    }

    /// The path it was made under.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.spelled
    }

    /// On v2, the directory for `clone3(CLONE_INTO_CGROUP)`; `None` on v1.
    ///
    /// A new cgroup namespace must be made after entering (`unshare` in the child): its root is where its maker is.
    #[must_use]
    pub fn clone_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.world {
            World::V2(group) if self.unit.as_ref().is_none_or(|unit| unit.reachable) => {
                Some(group.clone_fd())
            }
            World::Nowhere | World::V1(_) | World::V2(_) => None,
        }
    }

    /// On v1, the directory in the hierarchy that is mounted under this name.
    #[must_use]
    pub fn hierarchy(&self, name: &OsStr) -> Option<BorrowedFd<'_>> {
        match &self.world {
            World::V1(group) => group.hierarchy(name),
            World::Nowhere | World::V2(_) => None,
        }
    }

    /// On v1, the `tasks` files, open for writing: the entering process, while it has one thread, writes `0` to each. Empty on v2.
    #[must_use]
    pub fn procs(&self) -> &[File] {
        match &self.world {
            World::V1(group) => group.tasks(),
            World::Nowhere | World::V2(_) => &[],
        }
    }

    /// Writes limits again; what `resources` does not name stays as it is. Returns warnings as [`Cgroup::create`] does.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn apply(&self, resources: &oci::Resources) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        match &self.world {
            World::Nowhere => return Err(no_cgroup()),
            World::V1(group) => group.apply(resources, &mut warnings)?,
            World::V2(group) => group.apply(resources, &mut warnings)?,
        }
        Ok(warnings)
    }

    /// Whether swap has a limit apart from that on memory, and not one on both.
    #[must_use]
    pub fn has_swap_apart(&self) -> bool {
        matches!(self.world, World::V2(_))
    }

    /// A line for each limit that is asked for and that this host has for no cgroup.
    #[must_use]
    pub fn ignored(&self, resources: &oci::Resources) -> Vec<String> {
        match &self.world {
            World::Nowhere => Vec::new(),
            World::V1(_) => ignored::ignored(resources, Hierarchy::V1),
            World::V2(_) => ignored::ignored(resources, Hierarchy::V2),
        }
    }

    /// Freezes every process; returns when they are frozen.
    ///
    /// # Errors
    /// When the kernel has no freezer here or does not get them frozen in five seconds; they are thawed again then.
    pub fn freeze(&self) -> Result<()> {
        match &self.world {
            World::Nowhere => Err(no_cgroup()),
            World::V1(group) => group.freeze(),
            World::V2(group) => group.freeze(),
        }
    }

    /// Thaws them.
    ///
    /// # Errors
    /// The call that the kernel refused.
    pub fn thaw(&self) -> Result<()> {
        match &self.world {
            World::Nowhere => Err(no_cgroup()),
            World::V1(group) => group.thaw(),
            World::V2(group) => group.thaw(),
        }
    }

    /// Whether it is frozen.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn frozen(&self) -> Result<bool> {
        match &self.world {
            World::Nowhere => Ok(false),
            World::V1(group) => group.frozen(),
            World::V2(group) => group.frozen(),
        }
    }

    /// SIGKILL to every process of the cgroup and below, frozen ones too; returns when none is left.
    ///
    /// # Errors
    /// `Internal`, naming them, when some are still there after ten seconds (uninterruptible sleep).
    pub fn kill_all(&self) -> Result<()> {
        let deadline = Instant::now() + KILL_MAX;
        let mut pause = Duration::from_micros(100);
        let (mut round, mut refused) = (0, 0);
        loop {
            let signalled = match &self.world {
                World::Nowhere => return Ok(()),
                World::V1(group) => group.kill_round(round),
                World::V2(group) => group.kill_round(round),
            };
            match signalled.and_then(|_| self.pids()) {
                Ok(left) if left.is_empty() => return Ok(()),
                Ok(left) if Instant::now() >= deadline => {
                    let message = format!("processes {left:?} do not end after SIGKILL");
                    return Err(Error::new(Kind::Internal, message));
                }
                Ok(_) => {}
                // Short of memory or descriptors for a moment is no reason to leave processes behind.
                Err(error) if refused == KILL_REFUSALS_MAX => return Err(error),
                Err(_) => refused += 1,
            }
            round += 1;
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Its processes, and those of the cgroups below, as the host counts, sorted.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn pids(&self) -> Result<Vec<i32>> {
        match &self.world {
            World::Nowhere => Ok(Vec::new()),
            World::V1(group) => group.pids(),
            World::V2(group) => group.pids(),
        }
    }

    /// How many processes the kernel has killed for memory.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn oom_kills(&self) -> Result<u64> {
        match &self.world {
            World::Nowhere => Ok(0),
            World::V1(group) => group.oom_kills(),
            World::V2(group) => group.oom_kills(),
        }
    }

    /// A descriptor that tells when memory has run out; `None` where no controller limits memory.
    ///
    /// # Errors
    /// When the kernel does not tell of it.
    pub fn oom_events(&self) -> Result<Option<OomEvents>> {
        match &self.world {
            World::Nowhere => Ok(None),
            World::V1(group) => group.oom_events(),
            World::V2(group) => group.oom_events(),
        }
    }

    /// What the kernel has counted.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn stats(&self) -> Result<Stats> {
        match &self.world {
            World::Nowhere => Ok(Stats::default()),
            World::V1(group) => group.stats(),
            World::V2(group) => group.stats(),
        }
    }

    /// What the kernel has counted, with runc's names, for `events`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counters(&self) -> Result<serde_json::Value> {
        match &self.world {
            World::Nowhere => Err(no_cgroup()),
            World::V1(group) => group.counters(),
            World::V2(group) => group.counters(),
        }
    }

    /// Kills what is left, then removes it and everything below. One that is gone is no error.
    ///
    /// # Errors
    /// All that could not be removed.
    pub fn remove(&self) -> Result<()> {
        // As nearly every container leaves it. The kernel knows whether somebody is in it, and takes no directory away then.
        let gone = self.unit.is_none()
            && match &self.world {
                World::Nowhere => true,
                World::V1(group) => group.remove_empty(&self.path),
                World::V2(group) => group.remove_empty(&self.path),
            };
        if gone {
            return Ok(());
        }
        let killed = match self.pids() {
            Ok(pids) if pids.is_empty() => Ok(()),
            Ok(_) | Err(_) => self.kill_all(),
        };
        let mut left = Vec::new();
        match killed {
            // A cgroup with processes is not removed: no need to wait for it.
            Err(error) => left.push(error),
            Ok(()) => {
                left.extend(self.unit.as_ref().and_then(|in_unit| in_unit.unit.stop().err()));
                left.extend(match &self.world {
                    World::Nowhere => Vec::new(),
                    World::V1(group) => group.remove(&self.path),
                    World::V2(group) => group.remove(&self.path),
                });
            }
        }
        match left.as_slice() {
            [] => Ok(()),
            all => {
                let lines: Vec<String> = all.iter().map(Error::to_string).collect();
                Err(Error::new(
                    Kind::Internal,
                    format!("remove cgroup {}: {}", self.spelled, lines.join("; ")),
                ))
            }
        }
    }
}

/// What is decided of resources, in words.
#[cfg(test)]
pub(crate) fn decided(resources: &oci::Resources) -> String {
    let devices = devices::Filter::new(&resources.devices);
    let devices = devices.map(|filter| (filter.v1_writes("a *:* rwm"), filter.program()));
    format!("{:?} {:?} {devices:?}", convert::v1(resources), convert::v2(resources))
}

/// What cannot be done without one.
fn no_cgroup() -> Error {
    Error::new(Kind::WrongState, "the container has no cgroup")
}

/// Without a cgroup nothing is limited, and who asks for a limit relies on it.
fn require_no_limits(resources: &oci::Resources) -> Result<()> {
    let limits = convert::v2(resources)?;
    limits.first().map_or(Ok(()), |limit| {
        let rule = format!("no limit can be set: {NOT_HANDED_DOWN}");
        Err(Error::new(Kind::Unsupported, rule).of_field(limit.field))
    })
}

/// Why a limit of somebody who is not root cannot be set.
const NOT_HANDED_DOWN: &str = "no cgroup that has its controller is this user's to use";

/// In which hierarchies a cgroup is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// All that limit anything.
    All,
    /// Those in which the caller may.
    Allowed,
}

/// The v2 hierarchy, where that is what limits containers; `None` where v1 does.
fn v2_mount(layout: &Layout) -> Result<Option<&Path>> {
    match (&layout.unified, layout.v1.is_empty()) {
        (Some(mount), true) => Ok(Some(mount)),
        (None, true) => {
            Err(Error::new(Kind::Unsupported, "no cgroup hierarchy is mounted at /sys/fs/cgroup"))
        }
        (_, false) => Ok(None),
    }
}
