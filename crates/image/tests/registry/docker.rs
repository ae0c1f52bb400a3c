//! Debian's docker-registry, with TLS of a private authority and passwords: what is pushed is what is pulled, digests equal on both sides.

#![expect(clippy::disallowed_methods, reason = "the registry is a program of its own")]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tinyd_core::Kind;
use tinyd_image::{
    digest::Digest,
    progress::Step,
    registry::{
        Client, Listener, PullOptions, Pulled, PushOptions,
        credentials::{Credentials, Login},
    },
};

use crate::{Here, assert_says, files, made::Made, name, server::Server, until};

/// `who` and "correct horse", by bcrypt, the only way that the registry knows.
const HTPASSWD: &str = "who:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n";

/// A docker-registry of a test's own.
struct Registry {
    child: Child,
    host: String,
    /// The authority's certificate, and one for a client with its key.
    authority: String,
    client: (String, String),
}

impl Registry {
    /// In a directory; it may want a certificate to be shown. It has to be installed, as `./test` does.
    async fn start(here: &Here, wants_certificate: bool) -> Registry {
        let dir = here.root().join("docker-registry");
        fs::create_dir_all(&dir).unwrap();
        let write = |file: &str, text: &str| {
            fs::write(dir.join(file), text).unwrap();
            dir.join(file)
        };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let sign = |names: &[&str], purpose: ExtendedKeyUsagePurpose| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let server = sign(&["127.0.0.1", "localhost"], ExtendedKeyUsagePurpose::ServerAuth);
        let client = sign(&["who"], ExtendedKeyUsagePurpose::ClientAuth);
        let (certificate, key) = (write("cert.pem", &server.0), write("key.pem", &server.1));
        let (passwords, ca) = (write("htpasswd", HTPASSWD), write("ca.pem", &authority));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let clients = if wants_certificate { format!("\n    clientcas: [{ca:?}]") } else { String::new() };
        let storage = dir.join("storage");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {storage:?}\n\
             http:\n  addr: {host}\n  secret: x\n  tls:\n    certificate: {certificate:?}\n    key: {key:?}{clients}\n\
             auth:\n  htpasswd:\n    realm: x\n    path: {passwords:?}\n"
        );
        let config = write("config.yml", &config);
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .expect("docker-registry is not installed: see ./test");
        until("docker-registry", || TcpStream::connect(&host).is_ok()).await;
        Registry { child, host, authority, client }
    }

    /// Makes it known, without a client's certificate.
    fn trusted_by(&self, here: &Here) {
        here.etc(&self.host, "ca.crt", &self.authority);
    }

    fn credentials(&self) -> Credentials {
        let (username, password) = ("who".into(), "correct horse".into());
        Credentials::of(&self.host, Login::Password { username, password })
    }

    fn pull(&self) -> PullOptions {
        PullOptions { credentials: self.credentials(), ..PullOptions::default() }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A store that has an image, from a registry made by hand.
async fn with_image(made: &Made) -> (Here, Pulled) {
    let image = made.clone();
    let server = Server::plain(move |asked| image.answer(asked));
    let here = Here::new();
    here.allow_plain(&server.host());
    let pulled = here.pull(&format!("{}/a", server.host())).await.unwrap();
    (here, pulled)
}

/// Pushes, and tells what was said last about each content.
async fn push(client: &Client, manifest: &Digest, to: &str, mut options: PushOptions) -> Vec<Step> {
    let steps = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
    let told = Arc::clone(&steps);
    options.listener = Some(Listener::new(move |progress| {
        told.lock().unwrap().insert(progress.layer.to_string(), progress.step);
    }));
    let pinned = client.push(manifest, &name(to), &options).await.unwrap();
    assert_eq!(pinned, name(to).with_digest(manifest.clone()));
    steps.lock().unwrap().values().copied().collect()
}

#[tokio::test]
async fn what_is_pushed_is_what_is_pulled() {
    let made = Made::new(30, 3, 300_000);
    let (here, pulled) = with_image(&made).await;
    let registry = Registry::start(&here, false).await;
    registry.trusted_by(&here);
    let (client, to) = (here.client(), format!("{}/some/where:1", registry.host));
    let options = PushOptions { credentials: registry.credentials(), ..PushOptions::default() };
    assert_eq!(push(&client, &pulled.manifest, &to, options.clone()).await, [Step::Uploaded; 4]);
    // What is there is not sent again, under no tag; another repository has it from this one.
    let again = format!("{}/some/where:2", registry.host);
    assert_eq!(push(&client, &pulled.manifest, &again, options.clone()).await, [Step::Present; 4]);
    let other = format!("{}/other", registry.host);
    let mounted = PushOptions { known_as: vec![name(&to)], ..options.clone() };
    assert_eq!(push(&client, &pulled.manifest, &other, mounted).await, [Step::Present; 4]);
    // In pieces of an odd length.
    let mut config = here.config();
    config.chunk_bytes = 70_001;
    let pieces = format!("{}/pieces", registry.host);
    let client = Client::new(here.store.clone(), config);
    assert_eq!(push(&client, &pulled.manifest, &pieces, options).await, [Step::Uploaded; 4]);

    let tags = client.tags(&name(&to), &registry.credentials()).await.unwrap();
    assert_eq!(tags, [name(&to), name(&again)]);
    for from in [&to, &other, &pieces] {
        let there = Here::new();
        registry.trusted_by(&there);
        let pulled = there.client().pull(&name(from), &registry.pull()).await.unwrap();
        assert_eq!((&pulled.manifest, &pulled.id), (&made.digest(), &Digest::of(&made.config)));
        for layer in &made.layers {
            there.store.verify_blob(&Digest::of(layer)).unwrap();
        }
        assert_eq!(files(&there.root().join("layers")).len(), 3);
    }
}

#[tokio::test]
async fn a_registry_with_passwords_says_who_may_in() {
    let (here, pulled) = with_image(&Made::new(31, 1, 1000)).await;
    let registry = Registry::start(&here, false).await;
    let to = name(&format!("{}/a", registry.host));
    let client = here.client();
    let error = client.push(&pulled.manifest, &to, &PushOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::Unavailable, &["its certificate cannot be trusted", "ca.crt"]);
    registry.trusted_by(&here);
    let error = client.push(&pulled.manifest, &to, &PushOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::PermissionDenied, &["401", "tinyd login", "first"]);
    let wrong = Login::Password { username: "who".into(), password: "wrong".into() };
    let options =
        PullOptions { credentials: Credentials::of(&registry.host, wrong), ..PullOptions::default() };
    let error = client.pull(&to, &options).await.unwrap_err();
    assert_says(&error, Kind::PermissionDenied, &["401", "with other credentials"]);
    let error = client.log_in(&registry.host, &options.credentials).await.unwrap_err();
    assert_says(&error, Kind::PermissionDenied, &["log in to", "401"]);
    client.log_in(&registry.host, &registry.credentials()).await.unwrap();
    let error = client.pull(&to, &registry.pull()).await.unwrap_err();
    assert_says(&error, Kind::NotFound, &["404"]);
    let error = client.tags(&to, &registry.credentials()).await.unwrap_err();
    assert_says(&error, Kind::NotFound, &["list the tags of", "404"]);
}

#[tokio::test]
async fn a_registry_that_wants_a_certificate_is_shown_it() {
    let (here, pulled) = with_image(&Made::new(32, 1, 1000)).await;
    let registry = Registry::start(&here, true).await;
    registry.trusted_by(&here);
    let to = name(&format!("{}/a", registry.host));
    let options = PushOptions { credentials: registry.credentials(), ..PushOptions::default() };
    let error = here.client().push(&pulled.manifest, &to, &options).await.unwrap_err();
    assert_says(&error, Kind::Unavailable, &["push", "ertificate"]);
    here.etc(&registry.host, "client.cert", &registry.client.0);
    here.etc(&registry.host, "client.key", &registry.client.1);
    here.client().push(&pulled.manifest, &to, &options).await.unwrap();
}
