//! The container that a shim owns, and the verbs that act on it.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::SystemTime,
};

use tinyd_core::{
    Error, Event, Kind, Result, State, oci,
    time::unix_nanos,
    wire::{ExecPlan, Forward, Message, Plan, Status, VERSION},
};
use tinyd_sys::process::pidfd_signal;

use super::{log::Log, streams::Streams};
use crate::{
    exec::{Exec, Target, exec},
    launch::{Gate, Launch, Prepared, Stdio, prepare},
};

/// SIGKILL.
const SIGKILL: i32 = 9;

/// A container between its creation and its end.
#[derive(Debug)]
pub(super) struct Container {
    /// What the runtime made.
    pub(super) prepared: Prepared,
    /// Where it is: created, running or paused.
    pub(super) state: State,
    /// Its streams.
    pub(super) streams: Streams,
    /// Where its exit status goes.
    pub(super) run_dir: PathBuf,
    /// Its ports, with their listening sockets, until they are forwarded.
    pub(super) ports: Vec<(Forward, OwnedFd)>,
    /// The part of its configuration that an exec needs.
    spec: oci::Spec,
    failpoint: String,
}

impl Container {
    /// Makes a container up to, but not including, its program. `sockets` are those of the plan's forwards.
    ///
    /// # Errors
    /// As [`prepare`]; nothing of the attempt is left.
    pub(super) fn create(plan: Plan, sockets: Vec<OwnedFd>) -> Result<Container> {
        let log = Log::open(plan.log_path.as_deref())?;
        let (mut streams, stdio) = match wants_terminal(&plan.spec) {
            true => (Streams::empty(log), Stdio::Terminal),
            false => Streams::pipes(plan.stdin_open, log)?,
        };
        own_pipes(&stdio, &plan.spec)?;
        let mut prepared = prepare(Launch {
            id: plan.id.as_str(),
            spec: &plan.spec,
            bundle: &plan.run_dir,
            rootfs: &plan.rootfs,
            seccomp: &plan.seccomp,
            stdio,
            idmap_root: true,
            die_with_parent: true,
            gate: Gate::Caller,
            init: plan.init,
            failpoint: &plan.failpoint,
        })?;
        let complete = complete(&mut prepared, &mut streams, &plan);
        if let Err(error) = complete {
            return Err(undo(prepared, error));
        }
        Ok(Container {
            prepared,
            state: State::Created,
            streams,
            run_dir: plan.run_dir,
            ports: plan.forwards.into_iter().zip(sockets).collect(),
            spec: what_exec_needs(plan.spec),
            failpoint: plan.failpoint,
        })
    }

    /// What [`Message::Created`] says, and its descriptors.
    pub(super) fn created(&mut self) -> (Message, Vec<OwnedFd>) {
        let fds = self.prepared.network.take().map_or_else(Vec::new, |(netns, route)| vec![netns, route]);
        let warnings = std::mem::take(&mut self.prepared.warnings);
        (Message::Created { pid: self.prepared.pid, warnings }, fds)
    }

    /// Lets the program go; when.
    ///
    /// # Errors
    /// As [`Prepared::start`]; [`Container::take_down`] is due then. `WrongState` when it runs already.
    pub(super) fn start(&mut self) -> Result<i64> {
        match self.state {
            State::Created => {}
            State::Running { .. } | State::Paused { .. } | State::Stopped { .. } => {
                return Err(wrong("start", self.state));
            }
        }
        fail_at(&self.failpoint, "shim.start")?;
        self.prepared.start()?;
        let at_unix_nanos = unix_nanos(SystemTime::now());
        self.advance(Event::Started { pid: self.prepared.pid, at_unix_nanos })?;
        Ok(at_unix_nanos)
    }

    /// Takes away one that has not started, or could not.
    ///
    /// # Errors
    /// All that could not be taken away.
    pub(super) fn take_down(self) -> Result<()> {
        self.prepared.destroy()
    }

    /// Runs one more process. `stdio` are its streams, unless it has a terminal.
    ///
    /// # Errors
    /// As [`exec`]; `WrongState` unless the container runs.
    pub(super) fn exec(&self, plan: &ExecPlan, stdio: Stdio) -> Result<Exec> {
        self.require_running("exec in")?;
        own_pipes(&stdio, &self.spec_for(&plan.process))?;
        let target = Target {
            pid: self.prepared.pid,
            pidfd: self.prepared.pidfd.as_fd(),
            cgroup: &self.prepared.cgroup,
            spec: &self.spec,
        };
        let done = exec(target, &plan.process, &plan.seccomp, stdio)?;
        if let (Some(size), Some(master)) = (plan.process.console_size, &done.terminal) {
            // The size is a wish; a terminal without one works.
            let _ = tinyd_sys::tty::set_size(master.as_fd(), size.height, size.width);
        }
        Ok(done)
    }

