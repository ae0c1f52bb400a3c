//! A whole copy of the image for each container: slow and large, but it works on any file system. And a copy of one directory, for a
//! volume's first files.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
        XattrFlags, chownat, copy_file_range, fchmod, fchown, fsetxattr, fstat, ftruncate, futimens,
        ioctl_ficlone, linkat, mkdirat, openat, readlinkat, renameat, seek, statat, symlinkat, utimensat,
    },
    io::Errno,
};
use tinyd_core::{Result, wire};

use crate::{
    Driver, Image, Prepared, failed, tree,
    unpack::dirs::{read_xattr, xattr_names},
};

/// The copy driver.
#[derive(Clone, Copy, Debug)]
pub struct Copy;

/// The deepest tree that is copied: one descriptor pair is held for each level.
const DEPTH_MAX: usize = 512;
/// How many ids a container's user namespace has.
const IDS: u32 = 65_536;

impl Driver for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn prepare(&self, container_dir: &Path, image: &Image, owner: Option<u32>) -> Result<Prepared> {
        let path = container_dir.join("rootfs");
        let rootfs = wire::Rootfs::Directory { path: path.clone() };
        if path.exists() {
            return Ok(Prepared { rootfs, notes: Vec::new() });
        }
        let layer = image.only_layer("copy")?;
        // Copied under another name first: a copy that was interrupted is never taken for a whole one.
        let part = container_dir.join("rootfs.part");
        tree::remove(&part)?;
        let notes = copy_tree(layer, &part, owner)?;
        renameat(CWD, &part, CWD, &path).map_err(|errno| failed(format_args!("rename({part:?})"), errno))?;
        Ok(Prepared { rootfs, notes })
    }

    fn remove(&self, container_dir: &Path) -> Result<()> {
        tree::remove(&container_dir.join("rootfs.part"))?;
        tree::remove(&container_dir.join("rootfs"))
    }
}

/// Copies the directory `from` to `to`, which must not be there: modes, owners, times, extended attributes, hard and symbolic links,
/// holes. Nothing is followed, no mount is crossed. With `shift`, ids are moved up by it. Returns notes on what was left out.
fn copy_tree(from: &Path, to: &Path, shift: Option<u32>) -> Result<Vec<String>> {
    let tell = |errno| failed(format_args!("copy {from:?}"), errno);
    let source = open_dir(CWD, from).map_err(tell)?;
    mkdirat(CWD, to, Mode::RWXU).map_err(|errno| failed(format_args!("mkdir({to:?})"), errno))?;
    let target = open_dir(CWD, to).map_err(|errno| failed(format_args!("open({to:?})"), errno))?;
    copy(&source, &target, shift.unwrap_or(0), &format_args!("{from:?}"))
}

/// The same into an empty directory, which gets the looks of `source` too, with the ids as they are.
///
/// # Errors
/// The call and the errno, with the path.
pub fn copy_into(source: &OwnedFd, target: &OwnedFd) -> Result<Vec<String>> {
    copy(source, target, 0, &"the image's directory")
}

fn copy(source: &OwnedFd, target: &OwnedFd, shift: u32, from: &dyn std::fmt::Display) -> Result<Vec<String>> {
    let mut copier = Copier {
        shift,
        device: tree::device(source).map_err(|errno| failed(format_args!("copy {from}"), errno))?,
        root: target.try_clone().map_err(|source| failed(format_args!("dup"), source))?,
        links: HashMap::new(),
        skipped: 0,
    };
    let mut path = Vec::new();
    copier.directory(source, target, &mut path, 0).map_err(|errno| {
        failed(format_args!("copy {:?} of {from}", String::from_utf8_lossy(&path)), errno)
    })?;
    Ok(match copier.skipped {
        0 => Vec::new(),
        count => vec![format!("the copy of {from} leaves out {count} device nodes, pipes and sockets")],
    })
}

struct Copier {
    shift: u32,
    device: u64,
    root: OwnedFd,
    /// Files with several names, by inode: the first name, relative to the root.
    links: HashMap<u64, Vec<u8>>,
    skipped: usize,
}

