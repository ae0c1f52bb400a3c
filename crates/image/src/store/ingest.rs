//! Content on its way in: size first, then digest, then the name. What was cut short waits here and is gone on with.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::Duration,
};

use tinyd_core::{Error, Kind, Result};

use super::{Store, file_name, writeback::Writeback};
use crate::{
    digest::{Digest, Hasher},
    document::Descriptor,
    failed,
};

/// The beginning of a blob. One writer at a time: whoever fetches it.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    wanted: Descriptor,
    path: PathBuf,
    file: File,
    have: u64,
    writeback: Writeback,
    hasher: Hasher,
}

/// A blob that has arrived and is what it should be, without its name yet.
#[derive(Debug)]
pub struct Arrived {
    store: Store,
    digest: Digest,
    path: PathBuf,
}

impl Store {
    /// Begins to take a blob in, behind what an earlier try has brought.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn ingest(&self, wanted: &Descriptor) -> Result<Ingest> {
        let path = self.ingests().join(file_name(&wanted.digest));
        let open =
            || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open().map_err(|source| failed(format_args!("open({path:?})"), source))?;
        let hasher = Hasher::new(wanted.digest.algorithm());
        let writeback = Writeback::default();
        let mut ingest =
            Ingest { store: self.clone(), wanted: wanted.clone(), path, file, have: 0, writeback, hasher };
        ingest.look_through()?;
        Ok(ingest)
    }

    /// Removes the beginning of a blob, if there is one. Nobody writes it.
    ///
    /// # Errors
    /// The call and the errno.
    pub(crate) fn discard_ingest(&self, digest: &Digest) -> Result<()> {
        let path = self.ingests().join(file_name(digest));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(failed(format_args!("unlink({path:?})"), source))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the beginnings of blobs for which nobody has come back for `age`, but for those that `is_needed`; the bytes that this gives
    /// back.
    ///
    /// # Errors
    /// The call and the errno.
    pub(crate) fn sweep_stale(&self, age: Duration, is_needed: impl Fn(&Digest) -> bool) -> Result<u64> {
        self.sweep_ingests(|name, meta| {
            // What has no digest yet is being written.
            let digest = name.split_once('-').and_then(|(kind, hex)| format!("{kind}:{hex}").parse().ok());
            let is_stale = meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= age));
            digest.is_none_or(|digest| is_needed(&digest)) || !is_stale
        })
    }

    /// Removes what has begun to arrive, but for what is to be kept by its file's name; the bytes that this gives back.
    ///
    /// # Errors
    /// The call and the errno.
    pub(super) fn sweep_ingests(&self, keep: impl Fn(&str, &Metadata) -> bool) -> Result<u64> {
        let dir = self.ingests();
        let mut freed = 0;
        let entries =
            fs::read_dir(&dir).map_err(|source| failed(format_args!("read directory {dir:?}"), source))?;
        for entry in entries.flatten() {
            // One that has gone meanwhile.
            let Ok(meta) = entry.metadata() else { continue };
            if entry.file_name().to_str().is_some_and(|name| keep(name, &meta)) {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Ok(()) => freed += meta.len(),
                Err(source) if source.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(failed(format_args!("unlink({:?})", entry.path()), source)),
            }
        }
        Ok(freed)
    }
}

impl Ingest {
    /// Hashes what is there.
    fn look_through(&mut self) -> Result<()> {
        let mut piece = vec![0; 128 << 10];
        loop {
            let count = self.file.read(&mut piece).map_err(|source| self.failed("read", source))?;
            if count == 0 {
                break;
            }
            self.hasher.update(&piece[..count]);
            self.have += count as u64;
        }
        if self.have > self.wanted.size { self.restart() } else { Ok(()) }
    }

    /// How many bytes are there: where a transfer goes on.
    #[must_use]
    pub const fn have(&self) -> u64 {
        self.have
    }

