//! Device filters of v2 cgroups: eBPF instructions, loaded by bpf(2) and attached to a cgroup's directory.
//!
//! Only as much of eBPF as a device filter needs; no maps, no helpers, no other kind of program.
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in rustix or libc")]

use std::{
    ffi::c_long,
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::{Error, Result};

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the kernel's names")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
}

/// One instruction (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    code: u8,
    /// Destination in the low half, source in the high half (little endian; swapped on big endian machines).
    regs: u8,
    offset: i16,
    immediate: i32,
}

impl Insn {
    const fn new(code: u8, dst: Reg, src: Reg, offset: i16, immediate: i32) -> Insn {
        let (dst, src) = (dst as u8, src as u8);
        let regs = if cfg!(target_endian = "little") { dst | src << 4 } else { dst << 4 | src };
        Insn { code, regs, offset, immediate }
    }

    /// `dst = *(u32 *)(src + offset)`
    #[must_use]
    pub const fn load_u32(dst: Reg, src: Reg, offset: i16) -> Insn {
        Insn::new(0x61, dst, src, offset, 0)
    }

    /// `dst = value`
    #[must_use]
    pub const fn mov(dst: Reg, value: i32) -> Insn {
        Insn::new(0xb7, dst, Reg::R0, 0, value)
    }

    /// `dst = src`
    #[must_use]
    pub const fn mov_reg(dst: Reg, src: Reg) -> Insn {
        Insn::new(0xbf, dst, src, 0, 0)
    }

    /// `dst &= value`
    #[must_use]
    pub const fn and(dst: Reg, value: i32) -> Insn {
        Insn::new(0x57, dst, Reg::R0, 0, value)
    }

    /// `dst >>= bits`
    #[must_use]
    pub const fn shift_right(dst: Reg, bits: i32) -> Insn {
        Insn::new(0x77, dst, Reg::R0, 0, bits)
    }

    /// `if (reg == value) skip`
    #[must_use]
    pub const fn jump_if_equal(reg: Reg, value: i32, skip: i16) -> Insn {
        Insn::new(0x15, reg, Reg::R0, skip, value)
    }

    /// `if (reg != value) skip`
    #[must_use]
    pub const fn jump_if_not_equal(reg: Reg, value: i32, skip: i16) -> Insn {
        Insn::new(0x55, reg, Reg::R0, skip, value)
    }

    /// `if (a != b) skip`
    #[must_use]
    pub const fn jump_if_not_equal_reg(a: Reg, b: Reg, skip: i16) -> Insn {
        Insn::new(0x5d, a, b, skip, 0)
    }

    /// `return R0`
    #[must_use]
    pub const fn exit() -> Insn {
        Insn::new(0x95, Reg::R0, Reg::R0, 0, 0)
    }

    /// As the kernel has it: what it does, both registers in one byte, how far it jumps, the value.
    #[must_use]
    pub const fn fields(self) -> (u8, u8, i16, i32) {
        (self.code, self.regs, self.offset, self.immediate)
    }
}

const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_ATTACH: u32 = 8;
const BPF_PROG_DETACH: u32 = 9;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_PROG_QUERY: u32 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// How often a program is handed to the verifier, which gives up when a signal comes while it reads.
const TRIES: usize = 5;

/// The most programs of one cgroup that are looked at; the kernel's own bound is 64.
const PROGRAMS_MAX: usize = 64;

/// `union bpf_attr` for BPF_PROG_LOAD, up to `expected_attach_type`.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `union bpf_attr` for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// `union bpf_attr` for BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// `union bpf_attr` for BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct ByIdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a device filter: called for each open and mknod with a `struct bpf_cgroup_dev_ctx` in R1, returns 1 to allow.
///
/// # Errors
/// `EPERM` without CAP_BPF (or CAP_SYS_ADMIN), `EINVAL` or `EACCES` from the verifier.
pub fn load_device_program(program: &[Insn]) -> Result<OwnedFd> {
    let call = format_args!("bpf(BPF_PROG_LOAD, {} instructions)", program.len());
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        prog_name: *b"tinyd_devices\0\0\0",
        ..LoadAttr::default()
    };
    for _ in 1..TRIES {
        // SAFETY: `insns` and `license` point to memory that lives to the end of this function: `program` has `insn_cnt`
        // instructions of the kernel's layout, the license ends in NUL. This command writes to no pointer.
        let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) };
        if fd >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock {
            return owned(fd, call);
        }
    }
    // SAFETY: as above.
    owned(unsafe { bpf(BPF_PROG_LOAD, &mut attr) }, call)
}

