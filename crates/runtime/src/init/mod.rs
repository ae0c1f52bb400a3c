//! Acts: the child of the clone, from its first instruction to its program. It walks the plan and decides nothing.
//!
//! It never returns: it ends in the program, or tells the caller what went wrong and exits. It runs as the container's root, in
//! the container's namespaces, while nobody else is in them.

mod become_process;
mod copy_up;
mod covers;
mod home;
mod hooks;
mod mounts;
mod one;
mod program;
pub(crate) mod running;
mod supplies;
mod terminal;
mod walk;

use std::{
    convert::Infallible,
    fs::File,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{fs::Mode, io::Errno};
use tinyd_core::{Error, Kind, Result, oci};
use tinyd_sys::{
    creds,
    ns::{self, Proc, flag},
    process,
};

use self::walk::Walk;
pub(crate) use self::walk::{bring_lo_up, bring_up_network, open_network};
pub(crate) use self::{
    become_process::{Become, set_streams},
    mounts::file_system,
    supplies::Supplies,
    terminal::open as open_terminal,
};
use crate::{
    caller::Caller,
    cgroup::Cgroup,
    launch::{
        Extra, Gate, Stdio, agent, failpoint,
        joining::{Entry, views_from_inside},
        kernel,
        labels::Labels,
        sources, step,
        sync::{Heard, Phase, Sync},
    },
    plan::{Plan, Step, mounts::SourceKind},
    seccomp::Filter,
};

/// How long the first process waits for a machine that has no memory or no descriptors left.
const GATE_PAUSE: Duration = Duration::from_millis(10);

/// What the child starts with.
#[derive(Debug)]
pub struct Child<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// The system call filter.
    pub filter: Option<&'a Filter>,
    /// The conversation with the caller.
    pub sync: Sync,
    /// What its steps take. Sources that wait for the user namespace come with [`Phase::Mapped`].
    pub(crate) supplies: Supplies<'a>,
    /// Namespaces to join.
    pub joins: Vec<(u64, OwnedFd)>,
    /// How it comes into its cgroup.
    pub(crate) entry: Entry<'a>,
    /// What it opens its sources and that view with, where only it can.
    pub(crate) inside: Option<(sources::Context<'a>, &'a Cgroup)>,
    /// Who asked for it.
    pub caller: Caller,
    /// Standard streams.
    pub stdio: Stdio,
    /// Where to wait before the program.
    pub gate: Gate<'a>,
    /// Whether to stay as process 1.
    pub init: bool,
    /// Rarer wishes.
    pub extra: Extra,
    /// Whether to die with the caller.
    pub die_with_parent: bool,
    /// The step that fails.
    pub failpoint: &'a str,
    /// What its hooks are told.
    pub state: &'a oci::ContainerState,
    /// The host's procfs.
    pub proc: &'a Proc,
    /// What could not be done, one line each.
    pub(crate) warnings: Vec<String>,
}

/// Becomes the container's first process.
pub fn run(mut child: Child<'_>) -> ! {
    let mut gate = None;
    let Err(error) = child.first_process(&mut gate);
    gate.as_mut().unwrap_or(&mut child.sync).say_failed(&error);
    process::exit_now(1)
}

