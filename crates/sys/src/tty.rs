//! Terminals: their size, raw mode.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::{Ask, Result};

/// Sets the size in characters; its foreground processes get SIGWINCH.
///
/// # Errors
/// ENOTTY.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, cols: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).ask(format_args!("ioctl(TIOCSWINSZ, {rows}x{cols})"))
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
    use std::os::fd::OwnedFd;

    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    #[test]
    fn a_size_is_that_of_both_sides_and_raw_mode_is_undone() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let peer = ioctl_tiocgptpeer(&master, flags).unwrap();
        set_size(master.as_fd(), 33, 77).unwrap();
        let size = rustix::termios::tcgetwinsize(&peer).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (33, 77));

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
