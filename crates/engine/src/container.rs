//! The owner of a container: one task with one inbox, the only place where its state changes. Everybody else sends a message or
//! watches the view.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tinyd_core::{
    ContainerId, Error, Event, Exit, Kind, Result, State,
    health::Check,
    time::unix_nanos,
    wire::{Request, Status},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Inner, files,
    handle::{Handle, View},
    record::{Record, forget_run},
    remove::discard_files,
    shim::Shim,
    start::{StartOptions, Started},
    volumes,
};

/// How many messages wait for an owner.
const INBOX: usize = 16;
/// How long a shim may take to end after its container has, in seconds.
const SHIM_END_MAX: Duration = Duration::from_secs(10);

/// What an owner is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// Start it.
    Start(StartOptions, Reply<Started>),
    /// Send a signal to the first process.
    Signal(i32, Reply<()>),
    /// Send SIGKILL to every process.
    KillAll(Reply<()>),
    /// Freeze it.
    Pause(Reply<()>),
    /// Thaw it.
    Resume(Reply<()>),
    /// Remove it; a running one only when forced.
    Remove { force: bool, volumes: bool, reply: Reply<()> },
    /// Its shim says where it is. The number tells this run from an earlier one.
    Shim(u32, Box<Status>),
    /// Its shim has ended.
    ShimGone(u32),
    /// A check of its health has been made, in this run.
    Checked(u32, Check),
}

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// A verb that does not fit the state.
pub(crate) fn wrong_state(record: &Record, verb: &str, state: State) -> Error {
    Error::new(Kind::WrongState, format!("cannot {verb} container {}: it is {}", record.name, state.word()))
}

/// A shim and the task that listens to it.
#[derive(Debug)]
pub(crate) struct Live {
    /// The shim.
    pub(crate) shim: Shim,
    /// Ends when the shim does.
    pub(crate) follower: JoinHandle<()>,
    /// Looks after the container's health, where that is asked for; ends when this is dropped.
    pub(crate) _doctor: Option<AbortOnDropHandle<()>>,
}

/// The owner.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) inner: Arc<Inner>,
    pub(crate) record: Arc<Record>,
    pub(crate) view: watch::Sender<View>,
    /// While a shim is there.
    pub(crate) live: Option<Live>,
    /// The number of the present run, or of the last.
    pub(crate) run: u32,
    /// For the tasks that listen to shims.
    pub(crate) inbox: mpsc::Sender<Input>,
}

/// Makes an owner and its handle. [`Seat::sit`] lets it begin.
pub(crate) fn appoint(inner: &Arc<Inner>, record: Record, view: View) -> (Handle, Seat) {
    let (inbox, inputs) = mpsc::channel(INBOX);
    let record = Arc::new(record);
    let (sender, receiver) = watch::channel(view);
    let handle = Handle { record: Arc::clone(&record), view: receiver, inbox: inbox.clone() };
    let owner = Owner { inner: Arc::clone(inner), record, view: sender, live: None, run: 0, inbox };
    (handle, Seat { owner, inputs })
}

/// An owner that has not begun.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The owner, to be told what recovery found.
    pub(crate) owner: Owner,
    inputs: mpsc::Receiver<Input>,
}

impl Seat {
    /// The owner begins.
    pub(crate) fn sit(self) {
        let Seat { owner, inputs } = self;
        let tasks = owner.inner.tasks.clone();
        tasks.spawn(owner.serve(inputs));
    }
}

/// Whether the container is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Stays,
    Gone,
}

impl Owner {
    async fn serve(mut self, mut inputs: mpsc::Receiver<Input>) {
        let closing = self.inner.closing.clone();
        loop {
            let input = tokio::select! {
                () = closing.cancelled() => return,
                input = inputs.recv() => input,
            };
            let Some(input) = input else { return };
            if self.take(input).await == After::Gone {
                return;
            }
        }
    }

