//! seccomp(2): a classic BPF program becomes the filter of the calling thread. Knows nothing of system calls' names.
#![expect(unsafe_code, reason = "seccomp(2) has no wrapper in rustix or libc")]

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::{Error, Result};

/// One classic BPF instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// What it does.
    pub code: u16,
    /// How many instructions are skipped when the test holds.
    pub jt: u8,
    /// How many are skipped when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// The longest program that the kernel takes.
pub const INSNS_MAX: usize = 4096;

/// `SECCOMP_FILTER_FLAG_TSYNC`: all threads of the process get the filter.
pub const FLAG_TSYNC: u32 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`: what is not allowed is logged.
pub const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: no speculative store bypass mitigation on account of this filter.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: a descriptor for notifications comes back.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_TSYNC_ESRCH`: a thread that cannot follow is told by ESRCH, and not by its number, which looks like a descriptor.
pub const FLAG_TSYNC_ESRCH: u32 = 1 << 4;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: only fatal signals interrupt a call that a supervisor has received.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    len: u16,
    insns: *const Insn,
}

/// Filters the calling thread from here on, for good. Allocates nothing unless it fails. With [`FLAG_NEW_LISTENER`] the
/// notification descriptor comes back.
///
/// # Errors
/// `EACCES` without `no_new_privs` or CAP_SYS_ADMIN in the user namespace, `EINVAL` for a program that the kernel does not take or a
/// flag it does not know, `EBUSY` when there is a listener already.
pub fn install(program: &[Insn], flags: u32) -> Result<Option<OwnedFd>> {
    let call = || format!("seccomp(SECCOMP_SET_MODE_FILTER, {flags:#x}, {} instructions)", program.len());
    let len = match u16::try_from(program.len()) {
        Ok(len) if program.len() <= INSNS_MAX => len,
        _ => return Err(Error::new(call(), Errno::TOOBIG)),
    };
    let fprog = Program { len, insns: program.as_ptr() };
    // SAFETY: `fprog` has the layout of `struct sock_fprog` and points to `len` instructions of the layout of
    // `struct sock_filter`; both live for the call, and the kernel copies them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&fprog))
    };
    if result < 0 {
        return Err(Error::last(call()));
    }
    if flags & FLAG_NEW_LISTENER != 0 {
        // SAFETY: with NEW_LISTENER the result is a descriptor that the kernel has just made for us, O_CLOEXEC set.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(result as i32) }));
    }
    // With TSYNC a positive value is the thread that could not follow.
    if result > 0 { Err(Error::new(call(), Errno::SRCH)) } else { Ok(None) }
}
