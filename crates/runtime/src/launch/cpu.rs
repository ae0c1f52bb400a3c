//! The first process on another CPU than its caller, where both have something to do at the same time.
//!
//! The kernel often leaves a new process on the CPU of its parent, mostly although another one is idle (Linux 6.18, two CPUs: 12 times of
//! 20), and there it begins when the parent waits. So it is moved, and free again before it enters its cgroup.

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
};
use tinyd_core::Result;

use super::kernel;
use crate::plan::numa;

/// Moves a process away from this one's CPU; whether it did. Where there is no other one or the kernel refuses, it is as fast as it can be.
pub(super) fn send_away(pid: i32) -> bool {
    let Some(mut others) = every_cpu() else { return false };
    others.unset(sched_getcpu());
    others.count() > 0 && sched_setaffinity(Pid::from_raw(pid), &others).is_ok()
}

/// The CPUs of the machine, when this process may use them all. Where it may not the kernel tells nobody whether somebody has asked for
/// that (sched_setaffinity(2)), which lasts, or the cpuset is as small as that for now: what was changed could not be put back.
fn every_cpu() -> Option<CpuSet> {
    let own = sched_getaffinity(None).ok()?;
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let online = numa::numbers("online", online.trim()).ok()?;
    online.iter().all(|cpu| *cpu < CpuSet::MAX_CPU && own.is_set(*cpu)).then_some(own)
}

/// Takes back what [`send_away`] has done to this process: every CPU is asked for, those too that are yet to come, and the kernel gives it
/// those of its cpuset, now and whenever that changes.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn be_free() -> Result<()> {
    let mut every = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| every.set(cpu));
    sched_setaffinity(None, &every).map_err(|error| kernel("sched_setaffinity", &error))
}
