//! `start`: lets the program of a created container go.

use tinyd_core::{Error, Kind, Result, oci::Status};

use super::{record::Root, state::observe};
use crate::{cgroup::Cgroup, hooks::Later, launch};

/// Starts a container that waits.
///
/// # Errors
/// `WrongState` unless it is created; what kept its program from being executed.
pub fn start(root: &Root, id: &str) -> Result<()> {
    let place = root.place(id)?;
    let seen = observe(&place)?;
    if seen.status != Status::Created {
        return Err(Error::new(
            Kind::WrongState,
            format!("cannot start container {id:?}: it is {}", seen.word()),
        ));
    }
    let later = Later::of(id, &seen.record.bundle, &place.spec()?)?;
    launch::start_through(place.open_gate()?)?;
    later.poststart(seen.record.process.map_or(0, |process| process.pid)).inspect_err(|_| {
        // The error that is told is the one that led here.
        let _ = Cgroup::open(&seen.record.cgroup).and_then(|cgroup| cgroup.kill_all());
    })
}
