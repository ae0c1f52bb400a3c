//! User namespaces: the container's, mapped from outside, and those that only exist to say how a mount shows its ids.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use tinyd_core::{Error, Kind, Result};
use tinyd_sys::{
    mount::FsContext,
    ns::{self, Proc, flag},
    process::{self, Forked},
};

use super::{
    not_cloned, rootless, step,
    sync::{Phase, Sync},
};
use crate::{caller::Caller, cgroup::Cgroup, init, plan::namespaces::IdMaps};

/// Maps the ids of process `pid`'s new user namespace, and opens it.
///
/// # Errors
/// The kernel's refusal, such as EPERM for ids that the caller may not map.
pub(super) fn map(proc: &Proc, pid: i32, ids: &IdMaps, caller: Caller) -> Result<OwnedFd> {
    match caller {
        Caller::Machine | Caller::Namespace { .. } => {
            ns::write_id_maps(proc, pid, &ids.uids, &ids.gids).map_err(step("map ids"))?;
        }
        Caller::User => rootless::map(proc, pid, ids)?,
    }
    proc.namespace(pid, "user").map_err(step("open the user namespace"))
}

/// The id maps of a user namespace that exists: somebody joins it, and is looked at from here.
///
/// # Errors
/// `InvalidArgument` for what is no user namespace, the kernel's refusal.
pub(super) fn of_path(field: &str, path: &str) -> Result<IdMaps> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let file = file.map_err(|error| Error::invalid(field, format!("open {path}: {error}")))?;
    let look = || ns::join(file.as_fd(), flag::USER).map(|()| None).map_err(step("join the user namespace"));
    elsewhere(look, |pid, _| read(pid)).map_err(|error| error.of_field(field))
}

/// The message queues of an IPC namespace, as a detached mount. Who makes it has to be in there.
///
/// # Errors
/// The kernel's refusal: the namespace is another user namespace's.
pub(super) fn queues_of(field: &str, path: &str, attributes: u64) -> Result<OwnedFd> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let file = file.map_err(|error| Error::invalid(field, format!("open {path}: {error}")))?;
    let make = || {
        ns::join(file.as_fd(), flag::IPC)
            .and_then(|()| FsContext::open("mqueue"))
            .and_then(|context| context.set("source", "mqueue").and_then(|()| context.mount(attributes)))
            .map(Some)
            .map_err(step("mount its message queues"))
    };
    let none = || Error::new(Kind::Internal, "the message queues did not come");
    elsewhere(make, |_, made| made.ok_or_else(none)).map_err(|error| error.of_field(field))
}

/// Has another process do something that this one could not come back from. It is looked at, while it is there, and what it has made
/// is taken.
fn elsewhere<T>(
    act: impl FnOnce() -> Result<Option<OwnedFd>>,
    look: impl FnOnce(i32, Option<OwnedFd>) -> Result<T>,
) -> Result<T> {
    let (mut ours, mut theirs) = Sync::pair()?;
    match process::clone3(0, None).map_err(step("clone"))? {
        Forked::Child => {
            drop(ours);
            match act() {
                Ok(made) => {
                    let made: Vec<_> = made.iter().map(AsFd::as_fd).collect();
                    drop(theirs.say(Phase::Ready, b"", &made));
                }
                Err(error) => theirs.say_failed(&error),
            }
            // Looked at until the other side has closed.
            let _ = theirs.hear();
            process::exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            drop(theirs);
            let found = ours.hear_phase(Phase::Ready);
            let found = found.and_then(|(_, fds)| look(pid, fds.into_iter().next()));
            process::kill_and_reap(pidfd.as_fd());
            found
        }
    }
}

fn read(pid: i32) -> Result<IdMaps> {
    let proc = Proc::of_host().map_err(step("open /proc"))?;
    let map = |file: &str| proc.read_id_map(pid, file).map_err(step("read the id maps"));
    Ok(IdMaps { uids: map("uid_map")?, gids: map("gid_map")? })
}

/// Clones a process that is root in a user namespace that exists, and the first of a new PID namespace that belongs to it. One in
/// between joins the one and makes the other; it is this process's child all the same.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn born_in(user: BorrowedFd<'_>, cgroup: &Cgroup, caller: Caller) -> Result<Forked> {
    let in_between = || {
        enter_user_namespace(cgroup, caller, || ns::join(user, flag::USER))?;
        process::clone_sibling(flag::PID).map_err(step("clone"))
    };
    through_another(|| process::clone3(0, cgroup.clone_fd()).map_err(not_cloned), in_between)
}

/// Clones a process from one in between, made by `clone`, which goes where this one could not come back from. It is this process's
/// child all the same.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn through_another(
    clone: impl FnOnce() -> Result<Forked>,
    in_between: impl FnOnce() -> Result<Forked>,
) -> Result<Forked> {
    let (mut ours, mut theirs) = Sync::pair()?;
    let between = clone()?;
    let Forked::Parent { pidfd: between, .. } = between else {
        drop(ours);
        match in_between() {
            Ok(Forked::Child) => return Ok(Forked::Child),
            Ok(Forked::Parent { pid, .. }) => drop(theirs.say(Phase::Ready, &pid.to_ne_bytes(), &[])),
            Err(error) => theirs.say_failed(&error),
        }
        process::exit_now(0)
    };
    drop(theirs);
    let told = ours.hear_phase(Phase::Ready);
    let _ = process::wait(between.as_fd());
    let (pid, _) = told?;
    let pid = pid.try_into().map(i32::from_ne_bytes);
    let pid = pid.map_err(|_| Error::new(Kind::Internal, "the first process has no number"))?;
    let pidfd = process::pidfd_open(pid).map_err(step("clone"))?;
    Ok(Forked::Parent { pid, pidfd })
}

/// Becomes root of the user namespace that `join` joins.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn enter_user_namespace(
    cgroup: &Cgroup,
    caller: Caller,
    join: impl FnOnce() -> tinyd_sys::Result<()>,
) -> Result<()> {
    // A v1 cgroup that is a user's is entered as that user.
    init::enter_cgroup(cgroup.procs())?;
    process::set_not_dumpable().map_err(step("join namespaces"))?;
    init::leave_groups(caller, false)?;
    join().map_err(step("join namespaces"))?;
    init::become_root(false)
}

/// A user namespace with these maps and nobody in it.
///
/// # Errors
/// As [`map`].
pub(super) fn namespace_of(proc: &Proc, ids: &IdMaps) -> Result<OwnedFd> {
    let (ours, mut theirs) = Sync::pair()?;
    match process::clone3(flag::USER, None).map_err(step("make a user namespace"))? {
        Forked::Child => {
            drop(ours);
            // Killed by the parent once the namespace is held by a descriptor. A parent that has ended has closed, at whatever point.
            let _ = theirs.hear();
            process::exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            let namespace = map(proc, pid, ids, Caller::Machine);
            process::kill_and_reap(pidfd.as_fd());
            namespace
        }
    }
}
