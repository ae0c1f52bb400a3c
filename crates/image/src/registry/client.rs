//! The client of registries, as the engine has it: one for the whole daemon, so that connections, tokens and transfers are shared.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tinyd_core::{Error, Kind, Result};
use tokio::sync::Semaphore;

use super::{
    auth::Tokens,
    board::{Board, Listener},
    credentials::Credentials,
    exchange::{Exchange, Waits},
    fetch::Transfers,
    flight::Flights,
    hosts::HostFiles,
    names::Names,
    place::{Place, Shared},
    places::{Need, Notice, Places, Tries},
    pull::{Brought, Pull},
    push::Push,
    resolve, tags,
};
use crate::{
    config::ImageConfig,
    digest::Digest,
    platform::Platform,
    reference::Reference,
    store::{Lease, Store},
};

/// The most layers that all pulls together have in work, for each that one may have.
const PULLS_AT_ONCE: usize = 4;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it is said which hosts there are.
    pub hosts: HostFiles,
    /// The most layers that one pull or push transfers at once.
    pub layers_at_once: usize,
    /// How long it waits.
    pub waits: Waits,
    /// How often it tries.
    pub tries: Tries,
    /// A blob that is larger goes to a registry in pieces of this many bytes, and after a cut goes on with the piece.
    pub chunk_bytes: u64,
    pub(super) names: Names,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            hosts: HostFiles::default(),
            layers_at_once: 3,
            waits: Waits::default(),
            tries: Tries::default(),
            chunk_bytes: 64 << 20,
            names: Names::default(),
        }
    }
}

/// Talks to registries for one store. Cheap to clone. Its calls are dropped to be cancelled: nothing goes on for them a second later, and what
/// has arrived of a blob is gone on with by the next pull.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    store: Store,
    shared: Arc<Shared>,
    transfers: Arc<Transfers>,
    images: Flights<Digest, Result<Arc<Brought>>, Board>,
    layers: Arc<Semaphore>,
}

/// What is wanted of a pull beside the name.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Of an index the image for this platform; of an image, that it is for it. Without it an index is looked through for this machine, and an
    /// image is taken as it is.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Credentials,
    /// The manifest or index that the name had until now, if any: when the registry still has that, it is not transferred, which
    /// limits on pulls do not count.
    pub known: Option<Digest>,
    /// Who is told how far it is.
    pub listener: Option<Listener>,
    /// Who is told when a registry is asked again after a pause.
    pub notice: Option<Notice>,
}

/// An image that is ready to run, and has no record yet. While this lives nothing of it is collected.
#[derive(Debug)]
pub struct Pulled {
    /// Its id: the digest of its configuration.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Digest,
    /// The index that led to it.
    pub index: Option<Digest>,
    /// What the registry calls it, by digest.
    pub pinned: Reference,
    /// Its configuration.
    pub config: ImageConfig,
    /// What was left out of its layers, one line each.
    pub notes: Vec<String>,
    _leases: [Arc<Lease>; 2],
}

/// What is wanted of a push beside the names.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Who asks.
    pub credentials: Credentials,
    /// Other names that the image has: a registry that has it under one of them does not need its layers again.
    pub known_as: Vec<Reference>,
    /// Who is told how far it is.
    pub listener: Option<Listener>,
    /// Who is told when a registry is asked again after a pause.
    pub notice: Option<Notice>,
}

impl Client {
    /// A client that brings images into a store and takes them from it.
    #[must_use]
    pub fn new(store: Store, config: Config) -> Client {
        let shared =
            Shared { exchange: Exchange::new(config.names.clone(), config.waits), tokens: Tokens::default() };
        let layers = Semaphore::new(config.layers_at_once.max(1) * PULLS_AT_ONCE);
        Client(Arc::new(Inner {
            store,
            shared: Arc::new(shared),
            transfers: Arc::default(),
            images: Flights::default(),
            layers: Arc::new(layers),
            config,
        }))
    }

    /// Brings an image from its registry, and unpacks it. Whoever calls writes its record down ([`Images::arrive`](crate::images::Images::arrive)) while what is
    /// returned lives.
    ///
    /// # Errors
    /// `NotFound` when there is no such image, or none for the platform; `PermissionDenied` with a hint to log in; `Unavailable` when the registry cannot
    /// be reached or limits pulls, after several tries; `InvalidArgument` when what it sends is not what it should be; `Exhausted` on a full disk.
    pub async fn pull(&self, reference: &Reference, options: &PullOptions) -> Result<Pulled> {
        let told = |error: Error| error.context(format_args!("pull {reference}"));
        self.bring(reference, options).await.map_err(told)
    }

