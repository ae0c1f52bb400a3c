//! From a configuration to a container whose first process waits before its program.
//!
//! Both the shim and the OCI command line come through here: there is no second way to make a container.

use std::{os::fd::OwnedFd, path::Path};

use tinyd_core::{Result, oci, wire};

use crate::cgroup::Cgroup;

/// What to make.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The container's id, for messages and names.
    pub id: &'a str,
    /// Its configuration.
    pub spec: &'a oci::Spec,
    /// What relative paths in the configuration are relative to.
    pub bundle: &'a Path,
    /// What the root is made of.
    pub rootfs: &'a wire::Rootfs,
    /// Which system call filter.
    pub seccomp: &'a wire::Seccomp,
    /// Standard input, output, error; or a terminal.
    pub stdio: Stdio,
    /// Whether the root's layers show their files with the container's ids (when it has a user namespace of its own). A bundle's
    /// root belongs to the container's ids already; an image of the daemon's belongs to the host's.
    pub idmap_root: bool,
    /// Whether the first process is killed when the caller ends.
    pub die_with_parent: bool,
    /// Where the first process waits for its program.
    pub gate: Gate,
    /// Whether a small init is process 1.
    pub init: bool,
    /// The step that fails, for tests. Empty in life.
    pub failpoint: &'a str,
}

/// Where a process's standard streams come from.
#[derive(Debug)]
pub enum Stdio {
    /// These three.
    Fds([OwnedFd; 3]),
    /// A new terminal of the container's own devpts; the master side is in [`Prepared::terminal`].
    Terminal,
}

/// Where the first process waits for its program.
#[derive(Debug)]
pub enum Gate {
    /// With the caller, who calls [`Prepared::start`].
    Caller,
    /// With whoever connects to this listening socket (`SOCK_SEQPACKET`) and calls [`start_through`]. The caller may end meanwhile.
    Listener(OwnedFd),
}

/// A container whose first process waits before its program. Dropping it without [`Prepared::destroy`] leaves the kernel's
/// objects as they are.
#[derive(Debug)]
pub struct Prepared {
    /// The first process, as the host counts.
    pub pid: i32,
    /// The first process.
    pub pidfd: OwnedFd,
    /// The terminal's master side.
    pub terminal: Option<OwnedFd>,
    /// Its network namespace and a `NETLINK_ROUTE` socket made inside, when the namespace is new.
    pub network: Option<(OwnedFd, OwnedFd)>,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// What could not be done and was not asked for by name, one line each.
    pub warnings: Vec<String>,
    /// The sync socket on which the first process waits.
    pub gate: OwnedFd,
}

impl Prepared {
    /// Lets the program go; comes back when it has been executed.
    ///
    /// # Errors
    /// `CommandNotFound`, `CannotExecute` and the like; the first process has ended then, and [`Prepared::destroy`] is due.
    pub fn start(&mut self) -> Result<()> {
        todo!()
    }

    /// Kills what runs, reaps the first process, removes the cgroup.
    ///
    /// # Errors
    /// All that could not be taken away.
    pub fn destroy(self) -> Result<()> {
        todo!()
    }
}

/// Lets the program of a container go that was made with [`Gate::Listener`].
///
/// # Errors
/// As [`Prepared::start`].
pub fn start_through(connection: OwnedFd) -> Result<()> {
    todo!()
}

#[expect(clippy::todo, unused_variables, reason = "skeleton")]
/// Makes a container up to, but not including, its program.
///
/// # Errors
/// The step, the call and the errno; nothing of the attempt is left.
pub fn prepare(launch: Launch<'_>) -> Result<Prepared> {
    todo!()
}
