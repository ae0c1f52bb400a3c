//! `kill`: a signal to the first process, or to all.

use std::os::fd::AsFd;

use tinyd_core::{Kind, Result, oci::Status};
use tinyd_sys::process;

use super::{delete::Share, record::Record, root::Root, state::observe};
use crate::{cgroup::CgroupManager, launch::step};

/// Sends signal `number` to the first process, or to every process.
///
/// # Errors
/// `WrongState` when it has ended (and not all were meant).
pub fn kill(root: &Root, id: &str, number: i32, all: bool) -> Result<()> {
    let place = root.place(id)?;
    let seen = observe(&place)?;
    // Without a cgroup nobody but the first process is known.
    if all && seen.record.manager != CgroupManager::Disabled {
        if Share::of(root, &place, &seen.record)? == Share::Whole {
            return kill_all(&seen.record, number);
        }
        // It is being created: there is no more of it than that.
        let Some(first) = &seen.pidfd else { return Ok(()) };
        return process::pidfd_signal(first.as_fd(), number)
            .map_err(|error| seen.told(id, step("kill")(error)));
    }
    match (seen.status, &seen.pidfd) {
        (Status::Created | Status::Running | Status::Paused, Some(pidfd)) => {
            // Opened before: by then another container may have its name.
            let thaws = seen.status == Status::Paused && number == libc::SIGKILL;
            let frozen = thaws.then(|| seen.record.open_cgroup());
            process::pidfd_signal(pidfd.as_fd(), number)
                .map_err(|error| seen.told(id, step("kill")(error)))?;
            // On v1 a frozen process ends only when it is thawed. One that has ended meanwhile is thawed enough.
            let _ = frozen.and_then(Result::ok).map(|cgroup| cgroup.thaw());
            Ok(())
        }
        (Status::Creating | Status::Created | Status::Running | Status::Paused | Status::Stopped, _) => {
            Err(seen.refused(id, "container not running"))
        }
    }
}

fn kill_all(record: &Record, number: i32) -> Result<()> {
    let cgroup = match record.open_cgroup() {
        Ok(cgroup) => cgroup,
        // Nobody is left in a cgroup that is gone.
        Err(error) if error.kind() == Kind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if number == libc::SIGKILL {
        return cgroup.kill_all();
    }
    for pid in cgroup.pids()? {
        // One that has ended meanwhile needs no signal.
        if let Ok(pidfd) = process::pidfd_open(pid) {
            let _ = process::pidfd_signal(pidfd.as_fd(), number);
        }
    }
    Ok(())
}
