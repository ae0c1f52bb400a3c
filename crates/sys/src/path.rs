//! Paths inside a root that somebody else controls: every step is taken on descriptors, symbolic links stay inside, magic links
//! are refused.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{Ask, Error, Result};

/// How many symbolic links a path that has to be made may go through; the kernel's own limit.
const LINKS_MAX: u32 = 40;

/// Opens `path` as a process whose root is `root` would, magic links refused. `O_CLOEXEC` is added.
///
/// # Errors
/// ENOENT, ELOOP for a magic link.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    openat2(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
        .ask(format_args!("openat2({path:?}, in root)"))
}

/// As [`open_in_root`], through no symbolic link.
///
/// # Errors
/// ENOENT, ELOOP for a symbolic link.
pub fn open_straight(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    openat2(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
        .ask(format_args!("openat2({path:?}, in root, no link followed)"))
}

/// Opens `path` below `dir`, through no symbolic link and no mount point. `O_CLOEXEC` is added.
///
/// # Errors
/// ELOOP for a symbolic link, EXDEV for a mount point or a way out.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, path, flags, resolve).ask(format_args!("openat2({path:?}, beneath)"))
}

/// How often a path is looked up while things are renamed elsewhere: 128 times were once too few beside two threads that exchange names
/// without a pause. How many are enough was not measured; these are sixty times as many.
const LOOKUPS_MAX: u32 = 7680;

/// openat2(2); a rename elsewhere that the kernel could not rule out as an attack (EAGAIN) is tried again.
fn openat2(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    for _ in 0..LOOKUPS_MAX {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// What is made where a path ends in nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// An empty file, mode 0644.
    File,
    /// A directory, mode 0755.
    Directory,
}

/// Opens (`O_PATH`) `path` in `root`, making what is missing: directories on the way, and the last component as `missing` says.
/// A symbolic link to nowhere is followed inside the root and its target made.
///
/// # Errors
/// The call that the kernel refused; ENOTDIR when something on the way is a file.
pub fn open_or_make(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match open_in_root(root, &path, OFlags::PATH) {
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            done => return done,
        }
        match make(root, &path, missing)? {
            Made::All(last) => return Ok(last),
            Made::Link(target) => path = target,
        }
    }
    Err(Error::new(format_args!("make {path:?}"), io::Error::from_raw_os_error(libc::ELOOP)))
}

enum Made {
    /// Everything; the last component.
    All(OwnedFd),
    /// A symbolic link was in the way, or `..`; the path with it resolved.
    Link(PathBuf),
}

