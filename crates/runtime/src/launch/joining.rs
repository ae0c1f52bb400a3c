//! When a container's cgroup is made, and how its first process comes into it.
//!
//! On v2 a process is born in its cgroup, which is made before it. A v1 cgroup is entered by the process itself. Where that has a network
//! namespace to make, both have something to do at the same time: the process is cloned first and makes its namespaces while the caller opens
//! what its mounts are made of, and file systems that anybody can make ([`Plan::supplies`]); it takes them one by one and makes the mounts, while
//! the caller makes the directories of all hierarchies. It enters when it has come to the first step that needs it
//! ([`plan::Step::needs_cgroup`]), and before anything else in a user namespace of its own.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};

use tinyd_core::{Result, oci};
use tinyd_sys::ns::{self, flag};

use super::{
    Launch, View, Witness,
    cgroups::{self, Side},
    cpu, failpoint,
    sources::with_exact_modes,
    step,
    sync::{Phase, Sync},
};
use crate::{
    caller::Caller,
    cgroup::{Cgroup, CgroupManager, systemd::Unit},
    init,
    plan::{self, Plan},
};

/// Said with [`Phase::Cgroup`] to a process that was sent to another CPU.
const SENT: &[u8] = b"sent";

/// The namespaces that a first process makes itself which is there before its cgroup: its caller goes on meanwhile. Those that wait for something
/// are not due yet.
const MADE_MEANWHILE: u64 = flag::NET | flag::MOUNT | flag::IPC | flag::UTS;

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    id: &'a str,
    spec: &'a oci::Spec,
    manager: CgroupManager,
    path: &'a str,
    unit: Option<&'a Unit>,
    takes_what_it_gets: bool,
    caller: Caller,
    witness: Option<&'a dyn Witness>,
    failpoint: &'a str,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(launch: &Launch<'a>) -> Wanted<'a> {
        Wanted {
            id: launch.id,
            spec: launch.spec,
            manager: launch.manager,
            path: launch.cgroup,
            unit: launch.unit,
            takes_what_it_gets: launch.takes_what_it_gets,
            caller: launch.caller,
            witness: launch.gate.witness(),
            failpoint: launch.failpoint,
        }
    }

    fn make(&self) -> Result<(Cgroup, Vec<String>)> {
        let linux = self.spec.linux.as_ref();
        let default = oci::Resources::default();
        let resources = linux.and_then(|linux| linux.resources.as_ref()).unwrap_or(&default);
        if let Some(unit) = self.unit {
            return Cgroup::create_in_unit(unit, self.path, self.id, self.spec);
        }
        match self.manager {
            CgroupManager::Cgroupfs if self.takes_what_it_gets => {
                Cgroup::create_where_allowed(&Cgroup::layout()?, self.path, resources)
            }
            CgroupManager::Cgroupfs | CgroupManager::Systemd => {
                Cgroup::create(&Cgroup::layout()?, self.path, resources)
            }
            CgroupManager::Disabled if *resources == default => Ok((Cgroup::nowhere(), Vec::new())),
            CgroupManager::Disabled => {
                let warning = "linux.resources: nothing is limited: the cgroup manager is disabled";
                Ok((Cgroup::nowhere(), vec![warning.to_owned()]))
            }
        }
    }

    /// Whether the first process can be there before its cgroup.
    fn can_wait(&self, plan: &Plan) -> bool {
        let is_plain =
            self.manager == CgroupManager::Cgroupfs && self.unit.is_none() && !self.takes_what_it_gets;
        let makes_network = plan.namespaces.makes(flag::NET) && plan.namespaces.join.is_empty();
        let is_root = self.caller == Caller::Machine;
        is_plain && makes_network && is_root && !plan.shows_hosts_cgroups() && Cgroup::is_surely_v1()
    }
}

/// A cgroup that is made, or about to be.
#[derive(Debug)]
pub(super) struct Joining<'a> {
    wanted: Wanted<'a>,
    /// Whether the first process is there before it.
    waits: bool,
    /// Where it can be sent meanwhile.
    others: Option<cpu::Others>,
    /// None at all until it is made.
    cgroup: Cgroup,
    is_made: bool,
    warnings: Vec<String>,
}

