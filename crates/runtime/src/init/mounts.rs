//! Makes the container's mounts: each is attached to a descriptor that was reached inside the root, and looked at again
//! afterwards.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path},
};

use rustix::fs::{FileType, Mode, OFlags};
use tinyd_core::{Error, Kind, Result};
use tinyd_sys::{
    Ask, fs,
    mount::{self, Attr, FsContext},
    ns::Proc,
    path::{self, Missing},
};

use super::{copy_up, impossible, walk::Walk};
use crate::{
    launch::{View, cgroups, step},
    plan::mounts::{self as plan, Mount, What},
};

/// Directories that an image must not turn into something else: what is mounted below them is what protects the host.
const REAL: [&str; 3] = ["proc", "sys", "dev"];

impl Walk<'_> {
    /// Makes one mount.
    pub(super) fn mount(&mut self, mount: &Mount) -> Result<()> {
        let named = |error| step(&mount.field)(error);
        let place = self.require_real_directory(&mount.destination).map_err(named)?;
        match &mount.what {
            What::Source(_) => {
                let source = self.supply.take();
                let source = source.ok_or_else(|| impossible("a source that was not opened"))?;
                self.attach(mount, &source, place)?;
                self.hold(mount, source.as_fd()).map_err(named)
            }
            What::Fs { kind, data, attr, copy_up, .. } => {
                let fs = match self.supply.take() {
                    Some(fs) => fs,
                    None if *copy_up => self.filled_tmpfs(mount, data, attr.set)?,
                    None => file_system(mount)?,
                };
                self.attach(mount, &fs, place)?;
                self.hold(mount, fs.as_fd()).map_err(named)?;
                if attr.propagation != 0 {
                    let attr = Attr { propagation: attr.propagation, ..Attr::default() };
                    mount::set_attr(fs.as_fd(), attr, true).map_err(named)?;
                }
                self.remember(kind, mount, fs).map_err(named)
            }
            What::Node(node) => self.make_node(&mount.destination, node).map_err(named),
            What::Remount { changes, data } => self.remount(mount, changes, data.as_deref()),
            What::Cgroup { attributes, unified } => self.mount_cgroup(mount, *attributes, *unified),
        }
    }

    /// A tmpfs with a copy of what it is going to cover.
    fn filled_tmpfs(
        &self,
        mount: &Mount,
        data: &[(String, Option<String>)],
        attributes: u64,
    ) -> Result<OwnedFd> {
        let named = |error| step(&mount.field)(error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let covered = match path::open_in_root(self.root()?.as_fd(), &mount.destination, flags) {
            Ok(covered) => Some(covered),
            Err(error) if error.errno() == Some(libc::ENOENT) => None,
            Err(error) => return Err(named(error)),
        };
        let fs = new_fs("tmpfs", Some("tmpfs"), data, attributes & !Attr::RDONLY).map_err(named)?;
        if let Some(covered) = covered {
            let given = |key: &str| data.iter().any(|(known, _)| known == key);
            copy_up::tree(&covered, &fs).map_err(named)?;
            copy_up::root(&covered, &fs, [given("uid"), given("gid"), given("mode")]).map_err(named)?;
        }
        let attr = Attr { set: attributes & Attr::RDONLY, ..Attr::default() };
        mount::set_attr(fs.as_fd(), attr, false).map_err(named)?;
        Ok(fs)
    }

    /// Makes a device node with exactly its mode. One that is there already is fine.
    fn make_node(&self, place: &Path, node: &fs::Node) -> tinyd_sys::Result<()> {
        let root = self.root().map_err(|_| tinyd_sys::Error::new("open root", rustix::io::Errno::BADF))?;
        let parent = place.parent().unwrap_or(Path::new("/"));
        let name = Path::new(place.file_name().unwrap_or_default());
        let dir = path::open_or_make(root.as_fd(), parent, Missing::Directory)?;
        let umask = rustix::process::umask(Mode::empty());
        let made = fs::make_node(dir.as_fd(), name, node);
        rustix::process::umask(umask);
        match made {
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let there = rustix::fs::openat(&dir, name, flags, Mode::empty()).ask("openat(node)")?;
                if fs::is_node(there.as_fd(), node)? { Ok(()) } else { Err(error) }
            }
            made => made,
        }
    }

    /// Changes the mount that is at a place, which can be one that somebody else may write.
    fn remount(
        &self,
        mount: &Mount,
        changes: &[(Attr, bool)],
        data: Option<&[(String, Option<String>)]>,
    ) -> Result<()> {
        let named = |error| step(&mount.field)(error);
        let (root, place) = (self.root()?.as_fd(), &mount.destination);
        let there = path::open_in_root(root, place, OFlags::PATH).map_err(named)?;
        require_no_way_into_the_kernel(root, there.as_fd(), mount)?;
        if let Some(data) = data {
            let context = FsContext::pick(there.as_fd(), "remount").map_err(named)?;
            tell(&context, data).and_then(|()| context.reconfigure()).map_err(named)?;
        }
        let mut changes = changes.iter();
        changes.try_for_each(|(attr, below)| mount::set_attr(there.as_fd(), *attr, *below)).map_err(named)?;
        require_there(root, there.as_fd(), &mount.field, place)
    }

    /// Keeps /proc and /sys by descriptor: what is covered in them is looked up from there, and not by a path that somebody
    /// with the same root directory could have changed meanwhile.
    fn hold(&mut self, mount: &Mount, tree: BorrowedFd<'_>) -> tinyd_sys::Result<()> {
        if [Path::new("/proc"), Path::new("/sys")].contains(&mount.destination.as_path()) {
            let tree = rustix::io::fcntl_dupfd_cloexec(tree, 3).ask("dup(mount)")?;
            self.held.push((mount.destination.clone(), tree));
        }
        Ok(())
    }

    /// Keeps what later steps need by descriptor.
    fn remember(&mut self, kind: &str, mount: &Mount, fs: OwnedFd) -> tinyd_sys::Result<()> {
        match kind {
            "proc" if mount.destination == Path::new("/proc") => self.proc = Some(Proc::of_mount(fs)?),
            "devpts" if mount.destination == Path::new("/dev/pts") => self.devpts = Some(fs),
            _ => {}
        }
        Ok(())
    }

    fn attach(&self, mount: &Mount, tree: &OwnedFd, place: Option<OwnedFd>) -> Result<()> {
        self.attach_at(&mount.field, &mount.destination, tree, place)
    }

    /// Attaches a detached mount at a place of the root, which is opened, and made when it is missing, unless it is there already.
    pub(super) fn attach_at(
        &self,
        field: &str,
        destination: &Path,
        tree: &OwnedFd,
        place: Option<OwnedFd>,
    ) -> Result<()> {
        let is_dir = fs::file_type(tree.as_fd()).map_err(step(field))? == FileType::Directory;
        let missing = if is_dir { Missing::Directory } else { Missing::File };
        let root = self.root()?.as_fd();
        let place = place.map_or_else(|| path::open_or_make(root, destination, missing), Ok);
        let place = place.map_err(step(field))?;
        require_same_kind(is_dir, place.as_fd(), field)?;
        require_outside_proc(place.as_fd(), field, destination)?;
        mount::attach(tree.as_fd(), place.as_fd()).map_err(step(field))?;
        require_there(root, tree.as_fd(), field, destination)
    }

    /// /proc, /sys and /dev of the root are directories, not links to somewhere else. The one that is the destination itself is given back,
    /// open.
    fn require_real_directory(&mut self, destination: &Path) -> tinyd_sys::Result<Option<OwnedFd>> {
        let mut parts = destination.components().skip(1);
        let Some(Component::Normal(first)) = parts.next() else { return Ok(None) };
        let Some(name) = REAL.into_iter().find(|name| first == *name) else { return Ok(None) };
        if self.real.contains(&name) {
            return Ok(None);
        }
        let root = self.root().map_err(|_| tinyd_sys::Error::new("open root", rustix::io::Errno::BADF))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(root, name, flags, Mode::empty());
        let opened = match open() {
            Err(rustix::io::Errno::NOENT) => {
                match rustix::fs::mkdirat(root, name, Mode::from_raw_mode(0o755)) {
                    // Another container of the same root was quicker.
                    Ok(()) | Err(rustix::io::Errno::EXIST) => open(),
                    Err(error) => return Err(error).ask(format_args!("mkdirat(/{name})")),
                }
            }
            opened => opened,
        };
        let opened = opened.ask(format_args!("openat(/{name}, no link followed)"))?;
        self.real.push(name);
        Ok(parts.next().is_none().then_some(opened))
    }

    fn mount_cgroup(&mut self, mount: &Mount, attributes: u64, unified: bool) -> Result<()> {
        let named = |error| step(&mount.field)(error);
        let view = self.cgroup_view.take().ok_or_else(|| impossible("a cgroup that was not opened"))?;
        match view {
            View::Unified(tree) => {
                cgroups::confine(&tree, attributes).map_err(named)?;
                self.attach(mount, &tree, None)
            }
            // No controller is there; its user wants to see just that.
            View::Hierarchies { .. } if unified => {
                let tree = new_fs("cgroup2", None, &[], attributes).map_err(named)?;
                self.attach(mount, &tree, None)
            }
            View::Hierarchies { base, mounts, links } => {
                let names = mounts.iter().map(|(name, _)| name.as_path());
                let made = || cgroups::base(names, &links, attributes);
                // It is this process's own, or its caller's: what was made in it is in it.
                let base = base.map_or_else(made, Ok).map_err(named)?;
                self.attach(mount, &base, None)?;
                for (name, tree) in &mounts {
                    cgroups::put_on(&base, name, tree, attributes).map_err(named)?;
                }
                let attr = Attr { set: attributes & Attr::RDONLY, ..Attr::default() };
                mount::set_attr(base.as_fd(), attr, false).map_err(named)
            }
        }
    }
}

