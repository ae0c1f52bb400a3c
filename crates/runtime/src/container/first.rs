//! A container's first process, as it is known from one command to the next.

use std::{io, os::fd::OwnedFd};

use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Kind, Result};
use tinyd_sys::process;

use crate::launch::{kernel, step};

/// A first process, recognisable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Init {
    /// As the host counts.
    pub(super) pid: i32,
    /// Field 22 of /proc/PID/stat: the pid is believed only with it.
    pub(super) start_time: u64,
}

impl Init {
    /// A process that exists and has not ended.
    ///
    /// # Errors
    /// When it has, or /proc cannot be read.
    pub(super) fn of(pid: i32) -> Result<Init> {
        let start_time = alive_since(pid)?
            .ok_or_else(|| Error::new(Kind::Internal, format!("process {pid} has ended")))?;
        Ok(Init { pid, start_time })
    }

    /// Its descriptor, if it is still the one that was recorded and has not ended.
    ///
    /// # Errors
    /// When that cannot be told: then it may well be alive.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>> {
        // The descriptor first: from then on the number cannot be given to another process unnoticed.
        let pidfd = match process::pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.errno() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(step("look for the first process")(error)),
        };
        Ok((alive_since(self.pid)? == Some(self.start_time)).then_some(pidfd))
    }
}

/// The start time of a process that has not ended.
fn alive_since(pid: i32) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    let stat = match std::fs::read(&path) {
        Ok(stat) => stat,
        // It ends while it is looked at: ESRCH.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(kernel(&format!("read {path}"), &error)),
    };
    let unclear = || Error::new(Kind::Internal, format!("{path} is not what proc(5) says"));
    started(&String::from_utf8_lossy(&stat)).ok_or_else(unclear)
}

/// A flag of field 9 of `/proc/PID/stat`: the process is ending (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;

/// What `/proc/PID/stat` says; `None` within when the process has ended, `None` when it says nothing.
fn started(stat: &str) -> Option<Option<u64>> {
    // The command name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    let start_time = fields.nth(12)?.parse().ok()?;
    // The first process of a PID namespace is a while on its way out: the others end before it.
    let ended = matches!(state, "Z" | "X") || flags & PF_EXITING != 0;
    Some((!ended).then_some(start_time))
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

    #[test]
    fn a_first_process_on_its_way_out_has_ended() {
        let stat = |state: &str, flags: u32| {
            format!("7 (a) b) {state} 1 2 3 0 -1 {flags} 10 11 12 13 14 15 16 17 18 19 20 0 4711 23 24\n")
        };
        assert_eq!(started(&stat("S", 0x40_0000)), Some(Some(4711)));
        assert_eq!(started(&stat("Z", 0x40_0004)), Some(None));
        // Exec into it says "the other side ended", and that is why.
        assert_eq!(started(&stat("S", 0x40_0004)), Some(None));
        assert_eq!(started("7 (a) S 1"), None);
    }
}
