//! Files: replaced whole, read within a bound, device nodes.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Uid};

use crate::{Ask, Error, Result};

/// Replaces a file whole or not at all: written under a temporary name beside it, brought to disk, renamed. One owner per
/// file makes the fixed temporary name safe.
///
/// # Errors
/// The call that the kernel refused; the old content is still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_name(path);
    write_file(&temporary, bytes, true)?;
    std::fs::rename(&temporary, path).ask(format_args!("rename({temporary:?}, {path:?})"))
}

/// As [`write_atomic`], for a file that need not outlive the machine: nothing is brought to disk.
///
/// # Errors
/// The call that the kernel refused; the old content is still there.
pub fn write_atomic_volatile(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_name(path);
    write_file(&temporary, bytes, false)?;
    // A rename over a file is a reason for ext4 to write the new one out at once (auto_da_alloc, ext4(5)), and who removes it then
    // waits for the disk, 0.6 ms where it was measured. An exchange is none.
    let exchange = || rustix::fs::renameat_with(CWD, &temporary, CWD, path, RenameFlags::EXCHANGE);
    // Only a file: a directory would be exchanged as well, and `rename` says that it is one.
    let is_file = rustix::fs::lstat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    if is_file && exchange().is_ok() {
        return rustix::fs::unlink(&temporary).ask(format_args!("unlink({temporary:?})")).inspect_err(|_| {
            // The refusal is what is told.
            let _ = exchange();
        });
    }
    std::fs::rename(&temporary, path).ask(format_args!("rename({temporary:?}, {path:?})"))
}

fn temporary_name(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn write_file(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).ask(format_args!("open({path:?})"))?;
    let mut file = File::from(fd);
    file.write_all(bytes).ask(format_args!("write({path:?})"))?;
    if durable { file.sync_data().ask(format_args!("fdatasync({path:?})")) } else { Ok(()) }
}