/// A procfs that cannot be had is a puzzle where all of the configuration is right.
fn not_shown(kind: &str, field: &str, error: tinyd_sys::Error) -> Error {
    let covered = kind == "proc" && error.errno() == Some(libc::EPERM);
    let error = step(field)(error);
    if !covered {
        return error;
    }
    let hint = "a user namespace gets no view of /proc where the host's is partly covered, as in a container";
    Error::new(error.kind(), format!("{}; {hint}", error.message()))
}

/// Makes the new file system of a mount.
///
/// # Errors
/// The kernel's refusal, with the mount's field.
pub(crate) fn file_system(mount: &Mount) -> Result<OwnedFd> {
    let What::Fs { kind, source, data, attr, .. } = &mount.what else {
        return Err(impossible("a mount of something that is there"));
    };
    new_fs(kind, source.as_deref(), data, attr.set).map_err(|error| not_shown(kind, &mount.field, error))
}

/// Makes a file system and a detached mount of it.
fn new_fs(
    kind: &str,
    source: Option<&str>,
    data: &[(String, Option<String>)],
    attributes: u64,
) -> tinyd_sys::Result<OwnedFd> {
    let context = FsContext::open(kind)?;
    context.set("source", source.unwrap_or(kind))?;
    tell(&context, data)?;
    context.mount(attributes)
}

