//! Making entries: each kind with as few system calls as it takes, by name in the directory that is entered, never through what is there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{
        AtFlags, Dev, FileType, Gid, Mode, OFlags, Timestamps, Uid, chmodat, chownat, fchmod, fchown, fstat,
        ftruncate, futimens, linkat, makedev, mknodat, openat, openat2, statat, symlinkat, utimensat,
    },
    io::{Errno, pwrite, write},
};
use tinyd_core::{Error, Kind, Result};

use super::{
    Rules, Unpacked,
    archive::{Archive, Entry, Type},
    dirs::{BENEATH, Dirs, Look, open_dir, set_opaque},
    malformed,
    name::{self, Place},
    xattr::{self, Xattrs},
};
use crate::failed;

/// Makes entries below one directory.
pub(super) struct Maker<'a> {
    root: OwnedFd,
    rules: &'a Rules,
    dirs: Dirs,
    entries: u64,
    bytes: u64,
    hides_all: bool,
}

/// What every kind of entry has, checked.
struct Facts {
    uid: u32,
    gid: u32,
    mode: u32,
    times: Timestamps,
    xattrs: Xattrs,
}

impl<'a> Maker<'a> {
    pub(super) fn new(into: BorrowedFd<'_>, rules: &'a Rules) -> Result<Maker<'a>> {
        let own = || into.try_clone_to_owned().map_err(|error| failed(format_args!("dup"), error));
        let dirs = Dirs::new(own()?, umask(into));
        Ok(Maker { root: own()?, rules, dirs, entries: 0, bytes: 0, hides_all: false })
    }

    pub(super) fn entry(&mut self, mut entry: Entry, archive: &mut Archive<'_>) -> Result<()> {
        self.count(1)?;
        let path = name::clean(&entry.path)?;
        match name::place(&path)? {
            Place::Ignored => Ok(()),
            Place::Opaque { dir } => self.opaque(dir),
            Place::Whiteout { dir, name } => self.whiteout(dir, name),
            Place::Root if entry.kind == Type::Directory => {
                let facts = self.facts(&mut entry)?;
                self.dirs.root(look(facts))
            }
            Place::Root => Err(malformed("it is the root and no directory")),
            Place::Entry { dir, name } => {
                let facts = self.facts(&mut entry)?;
                let made = self.dirs.enter(dir)?;
                self.count(made)?;
                self.make(&path, name, &entry, facts, archive)
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<Unpacked> {
        self.dirs.finish()?;
        Ok(Unpacked {
            entries: self.entries,
            bytes: self.bytes,
            implied: self.dirs.implied.into_iter().collect(),
            hides_all: self.hides_all,
            notes: self.dirs.notes.lines(),
        })
    }

    fn count(&mut self, more: u64) -> Result<()> {
        self.entries += more;
        if self.entries > self.rules.entries_max {
            let message = format!("the layer has more than {} entries", self.rules.entries_max);
            return Err(Error::new(Kind::Exhausted, message));
        }
        Ok(())
    }

    fn facts(&mut self, entry: &mut Entry) -> Result<Facts> {
        // The last id is "leave it as it is" to chown(2), and nobody's in any case.
        let max = self.rules.id_max.min(u32::MAX - 1);
        let id = |value: u64, what: &str| match u32::try_from(value) {
            Ok(id) if id <= max => Ok(id),
            _ => Err(malformed(format!(
                "its {what} {value} is beyond the range of ids, which ends with {max}"
            ))),
        };
        Ok(Facts {
            uid: id(entry.uid, "uid")?,
            gid: id(entry.gid, "gid")?,
            mode: entry.mode,
            times: Timestamps { last_access: entry.atime, last_modification: entry.mtime },
            xattrs: xattr::choose(std::mem::take(&mut entry.xattrs), max, &mut self.dirs.notes)?,
        })
    }

    /// Hides the lower layers' contents of a directory. The layer's own stay.
    fn opaque(&mut self, dir: &[u8]) -> Result<()> {
        let made = self.dirs.enter(dir)?;
        self.count(made)?;
        // Overlayfs merges the roots of all layers whatever they say: who stacks them has to know.
        self.hides_all |= dir.is_empty();
        set_opaque(self.dirs.top())
    }

    /// Hides the lower layers' `name`. What this layer has under that name stays, and is then all there is.
    fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        let made = self.dirs.enter(dir)?;
        self.count(made)?;
        self.dirs.touch()?;
        match mknodat(self.dirs.top(), name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => match open_dir(self.dirs.top(), name) {
                Ok(below) => set_opaque(below.as_fd()),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(errno) => Err(failed(format_args!("openat2"), errno)),
            },
            Err(errno) => Err(failed(format_args!("mknodat"), errno)),
        }
    }

    fn make(
        &mut self,
        path: &[u8],
        name: &[u8],
        entry: &Entry,
        facts: Facts,
        archive: &mut Archive<'_>,
    ) -> Result<()> {
        match entry.kind {
            Type::Directory => return self.dirs.make(name, look(facts)),
            Type::File => return self.file(name, entry, &facts, archive),
            Type::HardLink => return self.hard_link(path, name, entry),
            Type::Symlink => {
                self.anew(name, |dir| symlinkat(entry.link.as_slice(), dir, name))?;
            }
            Type::Character if entry.device == (0, 0) => {
                return Err(malformed("it is a character device 0:0, which overlayfs takes for a whiteout"));
            }
            Type::Character => self.node(name, FileType::CharacterDevice, &facts, entry)?,
            Type::Block => self.node(name, FileType::BlockDevice, &facts, entry)?,
            Type::Fifo => self.node(name, FileType::Fifo, &facts, entry)?,
        }
        let dir = self.dirs.top();
        let tell = |errno| failed(format_args!("finish it"), errno);
        if (facts.uid, facts.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(facts.uid), Gid::from_raw(facts.gid));
            chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(tell)?;
        }
        if entry.kind != Type::Symlink && self.dirs.needs_chmod(facts.mode) {
            // chmod follows links. This is none: mknod has just made it, and the tree is nobody else's.
            chmodat(dir, name, Mode::from_raw_mode(facts.mode), AtFlags::empty()).map_err(tell)?;
        }
        if !facts.xattrs.is_empty() {
            let dir = dir.try_clone_to_owned().map_err(|error| failed(format_args!("dup"), error))?;
            xattr::set_at(dir.as_fd(), name, &facts.xattrs, &mut self.dirs.notes)?;
        }
        utimensat(self.dirs.top(), name, &facts.times, AtFlags::SYMLINK_NOFOLLOW).map_err(tell)
    }

    fn node(&mut self, name: &[u8], kind: FileType, facts: &Facts, entry: &Entry) -> Result<()> {
        let device: Dev = makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(facts.mode & 0o777);
        self.anew(name, |dir| mknodat(dir, name, kind, mode, device))
    }

    fn file(&mut self, name: &[u8], entry: &Entry, facts: &Facts, archive: &mut Archive<'_>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(facts.mode & 0o777);
        let file = self.anew(name, |dir| openat(dir, name, flags, mode))?;
        self.bytes += contents(&file, entry, archive)?;
        let tell = |errno| failed(format_args!("finish it"), errno);
        if (facts.uid, facts.gid) != (0, 0) {
            fchown(&file, Some(Uid::from_raw(facts.uid)), Some(Gid::from_raw(facts.gid))).map_err(tell)?;
        }
        if self.dirs.needs_chmod(facts.mode) {
            fchmod(&file, Mode::from_raw_mode(facts.mode)).map_err(tell)?;
        }
        // After the owner and the contents: changing those takes capabilities away.
        xattr::set(file.as_fd(), &facts.xattrs, &mut self.dirs.notes)?;
        futimens(&file, &facts.times).map_err(tell)
    }

    /// Another name for what an earlier entry made; owner, mode and times are that entry's.
    fn hard_link(&mut self, path: &[u8], name: &[u8], entry: &Entry) -> Result<()> {
        let tell = |what: &str| {
            let link = String::from_utf8_lossy(&entry.link);
            malformed(format!("it is a hard link to {link:?}, which {what}"))
        };
        let target = name::clean(&entry.link)?;
        let (target_dir, target_name) = name::split(&target);
        if target.is_empty() || target == path {
            return Err(tell("it cannot be"));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match target_dir {
            b"" => self.root.try_clone().map_err(|error| failed(format_args!("dup"), error))?,
            dir => match openat2(&self.root, dir, flags, Mode::empty(), BENEATH) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    return Err(tell("the archive has no entry before it for"));
                }
                Err(Errno::LOOP) => return Err(tell("leads through a symbolic link")),
                Err(errno) => return Err(failed(format_args!("openat2({:?})", entry.link), errno)),
            },
        };
        match statat(&dir, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(tell("is a directory"));
            }
            Ok(stat) if is_device_zero(stat.st_mode, stat.st_rdev) => return Err(tell("the layer hides")),
            Ok(_) => {}
            Err(Errno::NOENT) => return Err(tell("the archive has no entry before it for")),
            Err(errno) => return Err(failed(format_args!("fstatat"), errno)),
        }
        self.anew(name, |into| linkat(&dir, target_name, into, name, AtFlags::empty()))
    }

    /// Makes something under a name; what has the name is removed first, since the last entry counts.
    fn anew<T>(&mut self, name: &[u8], make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>) -> Result<T> {
        self.dirs.touch()?;
        match make(self.dirs.top()) {
            Err(Errno::EXIST) => self.dirs.remove(name)?,
            done => return done.map_err(|errno| failed(format_args!("make it"), errno)),
        }
        make(self.dirs.top()).map_err(|errno| failed(format_args!("make it"), errno))
    }
}

