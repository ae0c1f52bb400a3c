//! An image from a registry to ready to run: documents, configuration, layers. A layer is unpacked while it arrives. Several who pull the
//! same image at the same time wait for one transfer of it, and each is told how far it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use tinyd_core::{Error, Kind, Result};
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval},
};

use super::{
    board::Board,
    feed::Follower,
    fetch::{Fetched, Transfers},
    places::Places,
    resolve::{self, Resolved},
    thread,
};
use crate::{
    assemble::{Assembled, Plan},
    layer::Applied,
    progress::{Progress, Step},
    store::Lease,
};

/// How often it is told how far a transfer is.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// How often a layer is begun again that has come from a wrong place, or for somebody else.
const TRIES_MAX: u32 = 4;

/// What brings an image in.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) places: Arc<Places>,
    /// Holds everything of the image until somebody else does.
    pub(super) lease: Arc<Lease>,
    pub(super) resolved: Resolved,
    pub(super) board: Arc<Board>,
    pub(super) transfers: Arc<Transfers>,
    /// One for each layer that is worked on, of all pulls.
    pub(super) layers: Arc<Semaphore>,
    /// The most layers of this one.
    pub(super) at_once: usize,
}

/// An image that has come in, and what keeps it from being collected.
#[derive(Clone, Debug)]
pub(super) struct Brought {
    pub(super) assembled: Assembled,
    pub(super) lease: Arc<Lease>,
}

impl Pull {
    pub(super) async fn run(self) -> Result<Arc<Brought>> {
        let manifest = &self.resolved.manifest;
        for layer in &manifest.layers {
            self.lease.pin(&layer.digest);
        }
        resolve::small(&self.places, &self.lease, &manifest.config)
            .await
            .map_err(|error| error.context("configuration"))?;
        let (lease, board, digest) =
            (Arc::clone(&self.lease), Arc::clone(&self.board), self.resolved.digest.clone());
        let tell = move |progress| board.tell(progress);
        let plan = thread::run("plan", move || {
            // From here on what comes is kept for the next try, if this one is cut.
            lease.store().begin_pull(&digest)?;
            Plan::new(&lease, &digest, &tell)
        });
        let plan = plan.await?;
        let (pull, plan) = (Arc::new(self), Arc::new(plan));
        let applied = match Arc::clone(&pull).all_layers(&plan).await {
            Ok(applied) => applied,
            Err(full) if full.kind() == Kind::Exhausted => {
                // What is not all of an image is not what a full disk is for.
                pull.lease.store().end_pull(&pull.resolved.digest)?;
                for layer in &plan.manifest.layers {
                    pull.transfers.give_up(pull.lease.store(), &layer.digest).await?;
                }
                return Err(full);
            }
            Err(error) => return Err(error),
        };
        let (own, lease) = (Arc::clone(&plan), Arc::clone(&pull.lease));
        let assembled = thread::run("settle", move || {
            let assembled = own.finish(lease.store(), applied)?;
            // Documents and packed layers, of whose unpacked layers none was missing.
            lease.store().sync()?;
            Ok(assembled)
        });
        Ok(Arc::new(Brought { assembled: assembled.await?, lease: Arc::clone(&pull.lease) }))
    }

    async fn all_layers(self: Arc<Self>, plan: &Arc<Plan>) -> Result<BTreeMap<usize, Applied>> {
        for at in &plan.missing {
            self.tell(plan, *at, Step::Waiting);
        }
        let count = plan.manifest.layers.len();
        let at_once = self.at_once.max(1);
        let each = (0..count).map(|at| {
            let (pull, plan) = (Arc::clone(&self), Arc::clone(plan));
            async move {
                let applied = pull.layer(&plan, at).await;
                applied
                    .map(|applied| applied.map(|applied| (at, applied)))
                    .map_err(|error| error.context(format_args!("layer {}", at + 1)))
            }
        });
        let all: Vec<Option<(usize, Applied)>> =
            stream::iter(each).buffer_unordered(at_once).try_collect().await?;
        Ok(all.into_iter().flatten().collect())
    }

