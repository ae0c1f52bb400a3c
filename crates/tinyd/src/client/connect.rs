//! From an address to a channel whose daemon has answered. A connection is made here and now, so that what stands in its way is
//! told in plain words and not by the first call.

#![expect(clippy::wildcard_enum_match_arm, reason = "the libraries' enums of errors are open")]

use std::{
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tinyd_core::{Error, Kind, Result, error::chain};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint as Http};

use super::{
    endpoint::{Endpoint, TlsFiles, split},
    names,
};
use crate::tls::{self, Files, PemFile};

/// How long each step of connecting may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a daemon without TLS, which can only be on this host, may take for its first word. One with TLS waits for ours.
const PLAIN_PATIENCE: Duration = Duration::from_secs(2);
/// How long without a sign of life until the daemon is asked for one, and how long it has to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How much output may be on its way to this client, in bytes.
const WINDOW: u32 = 512 << 10;

/// Connects and waits for the daemon's first word.
///
/// # Errors
/// `Unavailable`: nobody listens there, or one side refused the other; `InvalidArgument`: a TLS file cannot be used;
/// `PermissionDenied`: the socket is not for this user.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Channel> {
    let stream = match endpoint {
        Endpoint::Unix(path) => to_socket(path).await,
        Endpoint::Tcp { authority, tls } => to_host(authority, tls.as_ref()).await,
    };
    // A file that cannot be used says so itself: nobody has been called yet.
    let unreached = |error: Error| {
        if error.kind() == Kind::InvalidArgument {
            return error;
        }
        error.context(format_args!("cannot reach the daemon at {endpoint}"))
    };
    let stream = stream.map_err(unreached)?;
    channel(endpoint, stream).await
}

async fn to_socket(path: &Path) -> Result<Greeted> {
    let stream = in_time(UnixStream::connect(path)).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unavailable("No such file or directory: is `tinyd daemon` running?"),
        io::ErrorKind::ConnectionRefused => {
            unavailable("Connection refused: nobody listens on it; is `tinyd daemon` running?")
        }
        io::ErrorKind::PermissionDenied => Error::new(
            Kind::PermissionDenied,
            "Permission denied: the socket is for root and its group (see ls -l); use sudo or join the group",
        ),
        _ => unavailable(&error.to_string()),
    })?;
    greeted(stream, PATIENCE).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => unavailable(
            "it closed the connection: its log says why (a user it does not serve, too many connections)",
        ),
        _ => unavailable(&error.to_string()),
    })
}

async fn to_host(authority: &str, files: Option<&TlsFiles>) -> Result<Greeted> {
    let (host, port) = split(authority)
        .ok_or_else(|| Error::invalid("--host", format!("{authority:?} is not HOST:PORT")))?;
    let config = files.map(|files| tls::client(&files.named())).transpose()?;
    let stream = open(host, port).await?;
    let Some(config) = config else { return plain(stream).await };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| {
        Error::invalid("--host", format!("{host:?} is not a name for a certificate: {error}"))
    })?;
    let refused = |error: io::Error| unavailable(&tls::of_daemon(&error));
    let stream =
        in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.map_err(refused)?;
    greeted(stream, PATIENCE).await.map_err(refused)
}

/// A daemon without TLS. Only one on this host is spoken to: nobody else can be told from an impostor.
async fn plain(stream: TcpStream) -> Result<Greeted> {
    const WANTS: &str = "a daemon that serves TLS wants --tlscacert, --tlscert and --tlskey";
    if !stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()) {
        return Err(Error::invalid(
            "--tlscacert",
            "missing: another host is reached by mutual TLS only, with --tlscacert, --tlscert and --tlskey",
        ));
    }
    greeted(stream, PLAIN_PATIENCE).await.map_err(|error| unavailable(&format!("{error}: {WANTS}")))
}

/// Tries a host's addresses in turn.
async fn open(host: &str, port: u16) -> Result<TcpStream> {
    let name = host.to_owned();
    let addresses = tokio::task::spawn_blocking(move || names::addresses(&name))
        .await
        .map_err(|error| Error::internal(&error))??;
    let mut last = unavailable("no address");
    for address in addresses {
        match in_time(TcpStream::connect((address, port))).await {
            Ok(stream) => {
                // Keystrokes of a terminal are small and must not wait for one another.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = unavailable(&format!("{address} port {port}: {error}")),
        }
    }
    Err(last)
}

impl TlsFiles {
    fn named(&self) -> Files<'_> {
        Files {
            ca: PemFile { flag: "--tlscacert", path: &self.ca },
            cert: PemFile { flag: "--tlscert", path: &self.cert },
            key: PemFile { flag: "--tlskey", path: &self.key },
        }
    }
}

/// One HTTP/2 connection over a stream that is there already. When it is lost, calls fail: there is no second one.
async fn channel(endpoint: &Endpoint, stream: Greeted) -> Result<Channel> {
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_| {
        let stream = once.lock().ok().and_then(|mut once| once.take());
        std::future::ready(stream.ok_or_else(|| io::Error::other("the daemon closed the connection")))
    });
    Http::from_static("http://tinyd")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 2)
        .connect_with_connector(connector)
        .await
        .map_err(|error| {
            unavailable(&format!("cannot speak HTTP/2 with the daemon at {endpoint}: {}", chain(&error)))
        })
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    within(PATIENCE, step).await
}

async fn within<T>(patience: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", patience.as_secs()));
    timeout(patience, step).await.unwrap_or_else(|_| Err(late()))
}

fn unavailable(message: &str) -> Error {
    Error::new(Kind::Unavailable, message)
}

trait Transport: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Transport for T {}

/// A stream whose first bytes have been read ahead.
struct Greeted {
    ahead: Vec<u8>,
    stream: Pin<Box<dyn Transport>>,
}

/// Waits until the daemon has said something. HTTP/2 servers speak first (their SETTINGS), so silence or an alert here is the
/// answer to the handshake, and no byte of a request has been sent yet.
async fn greeted(stream: impl Transport + 'static, patience: Duration) -> io::Result<Greeted> {
    let mut stream: Pin<Box<dyn Transport>> = Box::pin(stream);
    let mut ahead = vec![0; 256];
    let length = within(patience, stream.read(&mut ahead)).await?;
    if length == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon closed the connection"));
    }
    ahead.truncate(length);
    if ahead.starts_with(&[0x15, 3]) {
        // A TLS alert on a connection that is not TLS.
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what listens there speaks TLS"));
    }
    Ok(Greeted { ahead, stream })
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return self.stream.as_mut().poll_read(cx, buf);
        }
        let length = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..length]);
        self.ahead.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