impl Child<'_> {
    fn first_process(&mut self, gate: &mut Option<Sync>) -> Result<Infallible> {
        let is_open = matches!(self.gate, Gate::Open(_));
        let route_socket = self.entry.begin(self.plan, &mut self.sync, is_open)?;
        if self.plan.namespaces.makes(flag::USER) {
            // While it is still who may.
            self.enter_cgroup()?;
        }
        if !self.extra.no_new_keyring {
            leave_keys()?;
        }
        let labels = Labels::open(self.proc, &self.plan.process)?;
        // Of the places that mounts are made on; the program gets its own.
        rustix::process::umask(Mode::from_raw_mode(0o022));
        self.enter_namespaces()?;
        let clocks = self.open_clocks()?;
        failpoint(self.failpoint, "mounts")?;
        let mut walk = Walk::new(self.failpoint);
        walk.route_socket = route_socket;
        walk.warnings.append(&mut self.warnings);
        let plan = self.plan;
        walk.cgroup_is_due = plan.steps.iter().any(|step| step.shows_cgroup().is_some());
        for step in &plan.steps {
            if step.needs_cgroup() {
                self.join_cgroup()?;
            }
            if *step == Step::Hooks {
                self.hooks_at_creation(walk.root()?.as_fd())?;
                continue;
            }
            if step.shows_cgroup().is_some() {
                walk.cgroup_view = Some(self.entry.take_view(&mut self.sync)?);
                walk.cgroup_is_due = false;
            }
            let supply = plan.supply(step);
            walk.supply = supply.map_or(Ok(None), |supply| self.supplies.take(supply, &mut self.sync))?;
            walk.take(step)?;
        }
        self.join_cgroup()?;
        let fds = self.extra.fds;
        let process = Become { process: &self.plan.process, filter: self.filter, fds };
        let stdio = std::mem::replace(&mut self.stdio, Stdio::Terminal);
        process.attach_stdio(stdio, walk.slave.take())?;
        let told = serde_json::to_vec(&walk.warnings).unwrap_or_default();
        let up: Vec<_> = [walk.route_socket.take(), walk.master.take()].into_iter().flatten().collect();
        drop(walk);
        self.leave_descriptors(up.iter().chain(&clocks), &labels)?;
        failpoint(self.failpoint, "creds")?;
        let program = process.take_identity()?;
        if is_open {
            self.sync.hear_phase(Phase::Hooked)?;
        }
        self.sync.say(Phase::Ready, &told, &up.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
        drop(up);
        self.wait_at_gate(gate)?;
        labels.set()?;
        clocks.map_or(Ok(()), |clocks| enter_clocks(&clocks))?;
        self.hooks_at_start(&process, gate)?;
        failpoint(self.failpoint, "exec")?;
        // Before the filter, which may allow none of these calls; after the last change of the user, which would clear it.
        if self.die_with_parent {
            process::die_with_parent().map_err(step("bind to the supervisor"))?;
            gate.as_ref().unwrap_or(&self.sync).require_peer()?;
        }
        let sync = gate.as_mut().unwrap_or(&mut self.sync);
        process.close_door(|listener| agent::hand_over(sync, &listener))?;
        if self.init {
            return one::stay(|| process.execute(&program));
        }
        process.execute(&program)
    }

    /// The new time namespace. The process that makes it is not in it: nobody may be, until its offsets are written.
    fn open_clocks(&self) -> Result<Option<OwnedFd>> {
        let makes = self.plan.namespaces.makes(flag::TIME);
        makes
            .then(|| self.proc.own_namespace("time_for_children"))
            .transpose()
            .map_err(step("linux.timeOffsets"))
    }

    /// Closes all but the conversation, the gate and `others`. From here on paths that the image has a say in are followed: the working
    /// directory, the program. A directory of the host's that is still open would lead out, by `/proc/self/fd/N/..`.
    fn leave_descriptors<'a>(
        &'a self,
        others: impl Iterator<Item = &'a OwnedFd>,
        labels: &'a Labels,
    ) -> Result<()> {
        let mut keep = vec![self.sync.as_fd()];
        keep.extend(others.map(AsFd::as_fd));
        keep.extend(labels.files());
        if let Gate::Listener(listener) = &self.gate {
            keep.push(listener.as_fd());
        }
        process::close_all_but(self.extra.fds.first_other(), &keep).map_err(step("close descriptors"))
    }

    /// Enters and makes namespaces.
    fn enter_namespaces(&mut self) -> Result<()> {
        // An ordinary user could not map the ids of a process that is out of its reach. Nobody else is in its new user namespace, and
        // nobody outside of the host's has a right over it, while it waits for that.
        if !(self.caller == Caller::User && self.plan.namespaces.makes(flag::USER)) {
            hide()?;
        }
        let keep_groups = self.plan.process.groups.is_none();
        for (kind, namespace) in self.joins.drain(..) {
            if self.plan.namespaces.joined_by_caller(kind) {
                continue;
            }
            let is_inside = kind == flag::USER && self.plan.namespaces.born_in_joined_user();
            if !is_inside {
                if kind == flag::USER {
                    leave_groups(self.caller, keep_groups)?;
                }
                ns::join(namespace.as_fd(), kind).map_err(step("join namespaces"))?;
            }
            if kind == flag::USER {
                become_root(keep_groups)?;
                ns::unshare(self.plan.namespaces.new & !(flag::PID | flag::CGROUP | flag::TIME))
                    .map_err(step("make namespaces"))?;
            }
        }
        if self.plan.namespaces.makes(flag::USER) {
            if let Entry::Within = self.entry {
                self.entry.take_views(self.plan, &mut self.sync)?;
            }
            self.wait_for_mapped()?;
            hide()?;
            // Still as the user outside: what it can read its container's root, who may be another one, perhaps cannot.
            self.open_inside(|source| !matches!(source, SourceKind::Dev { .. }))?;
            become_root(keep_groups)?;
        }
        self.open_inside(|_| true)?;
        if let Some((_, cgroup)) = self.inside {
            // From a cgroup namespace of its own it could not say where it is.
            self.entry.set_views(views_from_inside(self.plan, cgroup)?);
        }
        let mut late = self.plan.namespaces.late();
        if let Entry::Coming { .. } = self.entry {
            late &= !flag::CGROUP;
        }
        self.make_namespaces(late)
    }

    /// Makes those of its new namespaces that are due.
    fn make_namespaces(&self, due: u64) -> Result<()> {
        let due = self.plan.namespaces.new & due;
        if due == 0 { Ok(()) } else { ns::unshare(due).map_err(step("make namespaces")) }
    }

    /// Enters its cgroup, where it is not in it yet, and then the namespace whose root that is.
    fn join_cgroup(&mut self) -> Result<()> {
        if self.enter_cgroup()? {
            self.make_namespaces(flag::CGROUP)?;
        }
        Ok(())
    }

    /// Enters a cgroup that is made meanwhile, where it is not in it yet; whether it was not.
    fn enter_cgroup(&mut self) -> Result<bool> {
        self.supplies.take_all(&mut self.sync)?;
        self.entry.enter(&mut self.sync)
    }

    /// Opens those sources of its own that are wanted now.
    fn open_inside(&mut self, is_wanted: impl Fn(&SourceKind) -> bool) -> Result<()> {
        let Some((context, _)) = self.inside else { return Ok(()) };
        for (source, open) in self.supplies.missing().filter(|(source, _)| is_wanted(&source.what)) {
            *open = Some(sources::open(source, context, &mut self.warnings)?);
        }
        Ok(())
    }

    /// Waits until ids are mapped, and takes the mounts that had to wait for that.
    fn wait_for_mapped(&mut self) -> Result<()> {
        if self.inside.is_some() {
            return self.sync.hear_phase(Phase::Mapped).map(drop);
        }
        let due: Vec<_> = self.supplies.missing().map(|(_, open)| open).collect();
        let (_, mut fds) = self.sync.hear_phase(Phase::Mapped)?;
        while fds.len() < due.len() {
            fds.extend(self.sync.hear_phase(Phase::Mapped)?.1);
        }
        for (open, fd) in due.into_iter().zip(fds) {
            *open = Some(fd);
        }
        Ok(())
    }

    fn wait_at_gate(&mut self, through: &mut Option<Sync>) -> Result<()> {
        let listener = match &self.gate {
            Gate::Listener(listener) => listener,
            Gate::Caller => return self.sync.hear_phase(Phase::Go).map(drop),
            Gate::Open(_) => return Ok(()),
        };
        loop {
            let connection = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC);
            let mut sync = match connection {
                Ok(connection) => Sync::new(connection),
                Err(Errno::INTR) => continue,
                // Its creation has been told, and nobody would hear why it ended.
                Err(Errno::NOMEM | Errno::NOBUFS | Errno::MFILE | Errno::NFILE) => {
                    // Until the machine has got something again, of which the kernel tells nobody.
                    std::thread::sleep(GATE_PAUSE);
                    continue;
                }
                Err(error) => return Err(kernel("accept(gate)", &error)),
            };
            match sync.hear()? {
                Heard::Phase(Phase::Go, ..) => {
                    *through = Some(sync);
                    return Ok(());
                }
                Heard::Phase(Phase::Leave, ..) => return Err(Error::new(Kind::WrongState, "it is deleted")),
                // Who connects and says nothing has only looked.
                Heard::Phase(..) | Heard::Closed | Heard::Failed(_) => {}
            }
        }
    }
}

