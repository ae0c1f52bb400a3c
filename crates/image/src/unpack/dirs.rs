//! The directories on the way to an entry, as a stack of descriptors: each is opened in the one above, through no link and no mount.
//!
//! An archive lists a directory before what is in it, and making files changes its times; its set-group-id bit and default access
//! control list would change the files. So what a directory shall look like is applied when it is left. One that is come back to is
//! put back as it was. Memory and descriptors depend on the depth only, at most [`OPEN_MAX`] are held.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
        fchmod, fchown, fgetxattr, flistxattr, flistxattr_query, fremovexattr, fsetxattr, fstat, futimens,
        mkdirat, openat2, statat, unlinkat,
    },
    io::Errno,
};
use tinyd_core::{Error, Kind, Result};

use super::{
    malformed,
    xattr::{self, Notes, Xattrs},
};
use crate::failed;

/// How many directories are held open.
const OPEN_MAX: usize = 64;
/// How long the names of all directories may be together that an archive has things in and does not mention.
const IMPLIED_BYTES_MAX: usize = 16 << 20;
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// What a directory shall look like when it is left.
#[derive(Debug)]
pub(super) struct Look {
    /// `None`: as it is.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    pub(super) xattrs: Xattrs,
    pub(super) times: Timestamps,
}

struct Level {
    dir: OwnedFd,
    /// How much of [`Dirs::path`] leads here.
    end: usize,
    look: Option<Look>,
}

/// The stack. The root is always its first.
pub(super) struct Dirs {
    levels: Vec<Level>,
    path: Vec<u8>,
    /// Directories that were made and not mentioned yet, the empty path for the root.
    pub(super) implied: BTreeSet<PathBuf>,
    implied_bytes: usize,
    /// Bits that the process's umask takes from what is made.
    umask: u32,
    /// Whether a directory has a default access control list by now.
    has_default_acl: bool,
    pub(super) notes: Notes,
}

impl Dirs {
    pub(super) fn new(root: OwnedFd, umask: u32) -> Dirs {
        Dirs {
            levels: vec![Level { dir: root, end: 0, look: None }],
            path: Vec::new(),
            implied: BTreeSet::from([PathBuf::new()]),
            implied_bytes: 0,
            umask,
            has_default_acl: false,
            notes: Notes::default(),
        }
    }

