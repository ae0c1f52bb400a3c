//! `pause` and `resume`: the cgroup's freezer.

use tinyd_core::{Error, Kind, Result, oci::Status};

use super::{record::Root, state::observe};
use crate::cgroup::Cgroup;

/// Freezes every process; comes back when they are.
///
/// # Errors
/// `WrongState` unless it runs.
pub fn pause(root: &Root, id: &str) -> Result<()> {
    cgroup_when(root, id, "pause", &[Status::Created, Status::Running])?.freeze()
}

/// Thaws them.
///
/// # Errors
/// `WrongState` unless it is paused.
pub fn resume(root: &Root, id: &str) -> Result<()> {
    cgroup_when(root, id, "resume", &[Status::Paused])?.thaw()
}

fn cgroup_when(root: &Root, id: &str, verb: &str, allowed: &[Status]) -> Result<Cgroup> {
    let seen = observe(&root.place(id)?)?;
    if allowed.contains(&seen.status) {
        return seen.record.open_cgroup();
    }
    Err(Error::new(Kind::WrongState, format!("cannot {verb} container {id:?}: it is {}", seen.word())))
}
