//! Word of memory that has run out, as a descriptor to be watched.
//!
//! Whoever is woken asks [`Cgroup::oom_kills`](super::Cgroup::oom_kills): v1 tells before it kills, v2 tells of other events too.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use tinyd_core::{Error, Result};
use tinyd_sys::{cgroup::Dir, poll::Interest};

use super::tree::{gone_is_none, told};

/// How v1 is told what to write events of to which descriptor.
const CONTROL: &str = "cgroup.event_control";

/// Events of one cgroup's memory.
#[derive(Debug)]
pub struct OomEvents {
    fd: OwnedFd,
    interest: Interest,
}

impl OomEvents {
    /// v1: a counter that the kernel adds to. `None` where this kernel does not tell.
    pub(super) fn v1(dir: &Dir) -> Result<Option<OomEvents>> {
        let Some(file) = gone_is_none(dir.open_read("memory.oom_control"))? else { return Ok(None) };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd =
            eventfd(0, flags).map_err(|error| Error::internal(&tinyd_sys::Error::new("eventfd2", error)))?;
        let words = format!("{} {}", fd.as_raw_fd(), file.as_raw_fd());
        let set = gone_is_none(dir.write(CONTROL, &words))?;
        Ok(set.map(|()| OomEvents { fd, interest: Interest::READ }))
    }

    /// v2: the file itself.
    pub(super) fn v2(dir: &Dir) -> Result<Option<OomEvents>> {
        let Some(file) = gone_is_none(dir.open_read("memory.events"))? else { return Ok(None) };
        let events = OomEvents { fd: file.into(), interest: Interest::CHANGE };
        // Before its first reading a file counts as changed.
        events.take()?;
        Ok(Some(events))
    }

    /// What it is to be watched for.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.interest
    }

    /// Takes what has been told, so that the next wake-up is for something new.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn take(&self) -> Result<()> {
        let mut told_of = [0; 512];
        // A counter has no position, and is not asked for one.
        let read = if self.interest == Interest::READ {
            rustix::io::read(&self.fd, &mut told_of)
        } else {
            rustix::io::pread(&self.fd, &mut told_of, 0)
        };
        match read {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(told(tinyd_sys::Error::new("read(oom events)", error))),
        }
    }
}

impl AsFd for OomEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
