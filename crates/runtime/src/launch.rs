//! From a configuration to a container whose first process waits before its program.
//!
//! Both the shim and the OCI command line come through here: there is no second way to make a container. The caller, who is
//! root on the host, opens what has to come from the host as detached mounts; the child, who is root only inside, puts them
//! together. Everything the child needs is decided before the clone, so that between the two there is at most one message down
//! (ids are mapped, here are the mounts that needed that) and one up (ready). On cgroup v1 some come down before, with what the caller makes
//! while the child is busy: the mounts, each as soon as it is made, the cgroup, what is seen of the cgroup. See `joining`.

pub(crate) mod agent;
mod attend;
mod birth;
pub(crate) mod cgroups;
mod cpu;
pub(crate) mod ids;
pub(crate) mod joining;
pub(crate) mod labels;
pub(crate) mod mounts;
mod netdev;
pub(crate) mod rdt;
mod rootless;
pub(crate) mod sources;
pub mod sync;
mod way;

use std::{
    fmt::Debug,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Duration,
};

use tinyd_core::{Error, Kind, Result, error::chain, oci, wire};
use tinyd_sys::{
    creds,
    ns::{Proc, flag},
    process::{self, Forked},
};

pub use self::agent::Agent;
pub(crate) use self::attend::raise_limits;
pub(crate) use self::birth::not_cloned;
pub use self::cgroups::View;
use self::{
    attend::attend,
    joining::{Joining, Wanted},
    sync::{Phase, Sync},
};
pub(crate) use self::{rootless::find as program, way::Way};
use crate::{
    caller::Caller,
    cgroup::{Cgroup, CgroupManager, systemd::Unit},
    hooks::{self, Later},
    init::{self, Child, Supplies},
    plan::{self, Plan},
    seccomp,
};

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
    pub gate: Gate<'a>,
    /// Whether a small init is process 1.
    pub init: bool,
    /// Who makes its cgroup.
    pub manager: CgroupManager,
    /// Where: see [`cgroup_of`].
    pub cgroup: &'a str,
    /// systemd's unit for it, when that makes it.
    pub unit: Option<&'a Unit>,
    /// Whether it is made where the caller may, if anywhere.
    pub takes_what_it_gets: bool,
    /// Who asks for it.
    pub caller: Caller,
    /// What a command line may ask for and a daemon does not.
    pub extra: Extra,
    /// The step that fails, for tests: one of [`FAILPOINTS`]. Empty in life.
    pub failpoint: &'a str,
}

/// Rarer wishes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra {
    /// Descriptors from 3 on that the process keeps.
    pub fds: Fds,
    /// Whether the root is only changed, and the old one stays below it: where the old root is the kernel's first file system.
    pub no_pivot: bool,
    /// Whether the process keeps the caller's session keyring.
    pub no_new_keyring: bool,
}

/// Descriptors of the caller that a process keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fds {
    /// How many, from 3 on.
    pub count: u32,
    /// How many of them, the first, are sockets that it is told of (sd_listen_fds(3)).
    pub listen: u32,
}

impl Fds {
    /// The first descriptor that is not kept.
    pub(crate) const fn first_other(self) -> u32 {
        3 + self.count
    }
}

/// The steps that can be made to fail, in the order in which they come; where the cgroup can wait it comes after the clone, and while mounts
/// are made.
pub const FAILPOINTS: [&str; 8] = ["cgroup", "clone", "idmap", "rootfs", "mounts", "pivot", "creds", "exec"];

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
pub enum Gate<'a> {
    /// With the caller, who calls [`Prepared::start`].
    Caller,
    /// With whoever connects to this listening socket (`SOCK_SEQPACKET`) and calls [`start_through`]. The caller may end meanwhile.
    Listener(OwnedFd),
    /// Nowhere: it executes it as soon as it is ready and this one has seen it, and is heard when it has. Only for a container without hooks,
    /// without anything that is given once its mounts are made (devices of a network, clocks), whose filter asks nobody, and in no unit of
    /// systemd's.
    Open(&'a dyn Witness),
}

