//! `run`: create, start, wait, delete. In the foreground signals are handed on and the exit status is the container's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use tinyd_core::{Error, Result};
use tinyd_sys::{process, tty};

use super::{
    console::{self, Proxy},
    create::{Bundle, CreateOptions, claim, finish, prepare, undo_claim},
    record::Root,
};
use crate::launch::{Gate, Prepared, Stdio, kernel, step};

/// Runs a container; its exit status, or 0 when it was started to run alone. `warn` is told what could not be done.
///
/// # Errors
/// What kept it from running; nothing of it is left then.
pub fn run(
    root: &Root,
    id: &str,
    options: &CreateOptions,
    detach: bool,
    warn: impl Fn(&[String]),
) -> Result<u8> {
    let place = root.place(id)?;
    let bundle = Bundle::read(options.bundle.as_deref())?;
    bundle.protect_runtime()?;
    let terminal = bundle.wants_terminal();
    if terminal && detach && options.console_socket.is_none() {
        return Err(Error::invalid("--console-socket", "a terminal without a foreground needs one"));
    }
    // Before the clone: a signal that comes meanwhile waits to be handed on.
    let signals = if detach { None } else { Some(process::signal_fd().map_err(step("take signals"))?) };
    let claimed = claim(&place, &bundle)?;
    let stdio = if terminal { Ok(Stdio::Terminal) } else { console::inherited() };
    let made = stdio.and_then(|stdio| prepare(&place, &bundle, stdio, Gate::Caller, &options.failpoint));
    let mut prepared = undo_claim(&place, made)?;
    let started = finish(&place, claimed, &mut prepared, options).and_then(|()| prepared.start());
    warn(&prepared.warnings);
    let ended = match (started, signals) {
        (Ok(()), None) => return Ok(0),
        (Ok(()), Some(signals)) => attend(&mut prepared, &signals, options.console_socket.is_some()),
        (Err(error), _) => Err(error),
    };
    let later = prepared.later.clone();
    let destroyed = prepared.destroy();
    let removed = place.remove();
    warn(&later.poststop());
    let code = ended?;
    destroyed.and(removed)?;
    Ok(code)
}

fn attend(prepared: &mut Prepared, signals: &OwnedFd, terminal_is_elsewhere: bool) -> Result<u8> {
    let stdin = std::io::stdin();
    let master = prepared.terminal.take().filter(|_| !terminal_is_elsewhere);
    let _raw = master.as_ref().and_then(|_| tty::Raw::enter(&stdin).ok());
    supervise(Foreground { pidfd: prepared.pidfd.as_fd(), signals, proxy: master.map(Proxy::new) })
}

/// A process in the foreground.
pub(super) struct Foreground<'a> {
    pub(super) pidfd: BorrowedFd<'a>,
    pub(super) signals: &'a OwnedFd,
    /// The terminal's other side, when this process holds it.
    pub(super) proxy: Option<Proxy>,
}

/// Waits for a process to end, handing signals and a terminal's bytes on. Its exit status.
pub(super) fn supervise(mut foreground: Foreground<'_>) -> Result<u8> {
    loop {
        let ready = foreground.wait()?;
        if ready.signal {
            foreground.forward();
        }
        if ready.output && !foreground.proxy.as_ref().is_some_and(Proxy::output) {
            foreground.proxy = None;
        }
        if let Some(proxy) = foreground.proxy.as_mut().filter(|_| ready.input) {
            proxy.input();
        }
        // Output is drained before the end is told.
        if ready.ended && !ready.output {
            return process::wait(foreground.pidfd).map(process::Ended::code).map_err(step("wait"));
        }
    }
}

/// What there is to do.
struct Ready {
    signal: bool,
    ended: bool,
    output: bool,
    input: bool,
}

impl Foreground<'_> {
    fn wait(&self) -> Result<Ready> {
        let stdin = std::io::stdin();
        let mut fds = vec![
            PollFd::new(self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(self.pidfd, PollFlags::IN),
        ];
        if let Some(proxy) = &self.proxy {
            fds.push(PollFd::from_borrowed_fd(proxy.master(), PollFlags::IN));
            if proxy.stdin_open() {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(kernel("poll", &error)),
        }
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready { signal: is_ready(0), ended: is_ready(1), output: is_ready(2), input: is_ready(3) })
    }

    /// Hands a signal on; those that are about this process are not.
    fn forward(&self) {
        let Some(number) = process::read_signal(self.signals.as_fd()) else { return };
        match number {
            libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG => {}
            libc::SIGWINCH => {
                if let Some(proxy) = &self.proxy {
                    proxy.copy_size();
                }
            }
            number => {
                // It can have ended a moment ago.
                let _ = process::pidfd_signal(self.pidfd, number);
            }
        }
    }
}
