//! The client of registries against one made by hand that lies, cuts and points elsewhere, and against Debian's docker-registry. Needs root: layers
//! are unpacked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod auth;
mod content;
mod docker;
mod killed;
mod made;
mod push;
mod resume;
mod server;
mod transfer;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tinyd_core::{Error, Kind};
use tinyd_image::{
    reference::Reference,
    registry::{Client, Config, PullOptions, Pulled, hosts::HostFiles},
    store::Store,
};

use crate::{
    made::Made,
    server::{Asked, Reply, Server},
};

/// A directory of a test's own, gone with it: the data root, and what would be in `/etc`.
pub(crate) struct Here {
    dir: PathBuf,
    pub(crate) store: Store,
}

impl Here {
    pub(crate) fn new() -> Here {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tinyd-registry-{}-{number}", std::process::id()));
        tinyd_image::tree::remove(&dir).unwrap();
        Here::at(&dir)
    }

    /// Somebody else's.
    pub(crate) fn at(dir: &Path) -> Here {
        Here { dir: dir.to_owned(), store: Store::open(&dir.join("root")).unwrap() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the next daemon finds.
    pub(crate) fn reopened(&self) -> Store {
        Store::open(&self.root()).unwrap()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Writes a file of a registry's configuration.
    pub(crate) fn etc(&self, registry: &str, file: &str, text: &str) -> PathBuf {
        let path = self.dir.join("certs.d").join(registry).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Says of a server that it does without TLS.
    pub(crate) fn allow_plain(&self, host: &str) {
        self.etc(host, "hosts.toml", &format!("server = \"http://{host}\"\n"));
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.hosts = HostFiles {
            certs_d: vec![self.dir.join("certs.d")],
            registries_conf: vec![self.dir.join("none")],
        };
        // Time to wait for a second try, which nothing here is about.
        config.tries.pause = Duration::from_millis(5);
        config
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.store.clone(), self.config())
    }

    /// Pulls with a client of its own.
    pub(crate) async fn pull(&self, reference: &str) -> Result<Pulled, Error> {
        self.client().pull(&name(reference), &PullOptions::default()).await
    }

    /// Nothing of an image is there, and nothing half.
    pub(crate) fn assert_nothing(&self) {
        assert_eq!(files(&self.root().join("layers")), Vec::<PathBuf>::new());
        assert_eq!(files(&self.root().join("ingest")), Vec::<PathBuf>::new());
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let _ = tinyd_image::tree::remove(&self.dir);
    }
}

pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

pub(crate) fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// The error is of this kind and says all this.
#[track_caller]
pub(crate) fn assert_says(error: &Error, kind: Kind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.message().contains(part), "{part:?} in {error}");
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} has not come");
}

/// A registry that has one image, except where `otherwise` says something else.
pub(crate) fn registry(
    made: &Made,
    otherwise: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
) -> (Here, Server) {
    let made = made.clone();
    let server = Server::plain(move |asked| otherwise(asked).unwrap_or_else(|| made.answer(asked)));
    let here = Here::new();
    here.allow_plain(&server.host());
    (here, server)
}

pub(crate) fn reference(server: &Server) -> String {
    format!("{}/a", server.host())
}