/// The device filters that are attached to a cgroup itself.
///
/// # Errors
/// bpf(2).
pub fn attached_device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; PROGRAMS_MAX];
    let mut attr = QueryAttr {
        target_fd: raw(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: PROGRAMS_MAX as u32,
        ..QueryAttr::default()
    };
    // SAFETY: `prog_ids` points to `prog_cnt` writable ids that live to the end of this function.
    let result = unsafe { bpf(BPF_PROG_QUERY, &mut attr) };
    if result < 0 {
        return Err(Error::last("bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE)"));
    }
    ids.iter().take(attr.prog_cnt as usize).map(|id| program_by_id(*id)).collect()
}

fn program_by_id(id: u32) -> Result<OwnedFd> {
    let mut attr = ByIdAttr { prog_id: id, ..ByIdAttr::default() };
    // SAFETY: this command has no pointer in its attributes.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) };
    owned(fd, format_args!("bpf(BPF_PROG_GET_FD_BY_ID, {id})"))
}

/// Attaches a device filter beside those that are there: all must allow.
///
/// # Errors
/// bpf(2).
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> Result<()> {
    let attr = AttachAttr { attach_flags: BPF_F_ALLOW_MULTI, ..attach_attr(cgroup, program) };
    attachment(BPF_PROG_ATTACH, attr, "bpf(BPF_PROG_ATTACH, BPF_F_ALLOW_MULTI)")
}

/// Attaches a device filter in place of another, in one step.
///
/// # Errors
/// bpf(2).
pub fn replace_device_program(cgroup: BorrowedFd<'_>, program: &OwnedFd, old: &OwnedFd) -> Result<()> {
    let attr = AttachAttr {
        attach_flags: BPF_F_ALLOW_MULTI | BPF_F_REPLACE,
        replace_bpf_fd: old.as_raw_fd().cast_unsigned(),
        ..attach_attr(cgroup, program)
    };
    attachment(BPF_PROG_ATTACH, attr, "bpf(BPF_PROG_ATTACH, BPF_F_REPLACE)")
}

/// Takes a device filter away.
///
/// # Errors
/// bpf(2).
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> Result<()> {
    attachment(BPF_PROG_DETACH, attach_attr(cgroup, program), "bpf(BPF_PROG_DETACH)")
}

fn attach_attr(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> AttachAttr {
    AttachAttr {
        target_fd: raw(cgroup),
        attach_bpf_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        ..AttachAttr::default()
    }
}

fn attachment(command: u32, mut attr: AttachAttr, call: &str) -> Result<()> {
    // SAFETY: these commands have no pointer in their attributes.
    let result = unsafe { bpf(command, &mut attr) };
    if result < 0 { Err(Error::last(call)) } else { Ok(()) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn owned(fd: c_long, call: impl std::fmt::Display) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(Error::last(call));
    }
    // SAFETY: the kernel has just made this descriptor for us (with O_CLOEXEC, as bpf(2) always does); nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// bpf(2).
///
/// # Safety
/// `T` is the part of `union bpf_attr` that `command` reads, and its pointers are valid for what the command does with them.
unsafe fn bpf<T>(command: u32, attr: &mut T) -> c_long {
    // SAFETY: `attr` is a whole `T` of the given size, writable for the call; the rest is the caller's promise.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), mem::size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::thread::JoinHandleExt,
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use super::*;

    extern "C" fn nothing(_: libc::c_int) {}

    /// Found by the fuzzer: the verifier says EAGAIN when a signal comes, also for one that is handled.
    #[test]
    fn a_signal_does_not_keep_a_program_from_being_loaded() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        static DONE: AtomicBool = AtomicBool::new(false);
        // SAFETY: the handler does nothing, which may be done at any time.
        unsafe { libc::signal(libc::SIGUSR2, nothing as *const () as libc::sighandler_t) };
        let loader = std::thread::spawn(|| {
            let mut program = vec![Insn::mov(Reg::R0, 1); 3000];
            program.push(Insn::exit());
            let failed = (0..200).find_map(|_| load_device_program(&program).err());
            DONE.store(true, Ordering::Relaxed);
            failed
        });
        while !DONE.load(Ordering::Relaxed) {
            // SAFETY: the thread has not been joined, so its name is its own, even when it has ended.
            unsafe { libc::pthread_kill(loader.as_pthread_t(), libc::SIGUSR2) };
            // Signals without a pause would end every try before the verifier has come through.
            std::thread::sleep(Duration::from_millis(5));
        }
        let failed = loader.join().unwrap();
        assert!(failed.is_none(), "{failed:?}");
    }
}
