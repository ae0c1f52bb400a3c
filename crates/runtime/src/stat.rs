//! What the kernel says of a process in `/proc/PID/stat` (proc_pid_stat(5)).

use std::os::fd::OwnedFd;

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use tinyd_core::{Error, Kind, Result};

use crate::launch::kernel;

/// The file of one process. The kernel keeps to the process, and not to its number, once it is open: nothing is ever said of another one.
#[derive(Debug)]
pub(crate) struct Stat {
    file: OwnedFd,
    path: String,
}

/// What was said, of a process that its parent has not reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Field 22, in clock ticks since boot.
    pub(crate) start_time: u64,
    /// Whether it has ended, or is about to.
    pub(crate) ended: bool,
    /// Whether it has executed a program since it was cloned.
    pub(crate) executed: bool,
}

impl Stat {
    /// That of a process; none when there is no such process.
    ///
    /// # Errors
    /// When it cannot be told.
    pub(crate) fn open(pid: i32) -> Result<Option<Stat>> {
        let path = format!("/proc/{pid}/stat");
        match rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Ok(Some(Stat { file, path })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(kernel(&format!("open {path}"), &error)),
        }
    }

    /// What is so now; none when it has been reaped.
    ///
    /// # Errors
    /// When it cannot be told.
    pub(crate) fn read(&self) -> Result<Option<Said>> {
        // More than all fields together may have.
        let mut bytes = [0; 2048];
        let len = match rustix::io::pread(&self.file, &mut bytes, 0) {
            Ok(len) => len,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(kernel(&format!("read {}", self.path), &error)),
        };
        let said = parse(&String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()));
        let unclear =
            || Error::new(Kind::Internal, format!("{} is not what proc_pid_stat(5) says", self.path));
        said.ok_or_else(unclear).map(Some)
    }
}

/// Flags of field 9 (include/linux/sched.h). The process is ending.
const PF_EXITING: u32 = 0x4;
/// It was cloned and has not executed a program. Cleared by execve(2) before it closes descriptors.
const PF_FORKNOEXEC: u32 = 0x40;

fn parse(stat: &str) -> Option<Said> {
    // The command name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    let start_time = fields.nth(12)?.parse().ok()?;
    // The first process of a PID namespace is a while on its way out: the others end before it.
    let ended = matches!(state, "Z" | "X") || flags & PF_EXITING != 0;
    Some(Said { start_time, ended, executed: flags & PF_FORKNOEXEC == 0 })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn flags_tell_who_is_on_its_way_out_and_who_has_not_come_to_a_program() {
        let said = |state: &str, flags: u32| {
            parse(&format!(
                "7 (a) b) {state} 1 2 3 0 -1 {flags} 10 11 12 13 14 15 16 17 18 19 20 0 4711 23 24\n"
            ))
        };
        let expect = |ended, executed| Some(Said { start_time: 4711, ended, executed });
        assert_eq!(said("S", 0x40_0000), expect(false, true));
        assert_eq!(said("S", 0x40_0040), expect(false, false));
        assert_eq!(said("Z", 0x40_0004), expect(true, true));
        // Exec into it says "the other side ended", and that is why.
        assert_eq!(said("S", 0x40_0044), expect(true, false));
        assert_eq!(parse("7 (a) S 1"), None);
    }

    #[test]
    fn a_process_is_told_of_until_it_is_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let stat = Stat::open(child.id().try_into().unwrap()).unwrap().unwrap();
        let said = stat.read().unwrap().unwrap();
        assert!(said.executed && !said.ended, "{said:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(stat.read().unwrap(), None);
    }
}
