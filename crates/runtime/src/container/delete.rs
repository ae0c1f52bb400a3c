//! `delete`: takes away what is left of a container. Idempotent: every part that is gone already is fine.

use std::os::fd::AsFd;

use tinyd_core::{Error, Kind, Result, oci::Status};
use tinyd_sys::process;

use super::{
    record::{Place, Root},
    state::{Seen, observe},
};
use crate::{
    cgroup::{Cgroup, CgroupManager},
    hooks::Later,
    launch::{default_cgroup, rdt},
};

/// Deletes a container that has ended, one that was only created, or with `force` any. Returns warnings: hooks that failed.
///
/// # Errors
/// `NotFound` (unless forced), `WrongState` for one that runs, all that could not be removed.
pub fn delete(root: &Root, id: &str, force: bool) -> Result<Vec<String>> {
    let place = root.place(id)?;
    if force && !place.exists()? {
        return Ok(Vec::new());
    }
    let seen = match observe(&place) {
        Ok(seen) => match seen.status {
            Status::Stopped | Status::Created => seen,
            Status::Creating | Status::Running | Status::Paused if force => seen,
            Status::Creating | Status::Running | Status::Paused => {
                let message =
                    format!("cannot delete container {id:?} that is not stopped: it is {}", seen.word());
                return Err(Error::new(Kind::WrongState, message));
            }
        },
        Err(error) if force => {
            require_nothing_left(&place, &error)?;
            place.remove()?;
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    // Read before it is gone.
    let later = place.spec().and_then(|spec| Later::of(id, &seen.record.bundle, &spec));
    remove(&place, &seen)?;
    // Half a record, or one whose hooks were refused at its creation, has none to run.
    Ok(later.map_or_else(|_| Vec::new(), |later| later.poststop()))
}

/// A record that cannot be read says nothing of what is this container's. A cgroup of the name that it would have may be that of a
/// container of the same id in another directory of records: it is not touched, and told.
fn require_nothing_left(place: &Place, unreadable: &Error) -> Result<()> {
    let named = place.spec().ok().and_then(|spec| spec.linux?.cgroups_path).filter(|path| !path.is_empty());
    let name = named.unwrap_or_else(|| default_cgroup(&place.id));
    let pids = match Cgroup::open(&name) {
        Ok(cgroup) => cgroup.pids()?,
        Err(error) if error.kind() == Kind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let message = format!(
        "cannot tell what is left of container {:?}: {unreadable}; cgroup {name:?} with processes {pids:?} may be its own or another's: \
         end them and remove it, then delete again",
        place.id
    );
    Err(Error::new(Kind::Internal, message))
}

/// Goes on after a failure, and tells all of them.
fn remove(place: &Place, seen: &Seen) -> Result<()> {
    // A record without a configuration, or one that was refused, has no group.
    let rdt = place.spec().and_then(|spec| rdt::group(spec.linux.as_ref(), &place.id)).ok().flatten();
    if let Some(first) = seen.pidfd.as_ref().filter(|_| seen.record.manager == CgroupManager::Disabled) {
        process::kill_and_reap(first.as_fd());
    }
    let cgroup = match seen.record.open_cgroup() {
        Ok(cgroup) => cgroup.remove(),
        // A unit can be there without a cgroup: one that systemd still starts.
        Err(error) if error.kind() == Kind::NotFound => {
            seen.record.unit.as_ref().map_or(Ok(()), |unit| unit.stop())
        }
        Err(error) => Err(error),
    };
    // With a cgroup left the record stays: another delete can try again.
    cgroup.and_then(|()| rdt.map_or(Ok(()), |group| group.remove())).and_then(|()| place.remove())
}
