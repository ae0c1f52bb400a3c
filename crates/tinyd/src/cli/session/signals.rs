//! What this client's signals mean while it is joined to a container.

use std::{future::poll_fn, task::Poll};

use rustix::process::Signal as Number;
use tinyd_core::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Input;
use crate::cli::{failure::Result, terminal};

/// Signals that end a program, or that programs give meanings to.
const PROXIED: [Number; 6] =
    [Number::INT, Number::TERM, Number::HUP, Number::QUIT, Number::USR1, Number::USR2];
/// Signals that would end this client with the terminal still raw.
const ENDING: [Number; 4] = [Number::INT, Number::TERM, Number::HUP, Number::QUIT];
/// A process that ignores this many requests to end does not keep the client.
const PATIENCE: u32 = 3;

/// The signals that are listened for; all others do what they always do.
#[derive(Debug)]
pub(super) struct Signals {
    listened: Vec<(i32, Signal)>,
    proxied: bool,
    asked_to_end: u32,
}

/// What is to be done about a signal.
#[derive(Debug)]
pub(super) enum Meaning {
    /// Nothing.
    Nothing,
    /// Make the terminal raw again: the shell took it while this client was stopped.
    Again,
    /// Tell the daemon.
    Send(Input),
    /// Leave, with this exit code.
    Leave(u8),
    /// The same, though it has been asked to end this often.
    GiveUp(u8),
}

impl Signals {
    /// Listens. A process without a terminal is sent what this client is sent, if the call can (`sends`); on a terminal
    /// the keys go there as they are, so a signal is for this client, which leaves once it has put its terminal back.
    pub(super) fn listen(sends: bool, tty: bool, raw: bool) -> Result<Signals> {
        let proxied = sends && !tty;
        let mut numbers: Vec<Number> = Vec::new();
        if proxied {
            numbers.extend(PROXIED);
        } else if raw {
            numbers.extend(ENDING);
            numbers.push(Number::CONT);
        }
        if tty {
            numbers.push(Number::WINCH);
        }
        // What this client was started to ignore (nohup, a background job) stays ignored.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        numbers.retain(|number| ignored & (1 << (number.as_raw() - 1)) == 0);
        let listen = |number: Number| {
            let number = number.as_raw();
            let stream = signal(SignalKind::from_raw(number)).map_err(|error| {
                Error::internal(&error).context(format_args!("listen for signal {number}"))
            })?;
            Ok((number, stream))
        };
        let listened = numbers.into_iter().map(listen).collect::<Result<_>>()?;
        Ok(Signals { listened, proxied, asked_to_end: 0 })
    }

    /// The number of the next signal.
    pub(super) async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (number, stream) in &mut self.listened {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// What it means.
    pub(super) fn meaning(&mut self, number: i32) -> Meaning {
        let code = u8::try_from(128 + number).unwrap_or(u8::MAX);
        if number == Number::WINCH.as_raw() {
            return terminal::size().map_or(Meaning::Nothing, |size| Meaning::Send(Input::Resize(size)));
        }
        if number == Number::CONT.as_raw() {
            return Meaning::Again;
        }
        if !self.proxied {
            return Meaning::Leave(code);
        }
        if [Number::INT.as_raw(), Number::TERM.as_raw()].contains(&number) {
            self.asked_to_end += 1;
        }
        if self.asked_to_end >= PATIENCE {
            return Meaning::GiveUp(code);
        }
        Meaning::Send(Input::Signal(number))
    }
}

/// The signals that a process ignores, of its /proc/PID/status (proc(5)): bit n-1 is signal n.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_stays_ignored() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001003\nSigCgt:\tffff\n"), 0x1003);
        assert_eq!(ignored("Name:\tx\n"), 0);
    }

    fn signals(proxied: bool) -> Signals {
        Signals { listened: Vec::new(), proxied, asked_to_end: 0 }
    }

    #[test]
    fn the_third_request_to_end_ends_the_client() {
        let mut signals = signals(true);
        for number in [2, 10, 15] {
            assert!(matches!(signals.meaning(number), Meaning::Send(Input::Signal(sent)) if sent == number));
        }
        assert!(matches!(signals.meaning(2), Meaning::GiveUp(130)));
    }

    #[test]
    fn on_a_terminal_a_signal_is_for_the_client() {
        assert!(matches!(signals(false).meaning(15), Meaning::Leave(143)));
    }
}
