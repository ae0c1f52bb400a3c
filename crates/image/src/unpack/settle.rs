//! Directories that a layer has things in and does not mention look like the nearest lower layer's: so they would if the layer had been
//! applied on top of those. Reads of the lower layers, changes nothing of them.

use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, XattrFlags, fchmod, fchown, fsetxattr, fstat, futimens, openat2},
    io::Errno,
};
use tinyd_core::Result;

use super::{
    dirs::{BENEATH, open_dir, read_xattr, times_of, xattr_names},
    xattr::is_kept,
};
use crate::failed;

/// Gives each of the directories `implied` of the layer `into` the owner, mode, times and attributes that it has in the lower layers,
/// the nearest of which is first. One that no lower layer has, or that is hidden on the way down, stays as it is.
///
/// # Errors
/// `Internal` with the call and the errno.
pub fn settle(into: BorrowedFd<'_>, lower: &[BorrowedFd<'_>], implied: &[PathBuf]) -> Result<()> {
    for path in implied {
        let tell = |errno| failed(format_args!("settle the directory {path:?}"), errno);
        let Some(model) = visible(into, lower, path).map_err(tell)? else { continue };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let dir = openat2(into, name, flags, Mode::empty(), BENEATH).map_err(tell)?;
        copy_look(model.as_fd(), dir.as_fd()).map_err(tell)?;
    }
    Ok(())
}

/// The directory `path` of the nearest lower layer that has it, if the layers in between let it be seen.
fn visible(
    into: BorrowedFd<'_>,
    lower: &[BorrowedFd<'_>],
    path: &Path,
) -> rustix::io::Result<Option<OwnedFd>> {
    if let Down::Stop = look_down(into, path)?.0 {
        return Ok(None);
    }
    for layer in lower {
        match look_down(*layer, path)? {
            (_, Some(found)) => return Ok(Some(found)),
            (Down::Stop, None) => return Ok(None),
            (Down::GoOn, None) => {}
        }
    }
    Ok(None)
}

/// Whether what is below a layer can be seen at a path.
enum Down {
    GoOn,
    /// A directory on the way is opaque, or something that is no directory (a whiteout, a link, a file) has its name.
    Stop,
}

/// Looks for the directory `path` in one layer.
fn look_down(layer: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<(Down, Option<OwnedFd>)> {
    let mut dir = layer.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
    let mut down = Down::GoOn;
    for name in path {
        dir = match open_dir(dir.as_fd(), name.as_bytes()) {
            Ok(below) => below,
            Err(Errno::NOENT) => return Ok((down, None)),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok((Down::Stop, None)),
            Err(errno) => return Err(errno),
        };
        if read_xattr(dir.as_fd(), b"trusted.overlay.opaque")?.as_deref() == Some(b"y") {
            down = Down::Stop;
        }
    }
    Ok((down, Some(dir)))
}

fn copy_look(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let stat = fstat(from)?;
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in xattr_names(from)? {
        if is_kept(&name)
            && let Some(value) = read_xattr(from, &name)?
        {
            match fsetxattr(to, name.as_slice(), &value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    futimens(to, &times_of(&stat))
}
