//! Content whose digest nobody has said: it is hashed on its way in, and named by what comes out.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use tinyd_core::{Error, Kind, Result};

use super::{Lease, Store, writeback::Writeback};
use crate::{
    digest::{Algorithm, Digest, Hasher},
    document::Descriptor,
    failed,
};

/// What its file's name begins with until then.
const UNNAMED: &str = ".new-";

/// Content on its way in. Dropped before it is whole, it is taken away.
#[derive(Debug)]
pub struct Unnamed {
    store: Store,
    path: PathBuf,
    file: File,
    size: u64,
    writeback: Writeback,
    hasher: Hasher,
    is_kept: bool,
}

impl Store {
    /// Begins to take in what has no digest yet.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn unnamed(&self) -> Result<Unnamed> {
        self.unnamed_by(Algorithm::Sha256)
    }

    /// The same, to be hashed in this way.
    pub(crate) fn unnamed_by(&self, algorithm: Algorithm) -> Result<Unnamed> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Only one daemon has the store, and it sweeps these when it begins.
        let path = self.ingests().join(format!("{UNNAMED}{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = open().map_err(|source| failed(format_args!("open({path:?})"), source))?;
        let hasher = Hasher::new(algorithm);
        let writeback = Writeback::default();
        Ok(Unnamed { store: self.clone(), path, file, size: 0, writeback, hasher, is_kept: false })
    }

    /// Takes away what the last daemon has not named.
    pub(super) fn sweep_unnamed(&self) -> Result<()> {
        self.sweep_ingests(|name, _| !name.starts_with(UNNAMED)).map(drop)
    }
}

impl Unnamed {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// `Exhausted` when the disk is full, or the call and the errno.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_io(bytes).map_err(|source| failed(format_args!("write({:?})", self.path), source))
    }

    /// The same for a writer in between, which passes on what the disk says.
    pub(crate) fn write_io(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.writeback.written(&self.file, self.size);
        Ok(())
    }

    /// Names it, and puts it into the lease. Whoever calls brings bytes and name to disk: [`Store::sync`] before anything points to it.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn publish(mut self, lease: &Lease) -> Result<Descriptor> {
        let digest: Digest = self.hasher.clone().finish();
        lease.pin(&digest);
        self.rename(&digest)?;
        Ok(Descriptor::of(&digest, self.size))
    }

    /// Names it by the digest that somebody has said, if it has that. Several may bring the same: each writes a file of its own. Whoever calls
    /// has that digest in a lease, and brings bytes and name to disk.
    ///
    /// # Errors
    /// `InvalidArgument` when it is something else, which goes; or the call and the errno.
    pub(crate) fn publish_as(mut self, digest: &Digest) -> Result<()> {
        let found = self.hasher.clone().finish();
        if found != *digest {
            let message = format!("content {digest} is something else: its digest is {found}");
            return Err(Error::new(Kind::InvalidArgument, message));
        }
        self.rename(digest)
    }

    /// Brings its bytes to disk.
    ///
    /// # Errors
    /// The call and the errno.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|source| failed(format_args!("fdatasync({:?})", self.path), source))
    }

    fn rename(&mut self, digest: &Digest) -> Result<()> {
        self.store.name_blob(&self.path, digest)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    #[test]
    fn what_comes_in_is_named_by_its_digest_or_goes() {
        let scratch = Scratch::new("unnamed");
        let store = &scratch.store;
        let mut content = store.unnamed().unwrap();
        content.write(b"hel").unwrap();
        content.write(b"lo").unwrap();
        let found = content.publish(&store.lease()).unwrap();
        assert_eq!(found, Descriptor::of(&Digest::of(b"hello"), 5));
        assert_eq!(store.read_blob(&found.digest, 5).unwrap(), b"hello");
        drop(store.unnamed().unwrap());
        assert_eq!(fs::read_dir(store.ingests()).unwrap().count(), 0);
        std::mem::forget(store.unnamed().unwrap());
        store.sweep_unnamed().unwrap();
        assert_eq!(fs::read_dir(store.ingests()).unwrap().count(), 0);
    }
}
