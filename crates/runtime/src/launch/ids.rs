//! User namespaces: the container's, mapped from outside, and those that only exist to say how a mount shows its ids.

use std::os::fd::{AsFd, OwnedFd};

use tinyd_core::Result;
use tinyd_sys::{
    ns::{self, Proc, flag},
    process::{self, Forked},
};

use super::step;
use crate::plan::namespaces::IdMaps;

/// Maps the ids of process `pid`'s new user namespace, and opens it.
///
/// # Errors
/// The kernel's refusal, such as EPERM for ids that the caller may not map.
pub(super) fn map(proc: &Proc, pid: i32, ids: &IdMaps) -> Result<OwnedFd> {
    ns::write_id_maps(proc, pid, &ids.uids, &ids.gids).map_err(step("map ids"))?;
    proc.namespace(pid, "user").map_err(step("open the user namespace"))
}

/// A user namespace with these maps and nobody in it.
///
/// # Errors
/// As [`map`].
pub(super) fn namespace_of(proc: &Proc, ids: &IdMaps) -> Result<OwnedFd> {
    match process::clone3(flag::USER, None).map_err(step("make a user namespace"))? {
        Forked::Child => loop {
            // Killed by the parent once the namespace is held by a descriptor.
            let _ = process::die_with_parent();
            let _ = rustix::thread::nanosleep(&rustix::time::Timespec { tv_sec: 3600, tv_nsec: 0 });
        },
        Forked::Parent { pid, pidfd } => {
            let namespace = map(proc, pid, ids);
            process::kill_and_reap(pidfd.as_fd());
            namespace
        }
    }
}
