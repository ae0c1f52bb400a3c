//! Who comes in and who does not, over real connections: what each side is told of every kind of refusal.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    Files, PemFile,
    cert::{self, CaOptions, LeafOptions, Made},
};

/// The page that tells users what the log means.
const PAGE: &str = include_str!("../../../../docs/errors.md");

/// Authorities and certificates in a directory of their own.
struct Desk(PathBuf);

impl Desk {
    fn new(name: &str) -> Desk {
        let dir = std::env::temp_dir().join(format!("tinyd-tls-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let desk = Desk(dir);
        // One stranger has another name, the other has ours: an authority that was made anew.
        for (authority, name) in [("ours", "a"), ("theirs", "b"), ("renewed", "a")] {
            let out = desk.0.join(authority);
            cert::ca(&CaOptions { out, name: Some(name.into()), days: None, force: false }).unwrap();
        }
        desk
    }

    /// Where a certificate called `what` of `authority` goes.
    fn leaf(&self, authority: &str, what: &str) -> LeafOptions {
        LeafOptions {
            ca: self.0.join(authority),
            out: self.0.join(format!("{authority}-{what}")),
            name: None,
            hosts: vec!["localhost".into()],
            days: None,
            force: false,
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn files<'a>(ca: &'a Path, made: &'a Made) -> Files<'a> {
    let file = |flag, path| PemFile { flag, path };
    Files { ca: file("--ca", ca), cert: file("--cert", &made.certificate), key: file("--key", &made.key) }
}

/// One handshake and one byte: what the daemon logs, and what the client tells its user; "" is success.
async fn meet(daemon: rustls::ServerConfig, client: rustls::ClientConfig) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let daemon = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        match TlsAcceptor::from(Arc::new(daemon)).accept(stream).await {
            Ok(mut stream) => stream.write_all(b"x").await.map(|()| String::new()).unwrap(),
            Err(error) => super::of_client(&error),
        }
    });
    let spoken = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
        stream.read_u8().await
    };
    let told = spoken.await.map_or_else(|error: io::Error| super::of_daemon(&error), |_| String::new());
    (daemon.await.unwrap(), told)
}

#[tokio::test]
async fn a_client_of_the_same_authority_comes_in_and_no_other() {
    let desk = Desk::new("clients");
    let ca = desk.0.join("ours/ca.pem");
    let server = cert::server(&desk.leaf("ours", "server")).unwrap();
    let cases = [
        (cert::client(&desk.leaf("ours", "client")), "", ""),
        (
            cert::client(&desk.leaf("theirs", "client")),
            "not signed by this side's authority",
            "not signed by the authority",
        ),
        (
            cert::client(&desk.leaf("renewed", "client")),
            "not signed by this side's authority",
            "not signed by the authority",
        ),
        (cert::expired_client(&desk.leaf("ours", "expired")), "is expired", "has expired"),
        (
            cert::server(&desk.leaf("ours", "as-client")),
            "not for client authentication",
            "not for client authentication",
        ),
    ];
    for (client, logged, told) in cases {
        let daemon = super::daemon(&files(&ca, &server)).unwrap();
        let outcome = meet(daemon, super::client(&files(&ca, &client.unwrap())).unwrap()).await;
        assert_eq!(
            (outcome.0.is_empty(), outcome.1.is_empty()),
            (logged.is_empty(), told.is_empty()),
            "{outcome:?}"
        );
        assert!(outcome.0.contains(logged) && outcome.1.contains(told), "{outcome:?}");
        assert!(
            logged.is_empty() || PAGE.contains(&format!("`{}`", outcome.0)),
            "not in the docs: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_so() {
    let desk = Desk::new("none");
    let ca = desk.0.join("ours/ca.pem");
    let server = cert::server(&desk.leaf("ours", "server")).unwrap();
    let daemon = files(&ca, &server);
    let bare =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(super::authority(&daemon).unwrap())
            .with_no_client_auth();
    let (logged, told) = meet(super::daemon(&daemon).unwrap(), bare).await;
    assert_eq!(logged, "no client certificate was given");
    assert!(PAGE.contains(&format!("`{logged}`")) && PAGE.contains("`it wants a client certificate"));
    assert!(told.ends_with("it wants a client certificate and none was given"), "{told}");
}

#[tokio::test]
async fn a_daemon_of_another_authority_purpose_or_name_is_refused() {
    let desk = Desk::new("daemons");
    let ca = desk.0.join("ours/ca.pem");
    let client = cert::client(&desk.leaf("ours", "client")).unwrap();
    let elsewhere = LeafOptions { hosts: vec!["edge1".into()], ..desk.leaf("ours", "elsewhere") };
    let cases = [
        (cert::server(&desk.leaf("theirs", "server")), "not signed by this side's authority"),
        (cert::server(&desk.leaf("renewed", "server")), "not signed by this side's authority"),
        (cert::client(&desk.leaf("ours", "as-server")), "not for server authentication"),
        (cert::server(&elsewhere), "for another name"),
    ];
    for (server, told) in cases {
        let daemon = super::daemon(&files(&ca, &server.unwrap())).unwrap();
        let outcome = meet(daemon, super::client(&files(&ca, &client)).unwrap()).await;
        assert!(outcome.1.contains(told), "{outcome:?}");
        assert!(outcome.0.starts_with("the client refused this daemon's certificate"), "{outcome:?}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_flags() {
    let desk = Desk::new("files");
    let ca = desk.0.join("ours/ca.pem");
    let one = cert::client(&desk.leaf("ours", "one")).unwrap();
    let other = cert::client(&desk.leaf("ours", "other")).unwrap();
    let crossed = Made { certificate: one.certificate.clone(), key: other.key };
    let refusal = super::client(&files(&ca, &crossed)).unwrap_err();
    assert_eq!(refusal.field(), Some("--key"));
    assert!(refusal.message().contains("not the key of the certificate"), "{refusal}");

    let missing = desk.0.join("nowhere.pem");
    let refusal = super::client(&files(&missing, &one)).unwrap_err();
    assert_eq!(refusal.field(), Some("--ca"));
    assert!(refusal.message().contains("nowhere.pem: No such file"), "{refusal}");

    let swapped = Made { certificate: one.key.clone(), key: one.certificate };
    let refusal = super::client(&files(&ca, &swapped)).unwrap_err();
    assert!(refusal.message().contains("there is no certificate in it"), "{refusal}");
}
