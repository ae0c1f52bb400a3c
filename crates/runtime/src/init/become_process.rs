//! Becomes a process of the container: streams, limits, identity, capabilities, filter, program. The same for the first process
//! and for every `exec`.

use std::{
    convert::Infallible,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid},
    io::Errno,
};
use tinyd_core::{Error, Kind, Result};
use tinyd_sys::{
    creds::{self, CapSets},
    fs, process,
};

use super::program::{self, Program};
use crate::{
    launch::{Fds, Stdio, kernel, step},
    plan::process::ProcessPlan,
    seccomp,
};

/// The numbers of /dev/null (Documentation/admin-guide/devices.txt).
const NULL: (u32, u32) = (1, 3);

/// A process on its way to its program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Become<'a> {
    /// What to become.
    pub(crate) process: &'a ProcessPlan,
    /// The system call filter.
    pub(crate) filter: Option<&'a seccomp::Filter>,
    /// What it keeps of the caller's.
    pub(crate) fds: Fds,
}

impl Become<'_> {
    /// Makes the standard streams 0, 1 and 2. `slave` is the terminal's, when there is one.
    pub(crate) fn attach_stdio(&self, stdio: Stdio, slave: Option<OwnedFd>) -> Result<()> {
        // A session of its own: no signal of the caller's terminal reaches the container.
        rustix::process::setsid().map_err(|error| kernel("setsid", &error))?;
        match (stdio, slave) {
            (Stdio::Fds(fds), _) => set_streams(fds.map(null_of_inside)),
            (Stdio::Terminal, Some(slave)) => self.take_terminal(slave),
            (Stdio::Terminal, None) => Err(Error::new(Kind::Internal, "there is no terminal")),
        }
    }

    fn take_terminal(&self, slave: OwnedFd) -> Result<()> {
        if let Some(size) = self.process.console_size {
            let size = rustix::termios::Winsize {
                ws_row: size.height,
                ws_col: size.width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(&slave, size)
                .map_err(|error| kernel("ioctl(TIOCSWINSZ)", &error))?;
        }
        if self.process.uid != 0 {
            // The group stays: it is that of the devpts (tty), as login leaves it.
            rustix::fs::fchown(&slave, Some(Uid::from_raw(self.process.uid)), None::<Gid>)
                .map_err(|error| kernel("fchown(terminal)", &error))?;
        }
        rustix::process::ioctl_tiocsctty(&slave).map_err(|error| kernel("ioctl(TIOCSCTTY)", &error))?;
        let again =
            || rustix::io::fcntl_dupfd_cloexec(&slave, 3).map_err(|error| kernel("dup(terminal)", &error));
        set_streams([again()?, again()?, again()?])
    }

    /// Takes on limits, working directory and identity, and finds the program. Permitted capabilities are kept until
    /// [`Become::close_door`].
    pub(crate) fn take_identity(&self) -> Result<Program> {
        let process = self.process;
        self.enter_working_directory()?;
        self.take_place_in_the_machine()?;
        rustix::process::umask(Mode::from_raw_mode(process.umask));
        creds::drop_bounding(process.capabilities.bounding).map_err(step("process.capabilities.bounding"))?;
        if let Some(groups) = &process.groups {
            set_groups(groups)?;
        }
        creds::set_gid(process.gid).map_err(step("process.user.gid"))?;
        if process.uid != 0 {
            creds::set_keep_capabilities(true).map_err(step("process.user.uid"))?;
        }
        creds::set_uid(process.uid).map_err(step("process.user.uid"))?;
        program::find(process, self.fds.listen)
    }

    /// What the machine is to it: execution domain, memory nodes, CPU and disk time.
    fn take_place_in_the_machine(&self) -> Result<()> {
        let process = self.process;
        if let Some(persona) = process.personality {
            tinyd_sys::resources::set_personality(persona).map_err(step("linux.personality"))?;
        }
        if let Some((mode, nodes)) = &process.memory_policy {
            tinyd_sys::resources::set_memory_policy(*mode, nodes).map_err(step("linux.memoryPolicy"))?;
        }
        if let Some(attr) = process.scheduler {
            tinyd_sys::resources::set_scheduler(attr).map_err(step("process.scheduler"))?;
        }
        if let Some((class, level)) = process.io_priority {
            tinyd_sys::resources::set_io_priority(class, level).map_err(step("process.ioPriority"))?;
        }
        Ok(())
    }

    fn enter_working_directory(&self) -> Result<()> {
        let cwd = &self.process.cwd;
        rustix::process::chdir(cwd.as_path()).map_err(|error| {
            let kind = match error {
                Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG => {
                    Kind::InvalidArgument
                }
                _ => Kind::Internal,
            };
            Error::new(kind, format!("chdir({}): {error}", cwd.display())).of_field("process.cwd")
        })?;
        // The kernel says "(unreachable)" of a directory outside of the root, which a descriptor left open could lead to.
        let here =
            rustix::process::getcwd(Vec::new()).map_err(|error| kernel("process.cwd: getcwd", &error))?;
        if here.as_bytes().starts_with(b"/") {
            return Ok(());
        }
        Err(Error::invalid("process.cwd", "it is outside of the container's root"))
    }

    /// Gives up what is left: limits, descriptors, signals' handlers, capabilities, the right to gain any, and system calls. After this there is only
    /// [`Become::execute`]. `hand_over` gets the descriptor of a filter that asks.
    pub(crate) fn close_door(&self, mut hand_over: impl FnMut(OwnedFd) -> Result<()>) -> Result<()> {
        let wanted = self.process.capabilities;
        self.lower_limits()?;
        // What a filter need not allow comes before it: profiles that are older than close_range(2) know nothing of it.
        process::reset_signals();
        // Not closed but marked: a failure still has to be told.
        process::cloexec_from(self.fds.first_other()).map_err(step("close descriptors"))?;
        let have = creds::capabilities().map_err(step("process.capabilities"))?.permitted;
        if let Some(filter) = self.filter.filter(|_| !self.process.no_new_privileges) {
            // Without no_new_privs a filter takes CAP_SYS_ADMIN, which is about to go.
            let all = CapSets { effective: have, permitted: have, inheritable: wanted.inheritable.and(have) };
            creds::set_capabilities(all).map_err(step("process.capabilities"))?;
            install(filter)?.map_or(Ok(()), &mut hand_over)?;
        }
        let permitted = wanted.permitted.and(have);
        let inheritable = wanted.inheritable.and(have);
        let sets = CapSets { effective: wanted.effective.and(permitted), permitted, inheritable };
        creds::set_capabilities(sets).map_err(step("process.capabilities"))?;
        let ambient = wanted.ambient.and(permitted).and(inheritable);
        creds::set_ambient(ambient).map_err(step("process.capabilities.ambient"))?;
        if self.process.no_new_privileges {
            process::set_no_new_privs().map_err(step("process.noNewPrivileges"))?;
            self.filter.map_or(Ok(None), install)?.map_or(Ok(()), hand_over)?;
        }
        Ok(())
    }

    /// Lowers limits; none goes above what the hard limit is by now.
    fn lower_limits(&self) -> Result<()> {
        for limit in &self.process.rlimits {
            let (_, most) = tinyd_sys::resources::rlimit(limit.resource).map_err(step(limit.name))?;
            tinyd_sys::resources::set_rlimit(0, limit.resource, limit.soft.min(most), limit.hard.min(most))
                .map_err(step(limit.name))?;
        }
        Ok(())
    }

    /// Executes the program. Every descriptor but 0, 1 and 2 closes with it.
    pub(crate) fn execute(&self, program: &Program) -> Result<Infallible> {
        Err(program.execute())
    }
}

