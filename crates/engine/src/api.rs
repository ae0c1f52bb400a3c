//! What goes into and comes out of the engine: plain views, no behaviour.

mod images;
mod registries;
mod system;

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

use bytes::Bytes;
use tinyd_core::{
    ContainerId, Error, Exit, State,
    config::{ContainerConfig, Mount, NetworkConfig, Port, User},
    health::{Health, HealthStatus},
};
use tokio::sync::mpsc;

pub use self::images::{
    ArchiveFormat, CommitOptions, HistoryStep, ImageArrived, ImageDetails, ImageEvent, ImageEvents,
    ImageHistory, ImageLayer, ImageProgress, ImageRemoved, ImageStep, ImageSummary, ImagesPruned,
    ImportOptions, Incoming, Outgoing, Piece,
};
pub use self::registries::{
    AuthFile, Credentials, DEFAULT_REGISTRY, Helper, ImagePulled, ImagePushed, Login, PullRequest,
    PushRequest, Reference, RegistryPaused, TransferEvent, TransferEvents, registry_of,
};
pub use self::system::{
    ContainerUsage, DiskUsage, ImageUsage, Problem, PruneChoice, SystemChecked, SystemPruned, VolumeUsage,
};

/// How a daemon is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// What lasts: records, layers, volumes. Made if missing, mode 0700.
    pub root: PathBuf,
    /// What a reboot may take: sockets, exit files. On a tmpfs; one is mounted if it is not.
    pub run_dir: PathBuf,
    /// The `tinyrun` binary.
    pub tinyrun: PathBuf,
    /// How root file systems are made.
    pub storage: StorageChoice,
    /// The default network's addresses, as `10.5.0.0/16`; chosen when absent.
    pub default_subnet: Option<String>,
    /// The limits of open files, soft and hard, of containers that have none of their own; `None`: those that the daemon has.
    pub open_files: Option<(u64, u64)>,
    /// The step that fails, for tests (`TINYD_FAIL`). Empty in life.
    pub failpoint: String,
}

/// Which storage driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageChoice {
    /// overlayfs.
    #[default]
    Overlay,
    /// aufs, where the kernel has it.
    Aufs,
    /// A whole copy for each container.
    Copy,
}

/// A container that was made or started.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// What could not be done and was not asked for by name, one line each.
    pub warnings: Vec<String>,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// How to attach.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttachOptions {
    /// Whether [`Input::Data`] is standard input.
    pub stdin: bool,
    /// The terminal's first size.
    pub size: Option<WindowSize>,
}

/// Joined streams of a container or of an exec. Dropping it lets go.
#[derive(Debug)]
pub struct Attachment {
    /// The container.
    pub id: ContainerId,
    /// What could not be done and was not asked for by name, one line each.
    pub warnings: Vec<String>,
    /// Whether there is a terminal.
    pub tty: bool,
    /// The process that was started or joined, as the host counts.
    pub pid: i32,
    /// Output; bounded, so that a reader that stops reading stops the writer. [`Output::Exited`] is last.
    pub output: mpsc::Receiver<Output>,
    /// Input.
    pub input: mpsc::Sender<Input>,
}

/// What comes out of an attachment.
#[derive(Clone, Debug)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The process has ended; the last.
    Exited(Exit),
    /// The streams were lost; the last.
    Failed(Error),
}

/// What goes into an attachment.
#[derive(Clone, Debug)]
pub enum Input {
    /// Bytes for standard input.
    Data(Bytes),
    /// There are no more.
    End,
    /// The terminal's size.
    Resize(WindowSize),
    /// A signal for the process, 1 to 64.
    Signal(i32),
}

/// One more process in a container.
#[derive(Clone, Debug, Default)]
pub struct ExecConfig {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it has a pseudo-terminal.
    pub tty: bool,
    /// Whether [`Input::Data`] is its standard input; it is empty otherwise.
    pub stdin: bool,
    /// `KEY=VALUE` beyond the container's.
    pub env: Vec<String>,
    /// The container's when absent.
    pub workdir: Option<String>,
    /// The container's when absent.
    pub user: Option<User>,
    /// All capabilities of the container's namespaces, no system call filter.
    pub privileged: bool,
    /// The terminal's first size.
    pub size: Option<WindowSize>,
    /// Whether it goes on with no streams; the attachment's output is closed at once.
    pub detach: bool,
}

