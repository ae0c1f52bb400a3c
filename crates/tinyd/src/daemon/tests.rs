//! The accept loop and the server behind it, with the health service in the engine's place, through the client of the command line.

use std::{io, path::PathBuf, time::Duration};

use tinyd_core::Kind;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Error};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    accept::{Door, Hall},
    gate::Gate,
    peer::Allowed,
    serve::{answer, open},
};
use crate::client::{self, Endpoint};

/// A server on a unix socket and a port, with room for two connections, and little patience.
struct Host {
    path: PathBuf,
    port: u16,
    ending: CancellationToken,
    served: JoinHandle<Result<(), Error>>,
}

const PATIENCE: Duration = Duration::from_millis(200);

impl Host {
    async fn new(name: &str, uid: u32) -> Host {
        let path = std::env::temp_dir().join(format!("tinyd-accept-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let allowed = Allowed { uid, gid: None };
        let doors = vec![Door::Unix(UnixListener::bind(&path).unwrap(), allowed), Door::Tcp(listener, None)];
        let ending = CancellationToken::new();
        let (admitted, connections) = mpsc::channel(1);
        open(doors, &Hall { gate: Gate::new(2, 2), admitted, patience: PATIENCE, ending: ending.clone() });
        let (_, health) = tonic_health::server::health_reporter();
        let served = tokio::spawn(answer(Routes::new(health), connections, ending.clone()));
        Host { path, port, ending, served }
    }

    fn unix(&self) -> Endpoint {
        Endpoint::Unix(self.path.clone())
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
    let tcp = Endpoint::Tcp { authority: format!("localhost:{}", host.port), tls: None };
    let mut channels = Vec::new();
    for endpoint in [host.unix(), tcp] {
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
async fn a_connection_over_the_cap_is_closed_and_its_place_comes_back() {
    let host = Host::new("cap", own_uid()).await;
    let first = client::connect(&host.unix()).await.unwrap();
    let _second = client::connect(&host.unix()).await.unwrap();
    let error = client::connect(&host.unix()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("it closed the connection"), "{error}");
    drop(first);
    let again = async { while client::connect(&host.unix()).await.is_err() {} };
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
