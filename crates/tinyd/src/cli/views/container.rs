//! A container in one line.

use std::collections::BTreeMap;

use serde::Serialize;
use tinyd_core::time::rfc3339;

use crate::pb;

/// A container in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::cli) struct ContainerView {
    id: String,
    names: String,
    image: String,
    command: Vec<String>,
    created_at: String,
    state: &'static str,
    status: String,
    exit_code: Option<u32>,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    health: &'static str,
    ports: Vec<PortView>,
    mounts: Vec<MountView>,
    labels: BTreeMap<String, String>,
    network: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
}

impl From<&pb::ContainerSummary> for ContainerView {
    fn from(container: &pb::ContainerSummary) -> Self {
        let state = container.state.unwrap_or_default();
        ContainerView {
            id: container.id.clone(),
            names: container.name.clone(),
            image: container.image.clone(),
            command: container.command.clone(),
            created_at: rfc3339(container.created_unix_nanos),
            state: status_word(state.status()),
            status: status_line(&state),
            exit_code: state.exit.as_ref().map(|exit| exit.code),
            oom_killed: was_oom_killed(&state),
            health: health_word(state.health()),
            ports: container.ports.iter().map(PortView::from).collect(),
            mounts: container.mounts.iter().map(MountView::from).collect(),
            labels: container.labels.clone().into_iter().collect(),
            network: container.network.clone(),
            ip_address: container.ip_address.clone(),
        }
    }
}

/// A state as programs read it, in Docker's words.
pub(in crate::cli) const fn status_word(status: pb::Status) -> &'static str {
    match status {
        pb::Status::Unspecified => "unknown",
        pb::Status::Created => "created",
        pb::Status::Running => "running",
        pb::Status::Paused => "paused",
        pb::Status::Stopped => "exited",
    }
}

/// A health as programs read it, in Docker's words.
pub(in crate::cli) const fn health_word(health: pb::HealthStatus) -> &'static str {
    match health {
        pb::HealthStatus::None => "none",
        pb::HealthStatus::Starting => "starting",
        pb::HealthStatus::Healthy => "healthy",
        pb::HealthStatus::Unhealthy => "unhealthy",
    }
}

/// A state as people read it: `RUNNING`, `RUNNING (healthy)`, `RUNNING (OOM, unhealthy)`, `EXITED (1)`, `EXITED (137, OOM)`.
pub(in crate::cli) fn status_line(state: &pb::State) -> String {
    let word = status_word(state.status()).to_ascii_uppercase();
    match &state.exit {
        Some(exit) if state.status() == pb::Status::Stopped => {
            let oom = if was_oom_killed(state) { ", OOM" } else { "" };
            format!("{word} ({}{oom})", exit.code)
        }
        Some(_) | None => {
            let is_alive = matches!(state.status(), pb::Status::Running | pb::Status::Paused);
            let health = match state.health() {
                pb::HealthStatus::Starting => Some("health: starting"),
                health @ (pb::HealthStatus::Healthy | pb::HealthStatus::Unhealthy) => {
                    Some(health_word(health))
                }
                pb::HealthStatus::None => None,
            };
            // One of its processes was killed for memory, and the first lives on.
            let notes = state.oom.then_some("OOM").into_iter().chain(health.filter(|_| is_alive));
            match notes.collect::<Vec<_>>() {
                notes if notes.is_empty() => word,
                notes => format!("{word} ({})", notes.join(", ")),
            }
        }
    }
}

/// Whether the kernel has killed one of its processes for memory.
pub(in crate::cli) fn was_oom_killed(state: &pb::State) -> bool {
    state.oom || state.exit.as_ref().is_some_and(|exit| exit.oom)
}

/// A published port.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::cli) struct PortView {
    host_ip: String,
    host_port: u32,
    container_port: u32,
    protocol: &'static str,
}

impl From<&pb::Port> for PortView {
    fn from(port: &pb::Port) -> Self {
        PortView {
            host_ip: port.host_ip.clone(),
            host_port: port.host,
            container_port: port.container,
            protocol: protocol(port),
        }
    }
}

/// `tcp` or `udp`.
pub(in crate::cli) fn protocol(port: &pb::Port) -> &'static str {
    match port.protocol() {
        pb::Protocol::Tcp => "tcp",
        pb::Protocol::Udp => "udp",
    }
}

/// A mount.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::cli) struct MountView {
    r#type: &'static str,
    source: String,
    destination: String,
    read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

impl From<&pb::Mount> for MountView {
    fn from(mount: &pb::Mount) -> Self {
        use pb::mount::Source;
        let (r#type, source, size_bytes) = match &mount.source {
            Some(Source::HostPath(path)) => ("bind", path.clone(), None),
            Some(Source::Volume(name)) => ("volume", name.clone(), None),
            Some(Source::Tmpfs(tmpfs)) => ("tmpfs", String::new(), tmpfs.size_bytes),
            None => ("", String::new(), None),
        };
        MountView {
            r#type,
            source,
            destination: mount.target.clone(),
            read_only: mount.read_only,
            size_bytes,
        }
    }
}