    async fn take(&mut self, input: Input) -> After {
        match input {
            // Nobody who has gone away is waited for, so an answer that nobody takes is no error.
            Input::Start(options, reply) => drop(reply.send(self.start(options).await)),
            Input::Signal(number, reply) => drop(reply.send(self.signal(number).await)),
            Input::KillAll(reply) => drop(reply.send(self.kill_all().await)),
            Input::Pause(reply) => drop(reply.send(self.pause().await)),
            Input::Resume(reply) => drop(reply.send(self.resume().await)),
            Input::Remove { force, volumes, reply } => {
                let removed = self.remove(force, volumes).await;
                let after = if removed.is_ok() { After::Gone } else { After::Stays };
                drop(reply.send(removed));
                return after;
            }
            Input::Shim(run, status) if run == self.run => return self.told(*status).await,
            Input::ShimGone(run) if run == self.run => return self.shim_gone().await,
            Input::Checked(run, check) if run == self.run => self.checked(check),
            // From a run that is over.
            Input::Shim(..) | Input::ShimGone(_) | Input::Checked(..) => {}
        }
        After::Stays
    }

    /// Where the container is.
    pub(crate) fn state(&self) -> State {
        self.view.borrow().state
    }

    /// The live shim of a container that is alive.
    pub(crate) fn alive(&self, verb: &str) -> Result<&Shim> {
        let state = self.state();
        match &self.live {
            Some(live) if state.is_alive() => Ok(&live.shim),
            Some(_) | None => Err(wrong_state(&self.record, verb, state)),
        }
    }

    /// The one way in which the state changes.
    pub(crate) fn on(&self, event: Event) -> Result<()> {
        let next = self.state().on(event).map_err(|denied| Error::internal(&denied))?;
        self.view.send_modify(|view| view.state = next);
        Ok(())
    }

    /// The shim says where the container is. When it says that it has ended, all is taken down but the shim itself.
    async fn told(&mut self, status: Status) -> After {
        if status.oom {
            self.view.send_modify(|view| view.oom = true);
        }
        match (self.state(), status.state) {
            (was, Some(State::Stopped { exit, .. })) if was.is_alive() => {
                self.ended(exit).await;
                if self.record.config.auto_remove {
                    return self.remove_ended().await;
                }
            }
            // Freezing and thawing are asked by the owner alone, who knows by the answer; what is told of them here may be older.
            (_, _) => {}
        }
        After::Stays
    }

    /// A container with `--rm` goes when it has ended.
    async fn remove_ended(&mut self) -> After {
        self.live = None;
        let doomed = self.retire_volumes().await;
        self.vanish();
        // Its client hears of the end now; the disk is slower. A crash meanwhile leaves a record of a container that has ended, which
        // the next daemon removes.
        let (inner, record) = (Arc::clone(&self.inner), Arc::clone(&self.record));
        let tasks = self.inner.tasks.clone();
        tasks.spawn_blocking(move || {
            let removed = discard_files(&inner, &record.id).and_then(|()| volumes::delete(&doomed));
            if let Err(error) = removed {
                tracing::warn!(container = %record.id.short(), %error, "remove the files of an ended container");
            }
        });
        After::Gone
    }

    /// Takes their names from the volumes that go with the container.
    async fn retire_volumes(&self) -> Vec<PathBuf> {
        // Most have none, and wait for no thread.
        if self.record.own_volumes.is_empty() {
            return Vec::new();
        }
        let (inner, record) = (Arc::clone(&self.inner), Arc::clone(&self.record));
        let retired = crate::blocking(move || volumes::retire_own(&inner, &record)).await;
        retired.unwrap_or_else(|error| {
            tracing::warn!(container = %self.record.id.short(), %error, "remove the volumes of an ended container");
            Vec::new()
        })
    }

    /// The container is no more: its name, address and ids are free.
    pub(crate) fn vanish(&self) {
        self.inner.registry.lock().containers.remove(&self.record.id);
        self.view.send_modify(|view| {
            view.gone = true;
            view.holds_ports = false;
        });
    }

    /// The first process has ended: everybody is told, then what follows is done.
    pub(crate) async fn ended(&mut self, exit: Exit) {
        self.log_refusal(self.detach().await);
        if exit.oom {
            self.view.send_modify(|view| view.oom = true);
        }
        self.view.send_modify(|view| view.holds_ports = false);
        self.log_refusal(self.on(Event::Exited(exit)));
        if !self.record.config.auto_remove {
            self.save().await;
        }
    }

    /// The shim has ended. If nobody heard of the container's end before, it was killed, and the container goes with it.
    async fn shim_gone(&mut self) -> After {
        self.live = None;
        if self.state().is_alive() {
            let exit = self.last_words();
            self.reap().await;
            self.ended(exit).await;
        }
        if self.record.config.auto_remove {
            return self.remove_ended().await;
        }
        self.forget_live();
        After::Stays
    }

