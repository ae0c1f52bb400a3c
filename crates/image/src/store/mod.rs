//! What is kept of images below the data root: content by its digest, and what is on its way there. Nothing has its name before it is
//! whole and on disk; what has no name is swept away when the store is opened.
//!
//! | where | what |
//! | --- | --- |
//! | `blobs/sha256/HEX` | manifests, configurations, layers as they travel: the file's name is its digest |
//! | `ingest/sha256-HEX` | the beginning of a blob that is being fetched; a later transfer goes on behind it |
//! | `pulls/sha256-HEX` | an image that is being pulled, by its manifest: what has come of it is kept for a day |
//! | `layers/sha256-HEX/diff` | a layer, unpacked, by the name of the stack that ends with it; `layer.json` beside it |
//! | `images/sha256-HEX.json` | an image by its configuration's digest: its names, its documents, its layers |

mod blobs;
mod ingest;
mod layers;
mod lease;
mod pulls;
mod records;
mod unnamed;
mod writeback;

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use tinyd_core::Result;

pub use self::{
    ingest::Ingest,
    layers::{LayerRecord, Unpacking},
    lease::Lease,
    records::ImageRecord,
    unnamed::Unnamed,
};
use crate::{digest::Digest, failed};

/// The store of one data root. Cheap to clone; every call blocks.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    pins: lease::Pins,
}

impl Store {
    /// Opens the store below `root`, making what is missing, and sweeps what a crash has left without a name. Nobody else may have it
    /// open: the daemon holds the root's lock.
    ///
    /// # Errors
    /// `Internal` or `Exhausted` with the call and the errno.
    pub fn open(root: &Path) -> Result<Store> {
        let store = Store { root: root.to_owned(), pins: lease::Pins::default() };
        for dir in [store.blobs(), store.ingests(), store.layers(), store.images(), store.pulls()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(|source| failed(format_args!("mkdir({dir:?})"), source))?;
        }
        store.sweep_layers()?;
        store.sweep_unnamed()?;
        Ok(store)
    }

    /// One of its directories, by the name that it has below the root.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    fn pulls(&self) -> PathBuf {
        self.root.join("pulls")
    }

    fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Brings everything that was written below the root to disk: one call for a whole image.
    ///
    /// # Errors
    /// `Internal` with the errno, which may be that of an earlier write (syncfs(2), since Linux 5.8).
    pub fn sync(&self) -> Result<()> {
        let sync = || rustix::fs::syncfs(File::open(&self.root)?).map_err(io::Error::from);
        sync().map_err(|source| failed(format_args!("syncfs({:?})", self.root), source))
    }
}

/// A digest as a file's name where several algorithms share a directory.
fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

/// Brings a directory's names to disk.
fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|source| failed(format_args!("fsync({dir:?})"), source))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A store of its own that goes with the test.
    #[derive(Debug)]
    pub(crate) struct Scratch {
        pub(crate) store: Store,
    }

    impl Scratch {
        pub(crate) fn new(name: &str) -> Scratch {
            let root = std::env::temp_dir().join(format!("tinyd-store-{name}-{}", std::process::id()));
            Scratch { store: Store::open(&root).unwrap() }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            crate::tree::remove(&self.store.root).unwrap();
        }
    }
}
