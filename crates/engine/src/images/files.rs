//! A container's files, read from outside: its own directory, and those of its image below. Nothing is mounted, and what is mounted in the
//! container (volumes, `/proc`) is not among them.

use std::{
    io::Write,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};
use tinyd_core::{Error, Kind, Result};
use tinyd_image::pack::{Form, Packed, Part, Rules, pack, pack_stack};

use super::layers_of;
use crate::{Inner, files::failed, handle::View, record::Record, registry::USERNS_SIZE};

/// Every id as it is on disk.
const ALL_IDS: (u32, u32) = (0, u32::MAX);

/// A container's files.
#[derive(Debug)]
pub(super) struct Files {
    /// What the container has written; `None` before its first start.
    own: Option<OwnedFd>,
    /// Which of the host's ids stand for those in the container, in its own directory.
    ids: (u32, u32),
    /// The image's directories, the uppermost first; none when the container has a copy of them.
    lower: Vec<OwnedFd>,
}

impl Files {
    /// Opens them.
    ///
    /// # Errors
    /// `Unsupported` with the storage driver aufs, `NotFound` when the image's directory is gone, or the call and the errno.
    pub(super) fn open(inner: &Inner, record: &Record, view: &View) -> Result<Files> {
        let (name, is_copy) = match record.storage.as_str() {
            "overlay" => ("upper", false),
            "copy" => ("rootfs", true),
            other => {
                let message = format!(
                    "containers of the storage driver {other} cannot be read from outside: overlay and copy can"
                );
                return Err(Error::new(Kind::Unsupported, message));
            }
        };
        let own = open_if_there(&inner.layout.container(&record.id).join(name))?;
        let lower = match (is_copy, &own) {
            (true, Some(_)) => Vec::new(),
            _ => layers_of(inner, record)?
                .layers()
                .iter()
                .map(|layer| open(layer).map_err(|errno| failed(format_args!("open({layer:?})"), errno)))
                .collect::<Result<_>>()?,
        };
        let ids = record.userns(view.host_userns).map_or(ALL_IDS, |base| (base, USERNS_SIZE));
        Ok(Files { own, ids, lower })
    }

    /// Whether what the container has changed can be told from its image.
    pub(super) const fn has_changes_apart(&self) -> bool {
        !self.lower.is_empty()
    }

    /// Writes what the container has changed, as a layer. Nothing, not even an archive's end, when it was never started.
    pub(super) fn write_changes(&self, out: &mut dyn Write, is_live: bool) -> Result<Packed> {
        let Some(own) = &self.own else { return Ok(Packed::default()) };
        pack(own.as_fd(), out, &Rules { form: Form::Upper, ids: self.ids, is_live })
    }

    /// Writes the whole tree.
    pub(super) fn write_all(&self, out: &mut dyn Write, is_live: bool) -> Result<Packed> {
        if let (Some(own), []) = (&self.own, self.lower.as_slice()) {
            return pack(own.as_fd(), out, &Rules { form: Form::Plain, ids: self.ids, is_live });
        }
        let own = self.own.iter().map(|dir| Part { dir: dir.as_fd(), ids: self.ids });
        let lower = self.lower.iter().map(|dir| Part { dir: dir.as_fd(), ids: ALL_IDS });
        pack_stack(&own.chain(lower).collect::<Vec<_>>(), out, is_live)
    }
}

/// Whether a container is still there, so that what was read of it is whole: it loses its place before its files go.
pub(super) fn require_there(inner: &Inner, record: &Record) -> Result<()> {
    if inner.layout.container(&record.id).exists() {
        return Ok(());
    }
    Err(Error::new(Kind::NotFound, format!("container {} was removed while it was read", record.name)))
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn open_if_there(path: &Path) -> Result<Option<OwnedFd>> {
    match open(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed(format_args!("open({path:?})"), errno)),
    }
}
