//! Content by its digest. A file here was hashed before it got its name.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use tinyd_core::{Error, Kind, Result};

use super::{Store, sync_dir};
use crate::{
    digest::{Digest, Hasher},
    failed,
};

/// How much is hashed at a time.
const PIECE_BYTES: usize = 128 << 10;

impl Store {
    /// Where a blob is, or would be.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// How many bytes a blob has that is there.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.blob_path(digest).metadata().ok().map(|meta| meta.len())
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// `NotFound` when it is not there, or the call and the errno.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|source| {
            if source.kind() == ErrorKind::NotFound {
                return Error::new(Kind::NotFound, format!("the store has no content {digest}"));
            }
            failed(format_args!("open({path:?})"), source)
        })
    }

    /// A small blob, hashed again: a document that a disk has changed is not acted on.
    ///
    /// # Errors
    /// `NotFound` when it is not there, `Internal` when it is not what it was.
    pub fn read_blob(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_blob(digest)?;
        file.take(limit_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| failed(format_args!("read {digest}"), source))?;
        if bytes.len() as u64 > limit_bytes {
            return Err(Error::new(
                Kind::Internal,
                format!("content {digest} has more than {limit_bytes} bytes"),
            ));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        match hasher.finish() {
            found if found == *digest => Ok(bytes),
            found => Err(damaged(digest, &found)),
        }
    }

    /// Keeps a document that is at hand, under the digest that it has.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest) == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut content = self.unnamed()?;
        content.write(bytes)?;
        content.sync()?;
        content.publish_as(&digest)?;
        self.blob_path(&digest).parent().map_or(Ok(()), sync_dir)?;
        Ok(digest)
    }

    /// Gives a file that was checked to be this blob its name.
    pub(super) fn name_blob(&self, from: &Path, digest: &Digest) -> Result<()> {
        let to = self.blob_path(digest);
        let rename = || match fs::rename(from, &to) {
            Err(source) if source.kind() == ErrorKind::NotFound => {
                // Few have content of another algorithm: its directory is made when it is needed.
                to.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::rename(from, &to)
            }
            done => done,
        };
        rename().map_err(|source| failed(format_args!("rename({from:?})"), source))
    }

    /// Hashes a blob that is there.
    ///
    /// # Errors
    /// `NotFound`, `Internal` when it is not what its name says, or the call and the errno.
    pub fn verify_blob(&self, digest: &Digest) -> Result<()> {
        let mut file = self.open_blob(digest)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count =
                file.read(&mut piece).map_err(|source| failed(format_args!("read {digest}"), source))?;
            if count == 0 {
                break;
            }
            hasher.update(&piece[..count]);
        }
        let found = hasher.finish();
        if found == *digest { Ok(()) } else { Err(damaged(digest, &found)) }
    }

    /// Removes a blob; the bytes that this gives back, nothing when it is not there.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn remove_blob(&self, digest: &Digest) -> Result<u64> {
        let path = self.blob_path(digest);
        let size = self.blob_size(digest).unwrap_or(0);
        match fs::remove_file(&path) {
            Ok(()) => Ok(size),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(0),
            Err(source) => Err(failed(format_args!("unlink({path:?})"), source)),
        }
    }

    /// Every blob that is there.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn all_blobs(&self) -> Result<Vec<Digest>> {
        let mut all = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let dir = self.root.join("blobs").join(algorithm);
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(source) if source.kind() == ErrorKind::NotFound => continue,
                Err(source) => return Err(failed(format_args!("read directory {dir:?}"), source)),
            };
            for entry in entries {
                let entry = entry.map_err(|source| failed(format_args!("read directory {dir:?}"), source))?;
                let name = entry.file_name();
                all.extend(name.to_str().and_then(|hex| format!("{algorithm}:{hex}").parse::<Digest>().ok()));
            }
        }
        Ok(all)
    }
}

fn damaged(wanted: &Digest, found: &Digest) -> Error {
    Error::new(Kind::Internal, format!("content {wanted} has changed on disk: it hashes to {found} now"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    #[test]
    fn many_who_bring_the_same_do_not_get_in_each_others_way() {
        let scratch = Scratch::new("same");
        let (store, bytes) = (&scratch.store, vec![b'x'; 100_000]);
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..20).map(|_| scope.spawn(|| store.put_blob(&bytes))).collect();
            all.into_iter().for_each(|one| drop(one.join().unwrap().unwrap()));
        });
        store.verify_blob(&Digest::of(&bytes)).unwrap();
        assert_eq!(fs::read_dir(store.ingests()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_kept_is_found_again_and_a_change_on_disk_is_told() {
        let scratch = Scratch::new("blobs");
        let store = &scratch.store;
        let digest = store.put_blob(b"{}").unwrap();
        assert_eq!(store.put_blob(b"{}").unwrap(), digest);
        assert_eq!(store.read_blob(&digest, 2).unwrap(), b"{}");
        assert!(store.read_blob(&digest, 1).unwrap_err().message().contains("more than 1 bytes"));
        store.verify_blob(&digest).unwrap();
        assert_eq!(store.all_blobs().unwrap(), std::slice::from_ref(&digest));
        fs::write(store.blob_path(&digest), "[]").unwrap();
        for error in [store.read_blob(&digest, 2).unwrap_err(), store.verify_blob(&digest).unwrap_err()] {
            assert!(error.message().contains("has changed on disk"), "{error}");
        }
        assert_eq!(store.remove_blob(&digest).unwrap(), 2);
        assert_eq!(store.remove_blob(&digest).unwrap(), 0);
        assert_eq!(store.open_blob(&digest).unwrap_err().kind(), Kind::NotFound);
    }
}
