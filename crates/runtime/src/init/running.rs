//! Mounts of a container that runs, made and taken away by a process that has joined it. Its files are the container's doing by now,
//! and change meanwhile: everything is reached by descriptor, from the container's root.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use tinyd_core::{Error, Result};
use tinyd_sys::{Ask, mount, path};

use super::walk::Walk;
use crate::{
    launch::{kernel, step},
    plan::mounts::{Mount, What, may_be_uncovered},
};

/// Makes mounts, all or none of them. `own_fds` is the host's view of this process's descriptors.
///
/// # Errors
/// The mount, the call and the errno.
pub(crate) fn add(mounts: &[Mount], sources: Vec<OwnedFd>, own_fds: BorrowedFd<'_>) -> Result<()> {
    let mut walk = Walk::inside(root()?);
    let mut sources: Vec<_> = sources.into_iter().map(Some).collect();
    for (at, mount) in mounts.iter().enumerate() {
        if let What::Source(source) = mount.what {
            walk.supply = sources.get_mut(source).and_then(Option::take);
        }
        if let Err(error) = walk.mount(mount) {
            let made =
                mounts.iter().take(at).rev().filter(|mount| !matches!(mount.what, What::Remount { .. }));
            for mount in made {
                // The error that is told is the one that led here.
                let _ = take_away(&mount.destination, own_fds);
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Takes mounts away, the last first; goes on after a failure.
///
/// # Errors
/// The first that could not be.
pub(crate) fn remove(places: &[PathBuf], own_fds: BorrowedFd<'_>) -> Result<()> {
    let removed: Vec<Result<()>> = places.iter().rev().map(|place| take_away(place, own_fds)).collect();
    removed.into_iter().collect()
}

fn root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(c"/", flags, Mode::empty()).map_err(|error| kernel("open(/)", &error))
}

fn take_away(place: &Path, own_fds: BorrowedFd<'_>) -> Result<()> {
    let named = place.display().to_string();
    let found = path::open_in_root(root()?.as_fd(), place, OFlags::PATH).map_err(step(&named))?;
    if !mount::is_mount_root(found.as_fd()).map_err(step(&named))? {
        return Err(Error::invalid(named, "nothing is mounted there"));
    }
    // The container may have put a link in the way, so that something else is taken away.
    let number = found.as_raw_fd().to_string();
    let is_at =
        rustix::fs::readlinkat(own_fds, number, Vec::new()).ask("readlink(fd)").map_err(step(&named))?;
    let is_at = is_at.to_string_lossy();
    if !may_be_uncovered(Path::new(&*is_at)) {
        return Err(Error::invalid(named, format!("it leads to {is_at}, which has to stay")));
    }
    mount::detach(found.as_fd(), own_fds).map_err(step(&named))
}
