//! This client's own terminal: raw while a container's terminal is on it, and put back whatever happens.

use std::{
    io::{self, IsTerminal},
    panic,
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tinyd_core::{Error, Kind, Result};

use crate::pb;

/// Refuses what has no terminal to give.
///
/// # Errors
/// `InvalidArgument` of `field` when standard input is not a terminal.
pub(super) fn require_input(field: &str) -> Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::invalid(field, "the input device is not a terminal"))
}

/// The size of the terminal that output goes to, or input comes from.
pub(super) fn size() -> Option<pb::WindowSize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0)
        .then(|| pb::WindowSize { rows: size.ws_row.into(), cols: size.ws_col.into() })
}

/// The terminal in raw mode: every key goes to the container, and nothing is echoed here. Dropping it puts the terminal
/// back; so does a panic, which does not drop anything in a release build.
pub(super) struct Raw {
    saved: Termios,
}

impl Raw {
    /// Makes standard input raw; it must be a terminal.
    ///
    /// # Errors
    /// The terminal refused.
    pub(super) fn enter() -> Result<Raw> {
        let told = |error: rustix::io::Errno| {
            Error::new(Kind::Internal, format!("make the terminal raw: {}", io::Error::from(error)))
        };
        let guard = Raw { saved: tcgetattr(io::stdin()).map_err(told)? };
        restore_on_panic(guard.saved.clone());
        guard.set().map_err(told)?;
        Ok(guard)
    }

    /// Makes it raw once more, after a shell has put it back.
    pub(super) fn again(&self) {
        // A terminal that is gone ends the session by its end of input.
        let _ = self.set();
    }

    fn set(&self) -> rustix::io::Result<()> {
        let mut raw = self.saved.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&self.saved);
        if !std::thread::panicking() {
            // The hook that this guard put in.
            let _ = panic::take_hook();
        }
    }
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

fn restore(saved: &Termios) {
    // A terminal that is gone needs nothing.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, saved);
}

fn restore_on_panic(saved: Termios) {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        restore(&saved);
        usual(info);
    }));
}

/// Ctrl-P Ctrl-Q: leaves the container running.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    /// Whether the last byte was Ctrl-P, which is held back until the next tells what it is.
    half: bool,
}

impl DetachKeys {
    const CTRL_P: u8 = 0x10;
    const CTRL_Q: u8 = 0x11;

    /// The bytes to send of those that were typed, and whether the keys to leave were among them.
    pub(super) fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut send = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            if self.half && byte == Self::CTRL_Q {
                return (send, true);
            }
            if self.half {
                send.push(Self::CTRL_P);
            }
            self.half = byte == Self::CTRL_P;
            if !self.half {
                send.push(byte);
            }
        }
        (send, false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_keys_to_leave_may_come_in_pieces() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"\x11zz"), (Vec::new(), true));
    }

    #[test]
    fn a_ctrl_p_that_means_something_else_is_sent() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"\x10"), (Vec::new(), false));
        assert_eq!(keys.filter(b"\x10x"), (b"\x10\x10x".to_vec(), false));
        assert_eq!(keys.filter(b"\x11"), (b"\x11".to_vec(), false));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_invented(pieces in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(0x10u8), Just(b'a')], 0..5), 0..5)) {
            let mut keys = DetachKeys::default();
            let mut sent: Vec<u8> = pieces.iter().flat_map(|piece| keys.filter(piece).0).collect();
            sent.extend(keys.half.then_some(0x10));
            prop_assert_eq!(sent, pieces.concat());
        }
    }
}
