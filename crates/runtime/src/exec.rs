//! One more process in a container that runs: a direct child of the caller, inside all the container's namespaces and its cgroup.
//!
//! The child enters the cgroup before anything else, cannot be traced from inside before it has executed its program, and
//! reaches the container's files only through the container's own mount namespace.

use std::{
    convert::Infallible,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};
use tinyd_core::{Error, Kind, Result, oci, wire};
use tinyd_sys::{
    Ask,
    ns::{self, Proc, flag},
    path,
    process::{self, Forked},
};

use crate::{
    caller::Caller,
    cgroup::Cgroup,
    init::{self, Become},
    launch::{
        self, Agent, Fds, Stdio, Way, agent, ids, kernel,
        labels::{self, Labels},
        step,
        sync::{Phase, Sync},
    },
    plan::{
        namespaces::{self, flag_of},
        process as process_plan,
    },
    seccomp,
    stat::Stat,
};

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
    /// Its state, for whoever answers the process's filter.
    pub state: &'a oci::ContainerState,
    /// Descriptors that the process keeps.
    pub fds: Fds,
    /// How long it may take to its program; none waits on, as for a container that is frozen.
    pub patience: Option<Duration>,
    /// Who asks for it.
    pub caller: Caller,
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

/// A process on its way to its program.
#[derive(Debug)]
pub struct Starting {
    exec: Exec,
    sync: Sync,
    way: Way,
    /// Whether it has said that it is.
    is_ready: bool,
}

/// Runs a process in a container; comes back when its program has been executed.
///
/// # Errors
/// As [`begin`] and [`Starting::hear`]. The process has been reaped then.
pub fn exec(
    target: Target<'_>,
    process: &oci::Process,
    seccomp: &wire::Seccomp,
    stdio: Stdio,
) -> Result<Exec> {
    let mut starting = begin(target, process, seccomp, stdio)?;
    if let Some(patience) = target.patience {
        starting.sync.wait_at_most(patience);
    }
    loop {
        match starting.hear() {
            Ok(true) => return Ok(starting.started()),
            Ok(false) => {}
            Err(error) => {
                process::kill_and_reap(starting.exec.pidfd.as_fd());
                return Err(error);
            }
        }
    }
}

/// Sends a process on its way to its program, and does not wait for it.
///
/// # Errors
/// The step, the call and the errno.
pub fn begin(
    target: Target<'_>,
    process: &oci::Process,
    seccomp: &wire::Seccomp,
    stdio: Stdio,
) -> Result<Starting> {
    let mut warnings = Vec::new();
    let default = oci::Linux::default();
    let linux = target.spec.linux.as_ref().unwrap_or(&default);
    let mut plan = process_plan::plan(process, linux, &mut warnings)?;
    plan.keep_groups(&target.spec.annotations);
    labels::require(&plan, None)?;
    let filter = seccomp::filter(seccomp, plan.capabilities.bounding)?;
    let flags = linux.namespaces.iter().fold(0, |flags, namespace| flags | flag_of(namespace.kind));
    own_pipes(&stdio, linux, &plan)?;
    let proc = Proc::of_host().map_err(step("open /proc"))?;
    let (mut sync, theirs) = Sync::pair()?;
    let is_root = target.caller == Caller::User && flags & flag::USER != 0;
    let cloned = clone_on(plan.affinity[0].as_deref(), || {
        if is_root { clone_as_root(target, flags, &proc, &plan) } else { clone(target, flags) }
    });
    let Forked::Parent { pid, pidfd } = cloned.map_err(|error| not_cloned(target, error))? else {
        drop(sync);
        let process = Become { process: &plan, filter: filter.as_ref(), fds: target.fds };
        let flags = flags & !if is_root { flag::USER } else { 0 };
        Joining { target, flags, is_root, process, proc: &proc, sync: theirs }.run(stdio)
    };
    drop((theirs, stdio));
    if let Err(error) = target.cgroup.attach(pid) {
        process::kill_and_reap(pidfd.as_fd());
        return Err(error);
    }
    launch::raise_limits(&proc, pid, &plan, &mut warnings);
    let agent = Agent::of(seccomp, target.state.clone());
    let exec = Exec { pid, pidfd, terminal: None, warnings };
    // It may have failed already; then it is told why by the next thing that is heard.
    let way = Way::of(pid, agent, false).and_then(|way| sync.say(Phase::Mapped, b"", &[]).map(|()| way));
    match way {
        Ok(way) => Ok(Starting { exec, sync, way, is_ready: false }),
        Err(error) => {
            process::kill_and_reap(exec.pidfd.as_fd());
            Err(error)
        }
    }
}

