//! What the kernel gives a process of itself: limits, scheduling, I/O priority, memory policy, and the personality it shows.

#![expect(unsafe_code, reason = "prlimit64, sched_setattr and friends have no safe wrapper")]

use std::ptr;

use crate::{Result, process::check};

/// The limits of resource `resource` (`RLIMIT_…`) of the caller: soft, hard.
///
/// # Errors
/// EINVAL for a resource the kernel does not know.
pub fn rlimit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local rlimit64; no new limit is given.
    let done = unsafe { libc::prlimit64(0, resource, ptr::null(), &raw mut limit) };
    check(done.into(), format_args!("prlimit({resource})"))?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the limits of resource `resource` of process `pid`; 0 is the caller.
///
/// # Errors
/// EPERM for a hard limit above the current one without `CAP_SYS_RESOURCE`.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer is to a local rlimit64; the old limit is not asked for.
    let done = unsafe { libc::prlimit64(pid, resource, &raw const limit, ptr::null_mut()) };
    check(done.into(), format_args!("prlimit({pid}, {resource}, {soft}, {hard})"))
}

/// personality(2).
///
/// # Errors
/// EINVAL for one the kernel lacks.
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: takes an integer.
    let done = unsafe { libc::personality(persona) };
    check(done.into(), format_args!("personality({persona:#x})"))
}

/// What sched_setattr(2) takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedAttr {
    /// Size of this structure; [`set_scheduler`] fills it in.
    pub size: u32,
    /// `SCHED_…`.
    pub policy: u32,
    /// `SCHED_FLAG_…`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// sched_setattr(2) for the caller.
///
/// # Errors
/// EPERM, EINVAL as the manual says.
pub fn set_scheduler(mut attr: SchedAttr) -> Result<()> {
    attr.size = u32::try_from(size_of::<SchedAttr>()).unwrap_or(48);
    // SAFETY: `attr` is the kernel's sched_attr (version 0, 48 bytes) and says its size.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    check(done, format_args!("sched_setattr({attr:?})"))
}

/// ioprio_set(2) for the caller.
///
/// # Errors
/// EPERM, EINVAL as the manual says.
pub fn set_io_priority(class: u32, level: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: takes integers.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (class << 13) | level) };
    check(done, format_args!("ioprio_set({class}, {level})"))
}

/// set_mempolicy(2) for the caller: `mode` with its flags, and a bit for each node.
///
/// # Errors
/// EINVAL for a mode that does not go with these nodes, ENOSYS without NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { size_of_val(nodes) * 8 + 1 };
    let mask = if nodes.is_empty() { ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask is null with no bit, or a slice of as many bits as are said and one that the kernel does not look at.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    check(done, format_args!("set_mempolicy({mode:#x}, {nodes:x?})"))
}
