//! Images and what a container's root is made of.
//!
//! An [`Image`] is, for now, a directory that holds a root file system. A [`Driver`] makes a root of it for one container, in the
//! container's own directory, and takes it away again. Nothing here mounts: the runtime does, from what a driver returns.

pub mod assemble;
mod aufs;
pub mod change;
pub mod check;
pub mod compose;
pub mod config;
pub mod copy;
pub mod digest;
pub mod document;
pub mod gc;
mod image;
pub mod images;
pub mod layer;
pub mod load;
mod overlay;
pub mod pack;
pub mod platform;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod save;
pub mod store;
pub mod tree;
pub mod unpack;
pub mod view;

use std::path::Path;

use tinyd_core::{Error, Kind, Result, wire};

pub use crate::{aufs::Aufs, copy::Copy, image::Image, overlay::Overlay};

/// What a driver has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What the runtime mounts.
    pub rootfs: wire::Rootfs,
    /// What could not be kept as it was, one line each.
    pub notes: Vec<String>,
}

/// A way to give each container a writable root without touching the image.
pub trait Driver: std::fmt::Debug + Send + Sync {
    /// `overlay`, `aufs` or `copy`.
    fn name(&self) -> &'static str;

    /// Whether the container's root may have user ids of its own. A file system that cannot show the image's files with other ids needs
    /// the host's.
    fn maps_ids(&self) -> bool {
        true
    }

    /// Makes the container's own part of its root below `container_dir`, or finds it from an earlier start. `owner` is the host's id
    /// of the container's root user; `None` is the host's root.
    ///
    /// # Errors
    /// `Internal` with the call and the errno, `InvalidArgument` when the image cannot be used this way.
    fn prepare(&self, container_dir: &Path, image: &Image, owner: Option<u32>) -> Result<Prepared>;

    /// Removes what [`Driver::prepare`] made. Nothing there is no error.
    ///
    /// # Errors
    /// `Internal` with the call and the errno.
    fn remove(&self, container_dir: &Path) -> Result<()>;
}

/// The driver with this name.
///
/// # Errors
/// `Unsupported` when the kernel has not what it needs, `InvalidArgument` for another name.
pub fn driver(name: &str) -> Result<Box<dyn Driver>> {
    match name {
        "overlay" => Ok(Box::new(Overlay)),
        "aufs" => Ok(Box::new(Aufs::detect()?)),
        "copy" => Ok(Box::new(Copy)),
        other => Err(Error::invalid(
            "--storage-driver",
            format!("{other:?} is not a storage driver: overlay, aufs or copy"),
        )),
    }
}

/// A failed call as the engine tells it.
fn failed(what: std::fmt::Arguments<'_>, errno: impl Into<std::io::Error>) -> Error {
    let source: std::io::Error = errno.into();
    let is_full =
        matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let kind = if is_full { Kind::Exhausted } else { Kind::Internal };
    Error::new(kind, format!("{what}: {source}"))
}

/// [`failed`] for a call that says itself what it was.
fn failed_call(error: &tinyd_sys::Error) -> Error {
    let is_full =
        matches!(error.io_kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let kind = if is_full { Kind::Exhausted } else { Kind::Internal };
    Error::new(kind, tinyd_core::error::chain(error))
}