impl<'a> Gate<'a> {
    /// Whom nobody has to wait for.
    fn witness(&self) -> Option<&'a dyn Witness> {
        match self {
            Gate::Open(witness) => Some(*witness),
            Gate::Caller | Gate::Listener(_) => None,
        }
    }
}

/// Somebody who writes down what comes of a container while it is made.
pub trait Witness: Debug {
    /// Is told before anything is made that would outlast this process: a cgroup. Where the `first` process is there already, it is
    /// seen with that; without its cgroup it ends when this one does.
    ///
    /// # Errors
    /// What keeps it from that: the container does not come about then.
    fn begin(&self, first: Option<i32>) -> Result<()>;

    /// Is told after that, and when the first process has all that is made for it, if it is there already: what can wait until then.
    ///
    /// # Errors
    /// What keeps it from that: the container does not come about then.
    fn go_on(&self) -> Result<()>;

    /// Sees it, as the host counts, unless it has.
    ///
    /// # Errors
    /// What kept it from that: the container does not come about then.
    fn see(&self, pid: i32) -> Result<()>;
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
    /// Its network namespace and a `NETLINK_ROUTE` socket made inside, when the namespace is new and the gate not open.
    pub network: Option<(OwnedFd, OwnedFd)>,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// What could not be done and was not asked for by name, one line each.
    pub warnings: Vec<String>,
    /// The hooks that are still due.
    pub later: Later,
    /// Its share of cache and memory bandwidth.
    pub rdt: Option<rdt::Group>,
    /// What it has of the host's network devices.
    given: Option<netdev::Given>,
    /// Who answers its filter.
    agent: Option<Agent>,
    /// Whether it stays, and the program is its child's.
    init: bool,
    /// Whether it waits for nobody.
    is_open: bool,
    /// The conversation with the first process.
    gate: Sync,
}

impl Prepared {
    /// Lets the program go, and runs the hooks that come then.
    ///
    /// # Errors
    /// As [`Prepared::execute`] and [`Prepared::poststart`].
    pub fn start(&mut self) -> Result<()> {
        self.execute()?;
        self.poststart()
    }

    /// Lets the program go, unless the gate is open; comes back when it has been executed.
    ///
    /// # Errors
    /// `CommandNotFound`, `CannotExecute` and the like; [`Prepared::destroy`] is due then.
    pub fn execute(&mut self) -> Result<()> {
        let (agent, has_hooks) = (self.agent.take(), self.later.has_some_at_start());
        let way = match self.init {
            true => Way::of_child(self.pid, agent, has_hooks),
            false => Way::of(self.pid, agent, has_hooks)?,
        };
        if !self.is_open {
            self.gate.say(Phase::Go, b"", &[])?;
        }
        way.hear(&mut self.gate)
    }

    /// Runs the hooks that come when the program has been executed.
    ///
    /// # Errors
    /// A hook's failure; [`Prepared::destroy`] is due then.
    pub fn poststart(&self) -> Result<()> {
        self.later.poststart(self.pid)
    }

    /// Why something failed: what the first process said if it has ended meanwhile, or else `error`.
    #[must_use]
    pub fn cause(&self, error: Error) -> Error {
        self.gate.cause(error)
    }

    /// Gives the host back what the container has of its network devices: it does not come about after all.
    pub fn take_back_devices(&self) {
        if let Some(given) = &self.given {
            given.take_back();
        }
    }

    /// Kills what runs, reaps the first process, removes the cgroup. The hooks after that are the caller's to run, once nothing at
    /// all is left: see [`Later::poststop`].
    ///
    /// # Errors
    /// All that could not be taken away.
    pub fn destroy(self) -> Result<()> {
        process::kill_and_reap(self.pidfd.as_fd());
        self.cgroup.remove()?;
        self.rdt.as_ref().map_or(Ok(()), rdt::Group::remove)
    }
}