impl<'a> Joining<'a> {
    /// Makes the cgroup, unless that can wait.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub(super) fn begin(wanted: Wanted<'a>, plan: &Plan) -> Result<Joining<'a>> {
        let waits = wanted.can_wait(plan);
        let others = if waits { cpu::Others::look() } else { None };
        let mut joining = Joining {
            wanted,
            waits,
            others,
            cgroup: Cgroup::nowhere(),
            is_made: false,
            warnings: Vec::new(),
        };
        if !waits {
            joining.make(None)?;
        }
        Ok(joining)
    }

    /// Makes the cgroup; the `first` process is there already where it waits.
    fn make(&mut self, first: Option<i32>) -> Result<()> {
        self.wanted.witness.map_or(Ok(()), |witness| witness.begin(first))?;
        if !self.waits {
            self.wanted.witness.map_or(Ok(()), Witness::go_on)?;
        }
        // A process that is not root reads its limits there.
        (self.cgroup, self.warnings) = with_exact_modes(|| self.wanted.make())?;
        self.is_made = true;
        Ok(())
    }

    /// Whether it is made.
    pub(super) fn is_made(&self) -> bool {
        self.is_made
    }

    /// The cgroup; none at all while it is not made.
    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The cgroup, and what could not be done.
    pub(super) fn end(self) -> (Cgroup, Vec<String>) {
        (self.cgroup, self.warnings)
    }

    /// Whether the first process is there before its cgroup, and before what its mounts are made of.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// The namespaces that the first process makes while it waits.
    pub(super) fn made_meanwhile(&self) -> u64 {
        if self.waits { MADE_MEANWHILE } else { 0 }
    }

    /// Fails when it is made and that is the step that shall fail.
    ///
    /// # Errors
    /// See [`failpoint`].
    pub(super) fn fail_if_made(&self) -> Result<()> {
        if self.is_made { failpoint(self.wanted.failpoint, "cgroup") } else { Ok(()) }
    }

    /// What the first process needs of it. `opens_inside`: it opens its views itself.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn entry(&self, plan: &Plan, opens_inside: bool) -> Result<Entry<'_>> {
        if self.waits {
            return Ok(Entry::Coming { devices: None });
        }
        let count = if opens_inside { 0 } else { views_in(plan).count() };
        let views = (0..count).map(|_| cgroups::open(&self.cgroup, Side::Caller)).collect::<Result<_>>()?;
        Ok(Entry::Made { tasks: self.cgroup.procs(), views })
    }

    /// Has `supply` give the first process, `pid`, what its mounts are made of; makes what waits, lets it in, and gives it the views.
    ///
    /// # Errors
    /// As [`Cgroup::create`] and `supply`; the process is the caller's to end then.
    pub(super) fn let_in(
        &mut self,
        pid: i32,
        plan: &Plan,
        sync: &mut Sync,
        supply: impl FnOnce(&mut Sync) -> Result<()>,
    ) -> Result<()> {
        if !self.waits {
            return Ok(());
        }
        let is_sent = self.others.take().is_some_and(|others| others.send_away(pid));
        supply(sync)?;
        self.make(Some(pid))?;
        self.fail_if_made()?;
        if self.cgroup.procs().is_empty() {
            // It would run without its limits.
            return Err(init::impossible("a cgroup of v1 that is not one"));
        }
        let tasks: Vec<_> = self.cgroup.procs().iter().map(AsFd::as_fd).collect();
        sync.say(Phase::Cgroup, if is_sent { SENT } else { b"" }, &tasks)?;
        for attributes in views_in(plan) {
            let mut view = cgroups::open(&self.cgroup, Side::Caller)?;
            // In a user namespace it is to be its root's.
            if !plan.namespaces.makes(flag::USER) {
                view = view.with_base(attributes).map_err(step("show the cgroup"))?;
            }
            let (told, trees) = view.tell()?;
            sync.say(Phase::Cgroup, &told, &trees)?;
        }
        if self.wanted.witness.is_some() && plan.lo_can_wait() {
            // It may have done so itself, where it had to wait: then there is nothing to do.
            let (_, devices) = sync.hear_phase(Phase::Cgroup)?;
            let devices = devices.first().ok_or_else(|| init::impossible("a network without a socket"))?;
            init::bring_lo_up(devices.as_fd())?;
        }
        self.wanted.witness.map_or(Ok(()), Witness::go_on)
    }
}

