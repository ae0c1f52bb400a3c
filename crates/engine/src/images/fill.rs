//! A volume's first files: what the image has where the volume is mounted, with its owners and modes. Only a volume that is empty is
//! filled, and only by a container that is made from an image by name; a directory of the host is taken as it is.

use std::{fs, os::fd::AsFd, path::Path, sync::PoisonError};

use rustix::fs::{CWD, Mode, OFlags, openat};
use tinyd_core::{Result, config::MountSource};
use tinyd_image::{copy, view};
use tinyd_sys::path::open_in_root;

use super::layers_of;
use crate::{Inner, files::failed, record::Record};

/// Fills the empty volumes of a container that is being made.
pub(crate) fn fill_volumes(inner: &Inner, record: &Record) -> Result<()> {
    if record.image.is_none() {
        return Ok(());
    }
    // Two containers that are made at once with one new volume: one fills it.
    let _one = inner.volumes.lock().unwrap_or_else(PoisonError::into_inner);
    let mut root = None;
    for mount in &record.config.mounts {
        let MountSource::Volume(name) = &mount.source else { continue };
        let data = inner.layout.volume_data(name);
        if !is_empty(&data)? {
            continue;
        }
        let root = match &root {
            Some(root) => root,
            None => root.insert(view::merged(&layers_of(inner, record)?, &inner.layout.empty())?),
        };
        fill(root, &mount.target, &data)
            .map_err(|error| error.context(format_args!("fill volume {name}")))?;
    }
    Ok(())
}

fn is_empty(dir: &Path) -> Result<bool> {
    let entries = fs::read_dir(dir);
    entries
        .map(|mut entries| entries.next().is_none())
        .map_err(|source| failed(format_args!("read directory {dir:?}"), source))
}

fn fill(root: impl AsFd, target: &str, data: &Path) -> Result<()> {
    let place = Path::new(target.trim_start_matches('/'));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A link of the image leads where it does in the container; where there is no directory there is nothing to take.
    let Ok(source) = open_in_root(root.as_fd(), place, flags) else { return Ok(()) };
    let volume = openat(CWD, data, flags | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|errno| failed(format_args!("open({data:?})"), errno))?;
    for note in copy::copy_into(&source, &volume)? {
        tracing::info!("volume at {target}: {note}");
    }
    Ok(())
}
