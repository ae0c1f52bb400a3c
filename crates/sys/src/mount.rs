//! Mounts through the new mount API: a file system is configured, becomes a detached mount held by a descriptor, gets its
//! attributes, and is attached to a descriptor last. No path of a container is ever joined to a string here.

#![expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]

use std::{
    ffi::CStr,
    fmt,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
        OpenTreeFlags, UnmountFlags,
    },
};

use crate::{Ask, Error, Result};

/// Attributes to set and to clear on mounts, and their propagation. Zero everywhere changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// `MOUNT_ATTR_…` to set.
    pub set: u64,
    /// `MOUNT_ATTR_…` to clear first.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
}

impl Attr {
    /// Read-only.
    pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    /// No set-id programs.
    pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
    /// No device nodes.
    pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
    /// No programs.
    pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    /// The bits that say how access times are kept; to be cleared before one of them is set.
    pub const ATIME_MASK: u64 = libc::MOUNT_ATTR__ATIME;
    /// No access times.
    pub const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    /// Access times always.
    pub const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
    /// No access times of directories.
    pub const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
    /// No symbolic link is followed.
    pub const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

    /// Whether nothing is to change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation == 0
    }
}

/// A file system that is being configured (fsopen(2)).
#[derive(Debug)]
pub struct FsContext<'a> {
    fd: OwnedFd,
    kind: &'a str,
}

impl<'a> FsContext<'a> {
    /// Begins a file system of type `kind`, as /proc/filesystems spells it.
    ///
    /// # Errors
    /// ENODEV when the kernel has no such type.
    pub fn open(kind: &'a str) -> Result<Self> {
        let fd =
            rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).ask(format_args!("fsopen({kind:?})"))?;
        Ok(FsContext { fd, kind })
    }

    /// The file system of a mount that exists, to be configured anew.
    ///
    /// # Errors
    /// EINVAL when `mount` is not the root of a mount.
    pub fn pick(mount: BorrowedFd<'_>, kind: &'a str) -> Result<Self> {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
        let fd = rustix::mount::fspick(mount, c"", flags).ask("fspick(fd)")?;
        Ok(FsContext { fd, kind })
    }

    /// Has the file system of [`FsContext::pick`] take what was set.
    ///
    /// # Errors
    /// The kernel's refusal with its own explanation in the message.
    pub fn reconfigure(self) -> Result<()> {
        rustix::mount::fsconfig_reconfigure(self.fd.as_fd())
            .map_err(|error| self.explain(format_args!("fsconfig({:?}, reconfigure)", self.kind), error))
    }

    /// Sets option `key` to a string.
    ///
    /// # Errors
    /// EINVAL with the kernel's own explanation in the message.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        rustix::mount::fsconfig_set_string(self.fd.as_fd(), key, value)
            .map_err(|error| self.explain(format_args!("fsconfig({:?}, {key}={value})", self.kind), error))
    }

    /// Sets option `key`, which takes no value.
    ///
    /// # Errors
    /// EINVAL with the kernel's own explanation in the message.
    pub fn flag(&self, key: &str) -> Result<()> {
        rustix::mount::fsconfig_set_flag(self.fd.as_fd(), key)
            .map_err(|error| self.explain(format_args!("fsconfig({:?}, {key})", self.kind), error))
    }

    /// Sets option `key` to a descriptor.
    ///
    /// # Errors
    /// EINVAL where the option does not take one.
    pub fn fd(&self, key: &str, value: BorrowedFd<'_>) -> Result<()> {
        rustix::mount::fsconfig_set_fd(self.fd.as_fd(), key, value)
            .map_err(|error| self.explain(format_args!("fsconfig({:?}, {key}, fd)", self.kind), error))
    }

    /// Makes the file system, and a detached mount of it with `MOUNT_ATTR_…` `attributes`.
    ///
    /// # Errors
    /// The kernel's refusal with its own explanation in the message.
    pub fn mount(self, attributes: u64) -> Result<OwnedFd> {
        rustix::mount::fsconfig_create(self.fd.as_fd())
            .map_err(|error| self.explain(format_args!("fsconfig({:?}, create)", self.kind), error))?;
        let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
        rustix::mount::fsmount(self.fd.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|error| self.explain(format_args!("fsmount({:?})", self.kind), error))
    }

    /// The failure, with what the kernel wrote about it into the context's log.
    fn explain(&self, call: impl fmt::Display, error: rustix::io::Errno) -> Error {
        let mut line = [0u8; 512];
        let mut told = String::new();
        // One message per read; ENODATA ends them.
        while let Ok(len) = rustix::io::read(&self.fd, &mut line) {
            let text = String::from_utf8_lossy(line.get(..len).unwrap_or_default());
            // "e overlay: text": a severity letter comes first.
            let text = text.trim_end();
            told.push_str(if told.is_empty() { " (" } else { "; " });
            told.push_str(text.get(2..).unwrap_or(text));
        }
        if !told.is_empty() {
            told.push(')');
        }
        Error::new(format_args!("{call}{told}"), error)
    }
}

