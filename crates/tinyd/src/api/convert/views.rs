//! What the engine shows, as messages.

use std::net::Ipv4Addr;

use tinyd_core::{
    ContainerId, Error, Exit, Name, Result, State,
    config::{NetworkConfig, NetworkDriver},
    health::{Check, Health, HealthStatus},
};
use tinyd_engine::api::{
    ContainerDetails, ContainerSummary, EndpointView, Info, LogLine, LogQuery, NetworkDetails, NetworkView,
    Process, Pruned, VolumeView,
};

use super::absent_when_empty;
use crate::pb;

impl From<&Exit> for pb::Exit {
    fn from(exit: &Exit) -> Self {
        pb::Exit {
            code: exit.code.into(),
            signal: exit.signal.unwrap_or(0),
            oom: exit.oom,
            at_unix_nanos: exit.at_unix_nanos,
        }
    }
}

/// A state; whether the kernel has killed for memory is told beside it, and so is the health.
fn state(state: &State, oom: bool, health: Option<HealthStatus>) -> pb::State {
    let (status, started_unix_nanos, exit) = match state {
        State::Created => (pb::Status::Created, 0, None),
        State::Running { since_unix_nanos, .. } => (pb::Status::Running, *since_unix_nanos, None),
        State::Paused { since_unix_nanos, .. } => (pb::Status::Paused, *since_unix_nanos, None),
        State::Stopped { exit, since_unix_nanos } => {
            (pb::Status::Stopped, *since_unix_nanos, Some(exit.into()))
        }
    };
    pb::State {
        status: status.into(),
        pid: state.pid().unwrap_or(0),
        started_unix_nanos,
        exit,
        oom,
        health: health_status(health).into(),
    }
}

fn health_status(health: Option<HealthStatus>) -> pb::HealthStatus {
    match health {
        None => pb::HealthStatus::None,
        Some(HealthStatus::Starting) => pb::HealthStatus::Starting,
        Some(HealthStatus::Healthy) => pb::HealthStatus::Healthy,
        Some(HealthStatus::Unhealthy) => pb::HealthStatus::Unhealthy,
    }
}

impl From<Health> for pb::Health {
    fn from(health: Health) -> Self {
        let check = |check: Check| pb::HealthCheckResult {
            begun_unix_nanos: check.begun_unix_nanos,
            ended_unix_nanos: check.ended_unix_nanos,
            exit_code: check.exit_code,
            output: check.output,
        };
        pb::Health {
            failing_streak: health.failing_streak,
            checks: health.checks.into_iter().map(check).collect(),
        }
    }
}

fn address(ip: Option<Ipv4Addr>) -> String {
    ip.map(|ip| ip.to_string()).unwrap_or_default()
}

impl From<ContainerSummary> for pb::ContainerSummary {
    fn from(container: ContainerSummary) -> Self {
        pb::ContainerSummary {
            id: container.id.into(),
            name: container.name,
            image: container.image,
            command: container.command,
            created_unix_nanos: container.created_unix_nanos,
            state: Some(state(&container.state, container.oom, container.health)),
            ports: container.ports.iter().map(pb::Port::from).collect(),
            mounts: container.mounts.iter().map(pb::Mount::from).collect(),
            labels: container.labels,
            network: container.endpoint.network,
            ip_address: address(container.endpoint.ip),
        }
    }
}

impl From<ContainerDetails> for pb::InspectResponse {
    fn from(container: ContainerDetails) -> Self {
        pb::InspectResponse {
            id: container.id.into(),
            config: Some((&container.config).into()),
            created_unix_nanos: container.created_unix_nanos,
            state: Some(state(
                &container.state,
                container.oom,
                container.health.as_ref().map(|health| health.status),
            )),
            health: container.health.map(pb::Health::from),
            endpoint: Some(container.endpoint.into()),
            log_path: container.log_path.to_string_lossy().into_owned(),
            storage_driver: container.storage_driver,
            userns_base: container.userns.map(|(base, _)| base),
            userns_size: container.userns.map_or(0, |(_, size)| size),
            cgroup: container.cgroup,
            warnings: container.warnings,
            starts: container.starts,
        }
    }
}

impl From<EndpointView> for pb::Endpoint {
    fn from(endpoint: EndpointView) -> Self {
        pb::Endpoint {
            network: endpoint.network,
            ip_address: address(endpoint.ip),
            prefix_len: endpoint.prefix_len.into(),
            gateway: address(endpoint.gateway),
            mac_address: endpoint.mac.unwrap_or_default(),
        }
    }
}

