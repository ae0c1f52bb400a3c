//! Whether the kernel has killed one of the container's processes for memory: seen when it happens, told once.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use tinyd_core::error::chain;
use tinyd_sys::poll::{Poll, Watch};

use super::{
    note,
    token::{Of, token},
};
use crate::cgroup::{Cgroup, OomEvents};

/// v1 tells that memory has run out, and only then kills: the count is looked at again after this time.
const AGAIN: Duration = Duration::from_millis(30);
/// How often. The killer can also free memory in another way, and then there is nothing to tell.
const LOOKS: u32 = 10;

/// What is known of the container's memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    events: Option<OomEvents>,
    /// Whether a process has been killed.
    pub(super) oom: bool,
    looks: u32,
    look_at: Option<Instant>,
}

impl Memory {
    /// Begins to watch. Where the kernel does not tell, the count is looked at when somebody asks, and at the end.
    pub(super) fn watch(poll: &Poll, cgroup: &Cgroup) -> Memory {
        let watched = cgroup.oom_events().and_then(|events| {
            if let Some(events) = &events {
                let mut watch = Watch::new(token(Of::Memory, 0));
                poll.set(&mut watch, events.as_fd(), events.interest())
                    .map_err(|error| tinyd_core::Error::internal(&error))?;
            }
            Ok(events)
        });
        let events = watched.unwrap_or_else(|error| {
            note(format_args!("memory is not watched: {}", chain(&error)));
            None
        });
        Memory { events, ..Memory::default() }
    }

    /// Something has happened.
    pub(super) fn wake(&mut self, cgroup: &Cgroup) {
        let Some(events) = &self.events else { return };
        if events.take().is_err() {
            self.events = None;
            return;
        }
        self.looks = LOOKS;
        self.look(cgroup);
    }

    /// When [`Memory::on_time`] is due.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Looks again, when it is time.
    pub(super) fn on_time(&mut self, cgroup: &Cgroup, now: Instant) {
        if self.look_at.is_some_and(|at| at <= now) {
            self.look(cgroup);
        }
    }

    fn look(&mut self, cgroup: &Cgroup) {
        self.oom = cgroup.oom_kills().is_ok_and(|count| count > 0);
        self.looks = self.looks.saturating_sub(1);
        self.look_at = (!self.oom && self.looks > 0).then(|| Instant::now() + AGAIN);
        if self.oom {
            // More of them is no news, and a container can make many.
            self.events = None;
        }
    }
}
