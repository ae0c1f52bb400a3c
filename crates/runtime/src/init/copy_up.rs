//! Fills a tmpfs with a copy of the directory that it is going to cover: by descriptors, and no symbolic link is followed.

use std::{
    ffi::CStr,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use tinyd_sys::{Ask, Result};

/// Copies what is in a directory: kinds, modes, owners, contents.
///
/// # Errors
/// The call that the kernel refused; ENOSPC when the tmpfs is too small.
pub(super) fn tree(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(from).ask("read the covered directory")? {
        let entry = entry.ask("getdents(covered)")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from.as_fd(), to.as_fd(), name)?;
        }
    }
    Ok(())
}

/// Gives the copy's root what the original has, but for what `given` says: user, group, mode.
///
/// # Errors
/// The call that the kernel refused.
pub(super) fn root(from: &OwnedFd, to: &OwnedFd, given: [bool; 3]) -> Result<()> {
    let stat = rustix::fs::fstat(from).ask("fstat(covered)")?;
    let [user, group, mode] = given;
    let user = (!user).then(|| Uid::from_raw(stat.st_uid));
    let group = (!group).then(|| Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, c"", user, group, AtFlags::EMPTY_PATH).ask("fchownat(copy)")?;
    // A detached mount's own descriptor takes no fchmod.
    if mode { Ok(()) } else { set_mode(to.as_fd(), c".", &stat) }
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let stat =
        rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).ask(format_args!("stat({name:?})"))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => directory(from, to, name)?,
        FileType::RegularFile => file(from, to, name)?,
        FileType::Symlink => {
            let target =
                rustix::fs::readlinkat(from, name, Vec::new()).ask(format_args!("readlink({name:?})"))?;
            rustix::fs::symlinkat(&target, to, name).ask(format_args!("symlink({name:?})"))?;
            return own(to, name, &stat);
        }
        kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev).ask(format_args!("mknod({name:?})"))?;
        }
        // Nobody listens at a copy of a socket.
        FileType::Socket | FileType::Unknown => return Ok(()),
    }
    own(to, name, &stat)?;
    set_mode(to, name, &stat)
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |dir| rustix::fs::openat(dir, name, flags, Mode::empty()).ask(format_args!("open({name:?})"));
    rustix::fs::mkdirat(to, name, Mode::RWXU).ask(format_args!("mkdir({name:?})"))?;
    tree(&open(from)?, &open(to)?)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // Not to wait for whoever should write into a FIFO that has taken its place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = rustix::fs::openat(from, name, flags, Mode::empty()).ask(format_args!("open({name:?})"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to =
        rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).ask(format_args!("create({name:?})"))?;
    std::io::copy(&mut File::from(from), &mut File::from(to)).ask(format_args!("copy({name:?})")).map(drop)
}

fn own(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(dir, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .ask(format_args!("chown({name:?}, {}, {})", stat.st_uid, stat.st_gid))
}

/// What has the name was made here a moment ago, and the copy is mounted nowhere yet.
fn set_mode(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).ask(format_args!("chmod({name:?})"))
}
