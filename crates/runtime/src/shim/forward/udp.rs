//! UDP: each client of a forwarded port gets a socket of its own towards the container, so that answers find their way back. A
//! flow that is idle for a minute ends.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use tinyd_sys::{
    Result,
    datagram::{self, Local},
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

/// How many flows a container's forwarded ports have together; one more ends the one that has been idle longest.
const MOST: usize = 256;
/// How long a flow lives without a datagram.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How many datagrams are moved before others have their turn.
const BATCH: usize = 32;

/// All flows.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: Slab<Flow>,
}

#[derive(Debug)]
struct Flow {
    client: SocketAddr,
    port: usize,
    /// Which of the host's addresses the client has asked, and expects the answers of.
    asked: Option<Local>,
    socket: OwnedFd,
    last_used: Instant,
}

impl Flows {
    /// Takes datagrams that wait at port number `port` and sends them to `target`, each by its client's flow.
    ///
    /// # Errors
    /// Descriptors or memory ran out: rest a little.
    pub(super) fn take(
        &mut self,
        poll: &Poll,
        port: usize,
        outer: BorrowedFd<'_>,
        target: SocketAddr,
        buffer: &mut [u8],
    ) -> Result<()> {
        for _ in 0..BATCH {
            let Some(came) = datagram::receive(outer, buffer)? else { break };
            let index = match self.flow(poll, port, came.from, target) {
                Ok(index) => index,
                Err(error) if is_exhausted(&error) => return Err(error),
                Err(_) => continue,
            };
            if let Some(flow) = self.flows.get_mut(index) {
                flow.last_used = Instant::now();
                flow.asked = came.to;
                // A datagram may be lost, and the container may not listen: that is its answer's matter.
                let _ = socket::send_datagram(flow.socket.as_fd(), &buffer[..came.len]);
            }
        }
        Ok(())
    }

    /// Sends the container's answers of a flow to its client.
    pub(super) fn answer(&mut self, index: usize, outer: BorrowedFd<'_>, buffer: &mut [u8]) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        for _ in 0..BATCH {
            match datagram::receive(flow.socket.as_fd(), buffer) {
                Ok(Some(came)) => {
                    flow.last_used = Instant::now();
                    let _ = datagram::send(outer, &buffer[..came.len], flow.client, flow.asked);
                }
                // "Nobody listens there", which the read has taken off the socket.
                Ok(None) | Err(_) => break,
            }
        }
    }

    /// Which port a flow came in by.
    pub(super) fn port_of(&mut self, index: usize) -> Option<usize> {
        self.flows.get_mut(index).map(|flow| flow.port)
    }

    /// When the next flow may have been idle too long.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.flows.iter().map(|flow| flow.last_used + IDLE_MAX).min()
    }

    /// Ends flows that have been idle too long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.flows.retain(|flow| flow.last_used + IDLE_MAX > now);
    }

    fn flow(&mut self, poll: &Poll, port: usize, client: SocketAddr, target: SocketAddr) -> Result<usize> {
        let known = self.flows.iter_mut().find(|(_, flow)| flow.port == port && flow.client == client);
        if let Some((index, _)) = known {
            return Ok(index);
        }
        if self.flows.len() >= MOST {
            let oldest = self.flows.iter_mut().min_by_key(|(_, flow)| flow.last_used).map(|(index, _)| index);
            oldest.and_then(|index| self.flows.remove(index));
        }
        let socket = socket::connect_udp(target)?;
        let mut watch = Watch::new(token(Of::Flow, self.flows.next_index()));
        poll.set(&mut watch, socket.as_fd(), Interest::READ)?;
        Ok(self.flows.insert(Flow { client, port, asked: None, socket, last_used: Instant::now() }))
    }
}
