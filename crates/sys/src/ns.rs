//! Namespaces: making, joining, naming, and the id maps of user namespaces.

#![expect(
    unsafe_code,
    reason = "setns, unshare and interface ioctls have no safe wrapper for what is done here"
)]

use std::{
    io::{Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::{Ask, Error, Result, path};

/// Flags of clone3(2), unshare(2) and setns(2).
pub mod flag {
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Control groups.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Hostname.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// System V IPC and POSIX queues.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// User ids.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Process ids.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// Network.
    pub const NET: u64 = libc::CLONE_NEWNET as u64;
    /// Clock offsets.
    pub const TIME: u64 = 0x80;
}

/// setns(2): joins the namespace that a namespace file stands for, or those of `flags` of a pidfd's process.
///
/// # Errors
/// EPERM, EINVAL as the manual says.
pub fn join(namespace: BorrowedFd<'_>, flags: u64) -> Result<()> {
    // SAFETY: setns takes a descriptor and an integer; a process with one thread shares nothing that it could take away.
    let done = unsafe { libc::setns(namespace.as_raw_fd(), flags as libc::c_int) };
    if done == -1 { Err(Error::last(format_args!("setns({flags:#x})"))) } else { Ok(()) }
}

/// unshare(2).
///
/// # Errors
/// EPERM, ENOSPC as the manual says.
pub fn unshare(flags: u64) -> Result<()> {
    // SAFETY: only namespace flags are passed; none of them touches memory or descriptors of the caller.
    let done = unsafe { libc::unshare(flags as libc::c_int) };
    if done == -1 { Err(Error::last(format_args!("unshare({flags:#x})"))) } else { Ok(()) }
}

/// A procfs that has been checked: the real one, entered through no symbolic link and no mount point on it.
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    /// The host's /proc.
    ///
    /// # Errors
    /// EXDEV when what is mounted there is no procfs root.
    pub fn of_host() -> Result<Proc> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(c"/proc", flags, Mode::empty()).ask("open(/proc)")?;
        Proc::of_mount(fd)
    }

    /// A mount of procfs.
    ///
    /// # Errors
    /// EXDEV when it is none.
    pub fn of_mount(mount: OwnedFd) -> Result<Proc> {
        const ROOT_INODE: u64 = 1;
        let kind = rustix::fs::fstatfs(&mount).ask("fstatfs(proc)")?.f_type;
        let inode = rustix::fs::fstat(&mount).ask("fstat(proc)")?.st_ino;
        if kind == libc::PROC_SUPER_MAGIC && inode == ROOT_INODE {
            return Ok(Proc(mount));
        }
        Err(Error::new("check /proc", std::io::Error::from_raw_os_error(libc::EXDEV)))
    }

    /// Writes `text` into an existing file of it, in one write.
    ///
    /// # Errors
    /// What the kernel said of opening or writing.
    pub fn write(&self, file: &Path, text: &str) -> Result<()> {
        let fd = path::open_beneath(self.0.as_fd(), file, OFlags::WRONLY | OFlags::NOFOLLOW)?;
        std::fs::File::from(fd)
            .write_all(text.as_bytes())
            .ask(format_args!("write(/proc/{}, {text:?})", file.display()))
    }

    /// Reads the id map `file` (`uid_map`, `gid_map`) of process `pid`, as this process counts.
    ///
    /// # Errors
    /// ENOENT when the process is gone.
    pub fn read_id_map(&self, pid: i32, file: &str) -> Result<Vec<IdRange>> {
        Ok(self.read(pid, file)?.lines().filter_map(id_range).collect())
    }

    /// Reads a file of process `pid` that holds one number, such as `oom_score_adj`.
    #[must_use]
    pub fn read_number(&self, pid: i32, file: &str) -> Option<i32> {
        self.read(pid, file).ok()?.trim().parse().ok()
    }

    fn read(&self, pid: i32, file: &str) -> Result<String> {
        let path = PathBuf::from(format!("{pid}/{file}"));
        let fd = path::open_beneath(self.0.as_fd(), &path, OFlags::RDONLY | OFlags::NOFOLLOW)?;
        let mut text = String::new();
        std::fs::File::from(fd)
            .read_to_string(&mut text)
            .ask(format_args!("read(/proc/{})", path.display()))?;
        Ok(text)
    }

    /// Opens a file of the caller's own entry (`attr/exec`) for writing.
    ///
    /// # Errors
    /// ENOENT when there is no such file.
    pub fn open_own(&self, file: &Path) -> Result<OwnedFd> {
        path::open_beneath(self.0.as_fd(), &self.own()?.join(file), OFlags::WRONLY | OFlags::NOFOLLOW)
    }

    /// Opens the namespace file `name` of the caller.
    ///
    /// # Errors
    /// ENOENT on a kernel without such namespaces.
    pub fn own_namespace(&self, name: &str) -> Result<OwnedFd> {
        self.namespace_of(&self.own()?, name)
    }

    /// The caller's entry, as this procfs counts: the link's words, PID/task/TID, and not the link. They are walked as everything
    /// else here.
    fn own(&self) -> Result<PathBuf> {
        let own = rustix::fs::readlinkat(&self.0, c"thread-self", Vec::new()).ask("readlink(thread-self)")?;
        Ok(PathBuf::from(std::ffi::OsStr::from_bytes(own.as_bytes())))
    }

    /// Opens the namespace file `name` (`user`, `net`, ...) of process `pid`.
    ///
    /// # Errors
    /// ENOENT when the process is gone.
    pub fn namespace(&self, pid: i32, name: &str) -> Result<OwnedFd> {
        self.namespace_of(Path::new(&pid.to_string()), name)
    }

    fn namespace_of(&self, process: &Path, name: &str) -> Result<OwnedFd> {
        // The last step is a magic link, so the directory is opened with care and the link alone is followed.
        let dir = path::open_beneath(self.0.as_fd(), &process.join("ns"), OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::fs::openat(&dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .ask(format_args!("open(/proc/{}/ns/{name})", process.display()))
    }

    /// The mount itself.
    #[must_use]
    pub fn mount(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Gives the mount back.
    #[must_use]
    pub fn into_mount(self) -> OwnedFd {
        self.0
    }
}

/// One line of an id map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Writes the id maps of process `pid`, which has a new user namespace.
///
/// # Errors
/// EPERM, EINVAL as user_namespaces(7) says.
pub fn write_id_maps(proc: &Proc, pid: i32, uids: &[IdRange], gids: &[IdRange]) -> Result<()> {
    write_id_map(proc, pid, "uid_map", uids)?;
    write_id_map(proc, pid, "gid_map", gids)
}

/// Writes one of the id maps, `uid_map` or `gid_map`.
///
/// # Errors
/// As [`write_id_maps`].
pub fn write_id_map(proc: &Proc, pid: i32, file: &str, ranges: &[IdRange]) -> Result<()> {
    proc.write(&PathBuf::from(format!("{pid}/{file}")), &id_map(ranges))
}

/// Forbids setgroups(2) for good in process `pid`'s new user namespace: without it an ordinary user may map no group.
///
/// # Errors
/// EPERM when groups are mapped already.
pub fn deny_setgroups(proc: &Proc, pid: i32) -> Result<()> {
    proc.write(&PathBuf::from(format!("{pid}/setgroups")), "deny")
}

fn id_range(line: &str) -> Option<IdRange> {
    let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
    let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some(IdRange { inside, outside, count })
}

fn id_map(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

/// Sets the hostname of the caller's UTS namespace.
///
/// # Errors
/// EINVAL for one of more than 64 bytes.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).ask(format_args!("sethostname({name:?})"))
}

/// Sets the NIS domain name of the caller's UTS namespace.
///
/// # Errors
/// EINVAL for one of more than 64 bytes.
pub fn set_domainname(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes()).ask(format_args!("setdomainname({name:?})"))
}

/// A socket of the caller's network namespace, for what ioctl(2) does to its devices (netdevice(7)); it stays there wherever it is sent.
///
/// # Errors
/// The kernel's refusal.
pub fn device_socket() -> Result<OwnedFd> {
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM);
    rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None).ask("socket(AF_INET)")
}

