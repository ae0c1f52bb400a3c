//! systemd as the maker of cgroups: a container is a unit of its own, a scope, in the slice that is asked for.
//!
//! systemd makes the directory and keeps it; the files in it are written by the same code as without it, and the unit's properties say the
//! same. The record of a container names its unit before there is one, so `delete` finds it whatever happens.

mod annotations;
mod bus;
mod holder;
mod message;
pub(super) mod names;
mod properties;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Kind, Result, oci};

use self::{
    bus::{Bus, Refusal},
    message::Value,
    names::Names,
    properties::Property,
};
use super::{convert::Setting, devices::Filter};

pub(super) use self::holder::Holder;

/// crun's annotation: the name of a cgroup below the unit's in which the container is.
const SUBGROUP: &str = "run.oci.systemd.subgroup";

/// A container's unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    name: String,
    /// The slice that it belongs to.
    slice: String,
    /// Whether it is a user's own manager that has it, and not the system's.
    user: bool,
}

/// Where a container will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Its unit.
    pub unit: Unit,
    /// Its cgroup below the root.
    pub path: String,
}

/// Decides unit and cgroup of a container. Makes nothing; for a user its manager is asked where it is.
///
/// # Errors
/// `InvalidArgument` for a path or an annotation that cannot be, `Unavailable` when there is no manager.
pub fn decide(spec: &oci::Spec, id: &str, user: bool) -> Result<Decided> {
    let given =
        spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref()).filter(|path| !path.is_empty());
    let names = Names::parse(given, id, user)?;
    annotations::properties(&spec.annotations)?;
    let above = if user {
        let mut bus = Bus::connect(user)?;
        bus.property("ControlGroup").map_err(|refusal| refusal.of("ask systemd for its cgroup"))?
    } else {
        String::new()
    };
    let below = subgroup(spec).map_or_else(String::new, |name| format!("/{name}"));
    let unit = Unit { name: names.unit, slice: names.slice, user };
    Ok(Decided { unit, path: format!("{}{}{below}", above.trim_end_matches('/'), names.path) })
}

/// The cgroup below the unit's that is asked for.
pub(super) fn subgroup(spec: &oci::Spec) -> Option<&str> {
    spec.annotations.get(SUBGROUP).map(|name| name.trim_matches('/')).filter(|name| !name.is_empty())
}

/// What a unit's properties come from.
pub(super) struct Limits {
    /// What is written into the cgroup's files.
    pub settings: Vec<Setting>,
    /// The devices, on v1.
    pub devices: Option<Filter>,
}

impl Limits {
    fn properties(&self) -> Vec<Property> {
        let mut all = properties::of_settings(&self.settings);
        all.extend(self.devices.iter().flat_map(properties::of_devices));
        all
    }
}

impl Unit {
    /// Whether it is a user's own manager that has it.
    pub(super) const fn is_users(&self) -> bool {
        self.user
    }

