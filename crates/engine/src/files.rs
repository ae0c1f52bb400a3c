//! Files of the engine: replaced whole or not at all. Knows bytes and JSON, nothing of what they mean.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use tinyd_core::{Error, Kind, Result};

/// Whether a write must outlive a power cut before it counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It is on disk when the call returns.
    Synced,
    /// It outlives this process; a power cut may take it.
    Cached,
}

/// A failed call as the engine tells it.
pub(crate) fn failed(what: impl std::fmt::Display, source: impl Into<io::Error>) -> Error {
    let source = source.into();
    let kind =
        if is_exhausted(source.kind(), source.raw_os_error()) { Kind::Exhausted } else { Kind::Internal };
    Error::new(kind, format!("{what}: {source}"))
}

fn is_exhausted(kind: io::ErrorKind, errno: Option<i32>) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || matches!(errno, Some(ENFILE | EMFILE | ENOMEM))
}

const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// [`failed`] for a call that says itself what it was.
pub(crate) fn failed_call(error: &tinyd_sys::Error) -> Error {
    let kind = if is_exhausted(error.io_kind(), error.errno()) { Kind::Exhausted } else { Kind::Internal };
    Error::new(kind, tinyd_core::error::chain(error))
}

/// Replaces a file whole or not at all. Each file has one writer.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let written = match durability {
        Durability::Synced => tinyd_sys::fs::write_atomic(path, bytes),
        Durability::Cached => tinyd_sys::fs::write_atomic_volatile(path, bytes),
    };
    written.map_err(|error| failed_call(&error))
}

/// Writes a file that is made again at every start, so that half of one does no harm.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<File> {
    let write = || {
        let mut file = create(path)?;
        file.write_all(bytes)?;
        Ok(file)
    };
    write().map_err(|source: io::Error| failed(format_args!("write {path:?}"), source))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// [`write_atomic`] of a value as JSON.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|source| failed(format_args!("write {path:?}"), source))?;
    write_atomic(path, &bytes, durability)
}

/// A value from JSON; `None` when there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(format_args!("read {path:?}"), source)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| failed(format_args!("read {path:?}"), source))
}

/// Makes a private directory and its parents, mode 0700; one that is there stays as it is.
pub(crate) fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| failed(format_args!("mkdir({path:?})"), source))
}

/// Removes a file; none is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(failed(format_args!("unlink({path:?})"), source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The names in a directory; none when it is not there.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