/// Clears what `CAP_SETGID` allows; in a user namespace that forbids it there are no groups to give away.
fn set_groups(groups: &[u32]) -> Result<()> {
    match creds::set_groups(groups) {
        Err(error) if !(groups.is_empty() && error.errno() == Some(libc::EPERM)) => {
            Err(step("process.user.additionalGids")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn install(filter: &seccomp::Filter) -> Result<Option<OwnedFd>> {
    filter.install().map_err(step("linux.seccomp"))
}

/// A stream that is the host's /dev/null becomes the container's own: through an open file the host's mode, owner and times could be
/// changed. What is at the container's /dev/null is believed only when it is that device; otherwise the stream stays.
fn null_of_inside(stream: OwnedFd) -> OwnedFd {
    let is_null = |file: &OwnedFd| fs::check_char_device(file.as_fd(), NULL.0, NULL.1).is_ok();
    if !is_null(&stream) {
        return stream;
    }
    let open =
        |flags| rustix::fs::open("/dev/null", flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok();
    // Looked at before it is opened, which nobody waits for, and again afterwards.
    let own = open(OFlags::PATH).filter(is_null).and_then(|_| {
        let mode = rustix::fs::fcntl_getfl(&stream).ok()?;
        let own = open((mode & OFlags::RWMODE) | OFlags::NONBLOCK | OFlags::NOCTTY).filter(is_null)?;
        rustix::fs::fcntl_setfl(&own, mode & (OFlags::APPEND | OFlags::NONBLOCK)).ok()?;
        Some(own)
    });
    own.unwrap_or(stream)
}

/// Makes three descriptors 0, 1 and 2.
pub(crate) fn set_streams(fds: [OwnedFd; 3]) -> Result<()> {
    let [stdin, stdout, stderr] = fds;
    // A descriptor that is itself 0, 1 or 2 would be overwritten before its turn.
    let high = |fd: OwnedFd| {
        if fd.as_raw_fd() > 2 {
            return Ok(fd);
        }
        rustix::io::fcntl_dupfd_cloexec(&fd, 3).inspect(|_| std::mem::forget(fd))
    };
    let failed = |error: Errno| kernel("set the standard streams: dup2", &error);
    let (stdin, stdout, stderr) =
        (high(stdin).map_err(failed)?, high(stdout).map_err(failed)?, high(stderr).map_err(failed)?);
    rustix::stdio::dup2_stdin(stdin.as_fd()).map_err(failed)?;
    rustix::stdio::dup2_stdout(stdout.as_fd()).map_err(failed)?;
    rustix::stdio::dup2_stderr(stderr.as_fd()).map_err(failed)
}
