//! The engine: containers, networks, volumes, logs, recovery. One task owns each container; everybody else sends it
//! a message or watches.
//!
//! The engine knows no protobuf type and no command line: it speaks `tinyd_core`'s words and the views of [`api`].

pub mod api;
mod attach;
mod cgroups;
mod check;
mod conn;
mod container;
mod create;
mod devices;
mod etc;
mod exec;
mod failpoint;
mod files;
mod handle;
mod health;
mod host;
mod images;
mod kill;
mod layout;
mod list;
mod logs;
mod names;
mod net_plan;
mod networks;
mod pause;
mod profile;
mod pump;
mod record;
mod recover;
mod registries;
mod registry;
mod remove;
mod run;
mod shim;
mod spec;
mod start;
mod stop;
mod system;
mod top;
mod undo;
mod users;
mod volumes;
mod wait;

use std::{collections::BTreeMap, fs::File, path::PathBuf, sync::Arc, time::Duration};

use api::{
    ArchiveFormat, AttachOptions, Attachment, CommitOptions, Config, ContainerDetails, ContainerSummary,
    Created, DiskUsage, ExecConfig, ImageArrived, ImageDetails, ImageEvents, ImageHistory, ImageRemoved,
    ImageSummary, ImagesPruned, ImportOptions, Incoming, Info, LogLine, LogQuery, Login, NetworkDetails,
    NetworkView, Outgoing, Process, PruneChoice, Pruned, PullRequest, PushRequest, StorageChoice,
    SystemChecked, SystemPruned, TransferEvents, VolumeView,
};
pub use failpoint::FAILPOINTS;
use tinyd_core::{
    ContainerId, Error, Exit, Kind, Name, Result,
    config::{ContainerConfig, NetworkConfig, Signal},
};
use tinyd_net::Net;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cgroups::Cgroups,
    host::Host,
    layout::Layout,
    record::Record,
    registry::Registry,
    shim::{Launcher, Shim},
};

/// How often the firewall is looked at: rules that somebody flushed come back.
const REPAIR_EVERY: Duration = Duration::from_secs(5);

/// What is told where overlay cannot be.
const NO_OVERLAY_WARNING: &str = "the data root is on an overlay, which cannot hold another one's upper layer: images are copied (storage driver copy)";

/// A running engine. Cheap to clone; all clones are the same engine.
///
/// Wherever a container is named, `who` is its name, its id, or a unique prefix of its id.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// What all tasks share.
#[derive(Debug)]
pub(crate) struct Inner {
    config: Config,
    layout: Layout,
    registry: Registry,
    net: Net,
    driver: Box<dyn tinyd_image::Driver>,
    launcher: Launcher,
    host: Host,
    /// See [`Layout::era`].
    era: String,
    cgroups: Cgroups,
    closing: CancellationToken,
    tasks: TaskTracker,
    shelf: images::Shelf,
    /// Who talks to registries: one for all, so that transfers are shared.
    registries: tinyd_image::registry::Client,
    /// Held while a volume is looked for and made, or filled for the first time.
    volumes: std::sync::Mutex<()>,
    /// Held while a container is frozen for a commit.
    freezing: tokio::sync::Mutex<()>,
    /// What the daemon cannot do here and what it does instead, one line each.
    warnings: Vec<String>,
    /// Held as long as the engine is: one daemon for each root.
    _lock: File,
}

impl Engine {
    /// Opens the data root, finds again what an earlier daemon left running, reaps what has no owner, makes the default network.
    ///
    /// # Errors
    /// `AlreadyExists` when another daemon has the root; `Unsupported` when the storage driver is not there; `Internal` with the call.
    pub async fn open(config: Config) -> Result<Engine> {
        let inner = Arc::new(blocking(move || Inner::open(config)).await?);
        recover::recover(&inner).await?;
        // What the last daemon has not named, or has not taken away to the end.
        images::collect_soon(&inner);
        inner.tasks.spawn(keep_firewall(Arc::clone(&inner)));
        Ok(Engine { inner })
    }

