//! An image's layers as one tree, to be read from outside of any container: a mount that exists nowhere but in a descriptor.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};
use tinyd_core::Result;
use tinyd_sys::mount::{Attr, FsContext};

use crate::{Image, failed, failed_call};

/// The root of what the layers show together, read-only. `empty` is an empty directory: overlayfs wants two at least.
///
/// # Errors
/// The call and the errno.
pub fn merged(image: &Image, empty: &Path) -> Result<OwnedFd> {
    let open = |path: &Path| {
        openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(format_args!("open({path:?})"), errno))
    };
    let mut layers = image.layers().iter().map(|layer| open(layer)).collect::<Result<Vec<_>>>()?;
    layers.push(open(empty)?);
    let attributes = Attr::RDONLY | Attr::NOSUID | Attr::NODEV | Attr::NOEXEC;
    overlay(&layers).and_then(|context| context.mount(attributes)).map_err(|error| failed_call(&error))
}

fn overlay(layers: &[OwnedFd]) -> tinyd_sys::Result<FsContext<'static>> {
    let context = FsContext::open("overlay")?;
    context.set("source", "overlay")?;
    match layers.iter().try_for_each(|layer| context.fd("lowerdir+", layer.as_fd())) {
        Ok(()) => return Ok(context),
        // Before Linux 6.13 overlay takes paths alone (EINVAL), before 6.5 it was not told that there are others (EOPNOTSUPP).
        Err(error)
            if matches!(
                error.errno().map(Errno::from_raw_os_error),
                Some(Errno::INVAL | Errno::OPNOTSUPP)
            ) => {}
        Err(error) => return Err(error),
    }
    // Those of descriptors are short, and have nothing in them that separates paths.
    let paths: Vec<String> =
        layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd())).collect();
    let context = FsContext::open("overlay")?;
    context.set("source", "overlay")?;
    context.set("lowerdir", &paths.join(":"))?;
    Ok(context)
}
