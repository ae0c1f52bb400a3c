//! Unpacked layers, by the name of the stack that ends with them. A layer is unpacked beside its place and gets it when it is whole;
//! several images, and the containers of images that are gone, share it.

use std::{
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use tinyd_core::Result;

use super::{Store, file_name, sync_dir};
use crate::{digest::Digest, failed, tree};

/// What the directory of a layer that is not whole begins with.
const UNFINISHED: &str = ".new-";
const RECORD: &str = "layer.json";
const FILES: &str = "diff";

/// What is known of an unpacked layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The stack that ends with it.
    pub chain_id: Digest,
    /// The archive that it was, before it was compressed.
    pub diff_id: Digest,
    /// The stack below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Whether nothing of the layers below is to be seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hides_all: bool,
}

/// A layer that is being unpacked. Dropped before it is published, it is taken away.
#[derive(Debug)]
pub struct Unpacking {
    store: Store,
    dir: Option<PathBuf>,
}

impl Store {
    fn layer_dir(&self, chain_id: &Digest) -> PathBuf {
        self.layers().join(file_name(chain_id))
    }

    /// Where a layer's files are, or would be: what overlay has below.
    #[must_use]
    pub fn layer_files(&self, chain_id: &Digest) -> PathBuf {
        self.layer_dir(chain_id).join(FILES)
    }

    /// What is known of a layer; `None` when it is not there.
    ///
    /// # Errors
    /// The call and the errno, or what the record says that cannot be read.
    pub fn layer(&self, chain_id: &Digest) -> Result<Option<LayerRecord>> {
        read_json(&self.layer_dir(chain_id).join(RECORD))
    }

    /// Makes the place to unpack a layer in.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn begin_layer(&self) -> Result<Unpacking> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Only one daemon has the store, and it sweeps these when it begins.
        let dir = self.layers().join(format!("{UNFINISHED}{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let made = Unpacking { store: self.clone(), dir: Some(dir.clone()) };
        let make = |path: &Path, mode| DirBuilder::new().mode(mode).create(path);
        make(&dir, 0o700)
            .and_then(|()| make(&dir.join(FILES), 0o755))
            .map_err(|source| failed(format_args!("mkdir({dir:?})"), source))?;
        Ok(made)
    }

    /// Takes a layer's name away; where its files are now, to be removed. Nothing there is no error.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn retire_layer(&self, chain_id: &Digest) -> Result<Option<PathBuf>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let from = self.layer_dir(chain_id);
        // It loses its name first: half a layer is never taken for a whole one.
        let doomed =
            self.layers().join(format!("{UNFINISHED}gone-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        match fs::rename(&from, &doomed) {
            Ok(()) => Ok(Some(doomed)),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed(format_args!("rename({from:?})"), source)),
        }
    }

    /// Every layer that is there.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn all_layers(&self) -> Result<Vec<LayerRecord>> {
        let mut all = Vec::new();
        for dir in self.layer_dirs()? {
            if !is_unfinished(&dir) {
                all.extend(read_json::<LayerRecord>(&dir.join(RECORD))?);
            }
        }
        Ok(all)
    }

    fn layer_dirs(&self) -> Result<Vec<PathBuf>> {
        let dir = self.layers();
        let tell = |source| failed(format_args!("read directory {dir:?}"), source);
        fs::read_dir(&dir).map_err(tell)?.map(|entry| entry.map(|entry| entry.path()).map_err(tell)).collect()
    }

    /// Takes away what was not whole when the last daemon ended.
    pub(super) fn sweep_layers(&self) -> Result<()> {
        for dir in self.layer_dirs()? {
            if is_unfinished(&dir) || !dir.join(RECORD).exists() {
                tree::remove(&dir)?;
            }
        }
        Ok(())
    }
}

fn is_unfinished(dir: &Path) -> bool {
    dir.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()))
}