    /// Where they are; a reader may follow the writer.
    #[must_use]
    pub const fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Forgets what is there.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn restart(&mut self) -> Result<()> {
        let again = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))
        };
        again(&mut self.file).map_err(|source| self.failed("truncate", source))?;
        self.have = 0;
        self.hasher = Hasher::new(self.wanted.digest.algorithm());
        Ok(())
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `InvalidArgument` when there are more than were announced, `Exhausted` when the disk is full, or the call and the errno.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.wanted.size - self.have {
            return Err(
                self.wrong(format_args!("more than the {} bytes that were announced", self.wanted.size))
            );
        }
        self.file.write_all(bytes).map_err(|source| self.failed("write", source))?;
        self.hasher.update(bytes);
        self.have += bytes.len() as u64;
        self.writeback.written(&self.file, self.have);
        Ok(())
    }

    /// Holds what has arrived to what was announced.
    ///
    /// # Errors
    /// `Unavailable` when bytes are missing, and they are waited for; `InvalidArgument` when it is something else: then it is thrown away.
    pub fn finish(self) -> Result<Arrived> {
        if self.have < self.wanted.size {
            let message = format!(
                "content {} ended after {} of {} bytes",
                self.wanted.digest, self.have, self.wanted.size
            );
            return Err(Error::new(Kind::Unavailable, message));
        }
        let found = self.hasher.clone().finish();
        if found != self.wanted.digest {
            let error = self.wrong(format_args!("something else: its digest is {found}"));
            self.discard()?;
            return Err(error);
        }
        Ok(Arrived { store: self.store, digest: self.wanted.digest, path: self.path })
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn discard(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|source| self.failed("unlink", source))
    }

    fn wrong(&self, what: std::fmt::Arguments<'_>) -> Error {
        Error::new(Kind::InvalidArgument, format!("content {} is {what}", self.wanted.digest))
    }

    fn failed(&self, call: &str, source: std::io::Error) -> Error {
        failed(format_args!("{call}({:?})", self.path), source)
    }
}

impl Arrived {
    /// Gives it its name. Whoever calls brings bytes and name to disk ([`Store::sync`]) before anything points to it.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn publish(self) -> Result<()> {
        self.store.name_blob(&self.path, &self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    fn wanted(bytes: &[u8]) -> Descriptor {
        Descriptor::of(&Digest::of(bytes), bytes.len() as u64)
    }

    #[test]
    fn a_transfer_that_was_cut_is_gone_on_with() {
        let scratch = Scratch::new("resume");
        let wanted = wanted(b"hello world");
        let mut first = scratch.store.ingest(&wanted).unwrap();
        first.write(b"hello").unwrap();
        let error = first.finish().unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.message().contains("5 of 11"), "{error}");
        let mut second = scratch.store.ingest(&wanted).unwrap();
        assert_eq!(second.have(), 5);
        second.write(b" world").unwrap();
        second.finish().unwrap().publish().unwrap();
        assert_eq!(scratch.store.read_blob(&wanted.digest, 99).unwrap(), b"hello world");
        assert_eq!(fs::read_dir(scratch.store.ingests()).unwrap().count(), 0);
    }

    #[test]
    fn size_comes_before_the_digest_and_both_before_the_name() {
        let scratch = Scratch::new("wrong");
        let wanted = wanted(b"hello");
        let mut long = scratch.store.ingest(&wanted).unwrap();
        long.write(b"hell").unwrap();
        let error = long.write(b"o!").unwrap_err();
        assert!(error.message().contains("more than the 5 bytes"), "{error}");
        drop(long);
        let mut other = scratch.store.ingest(&wanted).unwrap();
        other.write(b"!").unwrap();
        let error = other.finish().unwrap_err();
        assert!(error.message().contains("its digest is"), "{error}");
        assert_eq!(scratch.store.blob_size(&wanted.digest), None);
        // What was wrong is not gone on with.
        assert_eq!(scratch.store.ingest(&wanted).unwrap().have(), 0);
    }

    #[test]
    fn what_is_longer_than_it_should_be_begins_again() {
        let scratch = Scratch::new("long");
        let wanted = wanted(b"hello");
        fs::write(scratch.store.ingests().join(file_name(&wanted.digest)), "far too long").unwrap();
        assert_eq!(scratch.store.ingest(&wanted).unwrap().have(), 0);
        assert_eq!(scratch.store.sweep_ingests(|_, _| false).unwrap(), 0);
    }

    #[test]
    fn a_beginning_that_nobody_comes_back_for_goes() {
        let scratch = Scratch::new("stale");
        let (store, all) = (&scratch.store, [wanted(b"one"), wanted(b"two")]);
        for one in &all {
            store.ingest(one).unwrap().write(b"x").unwrap();
        }
        let unnamed = store.unnamed().unwrap();
        let is_needed = |digest: &Digest| *digest == all[0].digest;
        assert_eq!(store.sweep_stale(Duration::from_secs(3600), is_needed).unwrap(), 0);
        assert_eq!(store.sweep_stale(Duration::ZERO, is_needed).unwrap(), 1);
        assert_eq!(fs::read_dir(store.ingests()).unwrap().count(), 2);
        assert_eq!(store.ingest(&all[0]).unwrap().have(), 1);
        drop(unnamed);
    }

    #[test]
    fn content_of_another_algorithm_has_its_own_directory() {
        let scratch = Scratch::new("sha512");
        let mut hasher = Hasher::new(crate::digest::Algorithm::Sha512);
        hasher.update(b"x");
        let digest = hasher.finish();
        let mut ingest = scratch.store.ingest(&Descriptor::of(&digest, 1)).unwrap();
        ingest.write(b"x").unwrap();
        ingest.finish().unwrap().publish().unwrap();
        assert_eq!(scratch.store.all_blobs().unwrap(), [digest]);
    }
}
