//! The container's standard streams: its output to the log and to clients, clients' bytes to its input.
//!
//! Nothing is read that somebody has no room for, so what is held is bounded: one read of output, one frame of input.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant, SystemTime},
};

use tinyd_core::{
    Error, Kind, Result,
    time::unix_nanos,
    wire::{self, FrameKind},
};
use tinyd_sys::{
    poll::{Interest, Poll, Watch, set_nonblocking},
    socket, tty,
};

use super::{
    client::Client,
    log::Log,
    slab::Slab,
    token::{Of, token},
};
use crate::launch::Stdio;

/// How long a line stays open in memory before the log has it as a piece, and how long buffers outlive the last output.
const QUIET: Duration = Duration::from_millis(250);
/// Buffers begin small: most output is short.
const BUFFER_FIRST: usize = 4 << 10;
/// The most that is read at a time, in bytes.
const BUFFER_MAX: usize = wire::STREAM_MAX_BYTES as usize;
/// The most that is read of one output after the end, in bytes. Nobody is left to write; a pipe holds 1 MiB at most unless root
/// says otherwise.
const DRAIN_MAX: usize = 16 << 20;

/// The shim's ends of the container's streams.
#[derive(Debug)]
pub(super) struct Streams {
    outputs: [Option<Output>; 2],
    input: Option<Input>,
    terminal: Option<OwnedFd>,
    log: Log,
    buffer: Vec<u8>,
    quiet_at: Option<Instant>,
}

#[derive(Debug)]
struct Output {
    fd: OwnedFd,
    watch: Watch,
    kind: FrameKind,
}

#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    watch: Watch,
    pending: Vec<u8>,
    ending: bool,
}

impl Streams {
    /// Pipes for a container without a terminal: the shim's ends, the container's ends.
    ///
    /// # Errors
    /// No descriptors are left, `/dev/null` cannot be opened.
    pub(super) fn pipes(stdin_open: bool, log: Log) -> Result<(Streams, Stdio)> {
        let told = |error: io::Error| Error::new(Kind::Internal, format!("make pipes: {error}"));
        let (stdout, their_stdout) = io::pipe().map_err(told)?;
        let (stderr, their_stderr) = io::pipe().map_err(told)?;
        let mut streams = Streams::empty(log);
        streams.take_output(stdout.into(), FrameKind::Stdout)?;
        streams.take_output(stderr.into(), FrameKind::Stderr)?;
        let their_stdin = if stdin_open {
            let (their_stdin, stdin) = io::pipe().map_err(told)?;
            streams.take_input(stdin.into())?;
            OwnedFd::from(their_stdin)
        } else {
            tinyd_sys::fs::open_char_device_rw("/dev/null".as_ref(), 1, 3).map_err(|e| Error::internal(&e))?
        };
        Ok((streams, Stdio::Fds([their_stdin, their_stdout.into(), their_stderr.into()])))
    }

    /// Streams that [`Streams::take_terminal`] makes complete.
    pub(super) fn empty(log: Log) -> Streams {
        Streams {
            outputs: [None, None],
            input: None,
            terminal: None,
            log,
            buffer: Vec::new(),
            quiet_at: None,
        }
    }

