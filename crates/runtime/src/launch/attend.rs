//! The caller's side while the child puts the container together: maps ids, opens what waited for that, runs hooks, and does what only the
//! host's root can do for a process. Makes no process and ends none.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use tinyd_core::{Result, error::chain, json, oci};
use tinyd_sys::ns::{Proc, flag};

use super::{
    Witness, failpoint, ids, netdev, sources, step,
    sync::{Phase, Sync},
};
use crate::{
    caller::Caller,
    hooks,
    plan::{Plan, process::ProcessPlan},
};

/// What the child hands up when it is ready: its terminal; its network namespace, and a socket that was made inside.
type Ready = (Option<OwnedFd>, Option<(OwnedFd, OwnedFd)>);

/// Answers the child until everything is made.
///
/// # Errors
/// The step, the call and the errno, the child's own included.
pub(super) fn attend(
    plan: &Plan,
    (context, caller): (sources::Context<'_>, Caller),
    (pid, state, witness): (i32, &oci::ContainerState, Option<&dyn Witness>),
    sync: &mut Sync,
    fail: &str,
    (warnings, given): (&mut Vec<String>, &mut Option<netdev::Given>),
) -> Result<Ready> {
    if let Some(ids) = &plan.namespaces.ids {
        failpoint(fail, "idmap")?;
        let userns = ids::map(context.proc, pid, ids, caller)?;
        // While its files in /proc are still its caller's: it is out of everybody's reach once it is root inside.
        raise_limits(context.proc, pid, &plan.process, warnings);
        let context = sources::Context { userns: Some(userns.as_fd()), ..context };
        let late = plan.sources.iter().filter(|source| source.waits_for_ids());
        let late = late.filter(|_| !caller.opens_inside(&plan.namespaces));
        let late = late.map(|source| sources::open(source, context, warnings)).collect::<Result<Vec<_>>>()?;
        failpoint(fail, "rootfs")?;
        let late: Vec<_> = late.iter().map(AsFd::as_fd).collect();
        sync.say(Phase::Mapped, b"", &late)?;
    }
    failpoint(fail, "rootfs")?;
    if plan.namespaces.ids.is_none() {
        raise_limits(context.proc, pid, &plan.process, warnings);
    }
    if plan.hooks.at_creation() {
        sync.hear_phase(Phase::Mounted)?;
        *given = give_devices(plan, context.proc, pid)?;
        let state = oci::ContainerState { pid: Some(pid), ..state.clone() };
        let enter = || hooks::enter_dir(context.bundle);
        hooks::run_all(&plan.hooks.prestart, &state, enter)?;
        hooks::run_all(&plan.hooks.create_runtime, &state, enter)?;
        sync.say(Phase::Hooked, b"", &[])?;
    }
    if let Some(witness) = witness {
        witness.see(pid)?;
        sync.say(Phase::Hooked, b"", &[])?;
        // There is nothing to answer on its way to the program.
        sync.wait_for_close();
    }
    let (told, fds) = sync.hear_phase(Phase::Ready)?;
    warnings.extend(json::read::<Vec<String>>(&told).unwrap_or_default());
    if !plan.hooks.at_creation() {
        *given = give_devices(plan, context.proc, pid)?;
    }
    if let Some(offsets) = &plan.time_offsets {
        let file = format!("{pid}/timens_offsets");
        context.proc.write(Path::new(&file), offsets).map_err(step("linux.timeOffsets"))?;
    }
    let mut fds = fds.into_iter();
    let socket = if plan.namespaces.makes(flag::NET) { fds.next() } else { None };
    // Only the machine's root sets a network up from here; the files of a process that is root in another namespace are out of a user's
    // reach. One that waits for nobody may have ended.
    let network = match socket.filter(|_| !caller.is_rootless() && witness.is_none()) {
        Some(socket) => {
            let namespace = context.proc.namespace(pid, "net").map_err(step("open the network namespace"))?;
            Some((namespace, socket))
        }
        None => None,
    };
    Ok((fds.next(), network))
}

/// Moves the host's devices in, as late as can be: the kernel gives back to nobody what was only made for this network.
fn give_devices(plan: &Plan, proc: &Proc, pid: i32) -> Result<Option<netdev::Given>> {
    if plan.net_devices.is_empty() {
        return Ok(None);
    }
    let namespace = proc.namespace(pid, "net").map_err(step("open the network namespace"))?;
    netdev::give(&plan.net_devices, namespace).map(Some)
}

/// Does for a process what only the host's root can: raises its hard limits and lowers its OOM score. Where even the caller
/// cannot, the process gets what it can have (it lowers its own limits itself), and a warning is left.
pub(crate) fn raise_limits(proc: &Proc, pid: i32, process: &ProcessPlan, warnings: &mut Vec<String>) {
    for limit in &process.rlimits {
        let Ok((soft, hard)) = tinyd_sys::resources::rlimit(limit.resource) else { continue };
        if limit.hard > hard
            && tinyd_sys::resources::set_rlimit(pid, limit.resource, soft, limit.hard).is_err()
        {
            let name = limit.name;
            warnings.push(format!(
                "process.rlimits: {name}: {} is above what the runtime may give: {hard}",
                limit.hard
            ));
        }
    }
    if let Some(score) = process.oom_score_adj
        && let Err(error) = proc.write(Path::new(&format!("{pid}/oom_score_adj")), &score.to_string())
        && proc.read_number(pid, "oom_score_adj") != Some(score)
    {
        warnings.push(format!("process.oomScoreAdj: {score} cannot be set: {}", chain(&error)));
    }
}
