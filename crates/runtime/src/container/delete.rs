//! `delete`: takes away what is left of a container. Idempotent: every part that is gone already is fine.

use tinyd_core::{Error, Kind, Result, oci::Status};

use super::{
    record::{Place, Root},
    state::observe,
};
use crate::{cgroup::Cgroup, hooks::Later, launch::rdt};

/// Deletes a container that has ended, one that was only created, or with `force` any. Returns warnings: hooks that failed.
///
/// # Errors
/// `NotFound` (unless forced), `WrongState` for one that runs, all that could not be removed.
pub fn delete(root: &Root, id: &str, force: bool) -> Result<Vec<String>> {
    let place = root.place(id)?;
    if force && !place.exists() {
        return Ok(Vec::new());
    }
    let cgroup = match observe(&place) {
        Ok(seen) => match seen.status {
            Status::Stopped | Status::Created => seen.record.cgroup,
            Status::Creating | Status::Running | Status::Paused if force => seen.record.cgroup,
            Status::Creating | Status::Running | Status::Paused => {
                let message =
                    format!("cannot delete container {id:?} that is not stopped: it is {}", seen.word());
                return Err(Error::new(Kind::WrongState, message));
            }
        },
        // Whoever made it died before its record was whole: what it would have made has the default name.
        Err(_) if force => crate::launch::default_cgroup(id),
        Err(error) => return Err(error),
    };
    // Read before it is gone.
    let later = place.read().and_then(|record| Later::of(id, &record.bundle, &place.spec()?));
    remove(&place, &cgroup)?;
    // Half a record, or one whose hooks were refused at its creation, has none to run.
    Ok(later.map_or_else(|_| Vec::new(), |later| later.poststop()))
}

/// Goes on after a failure, and tells all of them.
fn remove(place: &Place, cgroup: &str) -> Result<()> {
    // A record without a configuration, or one that was refused, has no group.
    let rdt = place.spec().and_then(|spec| rdt::group(spec.linux.as_ref(), &place.id)).ok().flatten();
    let cgroup = match Cgroup::open(cgroup) {
        Ok(cgroup) => cgroup.remove(),
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    // With a cgroup left the record stays: another delete can try again.
    cgroup.and_then(|()| rdt.map_or(Ok(()), |group| group.remove())).and_then(|()| place.remove())
}
