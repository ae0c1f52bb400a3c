//! A container's first process, as it is known from one command to the next.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Kind, Result};
use tinyd_sys::process;

use crate::{
    launch::step,
    stat::{Said, Stat},
};

/// A first process, recognisable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Init {
    /// As the host counts.
    pub(super) pid: i32,
    /// Field 22 of /proc/PID/stat: the pid is believed only with it.
    pub(super) start_time: u64,
}

/// A first process that has not ended.
#[derive(Debug)]
pub(super) struct Alive {
    pub(super) pidfd: OwnedFd,
    /// Whether it has come to its program.
    pub(super) executed: bool,
}

impl Init {
    /// A process that exists and has not ended.
    ///
    /// # Errors
    /// When it has, or /proc cannot be read.
    pub(super) fn of(pid: i32) -> Result<Init> {
        let said = alive(pid)?;
        let said = said.ok_or_else(|| Error::new(Kind::Internal, format!("process {pid} has ended")))?;
        Ok(Init { pid, start_time: said.start_time })
    }

    /// Itself, if it is still the one that was recorded and has not ended.
    ///
    /// # Errors
    /// When that cannot be told: then it may well be alive.
    pub(super) fn open(&self) -> Result<Option<Alive>> {
        // The descriptor first: from then on the number cannot be given to another process unnoticed.
        let pidfd = match process::pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.errno() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(step("look for the first process")(error)),
        };
        let said = alive(self.pid)?.filter(|said| said.start_time == self.start_time);
        Ok(said.map(|said| Alive { pidfd, executed: said.executed }))
    }
}

/// What the kernel says of a process that has not ended.
fn alive(pid: i32) -> Result<Option<Said>> {
    let said = Stat::open(pid)?.map(|stat| stat.read()).transpose()?.flatten();
    Ok(said.filter(|said| !said.ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_believed_with_its_start_time_only() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let this = Init::of(pid).unwrap();
        assert!(this.open().unwrap().is_some());
        assert!(Init { start_time: this.start_time + 1, ..this }.open().unwrap().is_none());
    }
}
