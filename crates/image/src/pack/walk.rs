//! The walk over the tree: the files of a directory in the order of their names, then its directories. One descriptor per open thing,
//! and as many paths in memory as directories wait.

use std::{
    collections::HashMap,
    io::Write,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, fstat, lgetxattr, llistxattr, major, minor,
        openat, openat2, readlinkat, statat,
    },
    io::Errno,
};
use tinyd_core::{Error, Kind, Result};

use super::{
    Form, Packed, Rules,
    writer::{self, Head},
};
use crate::{
    failed,
    unpack::{
        dirs::{BENEATH, read_xattr, xattr_names},
        xattr::{Xattrs, is_kept},
    },
};

/// How much of a file is read at once.
const BUFFER: usize = 256 << 10;

pub(super) struct Walk<'a> {
    root: BorrowedFd<'a>,
    out: &'a mut dyn Write,
    rules: &'a Rules,
    /// First names of files that have several.
    links: HashMap<u64, Vec<u8>>,
    packed: Packed,
    buffer: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, out: &'a mut dyn Write, rules: &'a Rules) -> Walk<'a> {
        let (links, buffer) = (HashMap::new(), vec![0; BUFFER]);
        Walk { root, out, rules, links, packed: Packed::default(), buffer }
    }

    pub(super) fn run(mut self) -> Result<Packed> {
        let mut waiting = vec![Vec::new()];
        while let Some(path) = waiting.pop() {
            let below = self
                .directory(&path)
                .map_err(|error| error.context(format_args!("pack {:?}", String::from_utf8_lossy(&path))))?;
            waiting.extend(below.into_iter().rev());
        }
        writer::end(self.out).map_err(write_failed)?;
        Ok(self.packed)
    }

    /// Writes a directory and the files in it; returns the directories in it.
    fn directory(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let name = if path.is_empty() { &b"."[..] } else { path };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = match openat2(self.root, name, flags, Mode::empty(), BENEATH) {
            Ok(dir) => dir,
            Err(Errno::XDEV) => {
                self.packed.skipped += 1;
                return Ok(Vec::new());
            }
            Err(errno) => return Err(failed(format_args!("openat2"), errno)),
        };
        let stat = fstat(&dir).map_err(|errno| failed(format_args!("fstat"), errno))?;
        let xattrs = self.xattrs_of(dir.as_fd())?;
        let slashed = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
        self.head(&slashed, b'5', b"", &stat, 0, xattrs)?;
        if self.rules.form == Form::Upper && is_opaque(dir.as_fd())? {
            self.whiteout(path, b".wh..wh..opq", &stat)?;
        }
        let mut below = Vec::new();
        for name in names(&dir)? {
            let path = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            let stat = statat(&dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| {
                failed(format_args!("fstatat({:?})", String::from_utf8_lossy(&name)), errno)
            })?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                below.push(path);
                continue;
            }
            self.entry(&dir, &name, &path, &stat)
                .map_err(|error| error.context(format_args!("entry {:?}", String::from_utf8_lossy(&name))))?;
        }
        Ok(below)
    }

    fn entry(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> Result<()> {
        if self.form_is_whiteout(stat) {
            let parent = path.len() - name.len();
            let parent = path[..parent].strip_suffix(b"/").unwrap_or_default();
            return self.whiteout(parent, &[b".wh.", name].concat(), stat);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino).cloned() {
                return self.head(path, b'1', &first, stat, 0, Xattrs::new());
            }
            self.links.insert(stat.st_ino, path.to_vec());
        }
        let flag = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(dir, name, path),
            FileType::Symlink => b'2',
            FileType::CharacterDevice => b'3',
            FileType::BlockDevice => b'4',
            FileType::Fifo => b'6',
            FileType::Socket | FileType::Directory | FileType::Unknown => {
                self.packed.skipped += 1;
                return Ok(());
            }
        };
        let link = match flag {
            b'2' => readlinkat(dir, name, Vec::new())
                .map_err(|errno| failed(format_args!("readlinkat"), errno))?
                .into_bytes(),
            _ => Vec::new(),
        };
        let xattrs = self.xattrs_at(dir.as_fd(), name)?;
        self.head(path, flag, &link, stat, 0, xattrs)
    }

    /// A file, read by its descriptor: what is told of it is what was opened.
    fn file(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            openat(dir, name, flags, Mode::empty()).map_err(|errno| failed(format_args!("openat"), errno))?;
        let stat = fstat(&file).map_err(|errno| failed(format_args!("fstat"), errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new(Kind::Internal, "it was exchanged while it was opened"));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let xattrs = self.xattrs_of(file.as_fd())?;
        self.head(path, b'0', b"", &stat, size, xattrs)?;
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            let got = rustix::io::read(&file, &mut self.buffer[..want])
                .map_err(|errno| failed(format_args!("read"), errno))?;
            if got == 0 {
                return Err(Error::new(Kind::Internal, "it became shorter while it was read"));
            }
            self.out.write_all(&self.buffer[..got]).map_err(write_failed)?;
            left -= got as u64;
        }
        self.packed.bytes += size;
        writer::pad(self.out, size).map_err(write_failed)
    }

    fn form_is_whiteout(&self, stat: &Stat) -> bool {
        self.rules.form == Form::Upper
            && FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == 0
    }

    /// An empty file whose name says what is hidden. Nobody's: the kernel's own has no owner in the container.
    fn whiteout(&mut self, dir: &[u8], name: &[u8], stat: &Stat) -> Result<()> {
        let path = if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() };
        self.packed.entries += 1;
        let head = Head {
            name: &path,
            flag: b'0',
            link: b"",
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timespec { tv_sec: stat.st_mtime, tv_nsec: 0 },
            device: (0, 0),
            xattrs: Xattrs::new(),
        };
        writer::head(self.out, &head).map_err(write_failed)
    }

    fn head(
        &mut self,
        name: &[u8],
        flag: u8,
        link: &[u8],
        stat: &Stat,
        size: u64,
        xattrs: Xattrs,
    ) -> Result<()> {
        self.packed.entries += 1;
        let is_device = matches!(flag, b'3' | b'4');
        let head = Head {
            name,
            flag,
            link,
            mode: stat.st_mode & 0o7777,
            uid: self.id(stat.st_uid, "uid")?,
            gid: self.id(stat.st_gid, "gid")?,
            size,
            mtime: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            device: if is_device { (major(stat.st_rdev), minor(stat.st_rdev)) } else { (0, 0) },
            xattrs,
        };
        writer::head(self.out, &head).map_err(write_failed)
    }

    /// An id of the host as the archive has it.
    fn id(&self, id: u32, what: &str) -> Result<u32> {
        let (base, size) = self.rules.ids;
        id.checked_sub(base).filter(|id| *id < size).ok_or_else(|| {
            let message = format!("its {what} {id} is not one of the {size} ids from {base}");
            Error::new(Kind::InvalidArgument, message)
        })
    }

    fn xattrs_of(&self, file: BorrowedFd<'_>) -> Result<Xattrs> {
        let tell = |errno| failed(format_args!("fgetxattr"), errno);
        let names = xattr_names(file).map_err(tell)?;
        self.chosen(names, |name| read_xattr(file, name).map_err(tell))
    }

    /// Of what cannot be opened. `name` is one component in a directory of ours, and is not followed.
    fn xattrs_at(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Xattrs> {
        let tell = |errno| failed(format_args!("lgetxattr"), errno);
        let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
        // As large as Linux lets them be.
        let mut list = vec![0_u8; 64 << 10];
        match llistxattr(path.as_slice(), list.as_mut_slice()) {
            Ok(size) => list.truncate(size),
            Err(Errno::NOTSUP) => list.clear(),
            Err(errno) => return Err(tell(errno)),
        }
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        self.chosen(names.collect(), |name| {
            let mut value = vec![0_u8; 64 << 10];
            let size = lgetxattr(path.as_slice(), name, value.as_mut_slice()).map_err(tell)?;
            value.truncate(size);
            Ok(Some(value))
        })
    }

    /// What belongs into an archive, with its ids mapped back, sorted.
    fn chosen(
        &self,
        mut names: Vec<Vec<u8>>,
        read: impl Fn(&[u8]) -> Result<Option<Vec<u8>>>,
    ) -> Result<Xattrs> {
        names.sort();
        let mut chosen = Xattrs::new();
        for name in names {
            let refers = [&b"trusted.overlay.redirect"[..], b"trusted.overlay.metacopy"];
            if self.rules.form == Form::Upper && refers.contains(&name.as_slice()) {
                let message = format!("it is not whole: it has {:?}", String::from_utf8_lossy(&name));
                return Err(Error::new(Kind::Unsupported, message));
            }
            if is_kept(&name)
                && let Some(value) = read(&name)?
            {
                let value = self.mapped(&name, value)?;
                chosen.push((name, value));
            }
        }
        Ok(chosen)
    }

    /// The ids in a value mapped back, as those of the file.
    fn mapped(&self, name: &[u8], mut value: Vec<u8>) -> Result<Vec<u8>> {
        if name == b"security.capability" {
            // Revision 3 of vfs_cap_data ends with the id of the user namespace's root; of the range's own root it is revision 2.
            if let Some(root) = value.get(20..24) {
                let root =
                    self.id(u32::from_le_bytes([root[0], root[1], root[2], root[3]]), "capability's root")?;
                value[20..].copy_from_slice(&root.to_le_bytes());
                if root == 0 {
                    value.truncate(20);
                    value[3] = 2;
                }
            }
        } else if name.starts_with(b"system.posix_acl_") && value.len() > 4 {
            for entry in value[4..].chunks_exact_mut(8) {
                // ACL_USER and ACL_GROUP: the others have no id.
                if matches!(entry[0], 0x02 | 0x08) {
                    let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
                    entry[4..].copy_from_slice(&self.id(id, "access control list's id")?.to_le_bytes());
                }
            }
        }
        Ok(value)
    }
}

fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool> {
    let value = read_xattr(dir, b"trusted.overlay.opaque")
        .map_err(|errno| failed(format_args!("fgetxattr"), errno))?;
    Ok(value.as_deref() == Some(b"y"))
}

/// The names in a directory, sorted.
fn names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let tell = |errno| failed(format_args!("getdents64"), errno);
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(tell)? {
        let name = entry.map_err(tell)?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn write_failed(error: std::io::Error) -> Error {
    failed(format_args!("write the archive"), error)
}
