//! A terminal of the container's own devpts: reached by descriptor, never by a path that the image could have prepared.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{Mode, OFlags},
    pty::OpenptFlags,
};
use std::path::Path;

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
        let console =
            path::open_or_make(self.root()?.as_fd(), Path::new("/dev/console"), path::Missing::File)
                .map_err(step("mount /dev/console"))?;
        let tree = mount::clone_fd(slave.as_fd(), false).map_err(step("mount /dev/console"))?;
        mount::attach(tree.as_fd(), console.as_fd()).map_err(step("mount /dev/console"))?;
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
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(devpts, "ptmx", flags, Mode::empty()).ask("openat(pts/ptmx)")?;
    rustix::pty::unlockpt(&master).ask("ioctl(TIOCSPTLCK)")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).ask("ioctl(TIOCGPTPEER)")?;
    Ok((master, slave))
}