type Done = rustix::io::Result<()>;

impl Copier {
    /// Copies what is in `source` to `target`, then makes `target` look like it. `path` is where this is, and after an error where it
    /// happened.
    fn directory(&mut self, source: &OwnedFd, target: &OwnedFd, path: &mut Vec<u8>, depth: usize) -> Done {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        for entry in Dir::read_from(source)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(name.to_bytes());
            self.entry(source, target, name, path, depth)?;
            path.truncate(length);
        }
        self.look_alike(source, target, &fstat(source)?)
    }

    fn entry(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &std::ffi::CStr,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Done {
        let stat = statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(target, name, Mode::RWXU)?;
                let (below, copy) = (open_dir(source.as_fd(), name)?, open_dir(target.as_fd(), name)?);
                if stat.st_dev == self.device {
                    self.directory(&below, &copy, path, depth + 1)
                } else {
                    // As with overlay, what is mounted in the image stays outside.
                    self.look_alike(&below, &copy, &stat)
                }
            }
            FileType::RegularFile => self.file(source, target, name, path, &stat),
            FileType::Symlink => {
                symlinkat(readlinkat(source, name, Vec::new())?, target, name)?;
                let (uid, gid) = self.owner(&stat);
                chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                utimensat(target, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
            }
            FileType::BlockDevice
            | FileType::CharacterDevice
            | FileType::Fifo
            | FileType::Socket
            | FileType::Unknown => {
                self.skipped += 1;
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &std::ffi::CStr,
        path: &[u8],
        stat: &Stat,
    ) -> Done {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                return linkat(&self.root, first.as_slice(), target, name, AtFlags::empty());
            }
            self.links.insert(stat.st_ino, path[1..].to_vec());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = openat(source, name, flags, Mode::empty())?;
        let stat = fstat(&from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::STALE);
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
        content(&from, &to, u64::try_from(stat.st_size).unwrap_or(0))?;
        self.look_alike(&from, &to, &stat)
    }

    /// Owner, mode, extended attributes and times, in the order in which none undoes another.
    fn look_alike(&self, source: &OwnedFd, target: &OwnedFd, stat: &Stat) -> Done {
        let (uid, gid) = self.owner(stat);
        fchown(target, Some(uid), Some(gid))?;
        fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        self.attributes(source, target)?;
        futimens(target, &times(stat))
    }

    fn owner(&self, stat: &Stat) -> (Uid, Gid) {
        (Uid::from_raw(shifted(stat.st_uid, self.shift)), Gid::from_raw(shifted(stat.st_gid, self.shift)))
    }

    fn attributes(&self, source: &OwnedFd, target: &OwnedFd) -> Done {
        for name in xattr_names(source.as_fd())? {
            // Whoever wrote the image took it away meanwhile.
            let Some(mut value) = read_xattr(source.as_fd(), &name)? else { continue };
            if name == b"security.capability" && self.shift != 0 {
                value = capability_of(self.shift, &value);
            }
            match fsetxattr(target, name.as_slice(), &value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

fn open_dir(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(at, name, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Copies bytes: shared blocks where the file system can, else the parts that hold data.
fn content(from: &OwnedFd, to: &OwnedFd, size: u64) -> Done {
    if size == 0 || ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let end = seek(from, SeekFrom::Hole(start))?.min(size);
        (at, _) = (end, copy_range(from, to, start, end)?);
    }
    Ok(())
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> Done {
    let (mut read, mut written) = (start, start);
    while read < end {
        let want = usize::try_from(end - read).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut read), to, Some(&mut written), want) {
            // The file has become shorter.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                return copy_by_hand(from, to, read, end);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &OwnedFd, to: &OwnedFd, mut at: u64, end: u64) -> Done {
    let mut buffer = vec![0_u8; 128 << 10];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = rustix::io::pread(from, &mut buffer[..want], at)?;
        if got == 0 {
            return Ok(());
        }
        let mut put = 0;
        while put < got {
            put += rustix::io::pwrite(to, &buffer[put..got], at + put as u64)?;
        }
        at += got as u64;
    }
    Ok(())
}

/// An id as the container's root range has it. Ids outside the range stay: they have no meaning inside either way.
fn shifted(id: u32, shift: u32) -> u32 {
    if id < IDS { id + shift } else { id }
}

/// A file capability for a user namespace whose root is `root`: revision 3 of `struct vfs_cap_data`, which ends with that id.
fn capability_of(root: u32, value: &[u8]) -> Vec<u8> {
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    if value.len() != 20 || value[3] != REVISION_2 {
        return value.to_vec();
    }
    let mut wide = value.to_vec();
    wide[3] = REVISION_3;
    wide.extend_from_slice(&root.to_le_bytes());
    wide
}

fn times(stat: &Stat) -> Timestamps {
    let time = |secs: i64, nanos: u64| Timespec { tv_sec: secs, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn a_copy_is_faithful() {
        let dir = std::env::temp_dir().join(format!("tinyd-copy-{}", std::process::id()));
        let image = dir.join("image");
        fs::create_dir_all(image.join("bin")).unwrap();
        fs::write(image.join("bin/su"), b"set id").unwrap();
        fs::set_permissions(image.join("bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(image.join("bin/su"), image.join("su2")).unwrap();
        fs::write(image.join("bin/ping"), b"capable").unwrap();
        // CAP_NET_RAW, permitted and effective (linux/capability.h, VFS_CAP_REVISION_2).
        let capability = [[1, 0, 0, 2], [0, 0x20, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
        for (name, value) in [("security.capability", capability.as_slice()), ("user.note", b"kept")] {
            rustix::fs::setxattr(image.join("bin/ping"), name, value, XattrFlags::empty()).unwrap();
        }
        symlink("/etc/shadow", image.join("link")).unwrap();
        rustix::fs::mknodat(CWD, image.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let hole = fs::File::create(image.join("hole")).unwrap();
        hole.set_len(8 << 20).unwrap();
        std::os::unix::fs::FileExt::write_at(&hole, b"end", (8 << 20) - 3).unwrap();
        fs::set_permissions(&image, fs::Permissions::from_mode(0o711)).unwrap();

        let container = dir.join("container");
        fs::create_dir(&container).unwrap();
        let made =
            Copy.prepare(&container, &Image::open(image.to_str().unwrap()).unwrap(), Some(1 << 30)).unwrap();
        assert!(made.notes[0].contains("1 device"), "{:?}", made.notes);
        let copy = container.join("rootfs");
        let su = fs::metadata(copy.join("bin/su")).unwrap();
        assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.nlink()), (0o4755, 1 << 30, 1 << 30, 2));
        assert_eq!(su.mtime_nsec(), fs::metadata(image.join("bin/su")).unwrap().mtime_nsec());
        let ping = fs::File::open(copy.join("bin/ping")).unwrap();
        assert_eq!(read_xattr(ping.as_fd(), b"user.note").unwrap().unwrap(), b"kept");
        let found = read_xattr(ping.as_fd(), b"security.capability").unwrap().unwrap();
        assert_eq!(found, capability_of(1 << 30, &capability));
        assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("/etc/shadow"));
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o711);
        assert!(!copy.join("pipe").exists());
        let hole = fs::metadata(copy.join("hole")).unwrap();
        assert!(hole.len() == 8 << 20 && hole.blocks() * 512 < 1 << 20, "{hole:?}");
        assert!(fs::read(copy.join("hole")).unwrap().ends_with(b"\0end"));

        Copy.remove(&container).unwrap();
        assert!(!copy.exists());
        tree::remove(&dir).unwrap();
    }

    #[test]
    fn a_file_capability_follows_the_root_id() {
        let mut old = vec![1, 0, 0, 2];
        old.resize(20, 7);
        let new = capability_of(0x4000_0000, &old);
        assert_eq!((new.len(), new[3], &new[20..]), (24, 3, &[0, 0, 0, 0x40][..]));
        assert_eq!(capability_of(5, &new), new);
    }
}