    /// Lets go of everything without touching a container: they run on. What is being started is finished first.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        // With containers in it, it stays.
        self.inner.cgroups.remove_empty(&self.inner.layout.cgroup_parent());
    }

    /// Defines a container.
    ///
    /// # Errors
    /// `InvalidArgument` with the option at fault, `AlreadyExists` for a name that is taken, `NotFound` for an image or network.
    pub async fn create(&self, config: ContainerConfig) -> Result<Created> {
        create::create(&self.inner, config).await
    }

    /// Starts one that is created or stopped.
    ///
    /// # Errors
    /// The step, the call and the errno; nothing of the attempt is left.
    pub async fn start(&self, who: &str) -> Result<Created> {
        start::start(&self.inner, who).await
    }

    /// Create and start as one: a failure of either leaves nothing.
    ///
    /// # Errors
    /// Those of [`Engine::create`] and [`Engine::start`].
    pub async fn run(&self, config: ContainerConfig) -> Result<Created> {
        run::run(&self.inner, config).await
    }

    /// Create, attach and start as one: a failure leaves nothing, no byte of output is missed.
    ///
    /// # Errors
    /// Those of [`Engine::create`] and [`Engine::start`].
    pub async fn run_attached(&self, config: ContainerConfig, options: AttachOptions) -> Result<Attachment> {
        run::run_attached(&self.inner, config, options).await
    }

    /// Attach to one that is created or stopped, then start it.
    ///
    /// # Errors
    /// Those of [`Engine::start`].
    pub async fn start_attached(&self, who: &str, options: AttachOptions) -> Result<Attachment> {
        start::start_attached(&self.inner, who, options).await
    }

    /// Joins the streams of one that runs.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub async fn attach(&self, who: &str, options: AttachOptions) -> Result<Attachment> {
        attach::attach(&self.inner, who, options).await
    }

    /// Runs one more process inside.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `CommandNotFound`, `CannotExecute`.
    pub async fn exec(&self, who: &str, exec: ExecConfig) -> Result<Attachment> {
        exec::exec(&self.inner, who, exec).await
    }

    /// The stop signal, a grace period in seconds, SIGKILL. One that has ended is left as it is.
    ///
    /// # Errors
    /// `NotFound`; `Internal` when a process cannot be killed, with its name.
    pub async fn stop(&self, who: &str, timeout_secs: Option<u32>) -> Result<ContainerId> {
        stop::stop(&self.inner, who, timeout_secs).await
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub async fn kill(&self, who: &str, signal: Signal) -> Result<ContainerId> {
        kill::kill(&self.inner, who, signal).await
    }

    /// Stop, then start.
    ///
    /// # Errors
    /// Those of [`Engine::stop`] and [`Engine::start`].
    pub async fn restart(&self, who: &str, timeout_secs: Option<u32>) -> Result<ContainerId> {
        stop::restart(&self.inner, who, timeout_secs).await
    }

    /// Freezes it.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub async fn pause(&self, who: &str) -> Result<ContainerId> {
        pause::pause(&self.inner, who).await
    }

    /// Thaws it.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub async fn unpause(&self, who: &str) -> Result<ContainerId> {
        pause::unpause(&self.inner, who).await
    }

    /// Removes it; a running one only when forced. With `volumes`, those go too that its image asked for and nobody named.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub async fn remove(&self, who: &str, force: bool, volumes: bool) -> Result<ContainerId> {
        remove::remove(&self.inner, who, force, volumes).await
    }

    /// Answers when it has ended.
    ///
    /// # Errors
    /// `NotFound`, also when it is removed before it runs.
    pub async fn wait(&self, who: &str) -> Result<(ContainerId, Exit)> {
        wait::wait(&self.inner, who).await
    }

    /// All, newest first; only those alive unless `all`.
    ///
    /// # Errors
    /// None now.
    #[expect(clippy::unused_async, reason = "the door's form, whatever is behind it")]
    pub async fn list(&self, all: bool) -> Result<Vec<ContainerSummary>> {
        Ok(list::list(&self.inner, all))
    }

    /// Everything about one.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn inspect(&self, who: &str) -> Result<ContainerDetails> {
        list::inspect(&self.inner, who).await
    }

    /// Its processes.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub async fn top(&self, who: &str) -> Result<Vec<Process>> {
        top::top(&self.inner, who).await
    }

    /// Its file system as a tar stream.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported` with the storage driver aufs; what goes wrong later is the last piece.
    pub async fn export(&self, who: &str) -> Result<Outgoing> {
        images::export(&self.inner, who).await
    }

    /// Makes an image of what it has changed. One that runs is frozen meanwhile, when that is asked for.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for a name or a change that cannot be; `Exhausted` on a full disk. Nothing of the image is left.
    pub async fn commit(&self, who: &str, options: CommitOptions) -> Result<ImageArrived> {
        images::commit(&self.inner, who, options).await
    }

    /// Its log. The channel closes at the end, or when the container has ended and all is told.
    ///
    /// # Errors
    /// `NotFound`.
    #[expect(clippy::unused_async, reason = "the door's form, whatever is behind it")]
    pub async fn logs(&self, who: &str, query: LogQuery) -> Result<mpsc::Receiver<Result<LogLine>>> {
        logs::logs(&self.inner, who, query)
    }

    /// Makes a network. An empty subnet is chosen.
    ///
    /// # Errors
    /// `InvalidArgument`, `AlreadyExists` for the name or the subnet, `Exhausted`.
    pub async fn network_create(&self, config: NetworkConfig) -> Result<NetworkView> {
        networks::create(&self.inner, config).await
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// None now.
    #[expect(clippy::unused_async, reason = "the door's form, whatever is behind it")]
    pub async fn network_list(&self) -> Result<Vec<NetworkView>> {
        Ok(networks::list(&self.inner))
    }

    /// One, and who is on it.
    ///
    /// # Errors
    /// `NotFound`.
    #[expect(clippy::unused_async, reason = "the door's form, whatever is behind it")]
    pub async fn network_inspect(&self, name: &str) -> Result<NetworkDetails> {
        networks::inspect(&self.inner, name)
    }

    /// Removes one that nobody is on.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` with who is on it, `InvalidArgument` for a built-in one.
    pub async fn network_delete(&self, name: &str) -> Result<()> {
        networks::delete(&self.inner, name).await
    }

    /// Makes a volume, or finds it; a name is made when absent.
    ///
    /// # Errors
    /// `Internal`, `Exhausted`.
    pub async fn volume_create(
        &self,
        name: Option<Name>,
        labels: BTreeMap<String, String>,
    ) -> Result<VolumeView> {
        self.blocking(|inner| volumes::create(inner, name, labels)).await
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn volume_list(&self) -> Result<Vec<VolumeView>> {
        self.blocking(volumes::list).await
    }

    /// One.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn volume_inspect(&self, name: &str) -> Result<VolumeView> {
        let name = name.to_owned();
        self.blocking(move |inner| volumes::inspect(inner, &name)).await
    }

    /// Removes one that no container has.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` with who has it.
    pub async fn volume_remove(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.blocking(move |inner| volumes::remove(inner, &name)).await
    }

    /// Removes those that no container has.
    ///
    /// # Errors
    /// `Internal`; those removed before stay removed.
    pub async fn volume_prune(&self) -> Result<Pruned> {
        self.blocking(volumes::prune).await
    }

    /// Facts about daemon and host.
    ///
    /// # Errors
    /// None now.
    pub async fn info(&self) -> Result<Info> {
        self.blocking(|inner| Ok(system::info(inner))).await
    }

    /// What is kept on disk.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        self.blocking(system::df).await
    }

    /// Removes what nobody needs.
    ///
    /// # Errors
    /// `Internal`; what was removed before stays removed.
    pub async fn system_prune(&self, choice: PruneChoice) -> Result<SystemPruned> {
        system::prune(&self.inner, choice).await
    }

    /// Whether what is on disk is as it should be; with `repair`, what can be put right is.
    ///
    /// # Errors
    /// `Unavailable` when the daemon ends meanwhile; `Internal` when a repair is not possible.
    pub async fn system_check(&self, quick: bool, repair: bool) -> Result<SystemChecked> {
        self.blocking(move |inner| system::check(inner, tinyd_image::check::Look { quick, repair })).await
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// None now.
    pub async fn image_list(&self) -> Result<Vec<ImageSummary>> {
        self.blocking(|inner| Ok(images::list(inner))).await
    }

    /// Everything about an image.
    ///
    /// # Errors
    /// `NotFound`; `Internal` when its documents are damaged.
    pub async fn image_inspect(&self, image: String) -> Result<ImageDetails> {
        self.blocking(move |inner| images::inspect(inner, &image)).await
    }

    /// How an image was made.
    ///
    /// # Errors
    /// `NotFound`; `Internal` when its documents are damaged.
    pub async fn image_history(&self, image: String) -> Result<ImageHistory> {
        self.blocking(move |inner| images::history(inner, &image)).await
    }

    /// Gives an image another name, which any other loses; its id.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` when it cannot be a name.
    pub async fn image_tag(&self, image: String, name: String) -> Result<String> {
        images::tag(&self.inner, image, name).await
    }

    /// Takes a name away, and with the last one the image.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` with who needs it.
    pub async fn image_remove(&self, image: String, force: bool) -> Result<ImageRemoved> {
        images::remove(&self.inner, image, force).await
    }

    /// Removes images without a name, or `all` that no container has.
    ///
    /// # Errors
    /// `Internal`; those removed before stay removed.
    pub async fn image_prune(&self, all: bool) -> Result<ImagesPruned> {
        self.blocking(move |inner| images::prune(inner, all)).await
    }

    /// Takes in images from the archive that a client sends. `platform` says which of an index; "" is this machine's.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such platform; what goes wrong later is the last event.
    pub async fn image_load(&self, incoming: Incoming, platform: String) -> Result<ImageEvents> {
        images::load(&self.inner, incoming, &platform)
    }

    /// Makes an image of the root file system that a client sends.
    ///
    /// # Errors
    /// `InvalidArgument` for a name, a change or a platform that cannot be; what goes wrong later is the last event.
    #[expect(clippy::unused_async, reason = "the door's form, whatever is behind it")]
    pub async fn image_import(&self, incoming: Incoming, options: ImportOptions) -> Result<ImageEvents> {
        images::import(&self.inner, incoming, &options)
    }

    /// Gives images out as one archive.
    ///
    /// # Errors
    /// `NotFound`, also when the store lacks a content; what goes wrong later is the last piece.
    pub async fn image_save(&self, images: Vec<String>, format: ArchiveFormat) -> Result<Outgoing> {
        images::save(&self.inner, images, format).await
    }

    /// Brings in an image from its registry, or all of a repository.
    ///
    /// # Errors
    /// `InvalidArgument` of the name or the platform; what goes wrong later is the last event.
    #[expect(clippy::unused_async, reason = "the door's form, whatever is behind it")]
    pub async fn image_pull(&self, request: PullRequest) -> Result<TransferEvents> {
        registries::pull(&self.inner, request)
    }

    /// Gives an image, or all of a repository, to its registry.
    ///
    /// # Errors
    /// `InvalidArgument` of the name, `NotFound` when nothing here has it; what goes wrong later is the last event.
    pub async fn image_push(&self, request: PushRequest) -> Result<TransferEvents> {
        registries::push(&self.inner, request).await
    }

    /// Asks a registry whether it takes these credentials; what it is called in names of images.
    ///
    /// # Errors
    /// `InvalidArgument` when `server` is none, `PermissionDenied` when it does not take them, `Unavailable` when it does not answer.
    pub async fn check_login(&self, server: &str, login: Login) -> Result<String> {
        registries::check_login(&self.inner, server, login).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn open(config: Config) -> Result<Inner> {
        let (layout, lock) = Layout::open(&config.root, &config.run_dir)?;
        let mut warnings = Vec::new();
        let storage = match config.storage {
            StorageChoice::Overlay if layout.is_on_overlay() => {
                warnings.push(NO_OVERLAY_WARNING.to_owned());
                tracing::warn!("{NO_OVERLAY_WARNING}");
                "copy"
            }
            StorageChoice::Overlay => "overlay",
            StorageChoice::Aufs => "aufs",
            StorageChoice::Copy => "copy",
        };
        let net = Net::open(&layout.tag(), layout.is_default())?;
        if net.enable_forwarding()? {
            tracing::info!("switched on net.ipv4.ip_forward, so that containers reach the world");
        }
        let host = Host { open_files: config.open_files, ..Host::read() };
        let shelf = images::Shelf::open(layout.root())?;
        Ok(Inner {
            driver: tinyd_image::driver(storage)?,
            launcher: Launcher::open(&config.tinyrun)?,
            era: layout.era(&host.boot_id)?,
            host,
            cgroups: Cgroups::read(),
            registry: Registry::default(),
            registries: registries::client(shelf.store()),
            shelf,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            volumes: std::sync::Mutex::new(()),
            freezing: tokio::sync::Mutex::new(()),
            warnings,
            _lock: lock,
            net,
            layout,
            config,
        })
    }

    /// The shim of a container that is alive.
    pub(crate) fn shim(&self, id: &ContainerId) -> Result<Shim> {
        Shim::find(&self.layout.live_of(id)).ok_or_else(|| {
            Error::new(Kind::Unavailable, format!("the supervisor of container {} is not there", id.short()))
        })
    }

    /// The directories that a container's root is made of, the uppermost first.
    pub(crate) fn roots(&self, record: &Record, userns: Option<u32>) -> Result<Vec<PathBuf>> {
        let driver = tinyd_image::driver(&record.storage)?;
        let image = images::layers_of(self, record)?;
        let prepared = driver.prepare(&self.layout.container(&record.id), &image, userns)?;
        Ok(users::roots(&prepared.rootfs))
    }
}

async fn keep_firewall(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = inner.closing.cancelled() => return,
            () = tokio::time::sleep(REPAIR_EVERY) => {}
        }
        let repairer = Arc::clone(&inner);
        match blocking(move || repairer.net.repair()).await {
            Ok(true) => tracing::warn!("somebody had changed tinyd's firewall table; it is as it was again"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "look at the firewall"),
        }
    }
}

/// Runs what blocks off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| shutting_down())?
}

/// What those are told whose task did not come to its end.
pub(crate) fn shutting_down() -> Error {
    Error::new(Kind::Unavailable, "the daemon is shutting down")
}
