//! Changes the mounts of a container that runs. What comes from the host is opened here, as at creation; a process that joins the
//! container attaches it there, or takes mounts away.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use tinyd_core::{Error, Kind, Result, oci, wire::Rootfs};
use tinyd_sys::{
    ns::{self, Proc, flag},
    process::{self, Forked},
};

use super::{
    kernel, sources, step,
    sync::{Phase, Sync},
};
use crate::{
    caller::Caller,
    exec::{self, Target},
    init::{self, running},
    plan::{
        annotations,
        mounts::{self as plan, Mount},
        namespaces::{self, flag_of},
    },
};

/// What is done.
#[derive(Debug)]
enum Change {
    Add(Vec<Mount>, Vec<OwnedFd>),
    Remove(Vec<PathBuf>),
}

/// Mounts in a container that runs, as its configuration would have; relative sources are the bundle's. All or nothing. Returns
/// warnings.
///
/// # Errors
/// `InvalidArgument` and `Unsupported` with the field; the kernel's refusal.
pub(crate) fn add(target: Target<'_>, bundle: &Path, mounts: &[oci::Mount]) -> Result<Vec<String>> {
    let default = oci::Linux::default();
    let linux = target.spec.linux.as_ref().unwrap_or(&default);
    let namespaces = namespaces::plan(linux)?;
    let label = linux.mount_label.as_deref().filter(|label| !label.is_empty());
    let context = plan::Context {
        bundle,
        namespaces: &namespaces,
        devices: &[],
        label,
        label_option: annotations::context(&target.spec.annotations)?,
        caller: target.caller,
        shares: crate::plan::shares(linux)?,
    };
    let mut wanted = Vec::new();
    let planned = plan::more(mounts, context, &mut wanted)?;
    let proc = Proc::of_host().map_err(step("open /proc"))?;
    let userns = namespaces.has(flag::USER).then(|| proc.namespace(target.pid, "user")).transpose();
    let userns = userns.map_err(step("open the user namespace"))?;
    let rootfs = Rootfs::Directory { path: PathBuf::new() };
    let context =
        sources::Context { rootfs: &rootfs, bundle, proc: &proc, userns: userns.as_ref().map(AsFd::as_fd) };
    let mut warnings = plan::relative(mounts).collect();
    let opened = wanted.iter().map(|source| sources::open(source, context, &mut warnings));
    let change = Change::Add(planned, opened.collect::<Result<_>>()?);
    inside(target, &proc, change)?;
    Ok(warnings)
}

/// Takes the mounts away that lie at these mounts' destinations, the last first.
///
/// # Errors
/// `InvalidArgument` for a place that has to stay or where nothing is mounted; the kernel's refusal.
pub(crate) fn remove(target: Target<'_>, mounts: &[oci::Mount]) -> Result<()> {
    let proc = Proc::of_host().map_err(step("open /proc"))?;
    inside(target, &proc, Change::Remove(plan::places(mounts)?))
}

/// Does it in a process that joins the container.
fn inside(target: Target<'_>, proc: &Proc, change: Change) -> Result<()> {
    if target.caller == Caller::User {
        let message = "an ordinary user cannot change the mounts of a container that runs";
        return Err(Error::new(Kind::Unsupported, message));
    }
    let namespaces = target.spec.linux.iter().flat_map(|linux| &linux.namespaces);
    let flags = namespaces.fold(0, |flags, namespace| flags | flag_of(namespace.kind));
    let (mut ours, mut theirs) = Sync::pair()?;
    let Forked::Parent { pidfd, .. } = exec::clone(target, flags)? else {
        drop(ours);
        match join_and_change(target, flags, proc, &theirs, change) {
            Ok(()) => drop(theirs.say(Phase::Ready, b"", &[])),
            Err(error) => theirs.say_failed(&error),
        }
        process::exit_now(0)
    };
    drop((theirs, change));
    // The container can stop it.
    if let Some(patience) = target.patience {
        ours.wait_at_most(patience);
    }
    let done = ours.hear_phase(Phase::Ready);
    process::kill_and_reap(pidfd.as_fd());
    done.map(drop)
}

fn join_and_change(target: Target<'_>, flags: u64, proc: &Proc, sync: &Sync, change: Change) -> Result<()> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Of the host's procfs: what the container has at /proc is its own doing.
    let own_fds = rustix::fs::openat(
        proc.mount(),
        c"self/fd",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let own_fds = own_fds.map_err(|error| kernel("open(/proc/self/fd)", &error))?;
    process::set_not_dumpable().map_err(step("join the container"))?;
    if flags & flag::USER != 0 {
        init::leave_groups(target.caller, false)?;
    }
    ns::join(target.pidfd, flags & !flag::PID).map_err(step("join the container"))?;
    if flags & flag::USER != 0 {
        init::become_root(false)?;
    }
    let sources = if let Change::Add(_, sources) = &change { sources.as_slice() } else { &[] };
    let mut keep = vec![sync.as_fd(), own_fds.as_fd()];
    keep.extend(sources.iter().map(AsFd::as_fd));
    process::close_all_but(0, &keep).map_err(step("close descriptors"))?;
    match change {
        Change::Add(mounts, sources) => running::add(&mounts, sources, own_fds.as_fd()),
        Change::Remove(places) => running::remove(&places, own_fds.as_fd()),
    }
}
