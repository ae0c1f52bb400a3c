//! The container that a shim owns, and the verbs that act on it.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::SystemTime,
};

use tinyd_core::{
    Error, Event, Kind, Result, State, oci,
    time::unix_nanos,
    wire::{ExecPlan, Forward, Message, Plan, Rootfs},
};
use tinyd_sys::process::pidfd_signal;

use super::{log::Log, note, streams::Streams};
use crate::{
    caller::Caller,
    cgroup::CgroupManager,
    exec::{self, Starting, Target},
    launch::{self, Extra, Fds, Gate, Launch, Prepared, Refused, Stdio, failpoint, prepare},
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
    /// Who this process is.
    caller: Caller,
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
        let caller = Caller::of_this_process()?;
        let mut prepared = prepare(Launch {
            id: plan.id.as_str(),
            spec: &plan.spec,
            bundle: &plan.run_dir,
            rootfs: &plan.rootfs,
            seccomp: &plan.seccomp,
            stdio,
            // A directory that is the container's own has its owners already.
            idmap_root: !matches!(plan.rootfs, Rootfs::Directory { .. }),
            die_with_parent: true,
            gate: Gate::Caller,
            init: plan.init,
            manager: CgroupManager::Cgroupfs,
            cgroup: &launch::cgroup_of(&plan.spec, plan.id.as_str()),
            unit: None,
            takes_what_it_gets: false,
            caller,
            extra: Extra::default(),
            failpoint: &plan.failpoint,
        })
        .map_err(Refused::told)?;
        let complete = failpoint(&plan.failpoint, "shim.created")
            .and_then(|()| prepared.terminal.take().map_or(Ok(()), |master| streams.take_terminal(master)));
        if let Err(error) = complete {
            return Err(undo(prepared, error));
        }
        Ok(Container {
            prepared,
            caller,
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
        failpoint(&self.failpoint, "shim.start")?;
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
        let later = self.prepared.later.clone();
        let destroyed = self.prepared.destroy();
        later.poststop().iter().for_each(note);
        destroyed
    }

    /// Begins one more process. `stdio` are its streams, unless it has a terminal.
    ///
    /// # Errors
    /// As [`exec::begin`].
    pub(super) fn exec(&self, plan: &ExecPlan, stdio: Stdio) -> Result<Starting> {
        let state = self.prepared.later.running(self.prepared.pid);
        let target = Target {
            pid: self.prepared.pid,
            pidfd: self.prepared.pidfd.as_fd(),
            cgroup: &self.prepared.cgroup,
            spec: &self.spec,
            state: &state,
            fds: Fds::default(),
            patience: Some(exec::PATIENCE),
            caller: self.caller,
        };
        exec::begin(target, &plan.process, &plan.seccomp, stdio)
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

    /// Whether its first process is the first of a PID namespace.
    pub(super) fn has_own_pids(&self) -> bool {
        let namespaces = self.spec.linux.iter().flat_map(|linux| &linux.namespaces);
        namespaces.into_iter().any(|namespace| {
            namespace.kind == oci::NamespaceKind::Pid && namespace.path.as_deref().is_none_or(str::is_empty)
        })
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

    /// Refuses a verb that only a running container takes.
    ///
    /// # Errors
    /// `WrongState`.
    pub(super) fn require_running(&self, verb: &str) -> Result<()> {
        if matches!(self.state, State::Running { .. }) { Ok(()) } else { Err(wrong(verb, self.state)) }
    }
}

fn undo(prepared: Prepared, error: Error) -> Error {
    let later = prepared.later.clone();
    let destroyed = prepared.destroy();
    later.poststop().iter().for_each(note);
    match destroyed {
        Ok(()) => error,
        Err(left) => Error::new(error.kind(), format!("{error}; and then: {left}")),
    }
}

fn wants_terminal(spec: &oci::Spec) -> bool {
    spec.process.as_ref().is_some_and(|process| process.terminal)
}

/// The plan is large and lives as long as the container: only what all of its processes share is kept.
fn what_exec_needs(spec: oci::Spec) -> oci::Spec {
    let linux = spec.linux.map(|linux| oci::Linux {
        namespaces: linux.namespaces,
        uid_mappings: linux.uid_mappings,
        gid_mappings: linux.gid_mappings,
        cgroups_path: linux.cgroups_path,
        personality: linux.personality,
        memory_policy: linux.memory_policy,
        ..oci::Linux::default()
    });
    oci::Spec { oci_version: spec.oci_version, linux, ..oci::Spec::default() }
}

/// A refusal that names both.
pub(super) fn wrong(verb: &str, state: State) -> Error {
    Error::new(Kind::WrongState, format!("cannot {verb} a container that is {}", state.word()))
}