/// A detached copy of the mount that `path` is on, rooted there; with the mounts below it when `recursive`.
///
/// # Errors
/// ENOENT and the like.
pub fn clone_path(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    rustix::mount::open_tree(CWD, path, clone_flags(recursive))
        .ask(format_args!("open_tree({path:?}, clone)"))
}

/// As [`clone_path`], of an open file or directory.
///
/// # Errors
/// EINVAL for a mount of another mount namespace.
pub fn clone_fd(file: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let flags = clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(file, c"", flags).ask("open_tree(fd, clone)")
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// mount_setattr(2) on a mount, and on those below it when `recursive`.
///
/// # Errors
/// EPERM for an attribute that the mount has locked.
pub fn set_attr(mount: BorrowedFd<'_>, attr: Attr, recursive: bool) -> Result<()> {
    setattr(mount, attr, None, recursive)
}

/// Has a detached mount show its files with the ids of a user namespace: an id of the file system is the same number inside.
///
/// # Errors
/// EINVAL where the file system cannot, or the mount is idmapped already.
pub fn set_idmap(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let attr = Attr { set: libc::MOUNT_ATTR_IDMAP, ..Attr::default() };
    setattr(mount, attr, Some(userns), recursive)
}

fn setattr(mount: BorrowedFd<'_>, attr: Attr, userns: Option<BorrowedFd<'_>>, recursive: bool) -> Result<()> {
    let raw = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `raw` is a mount_attr of the size that is said, and lives through the call; the empty path means the descriptor.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == -1 { Err(Error::last(format_args!("mount_setattr({attr:x?})"))) } else { Ok(()) }
}

/// Attaches a detached mount onto an open file or directory.
///
/// # Errors
/// The kernel's refusal.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags).ask("move_mount(fd, fd)")
}

/// Attaches a detached mount onto what has this name in a directory. A link of that name is not followed.
///
/// # Errors
/// The kernel's refusal.
pub fn attach_in(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    rustix::mount::move_mount(mount, c"", dir, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .ask(format_args!("move_mount(fd, {name:?})"))
}

/// Attaches a detached mount over the caller's root directory. The caller still sees the old one until it goes to the new one.
///
/// # Errors
/// The kernel's refusal.
pub fn attach_over_root(mount: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::move_mount(mount, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .ask("move_mount(fd, /)")
}

/// Sets the propagation of the mount at `path` (`MS_SLAVE` and so on), of all below it with `MS_REC`.
///
/// # Errors
/// EINVAL when `path` is no mount point.
pub fn set_propagation(path: &CStr, flags: u64) -> Result<()> {
    let flags = MountPropagationFlags::from_bits_retain(u32::try_from(flags).unwrap_or(0));
    rustix::mount::mount_change(path, flags).ask(format_args!("mount({path:?}, {flags:?})"))
}

/// Makes the mount that is the working directory the root, and takes the old root's tree away.
///
/// # Errors
/// The kernel's refusal: EINVAL where the old root is the kernel's first file system (an initramfs), which nobody can leave.
pub fn pivot_to_cwd() -> Result<()> {
    rustix::process::pivot_root(c".", c".").ask("pivot_root(., .)")?;
    // The old root lies over the new one now, and "." is it: lift it off.
    rustix::mount::unmount(c".", UnmountFlags::DETACH).ask("umount2(., MNT_DETACH)")?;
    rustix::process::chdir(c"/").ask("chdir(/)")
}

/// The id of the mount that a descriptor is on, for comparing.
///
/// # Errors
/// The kernel's refusal.
pub fn mount_id(file: BorrowedFd<'_>) -> Result<u64> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::STATX_DONT_SYNC;
    let stat =
        rustix::fs::statx(file, c"", flags, rustix::fs::StatxFlags::MNT_ID).ask("statx(fd, mnt_id)")?;
    Ok(stat.stx_mnt_id)
}

/// Whether a descriptor is of the root of a mount.
///
/// # Errors
/// The kernel's refusal.
pub fn is_mount_root(file: BorrowedFd<'_>) -> Result<bool> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(file, c"", flags, rustix::fs::StatxFlags::empty()).ask("statx(fd)")?;
    Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

/// Takes the mount away that a descriptor is the root of (`MNT_DETACH`), and no other. umount(2) only takes a name: it is that of the
/// descriptor in `own_fds`, a `/proc/self/fd` that the caller trusts, which becomes its working directory.
///
/// # Errors
/// EINVAL when the descriptor is not of a mount's root.
pub fn detach(mount: BorrowedFd<'_>, own_fds: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(own_fds).ask("fchdir(/proc/self/fd)")?;
    let name = mount.as_raw_fd().to_string();
    rustix::mount::unmount(name.as_str(), rustix::mount::UnmountFlags::DETACH).ask("umount2(fd)")
}

/// Whether the mount that a descriptor is on is read-only.
///
/// # Errors
/// The kernel's refusal.
pub fn is_read_only(mount: BorrowedFd<'_>) -> Result<bool> {
    let stat = rustix::fs::fstatvfs(mount).ask("fstatvfs(fd)")?;
    Ok(stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}
