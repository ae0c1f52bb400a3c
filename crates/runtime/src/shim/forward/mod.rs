//! Published ports that the shim forwards itself: what `localhost` and IPv6 clients connect to. Everything else goes through the
//! kernel's address translation and never comes here.
//!
//! Idle connections cost two descriptors and some hundred bytes; nothing is read that the other side has no room for.

mod tcp;
mod udp;

use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use tcp::Connections;
use tinyd_core::{config::Protocol, error::chain, wire::Forward};
use tinyd_sys::{
    Error, Result, datagram,
    poll::{Interest, Poll, Watch, set_nonblocking},
};
use udp::Flows;

use super::{
    note,
    token::{Of, token},
};

/// How long no connection is accepted after descriptors or memory ran out.
const BACK_OFF: Duration = Duration::from_millis(100);
/// The size of the one buffer that all bytes pass through, while some do; a datagram is never longer.
const BUFFER: usize = 64 << 10;
/// How long the buffer outlives the last byte.
const QUIET: Duration = Duration::from_millis(250);

/// All forwarded ports of a container.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    ports: Vec<Port>,
    connections: Connections,
    flows: Flows,
    buffer: Vec<u8>,
    quiet_at: Option<Instant>,
    accept_again_at: Option<Instant>,
    told_of_rest: bool,
}

#[derive(Debug)]
struct Port {
    socket: OwnedFd,
    watch: Watch,
    forward: Forward,
}

impl Forwards {
    /// Begins to take connections and datagrams. A port that cannot be watched is noted and left out.
    pub(super) fn open(poll: &Poll, ports: Vec<(Forward, OwnedFd)>) -> Forwards {
        let mut forwards = Forwards::default();
        for (forward, socket) in ports {
            let watch = Watch::new(token(Of::Port, forwards.ports.len()));
            match prepare(&forward, &socket) {
                Ok(()) => forwards.ports.push(Port { socket, watch, forward }),
                Err(error) => note(chain(&error)),
            }
        }
        forwards.watch_ports(poll);
        forwards
    }

    /// Does what is ready.
    pub(super) fn wake(&mut self, poll: &Poll, of: Of, index: usize) {
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER, 0);
        }
        self.quiet_at = Some(Instant::now() + QUIET);
        match of {
            Of::Port => self.port_ready(poll, index),
            Of::Outer | Of::Inner => self.connections.wake(poll, index, &mut self.buffer),
            Of::Flow => self.answer(index),
            Of::Listener | Of::Children | Of::Output | Of::Input | Of::Memory | Of::Client | Of::Exec => {}
        }
        self.watch_ports(poll);
    }

    fn port_ready(&mut self, poll: &Poll, index: usize) {
        let Some(port) = self.ports.get(index) else { return };
        let taken = match port.forward.protocol {
            Protocol::Tcp => self.connections.accept(poll, port.socket.as_fd(), port.forward.target),
            Protocol::Udp => {
                let socket = port.socket.as_fd();
                self.flows.take(poll, index, socket, port.forward.target, &mut self.buffer)
            }
        };
        if let Err(error) = taken {
            // Told once: it may go on for hours, ten times a second.
            if !std::mem::replace(&mut self.told_of_rest, true) {
                note(format_args!("forwarded ports rest: {}", chain(&error)));
            }
            self.accept_again_at = Some(Instant::now() + BACK_OFF);
        }
    }

    fn answer(&mut self, flow: usize) {
        let Some(port) = self.flows.port_of(flow).and_then(|port| self.ports.get(port)) else { return };
        self.flows.answer(flow, port.socket.as_fd(), &mut self.buffer);
    }

    /// Watches ports that may take something now: not all that is there when there are too many already.
    fn watch_ports(&mut self, poll: &Poll) {
        let resting = self.accept_again_at.is_some();
        let full = self.connections.is_full();
        for port in &mut self.ports {
            let full = full && port.forward.protocol == Protocol::Tcp;
            let interest = if resting || full { Interest::NONE } else { Interest::READ };
            if let Err(error) = poll.set(&mut port.watch, port.socket.as_fd(), interest) {
                note(chain(&error));
            }
        }
    }

    /// When [`Forwards::on_time`] is due.
    pub(super) fn due_at(&self) -> Option<Instant> {
        [self.accept_again_at, self.quiet_at, self.flows.due_at()].into_iter().flatten().min()
    }

    /// Ends what is idle, gives the buffer back, accepts again.
    pub(super) fn on_time(&mut self, poll: &Poll, now: Instant) {
        self.flows.expire(now);
        if self.quiet_at.is_some_and(|at| at <= now) {
            self.quiet_at = None;
            self.buffer = Vec::new();
        }
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            self.watch_ports(poll);
        }
    }
}

/// Whether a call failed since descriptors or memory ran out: the next one will too. Anything else is the matter of one connection.
fn is_exhausted(error: &Error) -> bool {
    matches!(error.errno(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC))
}

fn prepare(forward: &Forward, socket: &OwnedFd) -> Result<()> {
    set_nonblocking(socket.as_fd())?;
    match forward.protocol {
        Protocol::Tcp => Ok(()),
        Protocol::Udp => datagram::want_local(socket.as_fd(), datagram::is_ipv6(socket.as_fd())?),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
        thread,
    };

    use super::{super::token::parts, *};

    /// Forwards in a thread of its own until the process ends; the address of the outer side.
    fn forward(protocol: Protocol, target: SocketAddr) -> SocketAddr {
        let (socket, outer): (OwnedFd, _) = match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let outer = listener.local_addr().unwrap();
                (listener.into(), outer)
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                let outer = socket.local_addr().unwrap();
                (socket.into(), outer)
            }
        };
        thread::spawn(move || {
            let poll = Poll::new().unwrap();
            let mut forwards = Forwards::open(&poll, vec![(Forward { protocol, target }, socket)]);
            let mut ready = Vec::new();
            loop {
                poll.wait(&mut ready, Some(Duration::from_millis(100))).unwrap();
                for one in &ready {
                    let (of, index) = parts(one.token).unwrap();
                    forwards.wake(&poll, of, index);
                }
                forwards.on_time(&poll, Instant::now());
            }
        });
        outer
    }

    /// A server that reads all, then writes all of it back and closes.
    fn echo_at_end() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).unwrap();
                    stream.write_all(&all).unwrap();
                });
            }
        });
        addr
    }

    #[test]
    fn megabytes_pass_both_ways_and_half_closes_too() {
        let outer = forward(Protocol::Tcp, echo_at_end());
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut streams: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(outer).unwrap()).collect();
        for stream in &mut streams {
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
        for stream in &mut streams {
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert!(got == sent);
        }
    }

    #[test]
    fn a_refused_target_is_a_reset_not_an_end() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut stream = TcpStream::connect(forward(Protocol::Tcp, nobody)).unwrap();
        assert!(stream.read(&mut [0; 1]).is_err());
    }

    #[test]
    fn datagrams_find_their_way_back() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        thread::spawn(move || {
            let mut buf = [0; 100];
            while let Ok((len, from)) = server.recv_from(&mut buf) {
                buf[..len].reverse();
                server.send_to(&buf[..len], from).unwrap();
            }
        });
        let outer = forward(Protocol::Udp, target);
        let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for (n, client) in clients.iter().enumerate() {
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(format!("ab{n}").as_bytes(), outer).unwrap();
        }
        for (n, client) in clients.iter().enumerate() {
            let mut buf = [0; 100];
            let (len, from) = client.recv_from(&mut buf).unwrap();
            assert_eq!((&buf[..len], from), (format!("{n}ba").as_bytes(), outer));
        }
    }
}
