//! The engine: containers, networks, volumes, logs, recovery. One task owns each container; everybody else sends it
//! a message or watches.
//!
//! The engine knows no protobuf type and no command line: it speaks `tinyd_core`'s words and the views of [`api`].

pub mod api;

use std::sync::Arc;

use api::{
    AttachOptions, Attachment, Config, ExecConfig, Info, LogLine, LogQuery, NetworkDetails, NetworkView, ContainerDetails,
    ContainerSummary, Process, Pruned, VolumeView, Created,
};
use tinyd_core::{
    ContainerId, Exit, Name, Result,
    config::{ContainerConfig, NetworkConfig, Signal},
};
use tokio::sync::mpsc;

/// A running engine. Cheap to clone; all clones are the same engine.
///
/// Wherever a container is named, `who` is its name, its id, or a unique prefix of its id.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Config>,
}

#[expect(clippy::todo, clippy::unused_async, unused_variables, reason = "skeleton")]
impl Engine {
    /// Opens the data root, finds again what an earlier daemon left running, reaps what has no owner, makes the default network.
    pub async fn open(config: Config) -> Result<Engine> { let _ = &(); todo!() }
    /// Lets go of everything without touching a container: they run on.
    pub async fn close(&self) { todo!() }

    /// Defines a container.
    pub async fn create(&self, config: ContainerConfig) -> Result<Created> { todo!() }
    /// Starts one that is created or stopped.
    pub async fn start(&self, who: &str) -> Result<Created> { todo!() }
    /// Create and start as one: a failure of either leaves nothing.
    pub async fn run(&self, config: ContainerConfig) -> Result<Created> { todo!() }
    /// Create, attach and start as one: a failure leaves nothing, no byte of output is missed.
    pub async fn run_attached(&self, config: ContainerConfig, options: AttachOptions) -> Result<Attachment> { todo!() }
    /// Attach to one that is created or stopped, then start it.
    pub async fn start_attached(&self, who: &str, options: AttachOptions) -> Result<Attachment> { todo!() }
    /// Joins the streams of one that runs.
    pub async fn attach(&self, who: &str, options: AttachOptions) -> Result<Attachment> { todo!() }
    /// Runs one more process inside.
    pub async fn exec(&self, who: &str, exec: ExecConfig) -> Result<Attachment> { todo!() }
    /// The stop signal, a grace period in seconds, SIGKILL. One that has ended is left as it is.
    pub async fn stop(&self, who: &str, timeout_secs: Option<u32>) -> Result<ContainerId> { todo!() }
    /// Sends a signal to the first process.
    pub async fn kill(&self, who: &str, signal: Signal) -> Result<ContainerId> { todo!() }
    /// Stop, then start.
    pub async fn restart(&self, who: &str, timeout_secs: Option<u32>) -> Result<ContainerId> { todo!() }
    /// Freezes it.
    pub async fn pause(&self, who: &str) -> Result<ContainerId> { todo!() }
    /// Thaws it.
    pub async fn unpause(&self, who: &str) -> Result<ContainerId> { todo!() }
    /// Removes it; a running one only when forced.
    pub async fn remove(&self, who: &str, force: bool, volumes: bool) -> Result<ContainerId> { todo!() }
    /// Answers when it has ended.
    pub async fn wait(&self, who: &str) -> Result<(ContainerId, Exit)> { todo!() }
    /// All, newest first; only those alive unless `all`.
    pub async fn list(&self, all: bool) -> Result<Vec<ContainerSummary>> { todo!() }
    /// Everything about one.
    pub async fn inspect(&self, who: &str) -> Result<ContainerDetails> { todo!() }
    /// Its processes.
    pub async fn top(&self, who: &str) -> Result<Vec<Process>> { todo!() }
    /// Its log. The channel closes at the end, or when the container has ended and all is told.
    pub async fn logs(&self, who: &str, query: LogQuery) -> Result<mpsc::Receiver<Result<LogLine>>> { todo!() }

    /// Makes a network. An empty subnet is chosen.
    pub async fn network_create(&self, config: NetworkConfig) -> Result<NetworkView> { todo!() }
    /// All networks, by name.
    pub async fn network_list(&self) -> Result<Vec<NetworkView>> { todo!() }
    /// One, and who is on it.
    pub async fn network_inspect(&self, name: &str) -> Result<NetworkDetails> { todo!() }
    /// Removes one that nobody is on.
    pub async fn network_delete(&self, name: &str) -> Result<()> { todo!() }

    /// Makes a volume, or finds it; a name is made when absent.
    pub async fn volume_create(&self, name: Option<Name>, labels: std::collections::BTreeMap<String, String>) -> Result<VolumeView> { todo!() }
    /// All volumes, by name.
    pub async fn volume_list(&self) -> Result<Vec<VolumeView>> { todo!() }
    /// One.
    pub async fn volume_inspect(&self, name: &str) -> Result<VolumeView> { todo!() }
    /// Removes one that no container has.
    pub async fn volume_remove(&self, name: &str) -> Result<()> { todo!() }
    /// Removes those that no container has.
    pub async fn volume_prune(&self) -> Result<Pruned> { todo!() }

    /// Facts about daemon and host.
    pub async fn info(&self) -> Result<Info> { todo!() }
}