/// Brings `lo` up of the network namespace of a [`device_socket`].
///
/// # Errors
/// The kernel's refusal.
pub fn loopback_up(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: ifreq is a plain C structure of integers and byte arrays; all zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq with a name and flags, which `request` is.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == -1 { Err(Error::last("ioctl(SIOCSIFFLAGS, lo)")) } else { Ok(()) }
}

/// A `NETLINK_ROUTE` socket of the caller's network namespace; it stays there wherever it is sent.
///
/// # Errors
/// The kernel's refusal.
pub fn route_socket() -> Result<OwnedFd> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes integers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, flags, libc::NETLINK_ROUTE) };
    if fd == -1 {
        return Err(Error::last("socket(AF_NETLINK, NETLINK_ROUTE)"));
    }
    // SAFETY: the kernel has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_map_is_lines_of_three_numbers() {
        let ranges =
            [IdRange { inside: 0, outside: 100_000, count: 1 }, IdRange { inside: 1, outside: 7, count: 2 }];
        assert_eq!(id_map(&ranges), "0 100000 1\n1 7 2\n");
        let read: Vec<IdRange> = id_map(&ranges).lines().filter_map(id_range).collect();
        assert_eq!(read, ranges);
    }

    #[test]
    fn a_thread_finds_its_own_entry() {
        let own = Proc::of_host().unwrap().open_own(Path::new("comm")).unwrap();
        std::fs::File::from(own).write_all(b"renamed").unwrap();
        assert_eq!(std::fs::read_to_string("/proc/thread-self/comm").unwrap(), "renamed\n");
    }

    #[test]
    fn the_hosts_proc_is_one_and_tmp_is_none() {
        Proc::of_host().unwrap();
        let tmp = rustix::fs::open(c"/dev", OFlags::PATH, Mode::empty()).unwrap();
        assert!(Proc::of_mount(tmp).is_err());
    }
}