/// Makes the missing end of `path`, one component after the other, each in the directory that was opened before.
fn make(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<Made> {
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(_) | Component::ParentDir => Some(part.as_os_str()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    let (mut dir, mut done) = deepest_existing(root, &names)?;
    while let Some(name) = names.get(done) {
        if *name == ".." {
            // Of what was made a moment ago: what is there already has been gone through by the kernel. No `..` is opened here, which would
            // lead out of a directory that somebody moves away.
            let before = names.iter().take(done.saturating_sub(1));
            return Ok(Made::Link(before.chain(names.iter().skip(done + 1)).collect()));
        }
        let last = done + 1 == names.len();
        let kind = if last { missing } else { Missing::Directory };
        dir = match make_one(&dir, name, kind)? {
            One::Opened(next) => next,
            One::Link(link) => {
                let mut target: PathBuf = names.iter().take(done).collect();
                target.push(link);
                target.extend(names.iter().skip(done + 1));
                return Ok(Made::Link(target));
            }
        };
        done += 1;
    }
    Ok(Made::All(dir))
}

/// The longest beginning of the path that exists: its descriptor, and how many components it has.
fn deepest_existing(root: BorrowedFd<'_>, names: &[&OsStr]) -> Result<(OwnedFd, usize)> {
    for len in (0..names.len()).rev() {
        let mut prefix = PathBuf::from("/");
        prefix.extend(names.iter().take(len));
        match open_in_root(root, &prefix, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(dir) => return Ok((dir, len)),
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((open_in_root(root, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?, 0))
}

/// What has the name of something that was to be made.
enum One {
    /// It, or what was there.
    Opened(OwnedFd),
    /// A symbolic link, and where it leads.
    Link(PathBuf),
}

/// Makes `name` in `dir` and opens it without following.
fn make_one(dir: &OwnedFd, name: &OsStr, kind: Missing) -> Result<One> {
    let made = match kind {
        Missing::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Missing::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(Error::new(format_args!("make {name:?} ({kind:?})"), error)),
    }
    let opened =
        rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .ask(format_args!("openat({name:?})"))?;
    let stat = rustix::fs::fstat(&opened).ask(format_args!("fstat({name:?})"))?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() {
        return Ok(One::Opened(opened));
    }
    // Of the link that was opened: by now something else may have the name.
    let link = rustix::fs::readlinkat(&opened, "", Vec::new()).ask(format_args!("readlinkat({name:?})"))?;
    Ok(One::Link(OsStr::from_bytes(link.as_bytes()).into()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd};

    use super::*;

    fn root(name: &str) -> (PathBuf, OwnedFd) {
        let path = std::env::temp_dir().join(format!("tinyd-path-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let fd = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        (path, fd)
    }

    #[test]
    fn links_stay_inside_the_root() {
        let (path, fd) = root("inside");
        std::os::unix::fs::symlink("/etc/../../..", path.join("out")).unwrap();
        fs::create_dir(path.join("etc")).unwrap();
        open_or_make(fd.as_fd(), Path::new("/out/made/here"), Missing::Directory).unwrap();
        assert!(path.join("made/here").is_dir());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_link_to_nowhere_is_made_inside() {
        let (path, fd) = root("nowhere");
        fs::create_dir(path.join("var")).unwrap();
        std::os::unix::fs::symlink("/run", path.join("var/run")).unwrap();
        open_or_make(fd.as_fd(), Path::new("/var/run/app.sock"), Missing::File).unwrap();
        assert!(path.join("run/app.sock").is_file());
        fs::remove_dir_all(path).unwrap();
    }

    /// It was taken for nothing: `srv/sys/new` was made.
    #[test]
    fn two_dots_lead_up_also_in_what_is_made() {
        let (path, fd) = root("up");
        for dir in ["srv", "sys"] {
            fs::create_dir(path.join(dir)).unwrap();
        }
        std::os::unix::fs::symlink("../sys/new", path.join("srv/place")).unwrap();
        for (given, made) in [
            ("/srv/place", "sys/new"),
            ("/srv/../sys/other", "sys/other"),
            ("/srv/fresh/../beside", "srv/beside"),
            ("/../../top/../side", "side"),
        ] {
            open_or_make(fd.as_fd(), Path::new(given), Missing::Directory).unwrap();
            assert!(path.join(made).is_dir(), "{given}");
        }
        assert!(!path.join("srv/sys").exists() && !path.join("srv/fresh/beside").exists());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_circle_of_links_ends() {
        let (path, fd) = root("circle");
        std::os::unix::fs::symlink("b", path.join("a")).unwrap();
        std::os::unix::fs::symlink("a", path.join("b")).unwrap();
        let error = open_or_make(fd.as_fd(), Path::new("/a/x"), Missing::File).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP), "{error}");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let (path, fd) = root("file");
        fs::write(path.join("f"), "").unwrap();
        assert!(open_or_make(fd.as_fd(), Path::new("/f/x"), Missing::Directory).is_err());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn beneath_takes_no_link() {
        let (path, fd) = root("beneath");
        std::os::unix::fs::symlink("/etc/passwd", path.join("a")).unwrap();
        let error = open_beneath(fd.as_fd(), Path::new("a"), OFlags::RDONLY).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP));
        fs::remove_dir_all(path).unwrap();
    }

    /// What is written to procfs would go to whatever somebody has mounted on a file of it.
    #[test]
    fn beneath_crosses_no_mount() {
        let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let error = open_beneath(root.as_fd(), Path::new("proc/version"), OFlags::RDONLY).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EXDEV));
    }
}
