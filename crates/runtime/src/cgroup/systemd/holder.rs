//! A process that keeps a scope open until the container's first process is in it: systemd makes no scope without a process, and ends one
//! that has none left. It sleeps, and ends with the process that made it, however that ends.

use std::os::fd::{AsFd, OwnedFd};

use tinyd_core::Result;
use tinyd_sys::process::{self, Forked};

use crate::launch::step;

/// The process. It is gone when this is dropped.
#[derive(Debug)]
pub(in crate::cgroup) struct Holder {
    /// As the host counts.
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Holder {
    /// Starts it.
    ///
    /// # Errors
    /// clone3(2).
    pub(in crate::cgroup) fn start() -> Result<Holder> {
        let parent = rustix::process::getpid();
        match process::clone3(0, None).map_err(step("clone a process for the scope"))? {
            Forked::Child => loop {
                // Who has lost its parent already is told by nobody.
                if process::die_with_parent().is_err() || rustix::process::getppid() != Some(parent) {
                    process::exit_now(0);
                }
                let _ = rustix::thread::nanosleep(&rustix::time::Timespec { tv_sec: 3600, tv_nsec: 0 });
            },
            Forked::Parent { pid, pidfd } => Ok(Holder { pid: pid.unsigned_abs(), pidfd }),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        process::kill_and_reap(self.pidfd.as_fd());
    }
}
