//! The walk over the tree, which may be several on each other: the files of a directory in the order of their names, then its directories. One descriptor per open thing,
//! and as many paths in memory as directories wait.

use std::{
    collections::{BTreeSet, HashMap},
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
    Packed, Part,
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

/// What becomes of whiteouts and opaque directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// They are written as an archive has them.
    Written,
    /// They hide what is below.
    Obeyed,
    /// There are none: what looks so is a device.
    Files,
}

pub(super) struct Walk<'a> {
    /// The uppermost first.
    parts: Vec<Part<'a>>,
    out: &'a mut dyn Write,
    whiteouts: Whiteouts,
    is_live: bool,
    /// First names of files that have several, by part and inode.
    links: HashMap<(usize, u64), Vec<u8>>,
    packed: Packed,
    buffer: Vec<u8>,
}

/// A directory that waits, and the parts that have something to be seen in it.
struct Waiting {
    path: Vec<u8>,
    within: Vec<usize>,
}

/// What is to be seen under a name.
enum Seen {
    Nothing,
    Directory(Vec<usize>),
    Entry(usize, Stat),
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        parts: Vec<Part<'a>>,
        out: &'a mut dyn Write,
        whiteouts: Whiteouts,
        is_live: bool,
    ) -> Walk<'a> {
        let (links, buffer) = (HashMap::new(), vec![0; BUFFER]);
        Walk { parts, out, whiteouts, is_live, links, packed: Packed::default(), buffer }
    }

    pub(super) fn run(mut self) -> Result<Packed> {
        let mut waiting = vec![Waiting { path: Vec::new(), within: (0..self.parts.len()).collect() }];
        while let Some(next) = waiting.pop() {
            let below = self.directory(&next).map_err(|error| {
                error.context(format_args!("pack {:?}", String::from_utf8_lossy(&next.path)))
            })?;
            waiting.extend(below.into_iter().rev());
        }
        writer::end(self.out).map_err(write_failed)?;
        Ok(self.packed)
    }

    /// Writes a directory and the files in it; returns the directories in it.
    fn directory(&mut self, waiting: &Waiting) -> Result<Vec<Waiting>> {
        let path = waiting.path.as_slice();
        let mut dirs = Vec::with_capacity(waiting.within.len());
        for part in &waiting.within {
            dirs.extend(self.open(*part, path)?.map(|dir| (*part, dir)));
        }
        let Some((part, top)) = dirs.first() else {
            self.packed.skipped += 1;
            return Ok(Vec::new());
        };
        let stat = fstat(top).map_err(|errno| failed(format_args!("fstat"), errno))?;
        let xattrs = self.xattrs_of(*part, top.as_fd())?;
        let slashed = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
        self.head(*part, &slashed, b'5', b"", &stat, 0, xattrs)?;
        if self.whiteouts == Whiteouts::Written && is_opaque(top.as_fd())? {
            self.whiteout(path, b".wh..wh..opq", &stat)?;
        }
        let mut names = BTreeSet::new();
        for (_, dir) in &dirs {
            names_in(dir, &mut names)?;
        }
        let mut below = Vec::new();
        for name in names {
            let path = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            let tell =
                |error: Error| error.context(format_args!("entry {:?}", String::from_utf8_lossy(&name)));
            match self.seen(&dirs, &name).map_err(tell)? {
                Seen::Nothing => {}
                Seen::Directory(within) => below.push(Waiting { path, within }),
                Seen::Entry(at, stat) => {
                    let (part, dir) = &dirs[at];
                    self.entry(*part, dir, &name, &path, &stat).map_err(tell)?;
                }
            }
        }
        Ok(below)
    }

    /// A directory of a part; `None` for another mount, and for one that has gone.
    fn open(&self, part: usize, path: &[u8]) -> Result<Option<OwnedFd>> {
        let name = if path.is_empty() { &b"."[..] } else { path };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        match openat2(self.parts[part].dir, name, flags, Mode::empty(), BENEATH) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::XDEV) => Ok(None),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if self.is_live => Ok(None),
            Err(errno) => Err(failed(format_args!("openat2"), errno)),
        }
    }

    /// What overlayfs shows under a name of these directories, the uppermost first.
    fn seen(&mut self, dirs: &[(usize, OwnedFd)], name: &[u8]) -> Result<Seen> {
        let mut within = Vec::new();
        for (at, (part, dir)) in dirs.iter().enumerate() {
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(format_args!("fstatat"), errno)),
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_directory {
                within.push(*part);
                // Nobody is asked when there is nothing below to be hidden.
                if at + 1 < dirs.len() && hides_below(dir.as_fd(), name)? {
                    break;
                }
            } else if !within.is_empty() || (self.whiteouts == Whiteouts::Obeyed && is_whiteout(&stat)) {
                return Ok(if within.is_empty() { Seen::Nothing } else { Seen::Directory(within) });
            } else {
                return Ok(Seen::Entry(at, stat));
            }
        }
        if within.is_empty() {
            return self.gone();
        }
        Ok(Seen::Directory(within))
    }

    /// Something was there when the names were read, and is not any more.
    fn gone(&mut self) -> Result<Seen> {
        if !self.is_live {
            return Err(Error::new(Kind::Internal, "it was removed while the directory was read"));
        }
        self.packed.skipped += 1;
        Ok(Seen::Nothing)
    }

    fn entry(&mut self, part: usize, dir: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> Result<()> {
        if self.whiteouts == Whiteouts::Written && is_whiteout(stat) {
            let parent = path.len() - name.len();
            let parent = path[..parent].strip_suffix(b"/").unwrap_or_default();
            return self.whiteout(parent, &[b".wh.", name].concat(), stat);
        }
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&(part, stat.st_ino)).cloned()
        {
            return self.head(part, path, b'1', &first, stat, 0, Xattrs::new());
        }
        let flag = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => b'0',
            FileType::Symlink => b'2',
            FileType::CharacterDevice => b'3',
            FileType::BlockDevice => b'4',
            FileType::Fifo => b'6',
            FileType::Socket | FileType::Directory | FileType::Unknown => {
                self.packed.skipped += 1;
                return Ok(());
            }
        };
        let is_written = match flag {
            b'0' => self.file(part, dir, name, path)?,
            _ => self.special(part, dir, name, path, flag, stat)?,
        };
        if !is_written {
            self.packed.skipped += 1;
        } else if stat.st_nlink > 1 {
            self.links.insert((part, stat.st_ino), path.to_vec());
        }
        Ok(())
    }

    /// What has no contents. Whether it was still there.
    fn special(
        &mut self,
        part: usize,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        flag: u8,
        stat: &Stat,
    ) -> Result<bool> {
        let link = match flag {
            b'2' => match readlinkat(dir, name, Vec::new()) {
                Ok(link) => link.into_bytes(),
                Err(Errno::NOENT | Errno::INVAL) if self.is_live => return Ok(false),
                Err(errno) => return Err(failed(format_args!("readlinkat"), errno)),
            },
            _ => Vec::new(),
        };
        let Some(xattrs) = self.xattrs_at(part, dir.as_fd(), name)? else { return Ok(false) };
        self.head(part, path, flag, &link, stat, 0, xattrs)?;
        Ok(true)
    }

    /// A file, read by its descriptor: what is told of it is what was opened. Whether it was still there.
    fn file(&mut self, part: usize, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) if self.is_live => return Ok(false),
            Err(errno) => return Err(failed(format_args!("openat"), errno)),
        };
        let stat = fstat(&file).map_err(|errno| failed(format_args!("fstat"), errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let message = "it was exchanged while it was opened";
            return if self.is_live { Ok(false) } else { Err(Error::new(Kind::Internal, message)) };
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let xattrs = self.xattrs_of(part, file.as_fd())?;
        self.head(part, path, b'0', b"", &stat, size, xattrs)?;
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            let mut got = rustix::io::read(&file, &mut self.buffer[..want])
                .map_err(|errno| failed(format_args!("read"), errno))?;
            if got == 0 && !self.is_live {
                return Err(Error::new(Kind::Internal, "it became shorter while it was read"));
            }
            if got == 0 {
                self.buffer[..want].fill(0);
                got = want;
            }
            self.out.write_all(&self.buffer[..got]).map_err(write_failed)?;
            left -= got as u64;
        }
        self.packed.bytes += size;
        writer::pad(self.out, size).map_err(write_failed)?;
        Ok(true)
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

    #[expect(clippy::too_many_arguments, reason = "what a header says")]
    fn head(
        &mut self,
        part: usize,
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
            uid: self.id(part, stat.st_uid, "uid")?,
            gid: self.id(part, stat.st_gid, "gid")?,
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
    fn id(&self, part: usize, id: u32, what: &str) -> Result<u32> {
        let (base, size) = self.parts[part].ids;
        id.checked_sub(base).filter(|id| *id < size).ok_or_else(|| {
            let message = format!("its {what} {id} is not one of the {size} ids from {base}");
            Error::new(Kind::InvalidArgument, message)
        })
    }

    fn xattrs_of(&self, part: usize, file: BorrowedFd<'_>) -> Result<Xattrs> {
        let tell = |errno| failed(format_args!("fgetxattr"), errno);
        let names = xattr_names(file).map_err(tell)?;
        self.chosen(part, names, |name| read_xattr(file, name).map_err(tell))
    }

    /// Of what cannot be opened. `name` is one component in a directory of ours, and is not followed. `None` when it has gone.
    fn xattrs_at(&self, part: usize, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Xattrs>> {
        let tell = |errno| failed(format_args!("lgetxattr"), errno);
        let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
        // As large as Linux lets them be.
        let mut list = vec![0_u8; 64 << 10];
        match llistxattr(path.as_slice(), list.as_mut_slice()) {
            Ok(size) => list.truncate(size),
            Err(Errno::NOTSUP) => list.clear(),
            Err(Errno::NOENT) if self.is_live => return Ok(None),
            Err(errno) => return Err(tell(errno)),
        }
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        let chosen = self.chosen(part, names.collect(), |name| {
            let mut value = vec![0_u8; 64 << 10];
            match lgetxattr(path.as_slice(), name, value.as_mut_slice()) {
                Ok(size) => value.truncate(size),
                Err(Errno::NOENT | Errno::NODATA) if self.is_live => return Ok(None),
                Err(errno) => return Err(tell(errno)),
            }
            Ok(Some(value))
        });
        chosen.map(Some)
    }

    /// What belongs into an archive, with its ids mapped back, sorted.
    fn chosen(
        &self,
        part: usize,
        mut names: Vec<Vec<u8>>,
        read: impl Fn(&[u8]) -> Result<Option<Vec<u8>>>,
    ) -> Result<Xattrs> {
        names.sort();
        let mut chosen = Xattrs::new();
        for name in names {
            let refers = [&b"trusted.overlay.redirect"[..], b"trusted.overlay.metacopy"];
            if self.whiteouts != Whiteouts::Files && refers.contains(&name.as_slice()) {
                let message = format!("it is not whole: it has {:?}", String::from_utf8_lossy(&name));
                return Err(Error::new(Kind::Unsupported, message));
            }
            if is_kept(&name)
                && let Some(value) = read(&name)?
            {
                let value = self.mapped(part, &name, value)?;
                chosen.push((name, value));
            }
        }
        Ok(chosen)
    }

    /// The ids in a value mapped back, as those of the file.
    fn mapped(&self, part: usize, name: &[u8], mut value: Vec<u8>) -> Result<Vec<u8>> {
        if name == b"security.capability" {
            // Revision 3 of vfs_cap_data ends with the id of the user namespace's root; of the range's own root it is revision 2.
            if let Some(root) = value.get(20..24) {
                let root = self.id(
                    part,
                    u32::from_le_bytes([root[0], root[1], root[2], root[3]]),
                    "capability's root",
                )?;
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
                    entry[4..].copy_from_slice(&self.id(part, id, "access control list's id")?.to_le_bytes());
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

/// Overlay's own mark of something that was removed.
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory hides what the parts below have at its place.
fn hides_below(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Mode::empty()) {
        Ok(dir) => is_opaque(dir.as_fd()),
        // It has gone since: the parts below are what there is.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
        Err(errno) => Err(failed(format_args!("openat"), errno)),
    }
}

/// Adds the names in a directory.
fn names_in(dir: &OwnedFd, names: &mut BTreeSet<Vec<u8>>) -> Result<()> {
    let tell = |errno| failed(format_args!("getdents64"), errno);
    for entry in Dir::read_from(dir).map_err(tell)? {
        let name = entry.map_err(tell)?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.insert(name);
        }
    }
    Ok(())
}

fn write_failed(error: std::io::Error) -> Error {
    failed(format_args!("write the archive"), error)
}
