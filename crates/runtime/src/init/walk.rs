//! Walks the plan's steps on the way to the container's root.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use tinyd_core::{Error, Result, error::chain};
use tinyd_sys::{
    mount::{self, Attr},
    ns::{self, Proc},
    path::{self, Missing},
};

use super::{covers::Covers, impossible};
use crate::{
    launch::{View, failpoint, kernel, step},
    plan::{Step, sysctl::Sysctl},
};

/// What the steps leave for each other and for what comes after them.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    /// What the next step takes that somebody else has made.
    pub(super) supply: Option<OwnedFd>,
    /// Whether a mount that shows the cgroup is among the steps that are yet to come.
    pub(super) cgroup_is_due: bool,
    /// What the next mount of cgroups shows.
    pub(super) cgroup_view: Option<View>,
    failpoint: &'a str,
    /// The container's root mount, once it is attached.
    root: Option<OwnedFd>,
    /// Whether it is at a place of the old root and not over it.
    placed: bool,
    /// Which of /proc, /sys, /dev have been found to be real directories.
    pub(super) real: Vec<&'static str>,
    /// /proc and /sys, once they are mounted.
    pub(super) held: Vec<(PathBuf, OwnedFd)>,
    /// The container's own procfs.
    pub(super) proc: Option<Proc>,
    /// Its devpts.
    pub(super) devpts: Option<OwnedFd>,
    covers: Covers,
    pub(super) route_socket: Option<OwnedFd>,
    pub(super) master: Option<OwnedFd>,
    pub(super) slave: Option<OwnedFd>,
    pub(super) warnings: Vec<String>,
}

/// Brings `lo` of the network namespace up; a socket through which the caller sets the rest up.
pub(crate) fn bring_up_network() -> Result<OwnedFd> {
    let devices = ns::device_socket().map_err(step("open the network"))?;
    bring_lo_up(devices.as_fd())?;
    open_network()
}

/// Brings `lo` up, of the network namespace of this socket.
pub(crate) fn bring_lo_up(devices: BorrowedFd<'_>) -> Result<()> {
    ns::loopback_up(devices).map_err(step("bring lo up"))
}

/// A socket through which the caller sets the network up.
pub(crate) fn open_network() -> Result<OwnedFd> {
    ns::route_socket().map_err(step("open the network"))
}

impl<'a> Walk<'a> {
    pub(super) fn new(failpoint: &'a str) -> Self {
        Walk {
            supply: None,
            cgroup_is_due: false,
            cgroup_view: None,
            failpoint,
            root: None,
            placed: false,
            real: Vec::new(),
            held: Vec::new(),
            proc: None,
            devpts: None,
            covers: Covers::default(),
            route_socket: None,
            master: None,
            slave: None,
            warnings: Vec::new(),
        }
    }

    /// Of a container that runs, whose root this is.
    pub(super) fn inside(root: OwnedFd) -> Self {
        Walk { root: Some(root), ..Walk::new("") }
    }

    /// Takes one step.
    pub(super) fn take(&mut self, next: &Step) -> Result<()> {
        match next {
            Step::Hostname(name) => ns::set_hostname(name).map_err(step("hostname")),
            Step::Domainname(name) => ns::set_domainname(name).map_err(step("domainname")),
            Step::Network if self.route_socket.is_some() => Ok(()),
            Step::Network => bring_up_network().map(|socket| self.route_socket = Some(socket)),
            Step::DetachFromHost => mount::set_propagation(c"/", libc::MS_REC | libc::MS_SLAVE)
                .map_err(step("detach from the host's mounts")),
            Step::Root { place } => self.attach_root(place.as_deref()),
            Step::Mount(mount) => self.mount(mount),
            Step::WorkingDirectory(dir) => self.working_directory(dir),
            Step::Terminal => self.terminal(),
            Step::Sysctl(sysctl) => self.sysctl(sysctl),
            Step::ReadOnly(path) => {
                let (from, path) = seen_from(&self.held, self.root()?, path);
                Covers::read_only(from, path).map_err(step("linux.readonlyPaths"))
            }
            Step::Mask(path) => {
                let root = self.root.as_ref().ok_or_else(no_root)?;
                let (from, path) = seen_from(&self.held, root, path);
                self.covers.mask(from, path).map_err(step("linux.maskedPaths"))
            }
            Step::ReadOnlyRoot => {
                let attr = Attr { set: Attr::RDONLY, ..Attr::default() };
                mount::set_attr(self.root()?.as_fd(), attr, false).map_err(step("root.readonly"))
            }
            Step::Pivot => self.pivot(),
            Step::Chroot => self.chroot(),
            Step::Hooks => Err(impossible("hooks are the first process's")),
            Step::RootPropagation(flags) => {
                mount::set_propagation(c"/", *flags).map_err(step("linux.rootfsPropagation"))
            }
        }
    }

    pub(super) fn root(&self) -> Result<&OwnedFd> {
        self.root.as_ref().ok_or_else(no_root)
    }