/// Sets options of a file system.
fn tell(context: &FsContext<'_>, data: &[(String, Option<String>)]) -> tinyd_sys::Result<()> {
    data.iter().try_for_each(|(key, value)| match value {
        Some(value) => context.set(key, value),
        None => context.flag(key),
    })
}

/// A directory lies on a directory, and a file on a file. The kernel says no more than EINVAL; callers look for the words of mount(2).
fn require_same_kind(is_dir: bool, target: BorrowedFd<'_>, field: &str) -> Result<()> {
    let message = match (is_dir, fs::file_type(target).map_err(step(field))? == FileType::Directory) {
        (true, false) => "not a directory: what is there is a file, and what is mounted is a directory",
        (false, true) => "not a directory: what is mounted is a file, and what is there is a directory",
        (true, true) | (false, false) => return Ok(()),
    };
    Err(Error::new(Kind::InvalidArgument, message).of_field(field))
}

/// A destination can lead into /proc by a link; the plan has only seen its words.
fn require_outside_proc(target: BorrowedFd<'_>, field: &str, destination: &Path) -> Result<()> {
    let kind = rustix::fs::fstatfs(target).ask("fstatfs(target)").map_err(step(field))?.f_type;
    if kind != libc::PROC_SUPER_MAGIC || plan::may_cover_proc(destination) {
        return Ok(());
    }
    Err(Error::new(Kind::InvalidArgument, "it leads into /proc, where nothing may be mounted")
        .of_field(field))
}

