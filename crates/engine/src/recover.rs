//! What an earlier daemon left: containers that run on are taken over, those that ended meanwhile are told, what has no owner is reaped.
//! Everything here can be done twice.

use std::{collections::BTreeSet, sync::Arc};

use tinyd_core::{
    ContainerId, Event, Exit, Result, State,
    wire::{Request, Status},
};
use tinyd_image::tree;

use crate::{
    Inner, blocking,
    container::{Live, Seat, View, appoint, follow, id_of, supervisor_lost},
    files, net_plan,
    record::{Record, StateRecord, forget_run},
    shim::Shim,
};

/// How long a shim may take to say where its container is.
const STATUS_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// Finds everything again. Owners begin when all is in its place.
pub(crate) async fn recover(inner: &Arc<Inner>) -> Result<()> {
    let reader = Arc::clone(inner);
    let records = blocking(move || read_records(&reader)).await?;
    let found = records.into_iter().map(|record| {
        let inner = Arc::clone(inner);
        tokio::spawn(async move { take_over(&inner, record).await })
    });
    let mut seats = Vec::new();
    for task in found.collect::<Vec<_>>() {
        seats.push(task.await.map_err(|_| crate::shutting_down())?);
    }
    let reaper = Arc::clone(inner);
    blocking(move || {
        reap_strangers(&reaper);
        crate::networks::restore(&reaper)?;
        restore_endpoints(&reaper)
    })
    .await?;
    seats.into_iter().for_each(Seat::sit);
    Ok(())
}

/// The records of all containers; a directory without one is what a crash left of a beginning or an end, and is removed.
fn read_records(inner: &Inner) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut names: BTreeSet<String> = files::names(&inner.layout.containers()).into_iter().collect();
    names.extend(files::names(&inner.layout.live()));
    for name in names {
        let record = match id_of(&name) {
            Some(id) => Record::read(&inner.layout, &id),
            None => Ok(None),
        };
        match record {
            Ok(Some(record)) => records.push(record),
            Ok(None) => {
                tell(tree::remove(&inner.layout.containers().join(&name)), "remove an unfinished container")
            }
            Err(error) => {
                tracing::error!(%error, "the record of container {name} cannot be read; it is left alone")
            }
        }
    }
    Ok(records)
}

/// Makes a container's owner, which knows where it is now.
async fn take_over(inner: &Arc<Inner>, record: Record) -> Seat {
    let id = record.id.clone();
    let written = StateRecord::read(&inner.layout, &id);
    let unwritten = written.is_none() && record.run;
    let ran = unwritten && record.boot_id != inner.host.boot_id;
    let view = View::from_record(written.unwrap_or_default());
    let (handle, mut seat) = appoint(inner, record, view);
    inner.registry.lock().containers.insert(id.clone(), handle);

    let dir = inner.layout.live_of(&id);
    let shim = Shim::find(&dir).unwrap_or_else(|| Shim::unrecorded(&dir));
    let status = tokio::time::timeout(STATUS_MAX, shim.status()).await;
    match status {
        Ok(Ok(Status { state: Some(state), oom, .. })) if state.is_alive() => {
            adopt(&mut seat, shim, state, oom).await
        }
        // It ended just now, or never began.
        Ok(Ok(status)) => {
            if !matches!(status.state, Some(State::Stopped { .. })) {
                let _ = shim.ask_done(&Request::Destroy).await;
            }
            conclude(&mut seat, ran, unwritten).await;
        }
        Ok(Err(_)) | Err(_) => {
            shim.kill();
            conclude(&mut seat, ran, unwritten).await;
        }
    }
    seat
}

/// A container that runs on.
async fn adopt(seat: &mut Seat, shim: Shim, state: State, oom: bool) {
    let owner = &mut seat.owner;
    owner.run += 1;
    let holds_ports = !owner.record.config.ports.is_empty();
    owner.view.send_modify(|view| {
        let was_alive = view.state.is_alive();
        view.state = state;
        view.oom |= oom;
        view.holds_ports = holds_ports;
        // The daemon died after the start and before it was written down.
        view.starts += u32::from(!was_alive);
    });
    match follow(&shim, owner.run, owner.inbox.clone()).await {
        Ok((_, follower)) => owner.live = Some(Live { shim, follower }),
        // It has ended between two questions.
        Err(_) => conclude(seat, true, false).await,
    }
}