fn look(facts: Facts) -> Look {
    Look {
        owner: Some((facts.uid, facts.gid)),
        mode: Some(facts.mode),
        xattrs: facts.xattrs,
        times: facts.times,
    }
}

fn is_device_zero(mode: u32, device: Dev) -> bool {
    FileType::from_raw_mode(mode) == FileType::CharacterDevice && device == 0
}

/// Writes the contents, holes of sparse files left out. Returns how many bytes were written.
fn contents(file: &OwnedFd, entry: &Entry, archive: &mut Archive<'_>) -> Result<u64> {
    let tell = |errno| failed(format_args!("write it"), errno);
    let mut written = 0;
    let Some(map) = &entry.sparse else {
        while let Some(mut piece) = archive.piece(u64::MAX)? {
            written += piece.len() as u64;
            while !piece.is_empty() {
                let length = write(file, piece).map_err(tell)?;
                piece = &piece[length..];
            }
        }
        return Ok(written);
    };
    ftruncate(file, map.size).map_err(tell)?;
    for (offset, length) in &map.parts {
        let mut done = 0;
        while let Some(mut piece) = archive.piece(length - done)? {
            while !piece.is_empty() {
                let length = pwrite(file, piece, offset + done).map_err(tell)?;
                piece = &piece[length..];
                done += length as u64;
            }
        }
        written += done;
    }
    Ok(written)
}

/// What the process's umask takes from a mode, learnt from a file without a name; everything where there is no such file, so that each
/// mode is set by a call of its own.
fn umask(dir: BorrowedFd<'_>) -> u32 {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let made = openat(dir, c".", flags, Mode::from_raw_mode(0o777)).and_then(fstat);
    made.map_or(0o777, |stat| !stat.st_mode & 0o777)
}
