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
    container::{Live, Owner, Seat, appoint, follow, id_of, supervisor_lost},
    files,
    handle::View,
    images, net_plan,
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
        seats.extend(task.await.map_err(|_| crate::shutting_down())?);
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

/// Makes a container's owner, which knows where it is now; `None` for one that is not to be there.
async fn take_over(inner: &Arc<Inner>, record: Record) -> Option<Seat> {
    let id = record.id.clone();
    let written = StateRecord::read(&inner.layout, &id);
    let unwritten_run = written.is_none() && record.run;
    let (handle, mut seat) = appoint(inner, record, View::from_record(written.unwrap_or_default()));
    inner.registry.lock().containers.insert(id.clone(), handle);

    let dir = inner.layout.live_of(&id);
    let shim = Shim::find(&dir).unwrap_or_else(|| Shim::unrecorded(&dir));
    let status = tokio::time::timeout(STATUS_MAX, shim.status()).await;
    let concluded = match status {
        Ok(Ok(Status { state: Some(state), oom, .. })) if state.is_alive() => {
            adopt(&mut seat.owner, shim, state, oom).await
        }
        // It ended just now, or never began.
        Ok(Ok(status)) => {
            if !matches!(status.state, Some(State::Stopped { .. })) {
                let _ = shim.ask_done(&Request::Destroy).await;
            }
            conclude(&mut seat.owner, unwritten_run).await
        }
        Ok(Err(_)) | Err(_) => {
            shim.kill();
            conclude(&mut seat.owner, unwritten_run).await
        }
    };
    match concluded {
        Ok(true) => Some(seat),
        Ok(false) => None,
        Err(error) => {
            tracing::warn!(container = %id.short(), %error, "recovery of a container");
            Some(seat)
        }
    }
}

/// A container that runs on. Whether it is still there.
async fn adopt(owner: &mut Owner, shim: Shim, state: State, oom: bool) -> Result<bool> {
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
        Ok((_, follower)) => {
            owner.live = Some(Live { shim, follower, _doctor: owner.doctor() });
            if images::was_frozen(&owner.inner.layout, &owner.record) && matches!(state, State::Paused { .. })
            {
                // For a commit that did not come to its end.
                let resumed = owner.resume().await;
                owner.log_refusal(resumed);
            }
            Ok(true)
        }
        // It has ended between two questions.
        Err(_) => {
            owner.view.send_modify(|view| view.holds_ports = false);
            conclude(owner, false).await
        }
    }
}

/// What is known of a container that has no shim any more.
#[derive(Clone, Copy, Debug)]
struct Traces {
    /// Where it was last written to be.
    was: State,
    /// What its shim wrote at its end.
    exit: Option<Exit>,
    /// Whether it was made to run at once, and nobody ever wrote down that it did.
    unwritten_run: bool,
    /// Whether what the run directory says of it is complete: neither a reboot nor anybody else has taken it since.
    same_era: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// What is written is so.
    AsWritten,
    /// It ended like this.
    Ended(Exit),
    /// It ended, and nobody saw how.
    Lost,
    /// The daemon died in the middle of a `run`, whose client was told of a failure: a failure leaves nothing.
    HalfRun,
}

impl Traces {
    fn fate(self) -> Fate {
        match (self.was, self.exit) {
            (State::Stopped { exit: known, .. }, Some(exit)) if known == exit => Fate::AsWritten,
            (_, Some(exit)) => Fate::Ended(exit),
            (State::Running { .. } | State::Paused { .. }, None) => Fate::Lost,
            (State::Created | State::Stopped { .. }, None) if !self.unwritten_run => Fate::AsWritten,
            (State::Created | State::Stopped { .. }, None) if self.same_era => Fate::HalfRun,
            (State::Created | State::Stopped { .. }, None) => Fate::Lost,
        }
    }
}

/// Does what follows from a container's fate. Whether it is still there.
async fn conclude(owner: &mut Owner, unwritten_run: bool) -> Result<bool> {
    owner.reap().await;
    let (inner, id) = (Arc::clone(&owner.inner), owner.record.id.clone());
    let traces = Traces {
        was: owner.state(),
        exit: files::read_json(&inner.layout.exit_file(&id)).ok().flatten(),
        unwritten_run,
        same_era: owner.record.era == inner.era,
    };
    let exit = match traces.fate() {
        Fate::AsWritten => {
            forget_run(&inner.layout, &id)?;
            return Ok(true);
        }
        Fate::HalfRun => return owner.remove(true, true).await.map(|()| false),
        Fate::Ended(exit) => exit,
        Fate::Lost => {
            let warning = "the supervisor was lost, or the machine went down";
            owner.view.send_modify(|view| view.warnings.push(warning.into()));
            supervisor_lost()
        }
    };
    if !traces.was.is_alive() {
        // It had started, which nobody has written where it lasts.
        owner.view.send_modify(|view| view.starts += 1);
        owner.on(Event::Started { pid: 0, at_unix_nanos: owner.record.created_unix_nanos })?;
    }
    owner.on(Event::Exited(exit))?;
    owner.view.send_modify(|view| view.oom |= exit.oom);
    if owner.record.config.auto_remove {
        return owner.remove(true, true).await.map(|()| false);
    }
    owner.save().await;
    forget_run(&inner.layout, &id)?;
    Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: u8) -> Exit {
        Exit { code, signal: None, oom: false, at_unix_nanos: 7 }
    }

    #[test]
    fn the_fate_of_a_container_without_a_shim() {
        let running = State::Running { pid: 5, since_unix_nanos: 1 };
        let stopped = State::Stopped { exit: exit(3), since_unix_nanos: 1 };
        let fate = |was, exit, unwritten_run, same_era| Traces { was, exit, unwritten_run, same_era }.fate();
        // Its shim wrote how it ended, whatever else is known.
        for was in [State::Created, running, State::Stopped { exit: exit(9), since_unix_nanos: 1 }] {
            assert_eq!(fate(was, Some(exit(3)), false, true), Fate::Ended(exit(3)));
        }
        assert_eq!(fate(stopped, Some(exit(3)), false, true), Fate::AsWritten);
        // It ran, and nobody saw the end.
        assert_eq!(fate(running, None, false, true), Fate::Lost);
        assert_eq!(fate(State::Created, None, true, false), Fate::Lost);
        // It did not run.
        assert_eq!(fate(State::Created, None, false, true), Fate::AsWritten);
        assert_eq!(fate(stopped, None, false, false), Fate::AsWritten);
        assert_eq!(fate(State::Created, None, true, true), Fate::HalfRun);
    }
}