impl Starting {
    /// Hears the next thing from the process, and waits for it: see its descriptor. Whether it has executed its program.
    ///
    /// # Errors
    /// What kept it from that: the step, the call and the errno; `CommandNotFound` and `CannotExecute` for the program.
    pub fn hear(&mut self) -> Result<bool> {
        if self.is_ready {
            return self.way.hear_once(&mut self.sync);
        }
        let (_, fds) = self.sync.hear_phase(Phase::Ready)?;
        self.exec.terminal = fds.into_iter().next();
        self.is_ready = true;
        Ok(false)
    }

    /// As the host counts.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.exec.pid
    }

    /// The process, once it has executed its program.
    #[must_use]
    pub fn started(self) -> Exec {
        self.exec
    }

    /// Kills it; whoever reaps children reaps it.
    pub fn kill(&self) {
        // One that has ended is what is wanted.
        let _ = process::pidfd_signal(self.exec.pidfd.as_fd(), libc::SIGKILL);
    }
}

/// Readable when there is something to be heard.
impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sync.as_fd()
    }
}

/// Says why there is no process. ENOMEM is also the kernel's word for a PID namespace whose first process has ended
/// (pid_namespaces(7)).
fn not_cloned(target: Target<'_>, error: Error) -> Error {
    let first = || Stat::open(target.pid).and_then(|stat| stat.map_or(Ok(None), |stat| stat.read()));
    let ended =
        error.kind() == Kind::Exhausted && first().is_ok_and(|said| said.is_none_or(|said| said.ended));
    if ended { Error::new(Kind::WrongState, format!("its first process has ended: {error}")) } else { error }
}

/// Clones on these CPUs; the caller goes back to its own.
fn clone_on(cpus: Option<&[usize]>, clone: impl FnOnce() -> Result<Forked>) -> Result<Forked> {
    let Some(cpus) = cpus else { return clone() };
    let own = rustix::thread::sched_getaffinity(None).map_err(|error| kernel("sched_getaffinity", &error))?;
    set_cpus("initial", cpus)?;
    let cloned = clone();
    if !matches!(cloned, Ok(Forked::Child)) {
        rustix::thread::sched_setaffinity(None, &own).map_err(|error| kernel("sched_setaffinity", &error))?;
    }
    cloned
}

fn set_cpus(field: &str, cpus: &[usize]) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| {
        kernel(&format!("sched_setaffinity({cpus:?})"), &error)
            .of_field(format!("process.execCPUAffinity.{field}"))
    })
}

/// Clones a process that is in the container's cgroup (v2) and PID namespace.
pub(crate) fn clone(target: Target<'_>, flags: u64) -> Result<Forked> {
    if flags & flag::PID == 0 {
        return clone_in_cgroup(target);
    }
    if target.caller.is_rootless() {
        return ids::through_another(
            || clone_in_cgroup(target),
            || {
                ns::join(target.pidfd, flag::PID).map_err(step("join the pid namespace"))?;
                process::clone_sibling(0).map_err(step("clone"))
            },
        );
    }
    // Only children are put into a PID namespace that is joined; the caller goes back to its own, as root of the machine may.
    let own = rustix::fs::open(c"/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| kernel("open(/proc/self/ns/pid)", &error))?;
    ns::join(target.pidfd, flag::PID).map_err(step("join the pid namespace"))?;
    let cloned = clone_in_cgroup(target);
    if !matches!(cloned, Ok(Forked::Child)) {
        ns::join(own.as_fd(), flag::PID).map_err(step("leave the pid namespace"))?;
    }
    cloned
}

fn clone_in_cgroup(target: Target<'_>) -> Result<Forked> {
    match process::clone3(0, target.cgroup.clone_fd()) {
        Err(error) if error.errno() == Some(libc::EBUSY) => {
            let beside = target.cgroup.where_is(target.pid)?;
            process::clone3(0, beside.clone_fd()).map_err(launch::not_cloned)
        }
        cloned => cloned.map_err(launch::not_cloned),
    }
}

/// The same for an ordinary user, and root in the container's user namespace: nothing else can be joined from outside of that.
fn clone_as_root(
    target: Target<'_>,
    flags: u64,
    proc: &Proc,
    process: &process_plan::ProcessPlan,
) -> Result<Forked> {
    let in_between = || {
        // Its files in /proc are out of its own reach once it is somebody else.
        if let (Some(score), Ok(file)) = (process.oom_score_adj, proc.open_own(Path::new("oom_score_adj"))) {
            // What could not be done is seen by who is told of it.
            let _ = rustix::io::write(file, score.to_string().as_bytes());
        }
        let join = || ns::join(target.pidfd, flags & (flag::USER | flag::PID));
        ids::enter_user_namespace(target.cgroup, target.caller, join)?;
        process::clone_sibling(0).map_err(step("clone"))
    };
    ids::through_another(|| clone_in_cgroup(target), in_between)
}

/// How long a process may take to its program. Once it is in the container's PID namespace the container's root can stop it
/// (SIGSTOP), and the caller has other things to do than to wait for that.
pub const PATIENCE: Duration = Duration::from_secs(10);

fn own_pipes(stdio: &Stdio, linux: &oci::Linux, plan: &process_plan::ProcessPlan) -> Result<()> {
    let namespaces = namespaces::plan(linux)?;
    if namespaces.joined_user().is_some() {
        // Whose ids those are is the namespace's business; the process has the descriptors in any case.
        return Ok(());
    }
    let ids = namespaces.ids;
    let (uid, gid) = match &ids {
        Some(ids) => (ids.host_uid(plan.uid), ids.host_gid(plan.gid)),
        None => (Some(plan.uid), Some(plan.gid)),
    };
    let (Some(uid), Some(gid)) = (uid, gid) else {
        return Err(Error::invalid("process.user", "it is not in the id mappings"));
    };
    launch::chown_pipes(stdio, uid, gid);
    Ok(())
}

/// The child, on its way into the container.
struct Joining<'a> {
    target: Target<'a>,
    flags: u64,
    /// Whether it is root in the container, in its cgroup and out of reach already.
    is_root: bool,
    process: Become<'a>,
    /// The host's procfs.
    proc: &'a Proc,
    sync: Sync,
}

