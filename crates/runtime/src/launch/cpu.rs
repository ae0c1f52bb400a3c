//! The first process on another CPU than its caller, where both have something to do at the same time.
//!
//! The kernel often leaves a new process on the CPU of its parent, mostly although another one is idle (Linux 6.18, two CPUs: 12 times of
//! 20), and there it begins when the parent waits. So it is moved, and free again before it enters its cgroup.

use rustix::{
    fs::{Mode, OFlags},
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
};
use tinyd_core::Result;

use super::kernel;
use crate::plan::numa;

/// How long the list of CPUs may be, in bytes: one that is longer is of a machine with more gaps than CPUs.
const LIST_MAX: usize = 256;

/// The CPUs that the first process can be sent to.
#[derive(Debug)]
pub(super) struct Others(CpuSet);

impl Others {
    /// Every CPU of the machine, when this process may use them all. Where it may not the kernel tells nobody whether somebody has asked
    /// for that (sched_setaffinity(2)), which lasts, or the cpuset is as small as that for now: what was changed could not be put back.
    pub(super) fn look() -> Option<Others> {
        let own = sched_getaffinity(None).ok()?;
        let mut text = [0; LIST_MAX];
        let file = rustix::fs::open(
            c"/sys/devices/system/cpu/online",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        let length = rustix::io::read(&file, &mut text).ok().filter(|length| *length < LIST_MAX)?;
        let online = numa::numbers("online", str::from_utf8(text.get(..length)?).ok()?.trim()).ok()?;
        let may_use = |cpu: &usize| *cpu < CpuSet::MAX_CPU && own.is_set(*cpu);
        (online.len() > 1 && online.iter().all(may_use)).then_some(Others(own))
    }

    /// Moves a process away from this one's CPU; whether it did. Where the kernel refuses, it is as fast as it can be.
    pub(super) fn send_away(mut self, pid: i32) -> bool {
        self.0.unset(sched_getcpu());
        sched_setaffinity(Pid::from_raw(pid), &self.0).is_ok()
    }
}

/// Takes back what [`Others::send_away`] has done to this process: every CPU is asked for, those too that are yet to come, and the kernel gives it
/// those of its cpuset, now and whenever that changes.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn be_free() -> Result<()> {
    let mut every = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| every.set(cpu));
    sched_setaffinity(None, &every).map_err(|error| kernel("sched_setaffinity", &error))
}
