//! Who a process is: ids, groups, capabilities.
//!
//! Every call is the kernel's own, for the calling thread; the caller has one.

#![expect(unsafe_code, reason = "setresuid, setgroups, capset and prctl without glibc's thread broadcast")]

use std::fmt;

use crate::{Error, Result};

/// Every capability by its kernel name; the index is its number.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// Every capability this file knows.
    pub const ALL: CapSet = CapSet((1 << CAPABILITIES.len()) - 1);

    /// The number of a capability, by its `CAP_…` name.
    #[must_use]
    pub fn number(name: &str) -> Option<u32> {
        let found = CAPABILITIES.iter().position(|known| *known == name)?;
        u32::try_from(found).ok()
    }

    /// Whether capability `number` is in.
    #[must_use]
    pub const fn has(self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }

    /// With capability `number`.
    #[must_use]
    pub const fn with(self, number: u32) -> CapSet {
        CapSet(self.0 | (1 << number))
    }

    /// Those in both.
    #[must_use]
    pub const fn and(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// The numbers in it, lowest first.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |number| self.has(*number))
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |number: u32| CAPABILITIES.get(number as usize).copied().unwrap_or("CAP_?");
        f.debug_set().entries(self.numbers().map(name)).finish()
    }
}

/// The three sets of capget(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSets {
    /// In force.
    pub effective: CapSet,
    /// What may be put in force.
    pub permitted: CapSet,
    /// What an executed file may keep.
    pub inheritable: CapSet,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// capset(2) for the caller.
///
/// # Errors
/// EPERM for a capability that the caller does not have.
pub fn set_capabilities(sets: CapSets) -> Result<()> {
    let half = |shift: u32| CapData {
        effective: (sets.effective.0 >> shift) as u32,
        permitted: (sets.permitted.0 >> shift) as u32,
        inheritable: (sets.inheritable.0 >> shift) as u32,
    };
    let data = [half(0), half(32)];
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    // SAFETY: version 3 takes a header and an array of two data structures; both live through the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(done, format_args!("capset({sets:?})"))
}

/// capget(2) for the caller.
///
/// # Errors
/// None that the kernel documents.
pub fn capabilities() -> Result<CapSets> {
    let mut data = [CapData::default(); 2];
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    // SAFETY: version 3 fills an array of two data structures; both live through the call.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    check(done, "capget")?;
    let join = |low: u32, high: u32| CapSet(u64::from(low) | u64::from(high) << 32);
    Ok(CapSets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Takes from the bounding set every capability that is not in `keep`, up to the last one this kernel has.
///
/// # Errors
/// EPERM without `CAP_SETPCAP`.
pub fn drop_bounding(keep: CapSet) -> Result<()> {
    for number in 0..64 {
        if keep.has(number) {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes an integer; the rest is zero.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        match check(done.into(), format_args!("prctl(PR_CAPBSET_DROP, {number})")) {
            Ok(()) => {}
            // Past the last capability that the kernel knows.
            Err(error) if error.errno() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the ambient set exactly `set`.
///
/// # Errors
/// EPERM for a capability that is not both permitted and inheritable.
pub fn set_ambient(set: CapSet) -> Result<()> {
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    set.numbers().try_for_each(|number| ambient(libc::PR_CAP_AMBIENT_RAISE, number))
}

fn ambient(what: libc::c_int, number: u32) -> Result<()> {
    // SAFETY: PR_CAP_AMBIENT takes an operation and a capability number; the rest is zero.
    let done = unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, what as libc::c_ulong, libc::c_ulong::from(number), 0, 0)
    };
    check(done.into(), format_args!("prctl(PR_CAP_AMBIENT, {what}, {number})"))
}

/// Whether permitted capabilities outlive the next change to a non-root user.
///
/// # Errors
/// EPERM when locked.
pub fn set_keep_capabilities(keep: bool) -> Result<()> {
    // SAFETY: PR_SET_KEEPCAPS takes 0 or 1; the rest is zero.
    let done = unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) };
    check(done.into(), format_args!("prctl(PR_SET_KEEPCAPS, {keep})"))
}

/// Sets the supplementary groups.
///
/// # Errors
/// EPERM without `CAP_SETGID` or where the user namespace denies setgroups, EINVAL for an id that is not mapped.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and the length are of one slice of gid_t.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    check(done, format_args!("setgroups({groups:?})"))
}

/// Sets real, effective and saved group.
///
/// # Errors
/// EPERM without `CAP_SETGID`, EINVAL for an id that is not mapped.
pub fn set_gid(gid: u32) -> Result<()> {
    // SAFETY: takes integers. The system call itself, since one thread needs no broadcast.
    let done = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    check(done, format_args!("setresgid({gid})"))
}

/// Sets real, effective and saved user.
///
/// # Errors
/// EPERM without `CAP_SETUID`, EINVAL for an id that is not mapped, EAGAIN beyond `RLIMIT_NPROC`.
pub fn set_uid(uid: u32) -> Result<()> {
    // SAFETY: takes integers. The system call itself, since one thread needs no broadcast.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    check(done, format_args!("setresuid({uid})"))
}

/// Gives the calling process a session keyring of its own, in place of the one that it shares with its parent: keys of whoever
/// started the caller are out of its children's reach.
///
/// # Errors
/// ENOSYS without keyrings, EPERM under a system call filter, EDQUOT when the user has too many keys.
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for a keyring without one; nothing is written to memory.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    check(done, "keyctl(KEYCTL_JOIN_SESSION_KEYRING)")
}

fn check(done: libc::c_long, call: impl fmt::Display) -> Result<()> {
    if done == -1 { Err(Error::last(call)) } else { Ok(()) }
}

/// The groups, beside its first, that a unix socket's peer was in when it connected.
///
/// # Errors
/// ENOPROTOOPT for a socket of another kind or a kernel before 4.13.
pub fn peer_groups(socket: std::os::fd::BorrowedFd<'_>) -> Result<Vec<u32>> {
    /// The kernel's `NGROUPS_MAX`.
    const GROUPS_MAX: usize = 65_536;
    let mut groups = vec![0_u32; GROUPS_MAX];
    let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(0);
    // SAFETY: the pointer is to `groups`, which has room for `bytes` bytes; the kernel writes that many at most, and how many in
    // `bytes`, a local. Any bytes are valid u32s.
    let done = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if done != 0 {
        return Err(Error::last("getsockopt(SO_PEERGROUPS)"));
    }
    groups.truncate(bytes as usize / size_of::<u32>());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_at_their_numbers() {
        assert_eq!(CapSet::number("CAP_CHOWN"), Some(0));
        assert_eq!(CapSet::number("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(CapSet::number("CAP_MKNOD"), Some(27));
        assert_eq!(CapSet::number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(CapSet::number("cap_chown"), None);
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set = CapSet::default().with(0).with(40);
        assert_eq!(set.numbers().collect::<Vec<_>>(), [0, 40]);
        assert_eq!(format!("{set:?}"), r#"{"CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"}"#);
    }

    #[test]
    fn the_kernel_tells_our_sets() {
        assert!(capabilities().is_ok());
    }

    #[test]
    fn a_peers_groups_are_told() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let told = peer_groups(std::os::fd::AsFd::as_fd(&ours)).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let own: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(told, own);
    }
}
