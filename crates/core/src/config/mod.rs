//! What a user asked for: the definition of a container, a network, a volume. Written once as `config.json`,
//! never changed by what happens later.

mod health;
mod mount;
mod port;
mod process;
mod user;

use std::collections::BTreeMap;

pub use health::{HealthTest, Healthcheck};
pub use mount::{DevicePair, Mount, MountSource};
pub use port::{Port, Protocol};
pub use process::{
    ARG_MAX_BYTES, ARGS_TOTAL_MAX_BYTES, Environment, Signal, StopSignal, Ulimit, check_argv, check_env,
};
use serde::{Deserialize, Serialize};
pub use user::{NameOrId, User};

use crate::id::Name;

/// The definition of a container. Field names follow Docker's flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// The name; the engine makes one when absent.
    pub name: Option<Name>,
    /// The image: its name or id, or the absolute path of a directory that holds a root file system.
    pub image: String,
    /// What the image has to be for, as `linux/arm64`; whatever it is for when absent.
    pub platform: Option<String>,
    /// The command and its arguments. Replaces the image's Cmd.
    pub command: Vec<String>,
    /// What the command's arguments are given to. Replaces the image's Entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// `KEY=VALUE` in the order given; later ones win.
    pub env: Vec<String>,
    /// The working directory, absolute; `/` when absent. Made if missing.
    pub workdir: Option<String>,
    /// `name|uid[:group|gid]`; root when absent.
    pub user: Option<User>,
    /// The hostname; the short id when absent.
    pub hostname: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether the first process has a pseudo-terminal.
    pub tty: bool,
    /// Whether standard input stays open for attached clients.
    pub stdin_open: bool,
    /// Limits.
    pub resources: Resources,
    /// Volumes, bind mounts and tmpfs mounts.
    pub mounts: Vec<Mount>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Whether each port that the image exposes, and that is not published, gets a free port of the host.
    pub publish_all: bool,
    /// Where its network comes from.
    pub network: NetworkMode,
    /// Name servers in place of the host's.
    pub dns: Vec<std::net::IpAddr>,
    /// `HOST:IP` lines for `/etc/hosts`.
    pub add_hosts: Vec<String>,
    /// What it may do.
    pub security: Security,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// Whether a small init is process 1: forwards signals, reaps orphans.
    pub init: bool,
    /// What `stop` sends first; SIGTERM when absent.
    pub stop_signal: Option<StopSignal>,
    /// How long `stop` waits before SIGKILL, in seconds; 10 when absent.
    pub stop_timeout_secs: Option<u32>,
    /// How its health is found out; as the image says when absent.
    pub healthcheck: Option<Healthcheck>,
}

/// Limits of a container. `None` is no limit of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// CPU time per 100 000 microseconds, in microseconds: 10 000 to the machine's CPUs × 100 000.
    pub cpu_quota_us: Option<u64>,
    /// The CPUs it may run on, `0-1,3`.
    pub cpuset_cpus: Option<String>,
    /// Memory, in bytes, at least 6 MiB.
    pub memory_bytes: Option<u64>,
    /// Memory plus swap, in bytes; -1 is without limit. When only memory is limited, this is the same: no swap.
    pub memory_swap_bytes: Option<i64>,
    /// Processes and threads; the engine's default is 4096; -1 is without limit.
    pub pids_limit: Option<i64>,
    /// Resource limits of the first process.
    pub ulimits: Vec<Ulimit>,
}

/// What a container may do beyond, or less than, the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Everything is open: all capabilities, all devices, no seccomp, no masks, the host's user namespace.
    pub privileged: bool,
    /// Capabilities to add, as `NET_ADMIN`; `ALL` is all.
    pub cap_add: Vec<String>,
    /// Capabilities to drop; `ALL` is all.
    pub cap_drop: Vec<String>,
    /// The root file system is read-only.
    pub read_only: bool,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// Set-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Where user ids come from.
    pub userns: UsernsChoice,
    /// Devices of the host.
    pub devices: Vec<DevicePair>,
}

/// Which system call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompChoice {
    /// tinyd's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON format, whole.
    Profile(String),
}

/// Which user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsernsChoice {
    /// A namespace of its own where the machine can, else the host's, and it is said.
    #[default]
    Default,
    /// A namespace of its own, or an error.
    Auto,
    /// The host's.
    Host,
}

/// Where a container's network comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode", content = "of")]
pub enum NetworkMode {
    /// The default bridge, `Tiny-docker`.
    #[default]
    Default,
    /// A network by name.
    Named(Name),
    /// The host's own network namespace.
    Host,
    /// A namespace with loopback only.
    None,
    /// Another container's, by name or id as the user wrote it; an id once created.
    Container(String),
}

/// How a network is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkDriver {
    /// A Linux bridge of its own.
    #[default]
    Bridge,
    /// The host's network namespace.
    Host,
    /// Loopback only.
    None,
}

/// The definition of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Its name.
    pub name: Name,
    /// How it is made.
    #[serde(default)]
    pub driver: NetworkDriver,
    /// Its addresses as `192.168.10.0/24`; chosen by the engine when absent.
    #[serde(default)]
    pub subnet: Option<String>,
    /// The bridge's own address; the first of the subnet when absent.
    #[serde(default)]
    pub gateway: Option<std::net::Ipv4Addr>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was made, in nanoseconds since the epoch.
    #[serde(default)]
    pub created_unix_nanos: i64,
}

/// The definition of a named volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeConfig {
    /// Its name.
    pub name: Name,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was made, in nanoseconds since the epoch.
    #[serde(default)]
    pub created_unix_nanos: i64,
}