    fn spec_for(&self, process: &oci::Process) -> oci::Spec {
        oci::Spec { process: Some(process.clone()), linux: self.spec.linux.clone(), ..oci::Spec::default() }
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// `WrongState` unless it is alive, `InvalidArgument` for a number that is no signal.
    pub(super) fn signal(&mut self, number: i32) -> Result<()> {
        if !self.state.is_alive() {
            return Err(wrong("signal", self.state));
        }
        if !(1..=64).contains(&number) {
            return Err(Error::invalid("signal", format!("{number} is no signal: 1 to 64")));
        }
        pidfd_signal(self.prepared.pidfd.as_fd(), number).map_err(|error| Error::internal(&error))?;
        // A frozen process of cgroup v1 does not even notice that it is killed.
        if number == SIGKILL && matches!(self.state, State::Paused { .. }) {
            self.resume()?;
        }
        Ok(())
    }

    /// Freezes it.
    ///
    /// # Errors
    /// `WrongState` unless it runs, the kernel's refusal.
    pub(super) fn pause(&mut self) -> Result<()> {
        self.require_running("pause")?;
        self.prepared.cgroup.freeze()?;
        self.advance(Event::Paused)
    }

    /// Thaws it.
    ///
    /// # Errors
    /// `WrongState` unless it is paused, the kernel's refusal.
    pub(super) fn resume(&mut self) -> Result<()> {
        if !matches!(self.state, State::Paused { .. }) {
            return Err(wrong("resume", self.state));
        }
        self.prepared.cgroup.thaw()?;
        self.advance(Event::Resumed)
    }

    /// Where it is.
    pub(super) fn status(&self) -> Status {
        Status { version: VERSION, state: Some(self.state), oom: self.has_oom() }
    }

    /// Whether the kernel has killed one of its processes for memory.
    pub(super) fn has_oom(&self) -> bool {
        self.prepared.cgroup.oom_kills().is_ok_and(|count| count > 0)
    }

    fn advance(&mut self, event: Event) -> Result<()> {
        self.state =
            self.state.on(event).map_err(|denied| Error::new(Kind::WrongState, denied.to_string()))?;
        Ok(())
    }

    fn require_running(&self, verb: &str) -> Result<()> {
        if matches!(self.state, State::Running { .. }) { Ok(()) } else { Err(wrong(verb, self.state)) }
    }
}

/// What is left to do once the runtime has made the container.
fn complete(prepared: &mut Prepared, streams: &mut Streams, plan: &Plan) -> Result<()> {
    fail_at(&plan.failpoint, "shim.created")?;
    let Some(master) = prepared.terminal.take() else { return Ok(()) };
    streams.take_terminal(master)?;
    let size = plan.spec.process.as_ref().and_then(|process| process.console_size);
    size.map_or(Ok(()), |size| streams.resize(size.height, size.width))
}

fn undo(prepared: Prepared, error: Error) -> Error {
    match prepared.destroy() {
        Ok(()) => error,
        Err(left) => Error::new(error.kind(), format!("{error}; and then: {left}")),
    }
}

fn wants_terminal(spec: &oci::Spec) -> bool {
    spec.process.as_ref().is_some_and(|process| process.terminal)
}

/// The plan is large and lives as long as the container: only namespaces and ids are kept.
fn what_exec_needs(spec: oci::Spec) -> oci::Spec {
    let linux = spec.linux.map(|linux| oci::Linux {
        namespaces: linux.namespaces,
        uid_mappings: linux.uid_mappings,
        gid_mappings: linux.gid_mappings,
        cgroups_path: linux.cgroups_path,
        ..oci::Linux::default()
    });
    oci::Spec { oci_version: spec.oci_version, linux, ..oci::Spec::default() }
}

/// Gives pipes to the process's user, so that it may open them again as `/dev/stdout` and its like. Anything that is no pipe is left
/// as it is.
fn own_pipes(stdio: &Stdio, spec: &oci::Spec) -> Result<()> {
    let (Stdio::Fds(fds), Some(process)) = (stdio, &spec.process) else { return Ok(()) };
    let none = oci::Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&none);
    let uid = host_id(&linux.uid_mappings, process.user.uid);
    let gid = host_id(&linux.gid_mappings, process.user.gid);
    for fd in fds {
        own_pipe(fd, uid, gid)
            .map_err(|error| Error::new(Kind::Internal, format!("fchown(pipe, {uid}): {error}")))?;
    }
    Ok(())
}

fn own_pipe(fd: &OwnedFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    use rustix::fs::{FileType, Gid, Uid, fchown, fstat};
    if FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Fifo {
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(())
}

/// The host's number for an id of the container; without mappings it is the same.
fn host_id(mappings: &[oci::IdMapping], id: u32) -> u32 {
    let host = |map: &oci::IdMapping| {
        let offset = id.checked_sub(map.container_id).filter(|offset| *offset < map.size)?;
        map.host_id.checked_add(offset)
    };
    mappings.iter().find_map(host).unwrap_or(id)
}

/// Fails when this is the step that a test wants to fail.
pub(super) fn fail_at(wanted: &str, here: &str) -> Result<()> {
    if wanted == here {
        return Err(Error::new(Kind::Internal, format!("failpoint {here}")));
    }
    Ok(())
}

/// A refusal that names both.
pub(super) fn wrong(verb: &str, state: State) -> Error {
    Error::new(Kind::WrongState, format!("cannot {verb} a container that is {}", state.word()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_to_the_hosts() {
        let maps = [
            oci::IdMapping { container_id: 0, host_id: 100_000, size: 1000 },
            oci::IdMapping { container_id: 1000, host_id: 5, size: 1 },
        ];
        assert_eq!(host_id(&maps, 0), 100_000);
        assert_eq!(host_id(&maps, 999), 100_999);
        assert_eq!(host_id(&maps, 1000), 5);
        assert_eq!(host_id(&[], 7), 7);
    }
}
