//! An admitted connection: its bytes, its peer, its place at the gate, and the time it has to say its first words.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{gate::Ticket, notices::Notices, peer::Peer};

/// The length of what an HTTP/2 client says first, in bytes (RFC 9113 3.4).
const PREFACE: usize = 24;

/// The bytes of a connection.
#[derive(Debug)]
pub(super) enum Wire {
    /// A unix socket.
    Unix(UnixStream),
    /// TCP as it is: insecure, on loopback.
    Tcp(TcpStream),
    /// TCP under TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// An admitted connection.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    peer: Peer,
    _ticket: Ticket,
    greeting: Option<Greeting>,
}

/// What is left of the client's first words, and the time for them.
#[derive(Debug)]
struct Greeting {
    missing: usize,
    until: Pin<Box<Sleep>>,
    refusals: Notices,
}

impl Connection {
    /// A connection whose client has `patience` to begin to speak HTTP/2.
    pub(super) fn new(
        wire: Wire,
        peer: Peer,
        ticket: Ticket,
        patience: Duration,
        refusals: Notices,
    ) -> Connection {
        let greeting = Greeting { missing: PREFACE, until: Box::pin(sleep(patience)), refusals };
        Connection { wire, peer, _ticket: ticket, greeting: Some(greeting) }
    }

    fn wire(&mut self) -> Pin<&mut (dyn Transport + Send)> {
        match &mut self.wire {
            Wire::Unix(stream) => Pin::new(stream),
            Wire::Tcp(stream) => Pin::new(stream),
            Wire::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

trait Transport: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = this.wire().poll_read(cx, buf);
        if let Some(greeting) = &mut this.greeting {
            greeting.missing = greeting.missing.saturating_sub(buf.filled().len() - before);
            if greeting.missing == 0 {
                this.greeting = None;
            } else if read.is_pending() && greeting.until.as_mut().poll(cx).is_ready() {
                greeting.refusals.tell(&this.peer, "it did not speak HTTP/2 in time");
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.wire().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Unix(stream) => stream.is_write_vectored(),
            Wire::Tcp(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
