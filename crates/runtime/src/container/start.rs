//! `start`: lets the program of a created container go.

use std::os::fd::AsFd;

use tinyd_core::{
    Result,
    oci::{self, Status},
};
use tinyd_sys::process;

use super::{create::take_seccomp, notify::Notify, root::Root, state::observe};
use crate::{
    hooks::{self, Later},
    launch::{self, Agent, Way},
};

/// Starts a container that waits.
///
/// # Errors
/// `WrongState` unless it is created; what kept its program from being executed.
pub fn start(root: &Root, id: &str) -> Result<()> {
    let place = root.place(id)?;
    let lock = place.lock()?;
    let seen = observe(&place)?;
    match seen.status {
        Status::Created => {}
        Status::Running => return Err(seen.refused(id, "cannot start an already running container")),
        Status::Stopped => return Err(seen.refused(id, "cannot start a container that has stopped")),
        Status::Creating | Status::Paused => {
            let words = format!("cannot start a container in the {} state", seen.word());
            return Err(seen.refused(id, &words));
        }
    }
    let mut spec = place.spec()?;
    let seccomp = take_seccomp(&mut spec);
    let later = Later::of(id, &seen.record.bundle, &spec)?;
    let told = oci::ContainerState { status: seen.status, ..hooks::state(id, &seen.record.bundle, &spec) };
    let agent = Agent::of(&seccomp, told);
    let pid = seen.record.process.map_or(0, |process| process.pid);
    let notify = Notify::open(&place.dir)?;
    // Before the gate, which is open only while it is that process.
    let way = Way::of(pid, agent, later.has_some_at_start())?;
    let gate = place.open_gate().map_err(|error| seen.told(id, error))?;
    launch::start_through(gate, &way, || place.remove_gate()).map_err(|error| seen.told(id, error))?;
    drop(lock);
    later.poststart(pid).inspect_err(|_| {
        // The error that is told is the one that led here. The first process by itself, too: it may have no cgroup.
        let _ = seen.pidfd.as_ref().map(|first| process::pidfd_signal(first.as_fd(), libc::SIGKILL));
        let _ = seen.record.open_cgroup().and_then(|cgroup| cgroup.kill_all());
    })?;
    match (notify, seen.pidfd) {
        (Some(notify), Some(first)) => notify.wait(pid, first.as_fd()),
        (Some(_) | None, _) => Ok(()),
    }
}
