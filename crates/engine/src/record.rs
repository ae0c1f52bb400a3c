//! What is written about a container: its definition with everything that was chosen for it, once, before anything of it exists;
//! and where it was last known to be.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use tinyd_core::{ContainerId, Name, Result, State, config::ContainerConfig};

use crate::{
    files::{self, Durability},
    images::UsedImage,
    layout::Layout,
};

/// `config.json`: the one record of facts. Addresses, ports, names and id ranges in use are derived from these records and kept
/// nowhere else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The container.
    pub(crate) id: ContainerId,
    /// The name, chosen when none was given.
    pub(crate) name: Name,
    /// When it was made, in nanoseconds since the epoch.
    pub(crate) created_unix_nanos: i64,
    /// The definition, with what it leaves to the image filled in.
    pub(crate) config: ContainerConfig,
    /// The image; `None` when it is a directory of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<UsedImage>,
    /// Volumes that the image asked for: they have no name of a user's, and go with the container when that is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) own_volumes: Vec<Name>,
    /// The storage driver that its root was made with.
    pub(crate) storage: String,
    /// The first host id of its user namespace; `None` is the host's.
    pub(crate) userns_base: Option<u32>,
    /// Its place on a network.
    pub(crate) endpoint: Endpoint,
    /// Whether it was made to run at once. When no state was ever written, it has run, or the daemon died before.
    pub(crate) run: bool,
    /// The era in which it was made: see [`crate::layout::Layout::era`].
    pub(crate) era: String,
    /// What could not be done and was not asked for by name, one line each.
    pub(crate) warnings: Vec<String>,
}

/// A container's place on a network, for as long as the container exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Endpoint {
    /// On a bridge.
    Bridge {
        /// The network.
        network: Name,
        /// Its address.
        ip: Ipv4Addr,
        /// The subnet's prefix length.
        prefix_len: u8,
        /// The default route.
        gateway: Ipv4Addr,
    },
    /// The host's network namespace.
    Host,
    /// Loopback only.
    None,
    /// Another container's network namespace.
    Container(ContainerId),
}

/// `state.json`: where a container was last known to be. While its shim lives the shim knows better.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    /// Where it is.
    pub(crate) state: Option<State>,
    /// Whether the kernel has killed one of its processes for memory, in its last run.
    #[serde(default)]
    pub(crate) oom: bool,
    /// How often it has been started.
    #[serde(default)]
    pub(crate) starts: u32,
    /// Whether it has the host's user namespace although its record has a range.
    #[serde(default)]
    pub(crate) host_userns: bool,
    /// What starting it could not do and was not asked for by name, one line each.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

const RECORD: &str = "config.json";
const STATE: &str = "state.json";

impl Record {
    /// Makes the container's directories and writes the record: where it lasts, or, for a container that runs at once and is removed
    /// when it ends, where a reboot takes it as it takes the container. A directory without a record is removed at the next start.
    pub(crate) fn write(&self, layout: &Layout, durability: Durability) -> Result<()> {
        files::make_private_dir(&layout.live_of(&self.id))?;
        if self.run && self.config.auto_remove {
            files::write_json(&layout.live_of(&self.id).join(RECORD), self, Durability::Cached)?;
            return files::make_private_dir(&layout.container(&self.id));
        }
        files::make_private_dir(&layout.container(&self.id))?;
        files::write_json(&layout.container(&self.id).join(RECORD), self, durability)
    }

    /// Brings to disk what [`Record::write`] left in memory.
    pub(crate) fn sync(&self, layout: &Layout) -> Result<()> {
        let path = layout.container(&self.id).join(RECORD);
        let sync = |path: &std::path::Path| std::fs::File::open(path)?.sync_all();
        match sync(&path).and_then(|()| sync(&layout.container(&self.id))) {
            // Somebody has removed the container meanwhile.
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| files::failed(format_args!("fsync({path:?})"), source)),
        }
    }

    /// Reads it; `None` when there is none.
    pub(crate) fn read(layout: &Layout, id: &ContainerId) -> Result<Option<Record>> {
        match files::read_json(&layout.container(id).join(RECORD))? {
            None => files::read_json(&layout.live_of(id).join(RECORD)),
            found => Ok(found),
        }
    }

    /// The program and its arguments, as they will be executed.
    pub(crate) fn argv(&self) -> Vec<String> {
        let entrypoint = self.config.entrypoint.iter().flatten();
        entrypoint.chain(&self.config.command).cloned().collect()
    }

    /// The user namespace's first host id, unless it was given up.
    pub(crate) fn userns(&self, host_userns: bool) -> Option<u32> {
        self.userns_base.filter(|_| !host_userns)
    }
}

/// Takes away what a run left in a container's live directory: everything but the record.
pub(crate) fn forget_run(layout: &Layout, id: &ContainerId) -> Result<()> {
    let dir = layout.live_of(id);
    for name in files::names(&dir).into_iter().filter(|name| name != RECORD) {
        files::remove(&dir.join(name))?;
    }
    // With the record in it, it stays.
    let _ = std::fs::remove_dir(&dir);
    Ok(())
}

impl StateRecord {
    /// Writes it where it lasts.
    pub(crate) fn write(&self, layout: &Layout, id: &ContainerId) -> Result<()> {
        files::write_json(&layout.container(id).join(STATE), self, Durability::Synced)
    }

    /// Writes it where a reboot takes it, as a reboot takes what it says.
    pub(crate) fn write_live(&self, layout: &Layout, id: &ContainerId) -> Result<()> {
        files::write_json(&layout.live_of(id).join(STATE), self, Durability::Cached)
    }

    /// Reads the latest of the two; `None` when there is none.
    pub(crate) fn read(layout: &Layout, id: &ContainerId) -> Option<StateRecord> {
        let read = |path: std::path::PathBuf| files::read_json(&path).ok().flatten();
        read(layout.live_of(id).join(STATE)).or_else(|| read(layout.container(id).join(STATE)))
    }
}
