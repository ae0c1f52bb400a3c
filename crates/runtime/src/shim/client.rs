//! One connection to the shim: what it has become, and when it is read.

use std::os::fd::{AsFd, OwnedFd};

use tinyd_core::wire::{FrameKind, Message};
use tinyd_sys::{
    Result,
    poll::{Interest, Poll, Watch},
};

use super::{
    exec::Pending,
    frame::{Filled, Inbox, Outbox},
};

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Requests and answers.
    Commands,
    /// The container's streams.
    Attached {
        /// Whether its bytes are standard input.
        stdin: bool,
    },
    /// State after state.
    Watching,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    watch: Watch,
    /// What came.
    pub(super) inbox: Inbox,
    outbox: Outbox,
    /// What it carries.
    pub(super) role: Role,
    /// The process of its exec, on its way to its program.
    pub(super) starting: Option<Pending>,
    /// The same, while its program runs.
    pub(super) exec: Option<i32>,
    /// Whether it waits for the end of everything.
    pub(super) destroying: bool,
    /// Whether it is to be closed, once everything has gone.
    pub(super) closing: bool,
    gone: bool,
}

impl Client {
    /// A connection as it was accepted.
    pub(super) fn new(socket: OwnedFd, token: u64) -> Client {
        Client {
            socket,
            watch: Watch::new(token),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            role: Role::Commands,
            starting: None,
            exec: None,
            destroying: false,
            closing: false,
            gone: false,
        }
    }

    /// Receives once.
    ///
    /// # Errors
    /// The connection has failed.
    pub(super) fn fill(&mut self) -> Result<Filled> {
        self.inbox.fill(self.socket.as_fd())
    }

    /// Watches what it is to be watched for. `input_full`: see [`Client::may_go_on`].
    ///
    /// # Errors
    /// The kernel has no memory.
    pub(super) fn watch(&mut self, poll: &Poll, input_full: bool) -> Result<()> {
        let interest = Interest {
            read: self.may_go_on(input_full),
            write: self.is_behind(),
            hangup: true,
            change: false,
        };
        poll.set(&mut self.watch, self.socket.as_fd(), interest)
    }

    /// Says something, at once where there is room.
    pub(super) fn say(&mut self, message: &Message) {
        self.say_with(message, Vec::new());
    }

    /// Says something, with descriptors.
    pub(super) fn say_with(&mut self, message: &Message, fds: Vec<OwnedFd>) {
        self.outbox.push(message, fds);
        self.flush();
    }

    /// Sends output; what does not fit is kept.
    pub(super) fn stream(&mut self, kind: FrameKind, bytes: &[u8]) {
        self.gone |= self.outbox.stream(self.socket.as_fd(), kind, bytes).is_err();
    }

    /// Sends what fits of what was kept.
    pub(super) fn flush(&mut self) {
        self.gone |= self.outbox.flush(self.socket.as_fd()).is_err();
    }

    /// The other end has closed or broken the rules.
    pub(super) fn lose(&mut self) {
        self.gone = true;
    }

    /// Whether something has not gone yet.
    pub(super) fn is_behind(&self) -> bool {
        !self.gone && !self.outbox.is_empty()
    }

    /// Whether it is of no more use.
    pub(super) fn is_over(&self) -> bool {
        self.gone || self.closing && self.outbox.is_empty()
    }

    /// Whether it takes output.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.role, Role::Attached { .. })
    }

    /// Whether its next frame may be used now: answers are in order, and input waits for room. `input_full`: whether the container's
    /// input has no room.
    pub(super) fn may_go_on(&self, input_full: bool) -> bool {
        let held = self.role == Role::Attached { stdin: true } && input_full;
        // Output that a client has not read yet is no reason to leave its input alone: both sides would wait for each other.
        let unread_answer = !self.is_attached() && self.is_behind();
        let unanswered = self.destroying || self.starting.is_some();
        !(self.gone || self.closing || unanswered || held || unread_answer)
    }
}
