//! What `state` prints and hooks read (runtime.md, State).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A container's state as the specification spells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    /// SemVer of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running`, `paused` or `stopped`.
    pub status: Status,
    /// The first process, as the host counts; 0 when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The bundle's absolute path.
    pub bundle: String,
    /// The bundle's annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The specification's words for where a container is; `paused` is runc's addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// Everything is prepared; the process waits.
    Created,
    /// The process runs.
    Running,
    /// The cgroup is frozen.
    Paused,
    /// The process has ended.
    Stopped,
}

impl Status {
    /// The specification's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}