/// A container that has no shim any more: how did it end? `ran` says that it certainly had started; `unwritten` that nobody ever wrote
/// down that it had.
async fn conclude(seat: &mut Seat, ran: bool, unwritten: bool) {
    let owner = &mut seat.owner;
    let id = owner.record.id.clone();
    owner.reap().await;
    let exit: Option<Exit> = files::read_json(&owner.inner.layout.exit_file(&id)).ok().flatten();
    let was = owner.state();
    let ended = exit.or_else(|| (was.is_alive() || ran).then(supervisor_lost));
    if let Some(exit) = ended {
        if exit == supervisor_lost_at(exit) {
            owner.view.send_modify(|view| {
                view.warnings.push("the supervisor was lost, or the machine went down".into())
            });
        }
        if !was.is_alive() {
            // It had started, which nobody has written where it lasts.
            owner.view.send_modify(|view| view.starts = view.starts.max(1));
            owner.log_refusal(
                owner.on(Event::Started { pid: 0, at_unix_nanos: owner.record.created_unix_nanos }),
            );
        }
        owner.log_refusal(owner.on(Event::Exited(exit)));
        owner.view.send_modify(|view| view.oom |= exit.oom);
        if !owner.record.config.auto_remove {
            owner.save().await;
        }
    }
    // The daemon died in the middle of a `run`, whose client was told of a failure: a failure leaves nothing.
    let half_run = ended.is_none() && unwritten;
    if half_run || (ended.is_some() && owner.record.config.auto_remove) {
        let removed = owner.remove(true).await;
        owner.log_refusal(removed);
    } else {
        owner.log_refusal(forget_run(&owner.inner.layout, &id));
    }
}

/// What nobody would have written differently.
fn supervisor_lost_at(exit: Exit) -> Exit {
    Exit { at_unix_nanos: exit.at_unix_nanos, ..supervisor_lost() }
}

/// What is in the kernel and on disk and belongs to no record.
fn reap_strangers(inner: &Inner) {
    let known: BTreeSet<ContainerId> = inner.registry.lock().containers.keys().cloned().collect();
    let is_known = |name: &str| id_of(name).is_some_and(|id| known.contains(&id));
    for name in files::names(&inner.layout.live()).into_iter().filter(|name| !is_known(name)) {
        let dir = inner.layout.live().join(&name);
        if let Some(shim) = Shim::find(&dir) {
            shim.kill();
        }
        tell(tree::remove(&dir), "remove a stranger's files");
    }
    let parent = inner.layout.cgroup_parent();
    for name in inner.cgroups.below(&parent).into_iter().filter(|name| !is_known(name)) {
        tell(inner.cgroups.reap(&format!("{parent}/{name}")), "reap a stranger's cgroup");
    }
    let trash = inner.layout.trash();
    for name in files::names(&trash) {
        tell(tree::remove(&trash.join(name)), "empty the trash");
    }
}

/// The firewall as a whole, from the records; links whose container is gone go too.
fn restore_endpoints(inner: &Inner) -> Result<()> {
    let (mut bridges, mut endpoints) = (Vec::new(), Vec::new());
    let mut alive = BTreeSet::new();
    {
        let tables = inner.registry.lock();
        for (name, network) in &tables.networks {
            let Some(bridge) = &network.bridge else { continue };
            bridges.push((bridge.clone(), network.subnet));
            for handle in tables.members(name).filter(|handle| handle.view().state.is_alive()) {
                alive.insert(handle.record.id.short().to_owned());
                endpoints.extend(net_plan::on(&handle.record, &bridge.interface));
            }
        }
    }
    let owned = inner.net.list_owned()?;
    for short_id in owned.containers.iter().filter(|short_id| !alive.contains(*short_id)) {
        tell(inner.net.delete_link(short_id), "delete a stranger's link");
    }
    let tables = inner.registry.lock();
    let strangers: Vec<_> = owned
        .bridges
        .iter()
        .filter(|bridge| !tables.networks.contains_key(&bridge.network))
        .cloned()
        .collect();
    drop(tables);
    for bridge in strangers {
        tell(inner.net.delete_bridge(&bridge.network), "delete a stranger's bridge");
    }
    inner.net.restore(&bridges, &endpoints)
}

fn tell(outcome: Result<()>, what: &str) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "recovery: {what}");
    }
}