    /// Hooks look for the container's mounts at the place of its root, where other runtimes make them. A place that this user
    /// namespace may not reach has no such hook that could.
    fn attach_root(&mut self, place: Option<&Path>) -> Result<()> {
        let root = self.supply.take().ok_or_else(no_root)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match place.map(|place| rustix::fs::open(place, flags, Mode::empty())) {
            Some(Ok(place)) => {
                self.placed = true;
                mount::attach(root.as_fd(), place.as_fd())
            }
            Some(Err(_)) | None => mount::attach_over_root(root.as_fd()),
        }
        .map_err(step("root"))?;
        self.root = Some(root);
        Ok(())
    }

    fn working_directory(&mut self, dir: &Path) -> Result<()> {
        match path::open_or_make(self.root()?.as_fd(), dir, Missing::Directory) {
            Ok(_) => Ok(()),
            // It cannot be made: whether it can be entered is seen later.
            Err(error) if error.errno() == Some(libc::EROFS) => Ok(()),
            // That is what sysfs says, below which the cgroup is yet to be seen.
            Err(error) if self.cgroup_is_due && matches!(error.errno(), Some(libc::EPERM | libc::ENOENT)) => {
                Ok(())
            }
            Err(error) => Err(step("process.cwd")(error)),
        }
    }

    fn sysctl(&mut self, sysctl: &Sysctl) -> Result<()> {
        if self.proc.is_none() {
            // A container without /proc still has sysctls; they are reached through one that is mounted nowhere.
            let mounted =
                mount::FsContext::open("proc").and_then(|context| context.mount(0)).and_then(Proc::of_mount);
            self.proc = Some(mounted.map_err(step("linux.sysctl"))?);
        }
        let proc = self.proc.as_ref().ok_or_else(|| impossible("no procfs"))?;
        match proc.write(&sysctl.path, &sysctl.value) {
            Ok(()) => Ok(()),
            Err(error) if sysctl.optional && error.errno() == Some(libc::ENOENT) => {
                self.warnings.push(format!("sysctl {} does not exist here: {}", sysctl.name, chain(&error)));
                Ok(())
            }
            Err(error) => {
                Err(step("linux.sysctl")(error).of_field(format!("linux.sysctl[{:?}]", sysctl.name)))
            }
        }
    }

    /// The old root stays, below the new one. What was mounted in it does not.
    fn chroot(&mut self) -> Result<()> {
        failpoint(self.failpoint, "pivot")?;
        let root = self.root()?;
        if self.placed {
            // Below a mount that is about to go, perhaps.
            mount::attach_over_root(root.as_fd()).map_err(step("change the root"))?;
        }
        rustix::process::fchdir(root).map_err(|error| kernel("change the root: fchdir", &error))?;
        detach_old_mounts()?;
        rustix::process::chroot(c".").map_err(|error| kernel("change the root: chroot", &error))?;
        rustix::process::chdir(c"/").map_err(|error| kernel("change the root: chdir", &error))
    }

    fn pivot(&mut self) -> Result<()> {
        failpoint(self.failpoint, "pivot")?;
        rustix::process::fchdir(self.root()?).map_err(|error| kernel("pivot to the root: fchdir", &error))?;
        mount::pivot_to_cwd().map_err(|error| {
            let from_initramfs = error.errno() == Some(libc::EINVAL);
            let error = step("pivot to the root")(error);
            if !from_initramfs {
                return error;
            }
            let hint = "is the host's root still its initramfs? switch_root(8) to another file system (a tmpfs will do), or --no-pivot";
            Error::new(error.kind(), format!("{}; {hint}", error.message()))
        })
    }
}

/// Takes the mounts away that are reached from this process's root. The container's are not: they are on one that lies over it.
fn detach_old_mounts() -> Result<()> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| kernel("read /proc/self/mountinfo", &error))?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<_> = points.filter(|point| *point != "/").map(unescaped).collect();
    // Those at the end of the list are on top.
    points.reverse();
    for point in points {
        // One that a user namespace has locked stays; one that was below another is gone.
        let _ = rustix::mount::unmount(OsStr::from_bytes(&point), rustix::mount::UnmountFlags::DETACH);
    }
    Ok(())
}

/// A path of /proc/PID/mountinfo, where a space, a tab, a newline and a backslash are three octal digits behind one (proc(5)).
fn unescaped(text: &str) -> Vec<u8> {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                path.push(code);
                rest = &after[3..];
            }
            None => {
                path.push(byte);
                rest = after;
            }
        }
    }
    path
}

/// A path as what is held of it leads there: below /proc and /sys from their own mounts, else from the root.
fn seen_from<'a>(
    held: &'a [(PathBuf, OwnedFd)],
    root: &'a OwnedFd,
    path: &'a Path,
) -> (BorrowedFd<'a>, &'a Path) {
    let below = |(place, mount): &'a (PathBuf, OwnedFd)| {
        let rest = path.strip_prefix(place).ok().filter(|rest| !rest.as_os_str().is_empty())?;
        Some((mount.as_fd(), rest))
    };
    held.iter().rev().find_map(below).unwrap_or((root.as_fd(), path))
}

fn no_root() -> tinyd_core::Error {
    impossible("the root is not there yet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mountinfo_escapes_is_read() {
        assert_eq!(unescaped(r"/a\040b\134c/\011"), b"/a b\\c/\t");
        for text in ["/plain", r"/a\04", r"/a\", r"/a\9x1", ""] {
            assert_eq!(unescaped(text), text.as_bytes());
        }
    }
}