impl From<Process> for pb::ProcessInfo {
    fn from(process: Process) -> Self {
        pb::ProcessInfo {
            pid: process.pid,
            ppid: process.ppid,
            uid: process.uid,
            cpu_ms: process.cpu_ms,
            rss_bytes: process.rss_bytes,
            started_unix_nanos: process.started_unix_nanos,
            state: process.state,
            command: process.command,
        }
    }
}

/// Which part of a log is asked for; 0 is no bound.
pub(in crate::api) fn log_query(request: &pb::LogsRequest) -> LogQuery {
    LogQuery {
        follow: request.follow,
        tail: request.tail,
        since_unix_nanos: Some(request.since_unix_nanos).filter(|nanos| *nanos != 0),
        until_unix_nanos: Some(request.until_unix_nanos).filter(|nanos| *nanos != 0),
    }
}

impl From<LogLine> for pb::LogsResponse {
    fn from(line: LogLine) -> Self {
        let stream = if line.stderr { pb::Stream::Stderr } else { pb::Stream::Stdout };
        pb::LogsResponse { stream: stream.into(), at_unix_nanos: line.at_unix_nanos, data: line.data }
    }
}

impl TryFrom<pb::CreateNetworkRequest> for NetworkConfig {
    type Error = Error;

    fn try_from(request: pb::CreateNetworkRequest) -> Result<Self> {
        let driver = match request.driver.as_str() {
            "" | "bridge" => NetworkDriver::Bridge,
            "host" => NetworkDriver::Host,
            "none" => NetworkDriver::None,
            other => {
                return Err(Error::invalid("--driver", format!("{other:?} is not a network driver: bridge")));
            }
        };
        let gateway = absent_when_empty(request.gateway).map(|text| {
            text.parse().map_err(|_| Error::invalid("--gateway", format!("{text:?} is not an IPv4 address")))
        });
        Ok(NetworkConfig {
            name: Name::parse("NAME", &request.name)?,
            driver,
            subnet: absent_when_empty(request.subnet),
            gateway: gateway.transpose()?,
            labels: request.labels,
            created_unix_nanos: 0,
        })
    }
}

impl From<NetworkView> for pb::Network {
    fn from(network: NetworkView) -> Self {
        let driver = match network.config.driver {
            NetworkDriver::Bridge => "bridge",
            NetworkDriver::Host => "host",
            NetworkDriver::None => "none",
        };
        pb::Network {
            name: network.config.name.into(),
            driver: driver.to_owned(),
            subnet: network.config.subnet.unwrap_or_default(),
            gateway: address(network.config.gateway),
            interface: network.interface.unwrap_or_default(),
            labels: network.config.labels,
            created_unix_nanos: network.config.created_unix_nanos,
        }
    }
}

impl From<NetworkDetails> for pb::InspectNetworkResponse {
    fn from(details: NetworkDetails) -> Self {
        let member = |(id, name, place): (ContainerId, String, EndpointView)| pb::NetworkMember {
            container_id: id.into(),
            container_name: name,
            ip_address: address(place.ip),
            mac_address: place.mac.unwrap_or_default(),
        };
        pb::InspectNetworkResponse {
            network: Some(details.network.into()),
            members: details.members.into_iter().map(member).collect(),
        }
    }
}

impl From<VolumeView> for pb::Volume {
    fn from(volume: VolumeView) -> Self {
        pb::Volume {
            name: volume.name,
            mountpoint: volume.mountpoint.to_string_lossy().into_owned(),
            labels: volume.labels,
            created_unix_nanos: volume.created_unix_nanos,
            used_by: volume.used_by.into_iter().map(String::from).collect(),
        }
    }
}

impl From<Pruned> for pb::PruneVolumesResponse {
    fn from(pruned: Pruned) -> Self {
        pb::PruneVolumesResponse { removed: pruned.removed, freed_bytes: pruned.freed_bytes }
    }
}

impl From<Info> for pb::InfoResponse {
    fn from(info: Info) -> Self {
        let (running, paused, stopped) = info.counts;
        pb::InfoResponse {
            storage_driver: info.storage_driver,
            cgroup_version: info.cgroup_version,
            cgroup_controllers: info.cgroup_controllers,
            kernel: info.kernel,
            hostname: info.hostname,
            architecture: info.architecture,
            cpus: info.cpus,
            memory_bytes: info.memory_bytes,
            running,
            paused,
            stopped,
            warnings: info.warnings,
            security: info.security,
            // What the daemon knows of itself is added where it is known.
            ..pb::InfoResponse::default()
        }
    }
}
