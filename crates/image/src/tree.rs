//! Removing a directory tree that a container has written: no link is followed, no mount is crossed, and no depth exhausts the
//! stack or the descriptors.

use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, fstat, openat, openat2,
        renameat_with, unlinkat,
    },
    io::Errno,
};
use tinyd_core::{Error, Kind, Result};

use crate::failed;

/// How many directories are held open at once. Deeper ones are first moved up.
const DEPTH_MAX: usize = 64;

/// Removes `path` and everything below it. Nothing there is no error.
///
/// # Errors
/// `Internal` with the call and the errno; what could be removed is.
pub fn remove(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(Kind::Internal, format!("remove {path:?}: it has no name")));
    };
    let parent =
        match openat(CWD, parent, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(format_args!("open({parent:?})"), errno)),
        };
    remove_at(parent.as_fd(), name.as_bytes(), path)
}

/// Removes `name` of the directory `parent` and everything below it. Nothing there is no error. `path` is for messages.
pub(crate) fn remove_at(parent: BorrowedFd<'_>, name: &[u8], path: &Path) -> Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(failed(format_args!("unlinkat({path:?})"), errno)),
    }
    empty(open_dir(parent, name).map_err(|errno| failed(format_args!("openat2({path:?})"), errno))?, path)?;
    unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(|errno| failed(format_args!("rmdir({path:?})"), errno))
}

/// A directory on the way down.
struct Level {
    dir: OwnedFd,
    /// Its directories that are still to be removed.
    todo: Vec<Vec<u8>>,
    /// Its own name in the level above.
    name: Vec<u8>,
}

/// Removes everything below `top`.
fn empty(top: OwnedFd, path: &Path) -> Result<()> {
    let tell = |what: &str, name: &[u8], errno: Errno| {
        failed(format_args!("{what}({:?}) below {path:?}", String::from_utf8_lossy(name)), errno)
    };
    let mut moved = 0_u64;
    let todo = unlink_files(&top, path)?;
    let mut levels = vec![Level { dir: top, todo, name: Vec::new() }];
    while let Some(mut level) = levels.pop() {
        let Some(name) = level.todo.pop() else {
            if let Some(above) = levels.last() {
                unlinkat(&above.dir, level.name.as_slice(), AtFlags::REMOVEDIR)
                    .map_err(|errno| tell("rmdir", &level.name, errno))?;
            }
            continue;
        };
        if levels.len() + 1 >= DEPTH_MAX {
            // The depth is the container's choice; our descriptors are not: the directory goes to the top and waits there.
            let top = &mut levels[0];
            let parked = format!(".tinyd-removed-{moved}").into_bytes();
            moved += 1;
            match renameat_with(
                &level.dir,
                name.as_slice(),
                &top.dir,
                parked.as_slice(),
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => top.todo.push(parked),
                // The container had the same idea: the next number.
                Err(Errno::EXIST) => level.todo.push(name),
                Err(errno) => return Err(tell("renameat2", &name, errno)),
            }
            levels.push(level);
            continue;
        }
        let dir =
            open_dir(level.dir.as_fd(), name.as_slice()).map_err(|errno| tell("openat2", &name, errno))?;
        let todo = unlink_files(&dir, path)?;
        levels.push(level);
        levels.push(Level { dir, todo, name });
    }
    Ok(())
}

fn open_dir(parent: BorrowedFd<'_>, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // NO_XDEV: whatever is mounted there is not ours to empty.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(parent, name, flags, Mode::empty(), resolve)
}

/// Removes what is not a directory, returns the directories' names.
fn unlink_files(dir: &OwnedFd, path: &Path) -> Result<Vec<Vec<u8>>> {
    let mut dirs = Vec::new();
    let entries =
        Dir::read_from(dir).map_err(|errno| failed(format_args!("getdents below {path:?}"), errno))?;
    for entry in entries {
        let entry = entry.map_err(|errno| failed(format_args!("getdents below {path:?}"), errno))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            dirs.push(name.to_bytes().to_vec());
            continue;
        }
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A file system that does not tell the type.
            Err(Errno::ISDIR) => dirs.push(name.to_bytes().to_vec()),
            Err(errno) => return Err(failed(format_args!("unlinkat({name:?}) below {path:?}"), errno)),
        }
    }
    Ok(dirs)
}

/// Bytes that the files below `path` take on disk; what cannot be read counts as nothing.
#[must_use]
pub fn disk_usage(path: &Path) -> u64 {
    let Ok(top) = openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    else {
        return 0;
    };
    let mut total = 0;
    let mut open = vec![top];
    while let Some(dir) = open.pop() {
        let Ok(entries) = Dir::read_from(&dir) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                if open.len() < DEPTH_MAX {
                    open.extend(open_dir(dir.as_fd(), name).ok());
                }
            } else if let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                total += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
        }
    }
    total
}

/// The device that a descriptor's file is on.
pub(crate) fn device(fd: impl AsFd) -> rustix::io::Result<u64> {
    Ok(fstat(fd)?.st_dev)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("tinyd-tree-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = scratch("links");
        std::fs::create_dir_all(dir.join("outside/kept")).unwrap();
        std::fs::create_dir_all(dir.join("tree/a")).unwrap();
        symlink(dir.join("outside"), dir.join("tree/a/link")).unwrap();
        remove(&dir.join("tree")).unwrap();
        assert!(!dir.join("tree").exists());
        assert!(dir.join("outside/kept").exists());
        remove(&dir).unwrap();
        remove(&dir).unwrap();
    }

    #[test]
    fn depth_is_no_obstacle() {
        let dir = scratch("deep");
        let mut at = openat(CWD, &dir, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        }
        remove(&dir).unwrap();
        assert!(!dir.exists());
    }
}