/// Reads an open file to its end, if that is within `limit_bytes`.
///
/// # Errors
/// EFBIG beyond the limit.
pub fn read_limited(file: OwnedFd, limit_bytes: u64) -> Result<Vec<u8>> {
    // A file that says how long it is costs one buffer and two calls.
    let said = rustix::fs::fstat(&file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    let mut bytes = Vec::with_capacity(said.min(limit_bytes) as usize + 1);
    File::from(file).take(limit_bytes + 1).read_to_end(&mut bytes).ask("read(fd)")?;
    if bytes.len() as u64 > limit_bytes {
        return Err(Error::new(
            format_args!("read at most {limit_bytes} bytes"),
            io::Error::from_raw_os_error(libc::EFBIG),
        ));
    }
    Ok(bytes)
}

/// Has the kernel begin to bring a part of a file to disk, without waiting for it (sync_file_range(2), `SYNC_FILE_RANGE_WRITE`). Nothing is
/// promised: whoever needs the data on disk syncs, and has less to wait for then. A refusal changes nothing, and is not told.
#[expect(unsafe_code, reason = "sync_file_range has no safe wrapper")]
pub fn begin_writeback(file: BorrowedFd<'_>, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // SAFETY: sync_file_range takes a descriptor, which is borrowed for the call, and integers.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// What an open file is.
///
/// # Errors
/// The kernel's refusal.
pub fn file_type(file: BorrowedFd<'_>) -> Result<FileType> {
    let stat = rustix::fs::fstat(file).ask("fstat(fd)")?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Opens `path` with `O_PATH` if it is the character device `major:minor`.
///
/// # Errors
/// ENODEV when it is something else.
pub fn open_char_device(path: &Path, major: u32, minor: u32) -> Result<OwnedFd> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .ask(format_args!("open({path:?})"))?;
    check_char_device(fd.as_fd(), major, minor)?;
    Ok(fd)
}

/// Opens `path` for reading and writing if it is the character device `major:minor`. It is looked at before it is opened, since
/// opening some devices does something.
///
/// # Errors
/// ENODEV when it is something else.
pub fn open_char_device_rw(path: &Path, major: u32, minor: u32) -> Result<OwnedFd> {
    open_char_device(path, major, minor)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::empty()).ask(format_args!("open({path:?})"))?;
    check_char_device(fd.as_fd(), major, minor)?;
    Ok(fd)
}

/// Checks that an open file is the character device `major:minor`.
///
/// # Errors
/// ENODEV when it is something else.
pub fn check_char_device(file: BorrowedFd<'_>, major: u32, minor: u32) -> Result<()> {
    let stat = rustix::fs::fstat(file).ask("fstat(fd)")?;
    let is_char = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if is_char && stat.st_rdev == rustix::fs::makedev(major, minor) {
        return Ok(());
    }
    Err(Error::new(format_args!("check device {major}:{minor}"), io::Error::from_raw_os_error(libc::ENODEV)))
}

/// A device node, FIFO or socket to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The kind: `CharacterDevice`, `BlockDevice`, `Fifo`.
    pub kind: FileType,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Makes a node in `dir` with exactly its mode and owner.
///
/// # Errors
/// EPERM where device nodes are not allowed, EEXIST.
pub fn make_node(dir: BorrowedFd<'_>, name: &Path, node: &Node) -> Result<()> {
    let mode = Mode::from_raw_mode(node.mode);
    let device = rustix::fs::makedev(node.major, node.minor);
    rustix::fs::mknodat(dir, name, node.kind, mode, device)
        .ask(format_args!("mknodat({name:?}, {}:{})", node.major, node.minor))?;
    chown(dir, name, node.uid, node.gid)
}

/// Whether an open file is a node of this kind with these numbers.
///
/// # Errors
/// The kernel's refusal.
pub fn is_node(file: BorrowedFd<'_>, node: &Node) -> Result<bool> {
    let stat = rustix::fs::fstat(file).ask("fstat(fd)")?;
    let same_kind = FileType::from_raw_mode(stat.st_mode) == node.kind;
    let numbers = rustix::fs::makedev(node.major, node.minor);
    Ok(same_kind && (node.kind == FileType::Fifo || stat.st_rdev == numbers))
}

/// Changes the owner of `name` in `dir`, not following a symbolic link. Root's own files need no call.
///
/// # Errors
/// EPERM.
pub fn chown(dir: BorrowedFd<'_>, name: &Path, uid: u32, gid: u32) -> Result<()> {
    if uid == 0 && gid == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(dir, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .ask(format_args!("fchownat({name:?}, {uid}, {gid})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_no_temporary_stays() {
        let dir = std::env::temp_dir().join(format!("tinyd-fs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("state.json");
        write_atomic(&path, b"old").unwrap();
        write_atomic_volatile(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_directory_is_not_exchanged_for_a_file() {
        let dir = std::env::temp_dir().join(format!("tinyd-fs-dir-{}", std::process::id()));
        let path = dir.join("somebodys");
        std::fs::create_dir_all(path.join("inner")).unwrap();
        write_atomic_volatile(&path, b"new").unwrap_err();
        assert!(path.join("inner").is_dir() && !dir.join("somebodys.tmp").is_dir());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let open = || rustix::fs::open(c"/proc/self/status", OFlags::RDONLY, Mode::empty()).unwrap();
        assert_eq!(read_limited(open(), 3).unwrap_err().errno(), Some(libc::EFBIG));
        assert!(read_limited(open(), 1 << 20).is_ok());
    }

    #[test]
    fn a_device_is_checked_by_its_numbers() {
        open_char_device(Path::new("/dev/null"), 1, 3).unwrap();
        let null = open_char_device_rw(Path::new("/dev/null"), 1, 3).unwrap();
        assert_eq!(rustix::io::read(&null, &mut [0; 1]), Ok(0), "one that can be read");
        assert!(open_char_device(Path::new("/dev/zero"), 1, 3).is_err());
        assert!(open_char_device(Path::new("/etc/passwd"), 1, 3).is_err());
    }
}
