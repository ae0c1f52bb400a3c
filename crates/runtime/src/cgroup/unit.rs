//! The cgroup of a systemd unit: what is different when somebody else makes the directory.

use std::path::Path;

use tinyd_core::{Result, oci};
use tinyd_sys::cgroup::{Dir, ROOT};

use super::{
    Cgroup, InUnit, World, convert,
    devices::Filter,
    own::Own,
    systemd::{self, Holder, Limits, Unit},
    tree::{CgroupPath, told},
};

impl Cgroup {
    /// The same, of a unit.
    pub(super) fn in_unit(self, unit: Unit, holder: Option<Holder>) -> Cgroup {
        // The system's manager is asked by root, whom no permission hinders.
        let reachable = !unit.is_users() || may_enter(self.path());
        Cgroup { unit: Some(InUnit { unit, holder, reachable }), ..self }
    }

    /// Opens the cgroup of a unit.
    ///
    /// # Errors
    /// `NotFound` when it is gone; the unit may still be there then.
    pub fn open_in_unit(unit: &Unit, path: &str) -> Result<Cgroup> {
        Cgroup::open(path).map(|cgroup| cgroup.in_unit(unit.clone(), None))
    }

    /// Has systemd put a process into the unit where that is not for this process to do: on v1, where its own hierarchy has the unit too,
    /// and where the unit is outside of what the caller may move processes in. In all other cases the process has entered by itself.
    ///
    /// # Errors
    /// systemd's refusal.
    pub(crate) fn attach(&self, pid: i32) -> Result<()> {
        let Some(in_unit) = &self.unit else { return Ok(()) };
        match self.world {
            World::V2(_) if in_unit.reachable => Ok(()),
            World::Nowhere | World::V1(_) | World::V2(_) => in_unit.unit.attach(self.path(), pid),
        }
    }

    /// Tells systemd all limits that hold, so that it does not go back to others.
    ///
    /// # Errors
    /// systemd's refusal.
    pub(crate) fn tell_unit(&self, resources: &oci::Resources, devices_too: bool) -> Result<()> {
        let Some(in_unit) = &self.unit else { return Ok(()) };
        let unified = matches!(self.world, World::V2(_));
        if let World::V2(group) = &self.world {
            group.check(resources)?;
        }
        let mut limits = limits(resources, unified)?;
        // On v1 systemd closes all and opens them again, which a container would see.
        limits.devices = limits.devices.filter(|_| devices_too);
        in_unit.unit.set(&limits)
    }

    /// Lets the one go that has held the unit, now that the container's first process is in it. What could not be done, if anything.
    pub(crate) fn settle(&mut self, resources: Option<&oci::Resources>) -> Option<String> {
        let holder = self.unit.as_mut()?.holder.take();
        drop(holder?);
        let pids = resources.and_then(|resources| resources.pids).filter(|pids| pids.limit == ONE)?;
        let limit = oci::Resources { pids: Some(pids), ..oci::Resources::default() };
        let limited = self.tell_unit(&limit, false).and_then(|()| self.apply(&limit));
        limited.err().map(|error| error.to_string())
    }
}

/// What systemd is told of limits.
pub(super) fn limits(resources: &oci::Resources, unified: bool) -> Result<Limits> {
    if unified {
        return Ok(Limits { settings: convert::v2(resources)?, devices: None });
    }
    Ok(Limits { settings: convert::v1(resources)?, devices: Some(Filter::new(&resources.devices)?) })
}

/// The limit under which a holder leaves no room for anybody.
const ONE: i64 = 1;

/// The limits while a holder is in the cgroup as well.
pub(super) fn with_room(resources: &oci::Resources) -> oci::Resources {
    let mut resources = resources.clone();
    if let Some(pids) = resources.pids.as_mut().filter(|pids| pids.limit == ONE) {
        pids.limit += 1;
    }
    resources
}

/// Makes the cgroup below the unit's that is asked for, and moves the holder into it: on v2 no controller is handed down from a cgroup that
/// has processes itself.
pub(super) fn enter_subgroup(
    unified: Option<&Path>,
    path: &str,
    spec: &oci::Spec,
    holder: Option<&Holder>,
) -> Result<()> {
    let (Some(mount), Some(_), Some(holder)) = (unified, systemd::subgroup(spec), holder) else {
        return Ok(());
    };
    let path = CgroupPath::parse(path)?;
    let root = Dir::open(mount).map_err(told)?;
    root.make(&path.relative()).map_err(told)?;
    let dir = root.open_beneath(&path.relative()).map_err(told)?;
    dir.write("cgroup.procs", &holder.pid.to_string()).map_err(told)
}

/// Whether this process may put others into a v2 cgroup: it may write to the nearest one that both are below.
fn may_enter(path: &str) -> bool {
    let Ok(own) = Own::read() else { return false };
    let Some(own) = own.below("unified") else { return false };
    let both = own
        .split('/')
        .zip(path.split('/').filter(|part| !part.is_empty()))
        .take_while(|(own, its)| own == its);
    let common: Vec<&str> = both.map(|(part, _)| part).collect();
    let common = Path::new(ROOT).join(common.join("/"));
    Dir::open(&common).is_ok_and(|dir| dir.open_write("cgroup.procs").is_ok())
}