    /// What the shim wrote about the end, or that nobody knows.
    fn last_words(&self) -> Exit {
        let written: Option<Exit> =
            files::read_json(&self.inner.layout.exit_file(&self.record.id)).ok().flatten();
        written.unwrap_or_else(|| {
            let warning = "the supervisor was lost: it was killed, and the container with it".to_owned();
            tracing::warn!(container = %self.record.id.short(), "{warning}");
            self.view.send_modify(|view| view.warnings.push(warning));
            supervisor_lost()
        })
    }

    /// Kills and takes away what is left of the container in the kernel.
    pub(crate) async fn reap(&self) {
        let (inner, id) = (Arc::clone(&self.inner), self.record.id.clone());
        let reaped = crate::blocking(move || inner.cgroups.reap(&inner.layout.cgroup(&id))).await;
        self.log_refusal(reaped);
    }

    /// Unpublishes the ports.
    pub(crate) async fn detach(&self) -> Result<()> {
        if self.record.ip().is_none() {
            return Ok(());
        }
        let (inner, id) = (Arc::clone(&self.inner), self.record.id.clone());
        let is_shared = inner.registry.lock().shares_network(&id);
        crate::blocking(move || {
            inner.net.detach(&id)?;
            // Who shares the namespace keeps it, and with it the address, which is no longer theirs.
            if is_shared { inner.net.delete_link(id.short()) } else { Ok(()) }
        })
        .await
    }

    /// Waits for a shim whose container has ended, before the next is started in its place.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let ended = tokio::time::timeout(SHIM_END_MAX, &mut live.follower).await;
        ended
            .map_err(|_| {
                Error::new(
                    Kind::Unavailable,
                    format!("the last supervisor of {} has not ended yet", self.record.name),
                )
            })?
            .ok();
        self.live = None;
        self.forget_live();
        Ok(())
    }

    /// Takes the last run's files away; its end is in the state that lasts.
    fn forget_live(&self) {
        self.log_refusal(forget_run(&self.inner.layout, &self.record.id));
    }

    /// Writes the state where it lasts.
    pub(crate) async fn save(&self) {
        let (inner, id, written) =
            (Arc::clone(&self.inner), self.record.id.clone(), self.view.borrow().to_record());
        let saved = crate::blocking(move || written.write(&inner.layout, &id)).await;
        self.log_refusal(saved);
    }

    /// A failure that nobody waits for is told in the log.
    pub(crate) fn log_refusal(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(container = %self.record.id.short(), %error, "after the container's end");
        }
    }

    /// Asks the live shim.
    pub(crate) async fn ask_shim(&self, verb: &str, request: Request) -> Result<()> {
        let shim = self.alive(verb)?.clone();
        let asked = shim.ask_done(&request).await;
        asked.map_err(|error| error.context(format_args!("{verb} {}", self.record.name)))
    }
}

/// The end of a container whose end nobody saw.
pub(crate) fn supervisor_lost() -> Exit {
    Exit { code: 137, signal: Some(9), oom: false, at_unix_nanos: now() }
}

/// The time, in nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    unix_nanos(std::time::SystemTime::now())
}

/// Listens to a shim until it ends, and tells the owner.
pub(crate) async fn follow(
    shim: &Shim,
    run: u32,
    inbox: mpsc::Sender<Input>,
) -> Result<(Status, JoinHandle<()>)> {
    use tinyd_core::wire::Message;
    let mut conn = shim.connect().await?;
    let first = match conn.ask(&Request::Watch, &[]).await? {
        (Message::Status(status), _) => status,
        (other, _) => return Err(crate::conn::out_of_turn(&other)),
    };
    let task = tokio::spawn(async move {
        while let Ok((Message::Status(status), _)) = conn.receive_message().await {
            if inbox.send(Input::Shim(run, Box::new(status))).await.is_err() {
                return;
            }
        }
        let _ = inbox.send(Input::ShimGone(run)).await;
    });
    Ok((first, task))
}

/// A container's id, when it is that of a directory.
pub(crate) fn id_of(name: &str) -> Option<ContainerId> {
    ContainerId::parse(name).ok()
}