impl Unpacking {
    fn dir(&self) -> &Path {
        self.dir.as_deref().unwrap_or(Path::new(""))
    }

    /// Where the files go.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.dir().join(FILES)
    }

    /// Gives the layer its place, or is content with one that has got there meanwhile. Whoever calls has brought the files to disk
    /// ([`Store::sync`] after [`Unpacking::describe`]).
    ///
    /// # Errors
    /// The call and the errno.
    pub fn publish(mut self, chain_id: &Digest) -> Result<()> {
        let to = self.store.layer_dir(chain_id);
        match renameat_with(CWD, self.dir(), CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => self.dir = None,
            // The same content from another image.
            Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(failed(format_args!("renameat2({:?})", self.dir()), errno)),
        }
        Ok(())
    }

    /// Says what it is.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn describe(&self, record: &LayerRecord) -> Result<()> {
        let path = self.dir().join(RECORD);
        let write = || serde_json::to_writer(File::create(&path)?, record).map_err(std::io::Error::from);
        write().map_err(|source| failed(format_args!("write {path:?}"), source))
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        if let Some(dir) = &self.dir {
            let _ = tree::remove(dir);
        }
    }
}

impl Store {
    /// Brings the names of layers and blobs to disk.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn sync_names(&self) -> Result<()> {
        sync_dir(&self.blobs())?;
        sync_dir(&self.layers())
    }
}

/// A value from JSON; `None` when there is no such file.
pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| failed(format_args!("read {path:?}"), std::io::Error::from(source))),
        Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(failed(format_args!("read {path:?}"), source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    fn record(text: &[u8]) -> LayerRecord {
        let digest = Digest::of(text);
        LayerRecord {
            chain_id: digest.clone(),
            diff_id: digest,
            parent: None,
            entries: 1,
            bytes: 2,
            hides_all: false,
        }
    }

    #[test]
    fn a_layer_has_its_place_when_it_is_whole() {
        let scratch = Scratch::new("layers");
        let (store, record) = (&scratch.store, record(b"a"));
        let unpacking = store.begin_layer().unwrap();
        fs::write(unpacking.files().join("file"), "x").unwrap();
        unpacking.describe(&record).unwrap();
        assert_eq!(store.layer(&record.chain_id).unwrap(), None);
        assert!(store.all_layers().unwrap().is_empty());
        unpacking.publish(&record.chain_id).unwrap();
        assert_eq!(store.layer(&record.chain_id).unwrap().as_ref(), Some(&record));
        assert_eq!(fs::read(store.layer_files(&record.chain_id).join("file")).unwrap(), b"x");
        assert_eq!(store.all_layers().unwrap(), std::slice::from_ref(&record));
        // Another one of the same content changes nothing and leaves nothing.
        let again = store.begin_layer().unwrap();
        again.describe(&record).unwrap();
        again.publish(&record.chain_id).unwrap();
        assert_eq!(store.layer_dirs().unwrap().len(), 1);
        let doomed = store.retire_layer(&record.chain_id).unwrap().unwrap();
        assert_eq!(store.retire_layer(&record.chain_id).unwrap(), None);
        assert_eq!(store.layer(&record.chain_id).unwrap(), None);
        tree::remove(&doomed).unwrap();
        assert!(store.layer_dirs().unwrap().is_empty());
    }

    #[test]
    fn what_is_given_up_or_was_cut_short_goes() {
        let scratch = Scratch::new("cut");
        let store = &scratch.store;
        drop(store.begin_layer().unwrap());
        assert!(store.layer_dirs().unwrap().is_empty());
        let left = store.begin_layer().unwrap();
        fs::write(left.files().join("half"), "x").unwrap();
        std::mem::forget(left);
        fs::create_dir(store.layer_dir(&Digest::of(b"no record"))).unwrap();
        Store::open(&store.root).unwrap();
        assert!(store.layer_dirs().unwrap().is_empty());
    }
}
