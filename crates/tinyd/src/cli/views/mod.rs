//! What `--format json` and `inspect` show: field names as Docker's, `PascalCase` throughout; times as RFC 3339, null for
//! what never was; sizes in bytes.

mod container;
mod details;
mod image;

use std::collections::BTreeMap;

pub(super) use container::{
    ContainerView, MountView, PortView, health_word, protocol, status_line, status_word,
};
pub(super) use details::DetailsView;
pub(super) use image::ImageView;
use serde::Serialize;
use tinyd_core::time::rfc3339;

use super::when::rfc3339_or_none;
use crate::pb;

/// A network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkView {
    name: String,
    driver: String,
    subnet: String,
    gateway: String,
    interface: String,
    labels: BTreeMap<String, String>,
    created_at: Option<String>,
}

impl From<&pb::Network> for NetworkView {
    fn from(network: &pb::Network) -> Self {
        NetworkView {
            name: network.name.clone(),
            driver: network.driver.clone(),
            subnet: network.subnet.clone(),
            gateway: network.gateway.clone(),
            interface: network.interface.clone(),
            labels: network.labels.clone().into_iter().collect(),
            created_at: rfc3339_or_none(network.created_unix_nanos),
        }
    }
}

/// A network and who is on it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkDetailsView {
    #[serde(flatten)]
    network: NetworkView,
    containers: Vec<MemberView>,
}

/// A container on a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MemberView {
    id: String,
    name: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    mac_address: String,
}

impl From<pb::InspectNetworkResponse> for NetworkDetailsView {
    fn from(told: pb::InspectNetworkResponse) -> Self {
        let member = |member: pb::NetworkMember| MemberView {
            id: member.container_id,
            name: member.container_name,
            ip_address: member.ip_address,
            mac_address: member.mac_address,
        };
        NetworkDetailsView {
            network: NetworkView::from(&told.network.unwrap_or_default()),
            containers: told.members.into_iter().map(member).collect(),
        }
    }
}

/// A volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VolumeView {
    name: String,
    mountpoint: String,
    labels: BTreeMap<String, String>,
    created_at: Option<String>,
    used_by: Vec<String>,
}

impl From<&pb::Volume> for VolumeView {
    fn from(volume: &pb::Volume) -> Self {
        VolumeView {
            name: volume.name.clone(),
            mountpoint: volume.mountpoint.clone(),
            labels: volume.labels.clone().into_iter().collect(),
            created_at: rfc3339_or_none(volume.created_unix_nanos),
            used_by: volume.used_by.clone(),
        }
    }
}

/// A process.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProcessView {
    pid: i32,
    ppid: i32,
    uid: u32,
    state: String,
    cpu_ms: u64,
    rss_bytes: u64,
    started_at: String,
    command: Vec<String>,
}

impl From<&pb::ProcessInfo> for ProcessView {
    fn from(process: &pb::ProcessInfo) -> Self {
        ProcessView {
            pid: process.pid,
            ppid: process.ppid,
            uid: process.uid,
            state: process.state.clone(),
            cpu_ms: process.cpu_ms,
            rss_bytes: process.rss_bytes,
            started_at: rfc3339(process.started_unix_nanos),
            command: process.command.clone(),
        }
    }
}