    /// The directory that was entered last.
    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.levels[self.levels.len() - 1].dir.as_fd()
    }

    /// How much a mode differs from what the kernel makes of it at `open` or `mkdir`.
    pub(super) const fn needs_chmod(&self, mode: u32) -> bool {
        mode & (0o7000 | self.umask) != 0
    }

    /// Enters `dir`, a clean path, making what is missing on the way. Returns how many directories were made.
    pub(super) fn enter(&mut self, dir: &[u8]) -> Result<u64> {
        while !self.is_on_the_way_to(dir) {
            self.leave()?;
        }
        let mut made = 0;
        let rest = dir[self.path.len()..].to_vec();
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            match open_dir(self.top(), name) {
                Ok(below) => self.push(name, below, None)?,
                Err(errno) => {
                    self.imply(name, errno)?;
                    made += 1;
                }
            }
        }
        Ok(made)
    }

    /// Makes the directory `name` in the one entered, or takes the one that is there, and enters it. Whether it took the place of
    /// something else: then nothing of the lower layers may show through.
    pub(super) fn make(&mut self, name: &[u8], look: Look) -> Result<()> {
        self.touch()?;
        let mode = look.mode.unwrap_or(0o755);
        let made = self.make_or_replace(name, mode)?;
        let below = open_dir(self.top(), name).map_err(|errno| failed(format_args!("openat2"), errno))?;
        let look = match made {
            Made::Found => {
                forget_xattrs(below.as_fd())?;
                look
            }
            Made::New | Made::Instead => Look {
                owner: look.owner.filter(|owner| *owner != (0, 0)),
                mode: look.mode.filter(|mode| self.needs_chmod(*mode)),
                ..look
            },
        };
        if matches!(made, Made::Instead) {
            set_opaque(below.as_fd())?;
        }
        self.push(name, below, Some(look))?;
        self.mentioned();
        Ok(())
    }

    /// What the root shall look like.
    pub(super) fn root(&mut self, look: Look) -> Result<()> {
        self.enter(b"")?;
        forget_xattrs(self.top())?;
        self.levels[0].look = Some(look);
        self.mentioned();
        Ok(())
    }

    /// Before something is made in the directory entered: remembers its times, and takes away what would be inherited.
    pub(super) fn touch(&mut self) -> Result<()> {
        let last = self.levels.len() - 1;
        if self.levels[last].look.is_some() {
            return Ok(());
        }
        let tell = |errno| failed(format_args!("look at a directory"), errno);
        let dir = self.levels[last].dir.as_fd();
        let stat = fstat(dir).map_err(tell)?;
        let mut look = Look { owner: None, mode: None, xattrs: Xattrs::new(), times: times_of(&stat) };
        if stat.st_mode & 0o2000 != 0 {
            look.mode = Some(stat.st_mode & 0o7777);
            fchmod(dir, Mode::from_raw_mode(stat.st_mode & 0o5777)).map_err(tell)?;
        }
        if self.has_default_acl
            && let Some(list) = read_xattr(dir, DEFAULT_ACL).map_err(tell)?
        {
            fremovexattr(dir, DEFAULT_ACL).map_err(tell)?;
            look.xattrs.push((DEFAULT_ACL.to_vec(), list));
        }
        self.levels[last].look = Some(look);
        Ok(())
    }

    /// Removes the tree or file `name` of the directory entered, so that something else can have the name.
    pub(super) fn remove(&mut self, name: &[u8]) -> Result<()> {
        let tell = |errno| failed(format_args!("unlinkat"), errno);
        match unlinkat(self.top(), name, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(tell(errno)),
        }
        let path = self.path_of(name);
        crate::tree::remove_at(self.top(), name, &path)?;
        let gone: Vec<_> = self
            .implied
            .range(path.clone()..)
            .take_while(|other| other.starts_with(&path))
            .cloned()
            .collect();
        for path in gone {
            self.forget_implied(&path);
        }
        Ok(())
    }

    /// Leaves all directories.
    pub(super) fn finish(&mut self) -> Result<()> {
        while self.levels.len() > 1 {
            self.leave()?;
        }
        self.dress(0)
    }

    fn path_of(&self, name: &[u8]) -> PathBuf {
        let dir: &Path = as_path(&self.path);
        dir.join(as_path(name))
    }

    fn is_on_the_way_to(&self, dir: &[u8]) -> bool {
        self.path.is_empty()
            || (dir.starts_with(&self.path) && matches!(dir.get(self.path.len()), None | Some(b'/')))
    }

    fn push(&mut self, name: &[u8], dir: OwnedFd, look: Option<Look>) -> Result<()> {
        if self.levels.len() >= OPEN_MAX {
            // The root stays; the way to here goes on without the one below it.
            self.dress(1)?;
            self.levels.remove(1);
        }
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        self.levels.push(Level { dir, end: self.path.len(), look });
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let last = self.levels.len() - 1;
        self.dress(last)?;
        self.levels.pop();
        self.path.truncate(self.levels[last - 1].end);
        Ok(())
    }

    /// Applies what a directory shall look like, in the order in which nothing undoes another.
    fn dress(&mut self, level: usize) -> Result<()> {
        let Some(look) = self.levels[level].look.take() else { return Ok(()) };
        let dir = self.levels[level].dir.as_fd();
        let path = String::from_utf8_lossy(&self.path[..self.levels[level].end]).into_owned();
        let tell = |errno| failed(format_args!("finish the directory {path:?}"), errno);
        if let Some((uid, gid)) = look.owner {
            fchown(dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(tell)?;
        }
        if let Some(mode) = look.mode {
            fchmod(dir, Mode::from_raw_mode(mode)).map_err(tell)?;
        }
        xattr::set(dir, &look.xattrs, &mut self.notes)?;
        self.has_default_acl |= look.xattrs.iter().any(|(name, _)| name == DEFAULT_ACL);
        futimens(dir, &look.times).map_err(tell)
    }

    /// Makes a directory that is not mentioned (yet), since opening it gave `errno`.
    fn imply(&mut self, name: &[u8], errno: Errno) -> Result<()> {
        let path = self.path_of(name);
        let made = match errno {
            Errno::NOENT => Made::New,
            // Of what is in the way only a whiteout gives way: what the layer hides, it has anew.
            Errno::NOTDIR | Errno::LOOP => match in_the_way(self.top(), name)? {
                InTheWay::Whiteout => Made::Instead,
                InTheWay::Link => {
                    let message = format!("{path:?} on its way is a symbolic link, which is not followed");
                    return Err(malformed(message));
                }
                InTheWay::Other => return Err(malformed(format!("{path:?} on its way is not a directory"))),
            },
            errno => return Err(failed(format_args!("openat2({path:?})"), errno)),
        };
        self.implied_bytes += path.as_os_str().len() + 64;
        if self.implied_bytes > IMPLIED_BYTES_MAX {
            let message = "the archive does not mention the directories of too many entries";
            return Err(Error::new(Kind::Exhausted, message));
        }
        self.touch()?;
        let made = match made {
            Made::Instead => self.make_or_replace(name, 0o755)?,
            Made::New | Made::Found => self.make_new(name, 0o755)?,
        };
        let below =
            open_dir(self.top(), name).map_err(|errno| failed(format_args!("openat2({path:?})"), errno))?;
        if self.needs_chmod(0o755) {
            fchmod(&below, Mode::from_raw_mode(0o755))
                .map_err(|errno| failed(format_args!("fchmod"), errno))?;
        }
        if matches!(made, Made::Instead) {
            set_opaque(below.as_fd())?;
        }
        self.implied.insert(path);
        self.push(name, below, None)
    }

    /// The directory entered has an entry of its own.
    fn mentioned(&mut self) {
        let path = as_path(&self.path).to_owned();
        self.forget_implied(&path);
    }

    fn forget_implied(&mut self, path: &Path) {
        if self.implied.remove(path) {
            self.implied_bytes = self.implied_bytes.saturating_sub(path.as_os_str().len() + 64);
        }
    }

    fn make_new(&self, name: &[u8], mode: u32) -> Result<Made> {
        mkdirat(self.top(), name, Mode::from_raw_mode(mode & 0o777))
            .map_err(|errno| failed(format_args!("mkdirat"), errno))?;
        Ok(Made::New)
    }

    fn make_or_replace(&mut self, name: &[u8], mode: u32) -> Result<Made> {
        match mkdirat(self.top(), name, Mode::from_raw_mode(mode & 0o777)) {
            Ok(()) => return Ok(Made::New),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(format_args!("mkdirat"), errno)),
        }
        let stat = statat(self.top(), name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed(format_args!("fstatat"), errno))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(Made::Found);
        }
        self.remove(name)?;
        self.make_new(name, mode)?;
        Ok(Made::Instead)
    }
}

