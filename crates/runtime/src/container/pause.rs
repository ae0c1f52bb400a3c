//! `pause` and `resume`: the cgroup's freezer.

use tinyd_core::{Result, oci::Status};

use super::{root::Root, state::observe};
use crate::cgroup::Cgroup;

/// Freezes every process; comes back when they are.
///
/// # Errors
/// `WrongState` unless it runs.
pub fn pause(root: &Root, id: &str) -> Result<()> {
    with_cgroup(root, id, (&[Status::Created, Status::Running], "container not running"), Cgroup::freeze)
}

/// Thaws them.
///
/// # Errors
/// `WrongState` unless it is paused.
pub fn resume(root: &Root, id: &str) -> Result<()> {
    with_cgroup(root, id, (&[Status::Paused], "container not paused"), Cgroup::thaw)
}

fn with_cgroup(
    root: &Root,
    id: &str,
    (allowed, otherwise): (&[Status], &str),
    act: impl FnOnce(&Cgroup) -> Result<()>,
) -> Result<()> {
    let place = root.place(id)?;
    let _lock = place.lock()?;
    let seen = observe(&place)?;
    if allowed.contains(&seen.status) {
        return act(&seen.record.open_cgroup()?);
    }
    Err(seen.refused(id, otherwise))
}
