//! TCP: each connection to a forwarded port becomes a pair, whose bytes pass both ways until both ends have ended.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use tinyd_sys::{
    Result,
    poll::{Interest, Poll, Watch},
    socket,
};

use super::{
    super::{
        slab::Slab,
        token::{Of, token},
    },
    is_exhausted,
};

/// How many connections a container's forwarded ports have together; more wait in the listening socket's queue. Two descriptors
/// each: below the usual limit of 1024.
const MOST: usize = 448;
/// How many are accepted before others have their turn.
const ACCEPT_BATCH: usize = 16;

/// All pairs.
#[derive(Debug, Default)]
pub(super) struct Connections {
    pairs: Slab<Pair>,
}

#[derive(Debug)]
struct Pair {
    outer: End,
    inner: End,
    connecting: bool,
}

/// One socket of a pair, and what is on its way to it.
#[derive(Debug)]
struct End {
    socket: OwnedFd,
    watch: Watch,
    /// Bytes for this socket that it has had no room for.
    pending: Vec<u8>,
    /// The socket has said that it sends no more.
    ended: bool,
    /// The socket has been told that no more will come.
    told: bool,
}

impl Connections {
    /// Whether no more are taken.
    pub(super) fn is_full(&self) -> bool {
        self.pairs.len() >= MOST
    }

    /// Takes connections that wait and begins to connect each to `target`.
    ///
    /// # Errors
    /// Descriptors or memory ran out: rest a little.
    pub(super) fn accept(&mut self, poll: &Poll, listener: BorrowedFd<'_>, target: SocketAddr) -> Result<()> {
        for _ in 0..ACCEPT_BATCH {
            if self.is_full() {
                break;
            }
            let Some(outer) = socket::accept(listener)? else { break };
            let index = self.pairs.next_index();
            match socket::connect_tcp(target) {
                Ok(inner) => {
                    self.pairs.insert(Pair::new(index, outer, inner));
                    self.watch(poll, index);
                }
                Err(error) => {
                    socket::reset_on_close(outer.as_fd());
                    if is_exhausted(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves what is ready in pair `index`.
    pub(super) fn wake(&mut self, poll: &Poll, index: usize, buffer: &mut [u8]) {
        let Some(pair) = self.pairs.get_mut(index) else { return };
        match pair.work(buffer) {
            Ok(true) => self.watch(poll, index),
            Ok(false) => drop(self.pairs.remove(index)),
            Err(_) => self.reset(index),
        }
    }

    fn watch(&mut self, poll: &Poll, index: usize) {
        if self.pairs.get_mut(index).is_some_and(|pair| pair.watch(poll).is_err()) {
            self.reset(index);
        }
    }

    /// A failure of one side is told to the other as one.
    fn reset(&mut self, index: usize) {
        if let Some(pair) = self.pairs.remove(index) {
            socket::reset_on_close(pair.outer.socket.as_fd());
            socket::reset_on_close(pair.inner.socket.as_fd());
        }
    }
}

impl Pair {
    fn new(index: usize, outer: OwnedFd, inner: OwnedFd) -> Pair {
        let end = |socket, of| End {
            socket,
            watch: Watch::new(token(of, index)),
            pending: Vec::new(),
            ended: false,
            told: false,
        };
        Pair { outer: end(outer, Of::Outer), inner: end(inner, Of::Inner), connecting: true }
    }

    /// Does what can be done; whether there will be more to do.
    fn work(&mut self, buffer: &mut [u8]) -> Result<bool> {
        if self.connecting {
            socket::connected(self.inner.socket.as_fd())?;
            self.connecting = !is_connected(&self.inner.socket);
            if self.connecting {
                return Ok(true);
            }
        }
        pass(&mut self.outer, &mut self.inner, buffer)?;
        pass(&mut self.inner, &mut self.outer, buffer)?;
        Ok(!(self.outer.told && self.inner.told))
    }

    fn watch(&mut self, poll: &Poll) -> Result<()> {
        let (outer, inner) = if self.connecting {
            (Interest::NONE, Interest::WRITE)
        } else {
            (interest(&self.outer, &self.inner), interest(&self.inner, &self.outer))
        };
        poll.set(&mut self.outer.watch, self.outer.socket.as_fd(), outer)?;
        poll.set(&mut self.inner.watch, self.inner.socket.as_fd(), inner)
    }
}

/// An end is read while the other has room, and written while bytes wait for it.
fn interest(end: &End, other: &End) -> Interest {
    let read = !end.ended && other.pending.is_empty();
    Interest { read, write: !end.pending.is_empty(), ..Interest::NONE }
}

/// Whether the handshake is over.
fn is_connected(socket: &OwnedFd) -> bool {
    rustix::net::getpeername(socket).is_ok_and(|peer| peer.is_some())
}

/// Moves bytes from one end to the other: what waited, then one buffer full, then the end.
fn pass(from: &mut End, to: &mut End, buffer: &mut [u8]) -> Result<()> {
    if !to.pending.is_empty() {
        let sent = socket::write(to.socket.as_fd(), &to.pending)?.unwrap_or(0);
        to.pending.drain(..sent);
    }
    if to.pending.is_empty() {
        to.pending = Vec::new();
        if !from.ended {
            take(from, to, buffer)?;
        }
    }
    if from.ended && to.pending.is_empty() && !to.told {
        to.told = true;
        // Refused when that end is gone already, which reading it will tell.
        let _ = socket::shutdown_write(to.socket.as_fd());
    }
    Ok(())
}

fn take(from: &mut End, to: &mut End, buffer: &mut [u8]) -> Result<()> {
    match socket::read(from.socket.as_fd(), buffer)? {
        None => {}
        Some(0) => from.ended = true,
        Some(len) => {
            let sent = socket::write(to.socket.as_fd(), &buffer[..len])?.unwrap_or(0);
            to.pending.extend_from_slice(&buffer[sent..len]);
        }
    }
    Ok(())
}