/// Lets the program of a container go that was made with [`Gate::Listener`]. `told` is called once the first process has been told.
///
/// # Errors
/// As [`Prepared::start`].
pub(crate) fn start_through(connection: OwnedFd, way: &Way, told: impl FnOnce()) -> Result<()> {
    let mut gate = Sync::new(connection);
    gate.say(Phase::Go, b"", &[])?;
    told();
    way.hear(&mut gate)
}

/// Has the first process of a container end that was made with [`Gate::Listener`], where nobody has written down which one it is.
///
/// # Errors
/// EPIPE when it has ended already.
pub fn leave_through(connection: OwnedFd) -> Result<()> {
    Sync::new(connection).say(Phase::Leave, b"", &[])
}

/// How long the first process may take from one word to the next: less than the daemon waits for an answer. Those whose hooks run on the
/// way are waited for: hooks have time limits of their own. One with an open gate may say nothing for twice as long before it is noticed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A container that was not made.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// What kept a part of it from being taken away again.
    pub left: Option<Error>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused { error, left: None }
    }
}

impl Refused {
    /// Both in one.
    #[must_use]
    pub fn told(self) -> Error {
        let Refused { error, left } = self;
        match left {
            Some(left) => Error::new(error.kind(), format!("{error}; something of it is left: {left}")),
            None => error,
        }
    }
}

/// Makes a container up to, but not including, its program.
///
/// # Errors
/// The step, the call and the errno; nothing of the attempt is left, unless that is said.
pub fn prepare(launch: Launch<'_>) -> Result<Prepared, Refused> {
    let terminal = matches!(launch.stdio, Stdio::Terminal);
    let joined_ids = joined_ids(launch.spec)?;
    let caller = launch.caller;
    let context = plan::Context {
        bundle: launch.bundle,
        terminal,
        idmap_root: launch.idmap_root,
        joined_ids: joined_ids.as_ref(),
        no_pivot: launch.extra.no_pivot,
        caller,
    };
    let mut plan = plan::plan(launch.spec, context)?;
    rootless::require(&plan, caller)?;
    let linux = launch.spec.linux.as_ref();
    let mount_label = linux.and_then(|linux| linux.mount_label.as_deref());
    labels::require(&plan.process, mount_label.filter(|label| !label.is_empty()))?;
    warn_of_capabilities(&mut plan)?;
    let filter = seccomp::filter(launch.seccomp, plan.process.capabilities.bounding)?;
    let rdt = rdt::group(linux, launch.id)?;
    let mut joining = Joining::begin(Wanted::of(&launch), &plan)?;
    let mut warnings = std::mem::take(&mut plan.warnings);
    let state = hooks::state(launch.id, launch.bundle, launch.spec);
    let later = Later::new(&plan.hooks, state.clone(), launch.bundle);
    let told = oci::ContainerState { status: oci::Status::Created, ..state.clone() };
    let agent = Agent::of(launch.seccomp, told);
    let resources = linux.and_then(|linux| linux.resources.as_ref());
    let (init, is_open) = (launch.init, matches!(launch.gate, Gate::Open(_)));
    let made = make(launch, &plan, filter.as_ref(), (&mut joining, rdt.as_ref()), (&state, &mut warnings));
    let was_made = joining.is_made();
    let (mut cgroup, refused) = joining.end();
    warnings.splice(..0, refused);
    warnings.extend(cgroup.settle(resources));
    match made {
        Ok(Made { pid, pidfd, gate, terminal, network, given }) => Ok(Prepared {
            pid,
            pidfd,
            terminal,
            network,
            cgroup,
            warnings,
            later,
            rdt,
            given,
            agent,
            init,
            is_open,
            gate,
        }),
        Err(error) => {
            // Without a cgroup it has not come to its group, and one of that name is a container's of the same id.
            let group = rdt.as_ref().filter(|_| was_made);
            let removed = cgroup.remove().and(group.map_or(Ok(()), rdt::Group::remove));
            if was_made {
                // The error that is told is the one that led here.
                let _ = later.poststop();
            }
            Err(Refused { error, left: removed.err() })
        }
    }
}