    /// Starts the unit, and comes back when it has its cgroup. A scope ends again when the [`Holder`] is dropped while nobody else is in it.
    ///
    /// # Errors
    /// `AlreadyExists` when there is a unit of that name that runs, `InvalidArgument` for a property that systemd refuses.
    pub(super) fn start(
        &self,
        id: &str,
        limits: &Limits,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Option<Holder>> {
        let asked = format!("start unit {:?}", self.name);
        let holder = if Names::is_slice(&self.name) { None } else { Some(Holder::start()?) };
        let mut all = self.own_properties(id, holder.as_ref(), limits.devices.is_none());
        all.extend(limits.properties());
        all.extend(annotations::properties(annotations)?);
        let mut bus = Bus::connect(self.user)?;
        let result = self.start_with(&mut bus, &all).map_err(|refusal| {
            if refusal.is(".UnitExists") {
                return Error::new(Kind::AlreadyExists, format!("{asked}: it exists"));
            }
            refusal.of(&asked)
        })?;
        if result == "done" {
            return Ok(holder);
        }
        // What has not come about is not left as failed.
        let _ = bus.manager("ResetFailedUnit", vec![Value::str(&self.name)]);
        Err(Error::new(Kind::Internal, format!("{asked}: systemd says {result}: see its journal")))
    }

    fn start_with(&self, bus: &mut Bus, all: &[Property]) -> std::result::Result<String, Refusal> {
        bus.listen(&self.name)?;
        let call = || {
            let others = Value::Array("(sa(sv))".into(), Vec::new());
            vec![Value::str(&self.name), Value::str("replace"), properties::to_array(all), others]
        };
        let answer = match bus.manager("StartTransientUnit", call()) {
            // One that has failed stands in the way until somebody says that it was seen.
            Err(refusal) if refusal.is(".UnitExists") => {
                bus.manager("ResetFailedUnit", vec![Value::str(&self.name)])?;
                bus.manager("StartTransientUnit", call())?
            }
            answer => answer?,
        };
        Ok(bus.job_result(&answer)?)
    }

    fn own_properties(&self, id: &str, holder: Option<&Holder>, unified: bool) -> Vec<Property> {
        let io = if unified { "IOAccounting" } else { "BlockIOAccounting" };
        let mut all = vec![Property::new("Description", Value::Str(format!("tinyrun container {id}")))];
        match holder {
            Some(holder) => all.extend([
                Property::new("Slice", Value::str(&self.slice)),
                Property::new("Delegate", Value::Bool(true)),
                Property::new("PIDs", Value::Array("u".into(), vec![Value::U32(holder.pid)])),
                // One that has failed, as after a kill for memory, is not kept: whether it was is counted in the cgroup.
                Property::new("CollectMode", Value::str("inactive-or-failed")),
            ]),
            None => all.push(Property::new("Wants", Value::Array("s".into(), vec![Value::str(&self.slice)]))),
        }
        let accounting = ["MemoryAccounting", "CPUAccounting", "TasksAccounting", io];
        all.extend(accounting.map(|name| Property::new(name, Value::Bool(true))));
        all.push(Property::new("DefaultDependencies", Value::Bool(false)));
        all
    }

    /// Changes the unit's limits, until the next boot.
    ///
    /// # Errors
    /// `InvalidArgument` for one that systemd refuses.
    pub(super) fn set(&self, limits: &Limits) -> Result<()> {
        let all = limits.properties();
        if all.is_empty() {
            return Ok(());
        }
        let body = vec![Value::str(&self.name), Value::Bool(true), properties::to_array(&all)];
        let set = Bus::connect(self.user)?.manager("SetUnitProperties", body);
        set.map(drop).map_err(|refusal| refusal.of(&format!("set the limits of unit {:?}", self.name)))
    }

    /// Moves a process into the unit, where the kernel does not let its caller do it.
    ///
    /// # Errors
    /// systemd's refusal.
    pub(super) fn attach(&self, path: &str, pid: i32) -> Result<()> {
        let pids = Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())]);
        // It is told where below the unit.
        let below = path.rsplit_once(&self.name).map_or("", |(_, below)| below);
        let body =
            vec![Value::str(&self.name), Value::Str(format!("/{}", below.trim_start_matches('/'))), pids];
        let attached = Bus::connect(self.user)?.manager("AttachProcessesToUnit", body);
        attached
            .map(drop)
            .map_err(|refusal| refusal.of(&format!("move process {pid} into unit {:?}", self.name)))
    }

    /// Stops the unit and comes back when it is gone. One that is gone is no error.
    ///
    /// # Errors
    /// systemd's refusal.
    pub fn stop(&self) -> Result<()> {
        self.stop_over(&mut Bus::connect(self.user)?)
    }

    fn stop_over(&self, bus: &mut Bus) -> Result<()> {
        let asked = format!("stop unit {:?}", self.name);
        let stopped = self.stop_with(bus).map_err(|refusal| refusal.of(&asked))?;
        if stopped != "done" {
            return Err(Error::new(Kind::Internal, format!("{asked}: systemd says {stopped}")));
        }
        match bus.manager("ResetFailedUnit", vec![Value::str(&self.name)]) {
            Err(refusal) if !refusal.is(".NoSuchUnit") => Err(refusal.of(&asked)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn stop_with(&self, bus: &mut Bus) -> std::result::Result<String, Refusal> {
        bus.listen(&self.name)?;
        match bus.manager("StopUnit", vec![Value::str(&self.name), Value::str("replace")]) {
            Ok(answer) => Ok(bus.job_result(&answer)?),
            Err(refusal) if refusal.is(".NoSuchUnit") => Ok("done".to_owned()),
            Err(refusal) => Err(refusal),
        }
    }
}
