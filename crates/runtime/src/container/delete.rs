//! `delete`: takes away what is left of a container. Idempotent: every part that is gone already is fine.

use std::{os::fd::AsFd, time::Duration};

use tinyd_core::{Error, Kind, Result, oci::Status};
use tinyd_sys::process;

use super::{
    first::Init,
    lock::Lock,
    record::{Place, Record},
    root::Root,
    state::{Seen, observe},
};
use crate::{
    cgroup::{Cgroup, CgroupManager},
    hooks::Later,
    launch::{self, default_cgroup, rdt},
};

/// Deletes a container that has ended, one that was only created, or with `force` any. Returns warnings: hooks that failed.
///
/// # Errors
/// `NotFound` (unless forced), `WrongState` for one that runs, all that could not be removed.
pub fn delete(root: &Root, id: &str, force: bool) -> Result<Vec<String>> {
    let place = root.place(id)?;
    let lock = match if force { lock_by_force(root, &place) } else { place.lock().map(Some) } {
        Err(error) if force && error.kind() == Kind::NotFound => {
            place.remove_empty();
            return Ok(Vec::new());
        }
        lock => lock?,
    };
    let seen = match observe(&place) {
        Ok(seen) => match seen.status {
            Status::Stopped | Status::Created => seen,
            Status::Creating | Status::Running | Status::Paused if force => seen,
            Status::Creating | Status::Running | Status::Paused => {
                let message = format!("cannot delete container {id} that is not stopped: {}", seen.word());
                return Err(Error::new(Kind::WrongState, message));
            }
        },
        Err(error) if force => {
            require_nothing_left(&place, &error)?;
            // What has its place by now is somebody else's.
            if lock.as_ref().is_none_or(Lock::is_in_place) {
                place.remove()?;
            }
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    // Read before it is gone.
    let later = place.spec().and_then(|spec| Later::of(id, &seen.record.bundle, &spec));
    let share = Share::of(root, &place, &seen.record)?;
    remove(&place, &seen, share)?;
    drop(lock);
    // Half a record, or one whose hooks were refused at its creation, has none to run.
    Ok(later.map_or_else(|_| Vec::new(), |later| later.poststop()))
}

/// The lock, after the container's processes have been killed where somebody holds it: who starts it or adds a process fails then, and
/// lets go. None when that does not help, as with a hook on the host that hangs: its container is taken away all the same.
fn lock_by_force(root: &Root, place: &Place) -> Result<Option<Lock>> {
    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(10);
    match place.lock_within(SHORT) {
        Err(error) if error.kind() == Kind::Unavailable => {}
        lock => return lock.map(Some),
    }
    // What is in the way of this is told when it is tried again, with the lock.
    if let Ok(record) = place.read() {
        if Share::of(root, place, &record)? == Share::Whole {
            let _ = record.open_cgroup().and_then(|cgroup| cgroup.kill_all());
        }
        // Where there is no cgroup.
        let first = record.process.and_then(|first| first.open().ok().flatten());
        let _ = first.map(|first| process::pidfd_signal(first.pidfd.as_fd(), libc::SIGKILL));
    }
    match place.lock_within(LONG) {
        Err(error) if error.kind() == Kind::Unavailable => Ok(None),
        lock => lock.map(Some),
    }
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

/// What a container has of the cgroup that its record names. While it is being created that may yet be refused, because it is another's,
/// who need not have its record here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// All that is in it is the container's.
    Whole,
    /// It may have made directories of it. Of its processes there is only the first one, which may be in it.
    Directories,
    /// It is surely another's.
    Nothing,
}

impl Share {
    /// # Errors
    /// When that cannot be told.
    pub(super) fn of(root: &Root, place: &Place, record: &Record) -> Result<Share> {
        if record.cgroup.is_empty() || place.has_made_cgroup(record)? {
            return Ok(Share::Whole);
        }
        if record.process.is_some() {
            return Ok(Share::Directories);
        }
        // Nobody knows who is in it: unless somebody else is.
        for id in root.ids()? {
            let other = root.place(&id)?;
            let Ok(its) = other.read() else { continue };
            if id != place.id && its.cgroup == record.cgroup && other.has_made_cgroup(&its)? {
                return Ok(Share::Nothing);
            }
        }
        Ok(Share::Whole)
    }
}

/// Whether there are others than the first process, which is listed a moment longer than it lives.
fn has_others(record: &Record, pids: &[i32]) -> bool {
    let is_first = |pid: i32| {
        record.process.is_some_and(|first| first.pid == pid && Init::of(pid).map_or(true, |now| now == first))
    };
    !pids.iter().all(|pid| is_first(*pid))
}

/// Goes on after a failure, and tells all of them.
fn remove(place: &Place, seen: &Seen, share: Share) -> Result<()> {
    // A record without a configuration, or one that was refused, has no group.
    let rdt = place.spec().and_then(|spec| rdt::group(spec.linux.as_ref(), &place.id)).ok().flatten();
    if seen.record.process.is_none() && place.has_gate().unwrap_or(false) {
        // Whoever created it was killed before it could say which process waits. In a cgroup it is found; without one it is asked.
        let _ = place.open_gate().and_then(launch::leave_through);
    }
    // While it is being created it may not have come to its cgroup.
    let is_elsewhere = seen.record.manager == CgroupManager::Disabled || seen.status == Status::Creating;
    if let Some(first) = seen.pidfd.as_ref().filter(|_| is_elsewhere) {
        process::kill_and_reap(first.as_fd());
    }
    let cgroup = match seen.record.open_cgroup() {
        _ if share == Share::Nothing => Ok(()),
        Ok(cgroup) if share == Share::Directories && has_others(&seen.record, &cgroup.pids()?) => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_anew_is_anothers() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let first = Init::of(pid).unwrap();
        let record = |process| Record {
            bundle: "/b".into(),
            cgroup: "/c".into(),
            manager: CgroupManager::Cgroupfs,
            unit: None,
            process,
            ahead: true,
            created_unix_nanos: 1,
        };
        let own = record(Some(first));
        assert!(!has_others(&own, &[]) && !has_others(&own, &[pid]));
        assert!(has_others(&own, &[pid, 1]) && has_others(&record(None), &[pid]));
        assert!(has_others(&record(Some(Init { start_time: first.start_time + 1, ..first })), &[pid]));
    }
}