    /// The master side of the container's terminal.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(super) fn take_terminal(&mut self, master: OwnedFd) -> Result<()> {
        let copy = || socket::duplicate(master.as_fd()).map_err(|error| Error::internal(&error));
        self.take_output(copy()?, FrameKind::Stdout)?;
        self.take_input(copy()?)?;
        self.terminal = Some(master);
        Ok(())
    }

    fn take_output(&mut self, fd: OwnedFd, kind: FrameKind) -> Result<()> {
        set_nonblocking(fd.as_fd()).map_err(|error| Error::internal(&error))?;
        let index = usize::from(kind == FrameKind::Stderr);
        self.outputs[index] = Some(Output { fd, watch: Watch::new(token(Of::Output, index)), kind });
        Ok(())
    }

    fn take_input(&mut self, fd: OwnedFd) -> Result<()> {
        set_nonblocking(fd.as_fd()).map_err(|error| Error::internal(&error))?;
        let watch = Watch::new(token(Of::Input, 0));
        self.input = Some(Input { fd, watch, pending: Vec::new(), ending: false });
        Ok(())
    }

    /// Watches what may be read and written now. `behind`: whether a client has not read all output yet.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub(super) fn watch(&mut self, poll: &Poll, behind: bool) -> tinyd_sys::Result<()> {
        let interest = if behind { Interest::NONE } else { Interest::READ };
        for output in self.outputs.iter_mut().flatten() {
            poll.set(&mut output.watch, output.fd.as_fd(), interest)?;
        }
        if let Some(input) = &mut self.input {
            let interest = if input.pending.is_empty() { Interest::NONE } else { Interest::WRITE };
            poll.set(&mut input.watch, input.fd.as_fd(), interest)?;
        }
        Ok(())
    }

    /// Reads output `index` once and hands it on. How much came: 0 when there is nothing now or ever.
    pub(super) fn copy_output(&mut self, index: usize, clients: &mut Slab<Client>) -> usize {
        let Some(Some(output)) = self.outputs.get_mut(index) else { return 0 };
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER_FIRST, 0);
        }
        let len = match socket::read(output.fd.as_fd(), &mut self.buffer) {
            Ok(None) => return 0,
            Ok(Some(len)) if len > 0 => len,
            Ok(Some(_)) | Err(_) => {
                self.outputs[index] = None;
                return 0;
            }
        };
        let bytes = &self.buffer[..len];
        self.log.add(output.kind, bytes, unix_nanos(SystemTime::now()));
        for (_, client) in clients.iter_mut().filter(|(_, client)| client.is_attached()) {
            client.stream(output.kind, bytes);
        }
        if len == self.buffer.len() && len < BUFFER_MAX {
            self.buffer.resize((len * 4).min(BUFFER_MAX), 0);
        }
        self.quiet_at = Some(Instant::now() + QUIET);
        len
    }

    /// Reads all output that is left, once nobody is there to write more, and ends the log. Clients that are behind get it all the same.
    pub(super) fn drain(&mut self, clients: &mut Slab<Client>) {
        for index in 0..self.outputs.len() {
            let mut left = DRAIN_MAX;
            while left > 0 {
                match self.copy_output(index, clients) {
                    0 => break,
                    len => left = left.saturating_sub(len),
                }
            }
        }
        self.outputs = [None, None];
        self.log.close_lines(unix_nanos(SystemTime::now()));
    }

    /// Whether input has no room now.
    pub(super) fn input_full(&self) -> bool {
        self.input.as_ref().is_some_and(|input| !input.pending.is_empty())
    }

    /// Writes a client's bytes; those that do not fit are kept. Without a reader they go nowhere.
    pub(super) fn add_input(&mut self, bytes: Vec<u8>) {
        if let Some(input) = self.input.as_mut().filter(|input| !input.ending) {
            input.pending =
                if input.pending.is_empty() { bytes } else { [&*input.pending, &*bytes].concat() };
            self.write_input();
        }
    }

    /// There is no more input. A terminal stays open: its end is a character that a person types.
    pub(super) fn end_input(&mut self) {
        if self.terminal.is_none()
            && let Some(input) = &mut self.input
        {
            input.ending = true;
            self.write_input();
        }
    }

    /// Writes what fits of what was kept.
    pub(super) fn write_input(&mut self) {
        let Some(input) = &mut self.input else { return };
        if !input.pending.is_empty() {
            match socket::write(input.fd.as_fd(), &input.pending) {
                Ok(len) => drop(input.pending.drain(..len.unwrap_or(0))),
                // Nobody reads any more.
                Err(_) => self.input = None,
            }
        }
        let Some(input) = &mut self.input else { return };
        if input.pending.is_empty() {
            input.pending = Vec::new();
            if input.ending {
                self.input = None;
            }
        }
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// `WrongState` without a terminal.
    pub(super) fn resize(&self, rows: u16, cols: u16) -> Result<()> {
        let none = || Error::new(Kind::WrongState, "the container has no terminal");
        let terminal = self.terminal.as_ref().ok_or_else(none)?;
        tty::set_size(terminal.as_fd(), rows, cols).map_err(|error| Error::internal(&error))
    }

    /// When [`Streams::on_quiet`] is due.
    pub(super) fn quiet_at(&self) -> Option<Instant> {
        self.quiet_at
    }

    /// Ends open lines in the log and gives buffers back, when output has been quiet for a while.
    pub(super) fn on_quiet(&mut self, now: Instant) {
        if self.quiet_at.is_some_and(|at| at <= now) {
            self.quiet_at = None;
            self.log.close_lines(unix_nanos(SystemTime::now()));
            self.buffer = Vec::new();
        }
    }
}
