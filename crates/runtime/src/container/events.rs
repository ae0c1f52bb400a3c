//! `events`: what a container uses, now and then, and each time that the kernel has killed one of its processes for memory.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tinyd_core::{Result, oci::Status};
use tinyd_sys::poll::{Interest, Poll, Watch};

use super::{root::Root, state::observe};
use crate::launch::step;

/// Tells `tell` what the container uses: once, or every `interval` and of every kill for memory until it ends.
///
/// # Errors
/// `WrongState` when it has ended already; what `tell` returns.
pub fn events(
    root: &Root,
    id: &str,
    interval: Option<Duration>,
    mut tell: impl FnMut(&Value) -> Result<()>,
) -> Result<()> {
    let seen = observe(&root.place(id)?)?;
    let (Status::Created | Status::Running | Status::Paused, Some(first)) = (seen.status, &seen.pidfd) else {
        return Err(seen.refused(id, &format!("container with id {id} is not running")));
    };
    let cgroup = seen.record.open_cgroup()?;
    let used = || cgroup.counters().map(|data| json!({ "type": "stats", "id": id, "data": data }));
    tell(&used()?)?;
    let Some(interval) = interval else { return Ok(()) };

    let poll = Poll::new().map_err(step("watch"))?;
    let (mut ends, mut memory) = (Watch::new(0), Watch::new(1));
    poll.set(&mut ends, first.as_fd(), Interest::READ).map_err(step("watch"))?;
    let oom = cgroup.oom_events()?;
    if let Some(oom) = &oom {
        poll.set(&mut memory, oom.as_fd(), oom.interest()).map_err(step("watch"))?;
    }
    let mut killed = cgroup.oom_kills()?;
    let mut next = Instant::now() + interval;
    let mut ready = Vec::new();
    loop {
        poll.wait(&mut ready, Some(next.saturating_duration_since(Instant::now()))).map_err(step("watch"))?;
        if ready.iter().any(|ready| ready.token == 1)
            && let Some(oom) = &oom
        {
            oom.take()?;
        }
        // v1 tells before it kills: what the count says later is told with the next stats at the latest.
        let now = cgroup.oom_kills()?;
        for _ in killed..now {
            tell(&json!({ "type": "oom", "id": id }))?;
        }
        killed = now;
        if ready.iter().any(|ready| ready.token == 0) {
            return Ok(());
        }
        if Instant::now() >= next {
            tell(&used()?)?;
            next += interval;
        }
    }
}