#[derive(Clone, Copy)]
enum Made {
    New,
    /// A directory was there and stays.
    Found,
    /// Something else was there.
    Instead,
}

fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Opens one directory in another: through no link, onto no mount.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(dir, name, flags, Mode::empty(), BENEATH)
}

/// How every path of an archive is looked up.
pub(crate) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// What has a name and is no directory.
enum InTheWay {
    /// A character device 0:0.
    Whiteout,
    Link,
    Other,
}

fn in_the_way(dir: BorrowedFd<'_>, name: &[u8]) -> Result<InTheWay> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed(format_args!("fstatat"), errno))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
        InTheWay::Whiteout
    } else if kind == FileType::Symlink {
        InTheWay::Link
    } else {
        InTheWay::Other
    })
}

/// Hides what lower layers have in a directory.
pub(super) fn set_opaque(dir: BorrowedFd<'_>) -> Result<()> {
    fsetxattr(dir, c"trusted.overlay.opaque", b"y", XattrFlags::empty())
        .map_err(|errno| failed(format_args!("setxattr(trusted.overlay.opaque)"), errno))
}

pub(super) fn times_of(stat: &Stat) -> Timestamps {
    let time = |secs: i64, nanos: u64| Timespec { tv_sec: secs, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Of a directory that is mentioned again the last entry's attributes count. Overlayfs' own stay.
fn forget_xattrs(dir: BorrowedFd<'_>) -> Result<()> {
    for name in xattr_names(dir).map_err(|errno| failed(format_args!("flistxattr"), errno))? {
        if xattr::is_kept(&name) {
            fremovexattr(dir, name.as_slice())
                .map_err(|errno| failed(format_args!("fremovexattr"), errno))?;
        }
    }
    Ok(())
}

/// The names of a file's attributes; none where the file system has none.
pub(crate) fn xattr_names(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    loop {
        // Not a call with an empty buffer: of that rustix makes an empty list.
        let mut list = vec![0_u8; unless_unsupported(flistxattr_query(file))?];
        match unless_unsupported(flistxattr(file, list.as_mut_slice())) {
            Ok(size) => list.truncate(size),
            Err(Errno::RANGE) => continue,
            Err(errno) => return Err(errno),
        }
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        return Ok(names.map(<[u8]>::to_vec).collect());
    }
}

fn unless_unsupported(size: rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    match size {
        Err(Errno::NOTSUP) => Ok(0),
        size => size,
    }
}

/// The value of an attribute; `None` when it is not there.
pub(crate) fn read_xattr(file: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    // The largest that Linux has (XATTR_SIZE_MAX) is 64 KiB.
    let mut value = vec![0_u8; 64 << 10];
    match fgetxattr(file, name, value.as_mut_slice()) {
        Ok(size) => {
            value.truncate(size);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
