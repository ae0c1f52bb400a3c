//! The accept loop: takes connections in, counts them, checks who they are, and hands on those that may speak. A handshake takes a
//! task of its own and only so long; a loop that cannot accept waits before it tries again.

use std::{fmt, io, net::SocketAddr, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Connection, Wire},
    gate::{Gate, Ticket},
    notices::Notices,
    peer::{Allowed, Peer},
};
use crate::tls;

/// How long a refused client has to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the loop rests after its first failure; twice as long after each more, up to a second.
const REST_MIN: Duration = Duration::from_millis(10);
const REST_MAX: Duration = Duration::from_secs(1);

/// Where connections come from.
pub(super) enum Door {
    /// A unix socket, and who may use it.
    Unix(UnixListener, Allowed),
    /// A TCP port; without TLS only where the options said so.
    Tcp(TcpListener, Option<TlsAcceptor>),
}

/// A connection before anybody has looked at it, and what it is looked at with.
enum Knock {
    Unix(UnixStream, Allowed),
    Tcp(TcpStream, SocketAddr, Option<TlsAcceptor>),
}

/// What every door's loop is given.
#[derive(Clone)]
pub(super) struct Hall {
    /// How many may come in.
    pub(super) gate: Gate,
    /// Where admitted connections go.
    pub(super) admitted: mpsc::Sender<io::Result<Connection>>,
    /// How long a client may take for a TLS handshake, and then for its first words of HTTP/2.
    pub(super) patience: Duration,
    /// How the log tells of those that do not come in.
    pub(super) refusals: Notices,
    /// When to stop.
    pub(super) ending: CancellationToken,
}

/// Accepts until the daemon ends.
pub(super) async fn accept(door: Door, hall: Hall) {
    let mut rest = REST_MIN;
    let troubles = Notices::new("cannot accept connections");
    while let Some(knock) = hall.ending.run_until_cancelled(door.knock()).await {
        match knock {
            Ok(knock) => {
                rest = REST_MIN;
                tokio::spawn(receive(knock, hall.clone()));
            }
            // That client has gone; the next one may be there already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                troubles.tell(&door, &error.to_string());
                hall.ending.run_until_cancelled(sleep(rest)).await;
                rest = (rest * 2).min(REST_MAX);
            }
        }
    }
}

/// Looks at one connection, and hands it on or closes it with a line in the log.
async fn receive(knock: Knock, hall: Hall) {
    match hall.admit(knock).await {
        Ok(connection) => {
            // Nobody listens any more when the daemon ends.
            let _ = hall.admitted.send(Ok(connection)).await;
        }
        Err(Refused { who, why }) => hall.refusals.tell(who, &why),
    }
}

struct Refused {
    who: String,
    why: String,
}

impl Hall {
    async fn admit(&self, knock: Knock) -> Result<Connection, Refused> {
        match knock {
            Knock::Unix(stream, allowed) => {
                let stranger = |why| Refused { who: "a local process".to_owned(), why };
                let peer = allowed.admit(&stream).map_err(stranger)?;
                let ticket = self.enter(&peer)?;
                Ok(self.seat(Wire::Unix(stream), peer, ticket))
            }
            Knock::Tcp(stream, address, acceptor) => {
                let peer = Peer::Remote { address, name: None };
                let ticket = self.enter(&peer)?;
                // Keystrokes of a terminal are small and must not wait for one another.
                let _ = stream.set_nodelay(true);
                let Some(acceptor) = acceptor else {
                    return Ok(self.seat(Wire::Tcp(stream), peer, ticket));
                };
                let refused = |why| Refused { who: address.to_string(), why };
                let stream = handshake(&acceptor, stream, self.patience).await.map_err(refused)?;
                let certificates = stream.get_ref().1.peer_certificates();
                let name = certificates.and_then(|chain| tls::cert::common_name(chain.first()?));
                Ok(self.seat(Wire::Tls(Box::new(stream)), Peer::Remote { address, name }, ticket))
            }
        }
    }

    fn seat(&self, wire: Wire, peer: Peer, ticket: Ticket) -> Connection {
        Connection::new(wire, peer, ticket, self.patience, self.refusals.clone())
    }

    fn enter(&self, peer: &Peer) -> Result<Ticket, Refused> {
        self.gate.enter(peer.origin()).map_err(|why| Refused { who: peer.to_string(), why })
    }
}

/// TLS with the client's certificate checked, in time; else why not.
async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    patience: Duration,
) -> Result<TlsStream<TcpStream>, String> {
    let accepted = timeout(patience, acceptor.accept(stream).into_fallible()).await;
    match accepted {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, stream))) => {
            let why = tls::of_client(&error);
            say_farewell(stream).await;
            Err(why)
        }
        Err(_) => Err(format!("the TLS handshake took more than {} s", patience.as_secs_f32())),
    }
}

/// Lets the client read the alert: closing while its bytes are unread would reset the connection, and the alert with it.
async fn say_farewell(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let drain = async {
        let mut unread = [0; 1024];
        while matches!(stream.read(&mut unread).await, Ok(1..)) {}
    };
    let _ = timeout(FAREWELL, drain).await;
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                write!(f, "unix://{}", path.unwrap_or(Path::new("?")).display())
            }
            Door::Tcp(listener, acceptor) => {
                let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
                let how = if acceptor.is_some() {
                    "mutual TLS"
                } else {
                    "no TLS: whoever reaches it owns this host"
                };
                write!(f, "tcp://{address} ({how})")
            }
        }
    }
}

impl Door {
    async fn knock(&self) -> io::Result<Knock> {
        match self {
            Door::Unix(listener, allowed) => {
                let (stream, _) = listener.accept().await?;
                Ok(Knock::Unix(stream, *allowed))
            }
            Door::Tcp(listener, acceptor) => {
                let (stream, address) = listener.accept().await?;
                Ok(Knock::Tcp(stream, address, acceptor.clone()))
            }
        }
    }
}