/// The id maps of the user namespace that a configuration joins: what the caller makes for the container belongs to its root.
fn joined_ids(spec: &oci::Spec) -> Result<Option<plan::namespaces::IdMaps>> {
    let listed = spec.linux.iter().flat_map(|linux| &linux.namespaces).enumerate();
    let mut users = listed.filter(|(_, namespace)| namespace.kind == oci::NamespaceKind::User);
    let named = users.find_map(|(at, namespace)| {
        let path = namespace.path.as_deref().filter(|path| !path.is_empty())?;
        Some((format!("linux.namespaces[{at}]"), path))
    });
    named.map(|(field, path)| ids::of_path(&field, path)).transpose()
}

/// The cgroup of a container: the one that its configuration names, or the usual one.
#[must_use]
pub fn cgroup_of(spec: &oci::Spec, id: &str) -> String {
    let given = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.clone());
    given.filter(|path| !path.is_empty()).unwrap_or_else(|| default_cgroup(id))
}

/// The cgroup of a container whose configuration names none.
#[must_use]
pub fn default_cgroup(id: &str) -> String {
    format!("/tinyrun-{id}")
}

/// Without a user namespace of its own the container gets no capability that the caller lacks.
fn warn_of_capabilities(plan: &mut Plan) -> Result<()> {
    if plan.namespaces.has(flag::USER) {
        return Ok(());
    }
    let ours = creds::capabilities().map_err(step("read capabilities"))?.permitted;
    let wanted = plan.process.capabilities.permitted;
    for number in wanted.numbers().filter(|number| !ours.has(*number)) {
        let name = creds::CAPABILITIES.get(number as usize).copied().unwrap_or("CAP_?");
        plan.warnings
            .push(format!("process.capabilities: {name} cannot be given: the runtime does not have it"));
    }
    Ok(())
}

struct Made {
    pid: i32,
    pidfd: OwnedFd,
    gate: Sync,
    terminal: Option<OwnedFd>,
    network: Option<(OwnedFd, OwnedFd)>,
    given: Option<netdev::Given>,
}

