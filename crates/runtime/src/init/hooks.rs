//! The hooks of a container's first process: those before it leaves the old root, and those before its program.

use std::os::fd::BorrowedFd;

use tinyd_core::{Result, oci};

use super::{Become, Child};
use crate::{
    hooks,
    launch::{
        kernel,
        sync::{Phase, Sync},
    },
};

impl Child<'_> {
    /// The mounts are made and the old root is still there: the caller's hooks run, then those in these namespaces.
    pub(super) fn hooks_at_creation(&mut self, root: BorrowedFd<'_>) -> Result<()> {
        self.sync.say(Phase::Mounted, b"", &[])?;
        self.sync.hear_phase(Phase::Hooked)?;
        let state = self.state(oci::Status::Creating);
        hooks::run_all(&self.plan.hooks.create_container, &state, || {
            rustix::process::fchdir(root).map_err(|error| kernel("fchdir(root)", &error))
        })
    }

    /// Each runs as the program will: with its identity, its rights and its filter. A filter that asks has nobody who answers yet:
    /// the call does not exist for them.
    pub(super) fn hooks_at_start(&mut self, process: &Become<'_>, gate: &mut Option<Sync>) -> Result<()> {
        if self.plan.hooks.start_container.is_empty() {
            return Ok(());
        }
        let state = self.state(oci::Status::Created);
        hooks::run_all(&self.plan.hooks.start_container, &state, || process.close_door(|_| Ok(())))?;
        // Whoever let it go may have gone; it goes on all the same.
        let _ = gate.as_mut().unwrap_or(&mut self.sync).say(Phase::Onward, b"", &[]);
        Ok(())
    }

    fn state(&self, status: oci::Status) -> oci::ContainerState {
        let pid = rustix::process::getpid().as_raw_pid();
        oci::ContainerState { status, pid: Some(pid), ..self.state.clone() }
    }
}
