//! Covers paths of the container: with themselves read-only, or with nothing.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{FileType, OFlags};
use tinyd_sys::{
    Result, fs,
    mount::{self, Attr, FsContext},
    path,
};

/// What paths are masked with: made once.
#[derive(Debug, Default)]
pub(super) struct Covers {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Covers {
    /// Makes what is at `path`, and every mount below it, read-only. What is not there needs no cover.
    pub(super) fn read_only(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let Some(target) = existing(root, path)? else { return Ok(()) };
        let cover = mount::clone_fd(target.as_fd(), true)?;
        mount::set_attr(cover.as_fd(), Attr { set: Attr::RDONLY, ..Attr::default() }, true)?;
        mount::attach(cover.as_fd(), target.as_fd())
    }

    /// Covers a file with /dev/null and a directory with an empty one. What is not there needs no cover.
    pub(super) fn mask(&mut self, root: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let Some(target) = existing(root, path)? else { return Ok(()) };
        let is_directory = fs::file_type(target.as_fd())? == FileType::Directory;
        let first = if is_directory { &mut self.empty } else { &mut self.null };
        // Only what is attached can be copied on every kernel: the first cover is the one the others are made of.
        if let Some(first) = first {
            return mount::attach(mount::clone_fd(first.as_fd(), false)?.as_fd(), target.as_fd());
        }
        let cover = if is_directory { empty_directory()? } else { null()? };
        mount::attach(cover.as_fd(), target.as_fd())?;
        *first = Some(cover);
        Ok(())
    }
}

fn existing(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>> {
    match path::open_in_root(root, path, OFlags::PATH) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn empty_directory() -> Result<OwnedFd> {
    let context = FsContext::open("tmpfs")?;
    context.set("mode", "555")?;
    context.set("nr_inodes", "1")?;
    context.mount(Attr::RDONLY | Attr::NOSUID | Attr::NODEV | Attr::NOEXEC)
}

/// The host's /dev/null, through a mount that lets nobody change its mode, owner or times. The old root is still this process's root, and
/// nothing of the container's is on the way.
fn null() -> Result<OwnedFd> {
    let null = mount::clone_fd(fs::open_char_device(Path::new("/dev/null"), 1, 3)?.as_fd(), false)?;
    let set = Attr::RDONLY | Attr::NOSUID | Attr::NOEXEC;
    mount::set_attr(null.as_fd(), Attr { set, propagation: libc::MS_PRIVATE, ..Attr::default() }, false)?;
    Ok(null)
}
