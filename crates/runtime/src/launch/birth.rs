//! The birth of the first process: which namespaces it is cloned into, and who goes there for that.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, Stat};
use tinyd_core::{Error, Kind, Result};
use tinyd_sys::{
    ns::{self, flag},
    process::{self, Forked},
};

use super::{ids, kernel, step};
use crate::{
    caller::Caller,
    cgroup::Cgroup,
    plan::{self, Plan},
};

/// Opens the namespaces that are joined.
///
/// # Errors
/// `InvalidArgument` with the field: what is not there, and sysctls or mounts that would be the host's.
pub(super) fn open_joins(plan: &Plan) -> Result<Vec<(u64, OwnedFd)>> {
    let open = |join: &plan::namespaces::Join| {
        let fd = rustix::fs::open(join.path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let fd =
            fd.map_err(|error| Error::invalid(join.field.as_str(), format!("open {}: {error}", join.path)))?;
        let written =
            |step: &plan::Step| matches!(step, plan::Step::Sysctl(sysctl) if sysctl.owner == join.flag);
        if plan.steps.iter().any(written) && is_own_namespace(&fd, join.flag)? {
            let message = "it is the runtime's own namespace, so its sysctls are the host's: none may be set";
            return Err(Error::invalid(join.field.as_str(), message));
        }
        if join.flag == flag::MOUNT && (is_own_namespace(&fd, flag::MOUNT)? || is_firsts_mounts(&fd)?) {
            let message = "it has the host's mounts: the container's root would become everybody's";
            return Err(Error::invalid(join.field.as_str(), message));
        }
        Ok((join.flag, fd))
    };
    plan.namespaces.join.iter().map(open).collect()
}

/// Whether a namespace that is joined by path is the one that the caller is in.
fn is_own_namespace(joined: &OwnedFd, kind: u64) -> Result<bool> {
    let own = match kind {
        flag::NET => c"/proc/self/ns/net",
        flag::IPC => c"/proc/self/ns/ipc",
        flag::UTS => c"/proc/self/ns/uts",
        flag::MOUNT => c"/proc/self/ns/mnt",
        _ => return Ok(false),
    };
    let own = rustix::fs::stat(own).map_err(|error| kernel("stat(own namespace)", &error))?;
    is_same(&own, joined)
}

/// Whether a mount namespace that is joined by path is that of the machine's first process. One that this process may not look at is
/// one that it cannot join either.
fn is_firsts_mounts(joined: &OwnedFd) -> Result<bool> {
    rustix::fs::stat(c"/proc/1/ns/mnt").map_or(Ok(false), |first| is_same(&first, joined))
}

fn is_same(namespace: &Stat, joined: &OwnedFd) -> Result<bool> {
    let joined = rustix::fs::fstat(joined).map_err(|error| kernel("fstat(namespace)", &error))?;
    Ok((namespace.st_dev, namespace.st_ino) == (joined.st_dev, joined.st_ino))
}

/// Clones the first process into its namespaces, but for those that it makes itself `meanwhile`, and, on v2, its cgroup.
pub(super) fn clone(
    plan: &Plan,
    (cgroup, meanwhile): (&Cgroup, u64),
    joins: &[(u64, OwnedFd)],
    caller: Caller,
) -> Result<Forked> {
    if let Some((_, user)) = joins.first().filter(|_| plan.namespaces.born_in_joined_user()) {
        return ids::born_in(user.as_fd(), cgroup, caller);
    }
    // What shall belong to a user namespace that is joined is made after joining it, but a PID namespace is only ever made for a child.
    let later =
        if joins.iter().any(|(kind, _)| *kind == flag::USER) { !flag::PID } else { plan.namespaces.late() };
    let through: Vec<_> = joins.iter().filter(|(kind, _)| plan.namespaces.joined_by_caller(*kind)).collect();
    let flags = plan.namespaces.new & !(later | meanwhile);
    if caller.is_rootless() && !through.is_empty() {
        // Who is not root of the machine could not come back.
        let clone = || process::clone3(0, cgroup.clone_fd()).map_err(not_cloned);
        return ids::through_another(clone, || {
            let mut joined = through.iter().map(|(kind, namespace)| ns::join(namespace.as_fd(), *kind));
            joined.try_for_each(|joined| joined).map_err(step("join namespaces"))?;
            process::clone_sibling(flags).map_err(step("clone"))
        });
    }
    let own = through.iter().map(|(kind, _)| own_namespace(*kind)).collect::<Result<Vec<_>>>()?;
    let mut joined = through.iter().map(|(kind, namespace)| ns::join(namespace.as_fd(), *kind));
    let cloned = match joined.try_for_each(|joined| joined).map_err(step("join namespaces")) {
        Ok(()) => process::clone3(flags, cgroup.clone_fd()).map_err(not_cloned),
        Err(error) => Err(error),
    };
    if !matches!(cloned, Ok(Forked::Child)) {
        for ((kind, _), own) in through.iter().zip(&own) {
            ns::join(own.as_fd(), *kind).map_err(step("leave namespaces"))?;
        }
    }
    cloned
}

/// The namespace of this kind that this process is in.
fn own_namespace(kind: u64) -> Result<OwnedFd> {
    let link = match kind {
        flag::PID => c"/proc/self/ns/pid",
        flag::NET => c"/proc/self/ns/net",
        flag::IPC => c"/proc/self/ns/ipc",
        flag::CGROUP => c"/proc/self/ns/cgroup",
        flag::TIME => c"/proc/self/ns/time",
        _ => c"/proc/self/ns/uts",
    };
    rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| kernel(&format!("open({link:?})"), &error))
}

/// Why a process could not be cloned into a cgroup.
pub(crate) fn not_cloned(error: tinyd_sys::Error) -> Error {
    let is_not_ours = error.errno() == Some(libc::EACCES);
    let error = step("clone")(error);
    if !is_not_ours {
        return error;
    }
    let hint = "nobody but root gets into a cgroup from outside of what is its own (systemd-run --user --scope begins inside)";
    Error::new(Kind::PermissionDenied, format!("{}; {hint}", error.message()))
}