/// Enters a v1 cgroup. `0` is the writing thread, and the only one.
pub(crate) fn enter_cgroup(tasks: &[File]) -> Result<()> {
    for mut file in tasks {
        file.write_all(b"0").map_err(|error| kernel("enter the cgroup: write(tasks)", &error))?;
    }
    Ok(())
}

/// Leaves the keys of whoever started the caller behind. Without keyrings, or under a filter that forbids them, there are none to
/// reach.
pub(crate) fn leave_keys() -> Result<()> {
    match creds::new_session_keyring() {
        Err(error) if !matches!(error.errno(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES)) => {
            Err(step("leave the keyring")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Leaves the host's groups before a user namespace is joined that may forbid it afterwards. An ordinary user stays in its own, and so does
/// whoever is to keep them.
pub(crate) fn leave_groups(caller: Caller, keep: bool) -> Result<()> {
    if keep {
        return Ok(());
    }
    match (creds::set_groups(&[]), caller) {
        (Err(error), Caller::User) if error.errno() == Some(libc::EPERM) => Ok(()),
        (left, Caller::Machine | Caller::Namespace { .. } | Caller::User) => {
            left.map_err(step("leave the groups"))
        }
    }
}

/// Whoever shares a PID namespace with this process may neither trace it nor look at its descriptors, which are the host's until
/// the program is executed.
fn hide() -> Result<()> {
    process::set_not_dumpable().map_err(step("join namespaces"))
}

/// Enters the new time namespace. execve(2) does that by itself only since Linux 6.3. Whoever is not root has its capabilities for
/// the asking until the door is closed.
fn enter_clocks(clocks: &OwnedFd) -> Result<()> {
    let have = creds::capabilities().map_err(step("linux.timeOffsets"))?;
    creds::set_capabilities(creds::CapSets { effective: have.permitted, ..have })
        .map_err(step("linux.timeOffsets"))?;
    ns::join(clocks.as_fd(), flag::TIME).map_err(step("linux.timeOffsets"))
}

/// Becomes root of the user namespace that was entered, with no group of the host's left but those that are to be kept.
pub(crate) fn become_root(keep_groups: bool) -> Result<()> {
    creds::set_gid(0).map_err(step("become root"))?;
    creds::set_uid(0).map_err(step("become root"))?;
    if keep_groups {
        return Ok(());
    }
    match creds::set_groups(&[]) {
        // Some user namespaces forbid it; who is in them has no groups to give away.
        Err(error) if error.errno() != Some(libc::EPERM) => Err(step("become root")(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Internal, with a step's name.
pub(crate) fn impossible(what: &str) -> Error {
    Error::new(Kind::Internal, what.to_owned())
}
