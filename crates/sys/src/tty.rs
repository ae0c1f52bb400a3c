//! Terminals: pairs, sizes, the controlling terminal, raw mode.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    pty::OpenptFlags,
    termios::{OptionalActions, Termios, Winsize},
};

use crate::{Ask, Result};

/// A new terminal of the devpts instance that `ptmx` (such as `/dev/pts/ptmx`) belongs to: its master side, unlocked.
///
/// # Errors
/// ENOSPC when the instance has no more, ENOENT.
pub fn open_master(ptmx: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(CWD, ptmx, flags, Mode::empty()).ask(format_args!("open({ptmx:?})"))?;
    rustix::pty::unlockpt(&master).ask("ioctl(TIOCSPTLCK)")?;
    Ok(master)
}

/// The other side, opened through the master: no path is looked up, so nobody can put another file in its place.
///
/// # Errors
/// EIO when the master is locked.
pub fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(master, flags).ask("ioctl(TIOCGPTPEER)")
}

/// Makes `terminal` the controlling terminal of the caller's session, which the caller leads.
///
/// # Errors
/// EPERM when the caller leads no session or has a terminal already.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).ask("ioctl(TIOCSCTTY)")
}

/// Sets the size in characters; its foreground processes get SIGWINCH.
///
/// # Errors
/// ENOTTY.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, cols: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).ask(format_args!("ioctl(TIOCSWINSZ, {rows}x{cols})"))
}

/// The size in characters: rows, columns.
///
/// # Errors
/// ENOTTY.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).ask("ioctl(TIOCGWINSZ)")?;
    Ok((size.ws_row, size.ws_col))
}

/// A terminal in raw mode: every byte passes as it is, none is echoed. Dropping it restores what was before.
#[derive(Debug)]
pub struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    /// Turns raw mode on.
    ///
    /// # Errors
    /// ENOTTY.
    pub fn enter(terminal: &'a impl AsFd) -> Result<Raw<'a>> {
        let terminal = terminal.as_fd();
        let before = rustix::termios::tcgetattr(terminal).ask("tcgetattr")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw).ask("tcsetattr(raw)")?;
        Ok(Raw { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = rustix::termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_size_and_raw_mode_is_undone() {
        let master = open_master(Path::new("/dev/ptmx")).unwrap();
        let peer = open_peer(master.as_fd()).unwrap();
        set_size(master.as_fd(), 33, 77).unwrap();
        assert_eq!(size(peer.as_fd()).unwrap(), (33, 77));

        let echo = |fd: &OwnedFd| {
            rustix::termios::tcgetattr(fd).unwrap().local_modes.contains(rustix::termios::LocalModes::ECHO)
        };
        assert!(echo(&peer));
        let raw = Raw::enter(&peer).unwrap();
        assert!(!echo(&peer));
        drop(raw);
        assert!(echo(&peer));
    }
}