    /// Brings a layer in, and unpacks it if it is missing.
    async fn layer(&self, plan: &Arc<Plan>, at: usize) -> Result<Option<Applied>> {
        let gone = |_| Error::new(Kind::Unavailable, "no more layers are taken");
        let _one = self.layers.acquire().await.map_err(gone)?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(plan, at).await {
                Err(miss) if miss.is_worth_another && tries < TRIES_MAX => {}
                done => return done.map_err(|miss| miss.error),
            }
        }
    }

    async fn once(&self, plan: &Arc<Plan>, at: usize) -> Result<Option<Applied>, Miss> {
        let wanted = &plan.manifest.layers[at];
        let seat = self.transfers.join(self.lease.store(), &self.places, wanted);
        let feed = seat.beside;
        let (follower, _leash) = Follower::new(&feed);
        let unpacked = async {
            if !plan.missing.contains(&at) {
                return Ok(None);
            }
            match self.unpack(plan, at, follower).await {
                Ok(applied) => Ok(Some(applied)),
                // It is told by the transfer, which knows why.
                Err(_) if feed.has_failed() => future::pending().await,
                Err(error) => Err(Miss { error, is_worth_another: false }),
            }
        };
        let arrived = async {
            let mut work = seat.work;
            let mut tick = interval(TELL_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut told = None;
            let fetched = loop {
                tokio::select! {
                    biased;
                    fetched = &mut work => break fetched,
                    _ = tick.tick() => {
                        let done_bytes = feed.have();
                        if told.replace(done_bytes) != Some(done_bytes) {
                            self.tell(plan, at, Step::Downloading { done_bytes, total_bytes: wanted.size });
                        }
                    }
                }
            };
            match &fetched.outcome {
                Ok(()) => {
                    let total_bytes = wanted.size;
                    let all = Step::Downloading { done_bytes: total_bytes, total_bytes };
                    self.tell(plan, at, if fetched.is_new { Step::Downloaded } else { all });
                    Ok(())
                }
                Err(error) => {
                    let error = error.clone();
                    Err(Miss {
                        is_worth_another: self.is_worth_another(&fetched, feed.resumed(), seat.is_first),
                        error,
                    })
                }
            }
        };
        let ((), applied) = future::try_join(arrived, unpacked).await?;
        Ok(applied)
    }

    /// Whether a transfer that has failed may do better: from its beginning, from somewhere else, or with what we have to show.
    fn is_worth_another(&self, fetched: &Fetched, resumed: u64, is_first: bool) -> bool {
        let Err(error) = &fetched.outcome else { return false };
        match error.kind() {
            Kind::InvalidArgument => {
                resumed > 0 || (is_first && fetched.from.is_some_and(|at| self.places.leave_out(at)))
            }
            // What somebody else may not have or see.
            Kind::NotFound | Kind::PermissionDenied => !is_first,
            Kind::AlreadyExists
            | Kind::WrongState
            | Kind::Exhausted
            | Kind::Unsupported
            | Kind::CannotExecute
            | Kind::CommandNotFound
            | Kind::Unavailable
            | Kind::Internal => false,
        }
    }

    fn unpack(
        &self,
        plan: &Arc<Plan>,
        at: usize,
        packed: Follower,
    ) -> impl Future<Output = Result<Applied>> + Send + use<> {
        // Without the lease: when nobody waits any more, nothing is kept from being collected.
        let (plan, store, board) = (Arc::clone(plan), self.lease.store().clone(), Arc::clone(&self.board));
        thread::run("unpack", move || plan.apply(&store, at, packed, &|progress| board.tell(progress)))
    }

    fn tell(&self, plan: &Plan, at: usize, step: Step) {
        self.board.tell(Progress { layer: plan.manifest.layers[at].digest.clone(), step });
    }
}

/// Why a layer is not there.
struct Miss {
    error: Error,
    is_worth_another: bool,
}