/// Opens, clones, maps, waits for ready. On an error the child is gone.
fn make(
    launch: Launch<'_>,
    plan: &Plan,
    filter: Option<&seccomp::Filter>,
    (joining, rdt): (&mut Joining<'_>, Option<&rdt::Group>),
    (state, warnings): (&oci::ContainerState, &mut Vec<String>),
) -> Result<Made> {
    joining.fail_if_made()?;
    let proc = Proc::of_host().map_err(step("open /proc"))?;
    let context =
        sources::Context { rootfs: launch.rootfs, bundle: launch.bundle, proc: &proc, userns: None };
    let inside = launch.caller.opens_inside(&plan.namespaces).then_some((context, joining.cgroup()));
    let supplies = if joining.waits() {
        Supplies::coming(plan)
    } else if inside.is_some() {
        Supplies::here(plan, plan.sources.iter().map(|_| None).collect())
    } else {
        Supplies::here(plan, sources::open_early(plan, context, warnings)?)
    };
    let (mut ours, theirs) = Sync::pair()?;
    let witness = launch.gate.witness();
    own_pipes(&launch.stdio, plan)?;
    let child = Child {
        plan,
        filter,
        sync: theirs,
        supplies,
        joins: birth::open_joins(plan)?,
        entry: joining.entry(plan, inside.is_some())?,
        inside,
        caller: launch.caller,
        stdio: launch.stdio,
        gate: launch.gate,
        init: launch.init,
        extra: launch.extra,
        die_with_parent: launch.die_with_parent,
        failpoint: launch.failpoint,
        state,
        proc: &proc,
        warnings: Vec::new(),
    };
    let cgroup = (joining.cgroup(), joining.made_meanwhile());
    let cloned = birth::clone(plan, cgroup, &child.joins, launch.caller)?;
    let Forked::Parent { pid, pidfd } = cloned else {
        drop(ours);
        init::run(child)
    };
    drop(child);
    if !plan.hooks.run_in_container() {
        ours.wait_at_most(PATIENCE);
    }
    let mut given = None;
    let ready = failpoint(launch.failpoint, "clone")
        .and_then(|()| {
            joining.let_in(pid, plan, &mut ours, |sync| sources::hand_over(plan, context, warnings, sync))
        })
        .and_then(|()| joining.cgroup().attach(pid))
        .and_then(|()| rdt.map_or(Ok(()), |group| group.enter(pid)))
        .and_then(|()| {
            let kept = (&mut *warnings, &mut given);
            let first = (pid, state, witness);
            attend(plan, (context, launch.caller), first, &mut ours, launch.failpoint, kept)
        })
        // Nothing can be done for one that has ended: what it said is why. That there is no cgroup is not about it.
        .map_err(|error| if joining.is_made() { ours.cause(error) } else { error });
    match ready {
        Ok((terminal, network)) => Ok(Made { pid, pidfd, gate: ours, terminal, network, given }),
        Err(error) => {
            if let Some(given) = &given {
                given.take_back();
            }
            process::kill_and_reap(pidfd.as_fd());
            Err(error)
        }
    }
}

/// Gives the pipes of the standard streams to the process's user: it may open /dev/stdout, which opens the pipe anew.
fn own_pipes(stdio: &Stdio, plan: &Plan) -> Result<()> {
    let (uid, gid) = match plan.namespaces.id_maps() {
        Some(ids) => (ids.host_uid(plan.process.uid), ids.host_gid(plan.process.gid)),
        None => (Some(plan.process.uid), Some(plan.process.gid)),
    };
    let (Some(uid), Some(gid)) = (uid, gid) else {
        return Err(Error::invalid("process.user", "it is not in the id mappings"));
    };
    chown_pipes(stdio, uid, gid);
    Ok(())
}

/// Gives the pipes among the standard streams to a user of the host.
pub(crate) fn chown_pipes(stdio: &Stdio, uid: u32, gid: u32) {
    let Stdio::Fds(fds) = stdio else { return };
    for fd in fds {
        let is_pipe = rustix::fs::fstat(fd).is_ok_and(|stat| {
            stat.st_uid != uid && rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo()
        });
        if is_pipe {
            // Where it is not allowed the process still has the descriptor, and only cannot open it anew.
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            let _ = rustix::fs::fchown(fd, Some(uid), Some(gid));
        }
    }
}

/// Fails when this is the step that shall fail.
///
/// # Errors
/// `Internal`, when `wanted` is `name`.
pub(crate) fn failpoint(wanted: &str, name: &str) -> Result<()> {
    if wanted == name {
        return Err(Error::new(Kind::Internal, format!("failpoint {name}")));
    }
    Ok(())
}

/// Says which step a call of the kernel belonged to.
pub(crate) fn step<'a>(what: &'a str) -> impl FnOnce(tinyd_sys::Error) -> Error + 'a {
    move |error| {
        let kind = match error.errno() {
            Some(libc::ENOMEM | libc::ENOSPC | libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::EDQUOT) => {
                Kind::Exhausted
            }
            Some(_) | None => Kind::Internal,
        };
        Error::new(kind, format!("{what}: {}", chain(&error)))
    }
}

/// A failure of a call that is made here.
pub(crate) fn kernel(call: &str, error: &dyn std::error::Error) -> Error {
    Error::new(Kind::Internal, format!("{call}: {}", chain(error)))
}