/// One line of a list of containers.
#[derive(Clone, Debug)]
pub struct ContainerSummary {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// The image as given.
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// When it was made, in nanoseconds since the epoch.
    pub created_unix_nanos: i64,
    /// Where it is.
    pub state: State,
    /// Whether the kernel has killed one of its processes for memory.
    pub oom: bool,
    /// Its health, where that is asked for.
    pub health: Option<HealthStatus>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Volumes, bind mounts, tmpfs.
    pub mounts: Vec<Mount>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its place on a network.
    pub endpoint: EndpointView,
}

/// A container's place on a network.
#[derive(Clone, Debug, Default)]
pub struct EndpointView {
    /// The network's name, `host`, `none` or `container:ID`.
    pub network: String,
    /// Its address.
    pub ip: Option<Ipv4Addr>,
    /// Its prefix length.
    pub prefix_len: u8,
    /// The default route.
    pub gateway: Option<Ipv4Addr>,
    /// Its hardware address, `02:42:…`.
    pub mac: Option<String>,
}

/// Everything about a container.
#[derive(Clone, Debug)]
pub struct ContainerDetails {
    /// Its id.
    pub id: ContainerId,
    /// Its definition; the name is always there.
    pub config: ContainerConfig,
    /// When it was made, in nanoseconds since the epoch.
    pub created_unix_nanos: i64,
    /// Where it is.
    pub state: State,
    /// Whether the kernel has killed one of its processes for memory.
    pub oom: bool,
    /// Its health, where that is asked for.
    pub health: Option<Health>,
    /// Its place on a network.
    pub endpoint: EndpointView,
    /// Where its log is.
    pub log_path: PathBuf,
    /// How its root is made.
    pub storage_driver: String,
    /// First host id and count of its user namespace; `None` is the host's.
    pub userns: Option<(u32, u32)>,
    /// Its cgroup, below the cgroup root.
    pub cgroup: String,
    /// What could not be done and was not asked for by name, one line each.
    pub warnings: Vec<String>,
    /// How often it has been started.
    pub starts: u32,
}

/// One process of a container.
#[derive(Clone, Debug)]
pub struct Process {
    /// As the host counts.
    pub pid: i32,
    /// Its parent, as the host counts.
    pub ppid: i32,
    /// The user id, as the host counts.
    pub uid: u32,
    /// CPU time used, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// When it started, in nanoseconds since the epoch.
    pub started_unix_nanos: i64,
    /// The kernel's letter for its state.
    pub state: String,
    /// Whether the kernel takes it apart already.
    pub is_ending: bool,
    /// Its arguments.
    pub command: Vec<String>,
}

/// Which part of a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogQuery {
    /// Whether lines to come are told until the container ends.
    pub follow: bool,
    /// How many of the last lines; all when absent.
    pub tail: Option<u64>,
    /// Only lines at or after this, in nanoseconds since the epoch.
    pub since_unix_nanos: Option<i64>,
    /// Only lines before this, in nanoseconds since the epoch.
    pub until_unix_nanos: Option<i64>,
}

/// One line of a log, or a piece of a long one.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Whether it is standard error.
    pub stderr: bool,
    /// When it was written, in nanoseconds since the epoch.
    pub at_unix_nanos: i64,
    /// The bytes, with their newline if they had one.
    pub data: Bytes,
}

/// A network.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// Its definition; subnet and gateway are always there for a bridge.
    pub config: NetworkConfig,
    /// The bridge's interface on the host.
    pub interface: Option<String>,
}

/// A network and who is on it.
#[derive(Clone, Debug)]
pub struct NetworkDetails {
    /// The network.
    pub network: NetworkView,
    /// Who is on it: id, name, place.
    pub members: Vec<(ContainerId, String, EndpointView)>,
}

/// A volume.
#[derive(Clone, Debug)]
pub struct VolumeView {
    /// Its name.
    pub name: String,
    /// Where its files are.
    pub mountpoint: PathBuf,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, in nanoseconds since the epoch.
    pub created_unix_nanos: i64,
    /// The containers that have it.
    pub used_by: Vec<ContainerId>,
}

/// What a prune removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Names.
    pub removed: Vec<String>,
    /// Bytes.
    pub freed_bytes: u64,
}

/// Facts about daemon and host.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// `overlay`, `aufs` or `copy`.
    pub storage_driver: String,
    /// `v1`, `hybrid` or `v2`.
    pub cgroup_version: String,
    /// The controllers in use.
    pub cgroup_controllers: Vec<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The host's name.
    pub hostname: String,
    /// The machine's architecture.
    pub architecture: String,
    /// CPUs.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Containers that run, are paused, are created or stopped.
    pub counts: (u32, u32, u32),
    /// What this host lacks and what tinyd does instead, one line each.
    pub warnings: Vec<String>,
    /// Security that is on by default.
    pub security: Vec<String>,
}
