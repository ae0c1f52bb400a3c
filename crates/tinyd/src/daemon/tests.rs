//! The accept loop and the server behind it, with the health service in the engine's place, through the client of the command line.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tinyd_core::Kind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Error};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    accept::{Door, Hall},
    gate::Gate,
    notices::Notices,
    peer::Allowed,
    serve::{KEEPALIVE, answer, open},
};
use crate::{
    client::{self, Endpoint},
    tls::{
        self, Files, PemFile,
        cert::{self, CaOptions, LeafOptions},
    },
};

/// A server on a unix socket and a port, with room for three connections, two from one origin, and little patience.
struct Host {
    path: PathBuf,
    port: u16,
    ending: CancellationToken,
    served: JoinHandle<Result<(), Error>>,
}

const PATIENCE: Duration = Duration::from_millis(200);

impl Host {
    async fn new(name: &str, uid: u32) -> Host {
        Host::with_tls(name, uid, None).await
    }

    async fn with_tls(name: &str, uid: u32, tls: Option<TlsAcceptor>) -> Host {
        let path = std::env::temp_dir().join(format!("tinyd-accept-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let allowed = Allowed { uid, gid: None };
        let doors = vec![Door::Unix(UnixListener::bind(&path).unwrap(), allowed), Door::Tcp(listener, tls)];
        let ending = CancellationToken::new();
        let (admitted, connections) = mpsc::channel(1);
        let refusals = Notices::new("refused a connection");
        let gate = Gate::new(3, 2);
        open(doors, &Hall { gate, admitted, patience: PATIENCE, refusals, ending: ending.clone() });
        let (_, health) = tonic_health::server::health_reporter();
        let served = tokio::spawn(answer(Routes::new(health), connections, ending.clone()));
        Host { path, port, ending, served }
    }

    fn unix(&self) -> Endpoint {
        Endpoint::Unix(self.path.clone())
    }

    fn tcp(&self) -> Endpoint {
        Endpoint::Tcp { authority: format!("localhost:{}", self.port), tls: None }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[tokio::test]
async fn both_doors_lead_to_the_services_and_close_when_it_ends() {
    let host = Host::new("doors", own_uid()).await;
    let mut channels = Vec::new();
    for endpoint in [host.unix(), host.tcp()] {
        let channel = client::connect(&endpoint).await.unwrap();
        HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
        channels.push(channel);
    }
    host.ending.cancel();
    let path = host.path.clone();
    timeout(Duration::from_secs(2), async { (&mut { host }.served).await }).await.unwrap().unwrap().unwrap();
    assert!(UnixStream::connect(path).await.is_err());
}

#[tokio::test]
async fn a_request_over_the_limit_is_told_the_limit() {
    let host = Host::new("limit", own_uid()).await;
    let channel = client::connect(&host.unix()).await.unwrap();
    let request = HealthCheckRequest { service: "x".repeat(5 << 20) };
    let status = HealthClient::new(channel).check(request).await.unwrap_err();
    let error = client::error(&status);
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.message().contains("at most 4194304 (4 MiB)"), "{error}");
}

#[tokio::test]
async fn one_origin_cannot_keep_the_others_out() {
    let host = Host::new("origins", own_uid()).await;
    let first = client::connect(&host.unix()).await.unwrap();
    let _second = client::connect(&host.unix()).await.unwrap();
    let error = client::connect(&host.unix()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("it closed the connection"), "{error}");
    client::connect(&host.tcp()).await.unwrap();
    drop(first);
    let again = async { while client::connect(&host.unix()).await.is_err() {} };
    timeout(Duration::from_secs(2), again).await.unwrap();
}

#[tokio::test]
async fn a_connection_over_the_cap_is_closed_and_its_place_comes_back() {
    let host = Host::new("cap", own_uid()).await;
    let mut inside = Vec::new();
    for endpoint in [host.unix(), host.unix(), host.tcp()] {
        inside.push(client::connect(&endpoint).await.unwrap());
    }
    // This origin has one place left, the host none.
    client::connect(&host.tcp()).await.unwrap_err();
    inside.pop();
    let again = async { while client::connect(&host.tcp()).await.is_err() {} };
    timeout(Duration::from_secs(2), again).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let host = Host::new("silent", own_uid()).await;
    let began = Instant::now();
    let unix = silence(UnixStream::connect(&host.path).await.unwrap()).await;
    let tcp = silence(TcpStream::connect(("127.0.0.1", host.port)).await.unwrap()).await;
    assert!(unix.is_ok() && tcp.is_ok());
    assert!(began.elapsed() >= PATIENCE * 2);
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_is_given_up() {
    let desk = std::env::temp_dir().join(format!("tinyd-accept-{}-tls", std::process::id()));
    let host = Host::with_tls("handshake", own_uid(), Some(acceptor(&desk))).await;
    std::fs::remove_dir_all(&desk).unwrap();
    let began = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", host.port)).await.unwrap();
    // The first bytes of a handshake: what comes next is waited for.
    stream.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
    // Closed with an alert or with a reset, according to what was unread.
    let _ = silence(stream).await;
    let took = began.elapsed();
    assert!(took >= PATIENCE && took < PATIENCE * 5, "{took:?}");
}

/// TLS with an authority and a certificate of its own.
fn acceptor(desk: &Path) -> TlsAcceptor {
    let made = cert::ca(&CaOptions { out: desk.to_owned(), name: None, days: None, force: true }).unwrap();
    let ca = made.certificate;
    let leaf = LeafOptions {
        ca: desk.to_owned(),
        out: desk.to_owned(),
        name: None,
        hosts: vec!["localhost".into()],
        days: None,
        force: true,
    };
    let server = cert::server(&leaf).unwrap();
    let file = |flag, path| PemFile { flag, path };
    let files = Files {
        ca: file("--tls-ca", &ca),
        cert: file("--tls-cert", &server.certificate),
        key: file("--tls-key", &server.key),
    };
    TlsAcceptor::from(Arc::new(tls::daemon(&files).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_no_sign_of_life_is_let_go() {
    let host = Host::new("keepalive", own_uid()).await;
    let mut stream = UnixStream::connect(&host.path).await.unwrap();
    // HTTP/2's preface and empty settings: in time, and the last that is heard of this client.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let began = Instant::now();
    timeout(KEEPALIVE * 4, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    let took = began.elapsed();
    assert!(took >= KEEPALIVE * 2 && took < KEEPALIVE * 3, "{took:?}");
}

/// Reads until the server closes.
async fn silence(mut stream: impl tokio::io::AsyncRead + Unpin) -> io::Result<usize> {
    timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await?
}

#[tokio::test]
async fn nobody_is_there_and_it_says_so() {
    let error = client::connect(&Endpoint::Unix("/nonexistent/tinyd.sock".into())).await.unwrap_err();
    let told = "cannot reach the daemon at unix:///nonexistent/tinyd.sock: No such file or directory: is `tinyd daemon` running?";
    assert_eq!((error.kind(), error.to_string()), (Kind::Unavailable, told.to_owned()));
}