/// The attributes of each mount that shows the container its cgroup.
fn views_in(plan: &Plan) -> impl Iterator<Item = u64> {
    plan.steps.iter().filter_map(plan::Step::shows_cgroup)
}

/// How the first process comes into its cgroup.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// It is made.
    Made {
        /// v1: its `tasks` files. On v2 the process is in it already.
        tasks: &'a [File],
        /// What is seen at /sys/fs/cgroup: one for each mount of it.
        views: Vec<View>,
    },
    /// It is made meanwhile. With [`Phase::Cgroup`] come what mounts are made of, its `tasks` files, then one view for each mount of it.
    Coming {
        /// A socket of the network whose `lo` is brought up by whoever of the two comes to it first.
        devices: Option<OwnedFd>,
    },
    /// The process is in it. The views come, or have come.
    Within,
}

impl Entry<'_> {
    /// What the process begins with: it enters a cgroup that is made, and makes its namespaces meanwhile where it is not: its network's socket. Where its
    /// gate `is_open` it leaves it to its caller to bring `lo` up before it may go on to its program, unless it has time for that itself.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn begin(&mut self, plan: &Plan, sync: &mut Sync, is_open: bool) -> Result<Option<OwnedFd>> {
        match self {
            Entry::Made { tasks, .. } => init::enter_cgroup(tasks).map(|()| None),
            Entry::Coming { devices } => {
                ns::unshare(plan.namespaces.new & MADE_MEANWHILE & !plan.namespaces.late())
                    .map_err(step("make namespaces"))?;
                if !(is_open && plan.lo_can_wait()) {
                    return plan
                        .steps
                        .contains(&plan::Step::Network)
                        .then(init::bring_up_network)
                        .transpose();
                }
                let socket = ns::device_socket().map_err(step("open the network"))?;
                sync.say(Phase::Cgroup, b"", &[socket.as_fd()])?;
                *devices = Some(socket);
                init::open_network().map(Some)
            }
            Entry::Within => Ok(None),
        }
    }

    /// Enters a cgroup that is made meanwhile, where the process is not in it yet; whether it was not.
    ///
    /// # Errors
    /// The kernel's refusal; that of the caller, who could not make it.
    pub(crate) fn enter(&mut self, sync: &mut Sync) -> Result<bool> {
        let Entry::Coming { devices } = self else { return Ok(false) };
        if let Some(devices) = devices
            && !sync.has_word()
        {
            init::bring_lo_up(devices.as_fd())?;
        }
        let (told, tasks) = sync.hear_phase(Phase::Cgroup)?;
        if told == SENT {
            cpu::be_free()?;
        }
        init::enter_cgroup(&tasks.into_iter().map(File::from).collect::<Vec<_>>())?;
        *self = Entry::Within;
        Ok(true)
    }

    /// Has all that is seen at /sys/fs/cgroup at once, before anything else is heard.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn take_views(&mut self, plan: &Plan, sync: &mut Sync) -> Result<()> {
        let views = views_in(plan).map(|_| self.take_view(sync)).collect::<Result<_>>()?;
        self.set_views(views);
        Ok(())
    }

    /// Has views that were opened elsewhere.
    pub(crate) fn set_views(&mut self, views: Vec<View>) {
        *self = Entry::Made { tasks: &[], views };
    }

    /// What is seen at /sys/fs/cgroup by one mount. Where it comes from the caller, that may still be making it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn take_view(&mut self, sync: &mut Sync) -> Result<View> {
        match self {
            Entry::Made { views, .. } => {
                views.pop().ok_or_else(|| init::impossible("a cgroup that was not opened"))
            }
            Entry::Coming { .. } | Entry::Within => {
                let (told, trees) = sync.hear_phase(Phase::Cgroup)?;
                View::of_told(&told, trees)
            }
        }
    }
}

/// What the container sees at /sys/fs/cgroup, as it opens it itself.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn views_from_inside(plan: &Plan, cgroup: &Cgroup) -> Result<Vec<View>> {
    views_in(plan).map(|_| cgroups::open(cgroup, Side::Inside)).collect()
}