/// What is changed is what the words of its destination name: a link could lead to what protects the host, and have it made writable.
fn require_no_way_into_the_kernel(root: BorrowedFd<'_>, there: BorrowedFd<'_>, mount: &Mount) -> Result<()> {
    const KERNELS: [i64; 9] = [
        libc::BPF_FS_MAGIC,
        libc::CGROUP2_SUPER_MAGIC,
        libc::CGROUP_SUPER_MAGIC,
        libc::DEBUGFS_MAGIC,
        libc::PROC_SUPER_MAGIC,
        libc::SECURITYFS_MAGIC,
        libc::SELINUX_MAGIC,
        libc::SYSFS_MAGIC,
        libc::TRACEFS_MAGIC,
    ];
    let named = |error| step(&mount.field)(error);
    let kind = rustix::fs::fstatfs(there).ask("fstatfs(target)").map_err(named)?.f_type;
    if !KERNELS.contains(&kind) {
        return Ok(());
    }
    let straight = match path::open_straight(root, &mount.destination, OFlags::PATH) {
        Err(error) if matches!(error.errno(), Some(libc::ELOOP | libc::ENOENT)) => None,
        opened => Some(opened.and_then(|opened| mount::mount_id(opened.as_fd())).map_err(named)?),
    };
    if straight == Some(mount::mount_id(there).map_err(named)?) {
        return Ok(());
    }
    Err(Error::new(Kind::InvalidArgument, "it leads into /proc or /sys by a link")
        .of_field(mount.field.as_str()))
}

/// The mount is where it was meant to be: nobody has moved the place away meanwhile.
fn require_there(root: BorrowedFd<'_>, tree: BorrowedFd<'_>, field: &str, destination: &Path) -> Result<()> {
    let found = path::open_in_root(root, destination, OFlags::PATH).map_err(step(field))?;
    let same =
        mount::mount_id(found.as_fd()).map_err(step(field))? == mount::mount_id(tree).map_err(step(field))?;
    if same {
        return Ok(());
    }
    Err(Error::new(Kind::Internal, "its destination changed while it was being mounted").of_field(field))
}

#[cfg(test)]
mod tests {
    use tinyd_sys::ns::{self, flag};

    use super::*;

    /// Somebody moves the place away after it was opened.
    #[test]
    fn a_mount_whose_place_was_moved_is_told() {
        let dir = std::env::temp_dir().join(format!("tinyrun-moved-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("place")).unwrap();
        let inside = dir.clone();
        // A thread has mounts of its own if it asks for them.
        let tried = std::thread::spawn(move || {
            ns::unshare(flag::MOUNT).unwrap();
            mount::set_propagation(c"/", libc::MS_REC | libc::MS_PRIVATE).unwrap();
            let root = rustix::fs::open(&inside, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let there = |move_away: bool| {
                let tree = new_fs("tmpfs", None, &[], 0).unwrap();
                let place = path::open_in_root(root.as_fd(), Path::new("/place"), OFlags::PATH).unwrap();
                if move_away {
                    std::fs::rename(inside.join("place"), inside.join("elsewhere")).unwrap();
                    std::fs::create_dir(inside.join("place")).unwrap();
                }
                mount::attach(tree.as_fd(), place.as_fd()).unwrap();
                require_there(root.as_fd(), tree.as_fd(), "mounts[0]", Path::new("/place"))
            };
            let moved = there(true).unwrap_err();
            assert_eq!(moved.field(), Some("mounts[0]"));
            assert!(moved.message().contains("changed while"), "{moved}");
            there(false).unwrap();
        });
        let tried = tried.join();
        std::fs::remove_dir_all(dir).unwrap();
        tried.unwrap();
    }
}
