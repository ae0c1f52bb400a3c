//! A terminal of the container's own devpts: reached by descriptor, never by a path that the image could have prepared.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{fs::OFlags, pty::OpenptFlags};
use tinyd_core::{Error, Result};
use tinyd_sys::{Ask, mount, path};

use super::walk::Walk;
use crate::launch::step;

impl Walk<'_> {
    /// Makes a terminal and mounts it on /dev/console.
    pub(super) fn terminal(&mut self) -> Result<()> {
        let devpts = self.devpts.as_ref().ok_or_else(|| {
            Error::invalid("process.terminal", "a terminal needs a devpts mount at /dev/pts in mounts")
        })?;
        let (master, slave) = open(devpts.as_fd()).map_err(step("make a terminal"))?;
        let field = "process.terminal (/dev/console)";
        let tree = mount::clone_fd(slave.as_fd(), false).map_err(step(field))?;
        self.attach_at(field, Path::new("/dev/console"), &tree, None)?;
        self.master = Some(master);
        self.slave = Some(slave);
        Ok(())
    }
}

/// Opens a new terminal of a devpts: master, slave.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn open(devpts: BorrowedFd<'_>) -> tinyd_sys::Result<(OwnedFd, OwnedFd)> {
    // The file system's own ptmx, and not what somebody has mounted on it.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let master = path::open_beneath(devpts, Path::new("ptmx"), flags)?;
    rustix::pty::unlockpt(&master).ask("ioctl(TIOCSPTLCK)")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).ask("ioctl(TIOCGPTPEER)")?;
    Ok((master, slave))
}
