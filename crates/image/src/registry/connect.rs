//! A connection to a host: name, address, TCP, TLS. Plain HTTP only where [`Trust`](super::tls::Trust) says so.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    location::Origin,
    names::{Names, Unknown},
};

/// How much later than the one before an address is tried beside it (RFC 8305, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct NoConnection {
    pub(super) message: String,
    /// Whether it may be otherwise in a while: a certificate will not.
    pub(super) is_transient: bool,
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NoConnection {}

/// Makes connections with one idea of trust.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) names: Arc<Names>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) plain: bool,
    pub(super) within: Duration,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Link>;
    type Error = NoConnection;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoConnection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoConnection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let within = connector.within;
            let late = |_| transient(format!("no connection within {} s", within.as_secs_f32()));
            timeout(within, connector.connect(uri)).await.map_err(late)?.map(TokioIo::new)
        })
    }
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Link, NoConnection> {
        let origin = Origin::of(&uri).map_err(|error| fixed(error.message().to_owned()))?;
        if !origin.is_tls && !self.plain {
            return Err(fixed("plain HTTP is not allowed for this host".into()));
        }
        let addresses = self.names.look_up(&origin.host).await.map_err(unknown)?;
        let stream = first(addresses, origin.port).await.map_err(|error| transient(error.to_string()))?;
        // Requests are written in one piece.
        let _ = stream.set_nodelay(true);
        if !origin.is_tls {
            return Ok(Link::Plain(stream));
        }
        let name = ServerName::try_from(origin.host.clone())
            .map_err(|_| fixed(format!("{:?} is no name that a certificate can have", origin.host)))?;
        let stream = TlsConnector::from(self.tls).connect(name, stream).await.map_err(refused)?;
        Ok(Link::Tls(Box::new(stream)))
    }
}

/// The first address that answers.
async fn first(addresses: Vec<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let mut tries = JoinSet::new();
    for (place, address) in (0..).zip(addresses) {
        tries.spawn(async move {
            // Not a wait for anything: the delay that RFC 8305 asks for between two addresses. Whoever answers first ends the others.
            tokio::time::sleep(STAGGER * place).await;
            let to = SocketAddr::new(address, port);
            TcpStream::connect(to)
                .await
                .map_err(|error| io::Error::new(error.kind(), format!("connect to {to}: {error}")))
        });
    }
    let mut why = io::Error::from(io::ErrorKind::AddrNotAvailable);
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = error,
            Err(error) => why = io::Error::other(error),
        }
    }
    Err(why)
}

fn refused(error: io::Error) -> NoConnection {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(rustls::Error::InvalidCertificate(why)) => fixed(format!(
            "its certificate cannot be trusted: {why}; put its authority into /etc/tinyd/certs.d/HOST/ca.crt"
        )),
        Some(rustls::Error::InvalidMessage(_)) => fixed("it does not speak TLS".into()),
        Some(other) => fixed(format!("TLS: {other}")),
        None => transient(format!("TLS: {error}")),
    }
}

fn unknown(host: Unknown) -> NoConnection {
    NoConnection { message: host.why, is_transient: !host.is_final }
}

fn fixed(message: String) -> NoConnection {
    NoConnection { message, is_transient: false }
}

fn transient(message: String) -> NoConnection {
    NoConnection { message, is_transient: true }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Link::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Link::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
