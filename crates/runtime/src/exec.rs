//! One more process in a container that runs: a direct child of the caller, inside all the container's namespaces and its cgroup.

use std::os::fd::OwnedFd;

use std::os::fd::BorrowedFd;

use tinyd_core::{Result, oci, wire};

use crate::{cgroup::Cgroup, launch::Stdio};

/// Which container.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its first process, as the host counts.
    pub pid: i32,
    /// Its first process.
    pub pidfd: BorrowedFd<'a>,
    /// Its cgroup.
    pub cgroup: &'a Cgroup,
    /// Its configuration: which namespaces are its own.
    pub spec: &'a oci::Spec,
}

/// A process that runs.
#[derive(Debug)]
pub struct Exec {
    /// As the host counts.
    pub pid: i32,
    /// The process; the caller reaps it.
    pub pidfd: OwnedFd,
    /// The terminal's master side.
    pub terminal: Option<OwnedFd>,
    /// What could not be done and was not asked for by name, one line each.
    pub warnings: Vec<String>,
}

/// Runs a process in a container; comes back when its program has been executed.
///
/// # Errors
/// The step, the call and the errno; `CommandNotFound` and `CannotExecute` for the program. The process has been reaped then.
#[expect(clippy::todo, unused_variables, reason = "skeleton")]
pub fn exec(target: Target<'_>, process: &oci::Process, seccomp: &wire::Seccomp, stdio: Stdio) -> Result<Exec> {
    todo!()
}