impl Joining<'_> {
    fn run(mut self, stdio: Stdio) -> ! {
        let Err(error) = self.join_and_become(stdio);
        self.sync.say_failed(&error);
        process::exit_now(1)
    }

    fn join_and_become(&mut self, stdio: Stdio) -> Result<Infallible> {
        if !self.is_root {
            init::enter_cgroup(self.target.cgroup.procs())?;
        }
        if let Some(cpus) = &self.process.process.affinity[1] {
            set_cpus("final", cpus)?;
        }
        init::leave_keys()?;
        let labels = Labels::open(self.proc, self.process.process)?;
        process::set_not_dumpable().map_err(step("join the container"))?;
        if self.flags & flag::USER != 0 {
            init::leave_groups(self.target.caller, self.process.process.groups.is_none())?;
        }
        ns::join(self.target.pidfd, self.flags & !flag::PID).map_err(step("join the container"))?;
        if self.flags & flag::USER != 0 {
            init::become_root(self.process.process.groups.is_none())?;
        }
        let (master, slave) = match &stdio {
            Stdio::Terminal => Some(terminal().map_err(step("make a terminal"))?).unzip(),
            Stdio::Fds(_) => (None, None),
        };
        self.process.attach_stdio(stdio, slave)?;
        // As the first process does: what is followed now is the container's doing, and none of the host's directories may be open.
        let mut keep = vec![self.sync.as_fd()];
        keep.extend(master.iter().map(AsFd::as_fd));
        keep.extend(labels.files());
        process::close_all_but(self.process.fds.first_other(), &keep).map_err(step("close descriptors"))?;
        let program = self.process.take_identity()?;
        self.sync.hear_phase(Phase::Mapped)?;
        let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
        self.sync.say(Phase::Ready, b"", &fds)?;
        labels.set()?;
        let sync = &mut self.sync;
        self.process.close_door(|listener| agent::hand_over(sync, &listener))?;
        self.process.execute(&program)
    }
}

/// A terminal of the container's devpts. What is at /dev/pts is the container's doing by now: it is checked to be a devpts.
fn terminal() -> tinyd_sys::Result<(OwnedFd, OwnedFd)> {
    const DEVPTS_MAGIC: i64 = 0x1cd1;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty()).ask("open(/)")?;
    let devpts = path::open_in_root(root.as_fd(), Path::new("/dev/pts"), flags)?;
    if rustix::fs::fstatfs(&devpts).ask("fstatfs(/dev/pts)")?.f_type != DEVPTS_MAGIC {
        return Err(tinyd_sys::Error::new("check that /dev/pts is a devpts", rustix::io::Errno::NODEV));
    }
    init::open_terminal(devpts.as_fd())
}