    async fn bring(&self, reference: &Reference, options: &PullOptions) -> Result<Pulled> {
        let places = self.places(reference, &options.credentials, &["pull"], &[], &options.notice)?;
        let lease = Arc::new(self.0.store.lease());
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let known = options.known.as_ref();
        // Everybody asks for himself: what is private is not had from somebody else's pull.
        let resolved = resolve::resolve(&places, &lease, reference, &platform, known).await?;
        let (digest, index) = (resolved.digest.clone(), resolved.index.clone());
        let board = Arc::new(Board::default());
        let begin = || {
            let pull = Pull {
                places: Arc::clone(&places),
                lease: Arc::clone(&lease),
                resolved: resolved.clone(),
                board: Arc::clone(&board),
                transfers: Arc::clone(&self.0.transfers),
                layers: Arc::clone(&self.0.layers),
                at_once: self.0.config.layers_at_once,
            };
            (pull.run().boxed(), Arc::clone(&board))
        };
        let brought = loop {
            let seat = self.0.images.join(digest.clone(), begin);
            let _listening = options.listener.clone().map(|listener| seat.beside.listen(listener));
            match seat.work.await {
                // What somebody else may not have or see.
                Err(error)
                    if !seat.is_first && matches!(error.kind(), Kind::NotFound | Kind::PermissionDenied) => {}
                done => break done?,
            }
        };
        let image = &brought.assembled;
        if let Some(wanted) = &options.platform
            && image.config.platform.fits(wanted).is_none()
        {
            let message = format!("the image is for {}, not for {wanted}", image.config.platform);
            return Err(Error::new(Kind::NotFound, message).of_field("--platform"));
        }
        Ok(Pulled {
            id: image.id.clone(),
            pinned: reference.with_digest(index.clone().unwrap_or_else(|| digest.clone())),
            manifest: digest,
            index,
            config: image.config.clone(),
            notes: image.notes.clone(),
            _leases: [lease, Arc::clone(&brought.lease)],
        })
    }

    /// Gives an image of the store to a registry, under a name: the manifest, with all that it names. Returns the name by digest.
    ///
    /// # Errors
    /// `NotFound` when the store lacks something of it; `PermissionDenied` with a hint to log in; `Unavailable` after several tries.
    pub async fn push(
        &self,
        manifest: &Digest,
        reference: &Reference,
        options: &PushOptions,
    ) -> Result<Reference> {
        let told = |error: Error| error.context(format_args!("push {reference}"));
        let from: Vec<&str> = options
            .known_as
            .iter()
            .filter(|other| other.registry() == reference.registry())
            .filter(|other| other.repository() != reference.repository())
            .map(Reference::repository)
            .collect();
        let places = self
            .places(reference, &options.credentials, &["pull", "push"], &from, &options.notice)
            .map_err(told)?;
        let board = Arc::new(Board::default());
        let _listening = options.listener.clone().map(|listener| board.listen(listener));
        let push = Push {
            places,
            lease: Arc::new(self.0.store.lease()),
            board: Arc::clone(&board),
            from: from.iter().map(|from| (*from).to_owned()).collect(),
            at_once: self.0.config.layers_at_once,
            chunk_bytes: self.0.config.chunk_bytes,
        };
        push.run(manifest, reference).await.map_err(told)
    }

    /// All tags of a reference's repository, each as a reference.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn tags(&self, reference: &Reference, credentials: &Credentials) -> Result<Vec<Reference>> {
        let told = |error: Error| {
            error.context(format_args!(
                "list the tags of {}/{}",
                reference.registry(),
                reference.repository()
            ))
        };
        let places = self.places(reference, credentials, &["pull"], &[], &None).map_err(told)?;
        tags::list(&places, reference).await.map_err(told)
    }

    /// Asks a registry whether it takes these credentials.
    ///
    /// # Errors
    /// `PermissionDenied` when it does not; `InvalidArgument` when `registry` is none; `Unavailable` after several tries.
    pub async fn log_in(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        // Which repository it is makes no difference to where the registry is, but for rewritten names.
        let any = Reference::parse_repository("REGISTRY", &format!("{registry}/tinyd"))?;
        let told = |error: Error| error.context(format_args!("log in to {}", any.registry()));
        let places = self.places(&any, credentials, &[], &[], &None).map_err(told)?;
        let mut asking = places.asking(Need::Push);
        loop {
            let at = asking.place().await.map_err(told)?;
            match asking.at(at).greet().await {
                Ok(()) => return Ok(()),
                Err(failure) => asking.failed(at, failure, false),
            }
        }
    }

    /// Where to ask for a reference, and as whom.
    fn places(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        actions: &[&str],
        also: &[&str],
        notice: &Option<Notice>,
    ) -> Result<Arc<Places>> {
        let place = |endpoint: super::hosts::Endpoint| {
            let login = credentials.for_registry(&endpoint.account).cloned();
            let mut scopes = Vec::new();
            if !actions.is_empty() {
                scopes.push(format!("repository:{}:{}", endpoint.repository, actions.join(",")));
            }
            scopes.extend(also.iter().map(|other| format!("repository:{other}:pull")));
            Place::new(&self.0.shared, endpoint, login, scopes)
        };
        let all = self.0.config.hosts.endpoints(reference)?.into_iter().map(place).collect();
        Ok(Arc::new(Places::new(all, self.0.config.tries, notice.clone())))
    }
}
