//! Everything about a container, laid out as Docker's `inspect` where both know the same things.

use std::collections::BTreeMap;

use serde::Serialize;
use tinyd_core::{config::Signal, time::rfc3339};

use super::{
    MountView, PortView,
    container::{health_word, status_word, was_oom_killed},
};
use crate::{cli::when::rfc3339_or_none, pb};

/// A container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::cli) struct DetailsView {
    id: String,
    name: String,
    created: String,
    image: String,
    state: StateView,
    config: ConfigView,
    host_config: HostConfigView,
    mounts: Vec<MountView>,
    network_settings: NetworkSettingsView,
    user_namespace: Option<UserNamespaceView>,
    driver: String,
    cgroup: String,
    log_path: String,
    starts: u32,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct StateView {
    status: &'static str,
    running: bool,
    paused: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    pid: i32,
    exit_code: Option<u32>,
    signal: Option<i32>,
    started_at: Option<String>,
    finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthView {
    status: &'static str,
    failing_streak: u32,
    log: Vec<CheckView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CheckView {
    start: String,
    end: String,
    exit_code: i32,
    output: String,
}

/// Docker's: times in nanoseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthcheckView {
    test: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigView {
    image: String,
    cmd: Vec<String>,
    entrypoint: Option<Vec<String>>,
    env: Vec<String>,
    working_dir: String,
    user: String,
    hostname: String,
    labels: BTreeMap<String, String>,
    tty: bool,
    open_stdin: bool,
    stop_signal: String,
    stop_timeout: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<HealthcheckView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfigView {
    auto_remove: bool,
    init: bool,
    cpu_quota: Option<u64>,
    cpuset_cpus: String,
    memory: Option<u64>,
    memory_swap: Option<i64>,
    pids_limit: Option<i64>,
    ulimits: Vec<UlimitView>,
    network_mode: String,
    ports: Vec<PortView>,
    dns: Vec<String>,
    extra_hosts: Vec<String>,
    privileged: bool,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    readonly_rootfs: bool,
    seccomp: &'static str,
    no_new_privileges: bool,
    userns_mode: String,
    devices: Vec<DeviceView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UlimitView {
    name: String,
    soft: u64,
    hard: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceView {
    path_on_host: String,
    path_in_container: String,
    access: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettingsView {
    network: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u32,
    gateway: String,
    mac_address: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UserNamespaceView {
    base: u32,
    size: u32,
}

impl From<pb::InspectResponse> for DetailsView {
    fn from(told: pb::InspectResponse) -> Self {
        let config = told.config.unwrap_or_default();
        DetailsView {
            id: told.id,
            name: config.name.clone(),
            created: rfc3339(told.created_unix_nanos),
            image: config.image.clone(),
            state: state(&told.state.unwrap_or_default(), told.health),
            mounts: config.mounts.iter().map(MountView::from).collect(),
            host_config: host_config(&config),
            config: definition(config),
            network_settings: network(told.endpoint.unwrap_or_default()),
            user_namespace: told.userns_base.map(|base| UserNamespaceView { base, size: told.userns_size }),
            driver: told.storage_driver,
            cgroup: told.cgroup,
            log_path: told.log_path,
            starts: told.starts,
            warnings: told.warnings,
        }
    }
}

fn state(state: &pb::State, health: Option<pb::Health>) -> StateView {
    let status = state.status();
    StateView {
        status: status_word(status),
        running: matches!(status, pb::Status::Running | pb::Status::Paused),
        paused: status == pb::Status::Paused,
        oom_killed: was_oom_killed(state),
        pid: state.pid,
        exit_code: state.exit.as_ref().map(|exit| exit.code),
        signal: state.exit.as_ref().map(|exit| exit.signal).filter(|signal| *signal != 0),
        started_at: rfc3339_or_none(state.started_unix_nanos),
        finished_at: rfc3339_or_none(state.exit.as_ref().map_or(0, |exit| exit.at_unix_nanos)),
        health: health.map(|health| HealthView {
            status: health_word(state.health()),
            failing_streak: health.failing_streak,
            log: health.checks.into_iter().map(check).collect(),
        }),
    }
}

fn check(check: pb::HealthCheckResult) -> CheckView {
    CheckView {
        start: rfc3339(check.begun_unix_nanos),
        end: rfc3339(check.ended_unix_nanos),
        exit_code: check.exit_code,
        output: check.output,
    }
}

fn healthcheck(check: pb::Healthcheck) -> HealthcheckView {
    let nanos = |millis: Option<u64>| millis.map(|millis| millis.saturating_mul(1_000_000));
    HealthcheckView {
        test: check.test,
        interval: nanos(check.interval_ms),
        timeout: nanos(check.timeout_ms),
        start_period: nanos(check.start_period_ms),
        start_interval: nanos(check.start_interval_ms),
        retries: check.retries,
    }
}

fn definition(config: pb::ContainerConfig) -> ConfigView {
    let signal = config.stop_signal.unwrap_or(Signal::TERM.number()).to_string();
    ConfigView {
        image: config.image,
        cmd: config.command,
        entrypoint: config.entrypoint_set.then_some(config.entrypoint),
        env: config.env,
        working_dir: config.workdir,
        user: config.user,
        hostname: config.hostname,
        labels: config.labels.into_iter().collect(),
        tty: config.tty,
        open_stdin: config.stdin_open,
        stop_signal: Signal::parse("stop_signal", &signal).map_or(signal, |signal| signal.to_string()),
        stop_timeout: config.stop_timeout_secs.unwrap_or(10),
        healthcheck: config.healthcheck.map(healthcheck),
    }
}

fn host_config(config: &pb::ContainerConfig) -> HostConfigView {
    let resources = config.resources.clone().unwrap_or_default();
    let security = config.security.clone().unwrap_or_default();
    let ulimit = |limit: pb::Ulimit| UlimitView { name: limit.name, soft: limit.soft, hard: limit.hard };
    let device = |device: pb::Device| DeviceView {
        path_on_host: device.host,
        path_in_container: device.container,
        access: device.access,
    };
    HostConfigView {
        auto_remove: config.auto_remove,
        init: config.init,
        cpu_quota: resources.cpu_quota_us,
        cpuset_cpus: resources.cpuset_cpus,
        memory: resources.memory_bytes,
        memory_swap: resources.memory_swap_bytes,
        pids_limit: resources.pids_limit,
        ulimits: resources.ulimits.into_iter().map(ulimit).collect(),
        network_mode: config.network.clone(),
        ports: config.ports.iter().map(PortView::from).collect(),
        dns: config.dns.clone(),
        extra_hosts: config.add_hosts.clone(),
        privileged: security.privileged,
        cap_add: security.cap_add,
        cap_drop: security.cap_drop,
        readonly_rootfs: security.read_only,
        seccomp: match security.seccomp.as_str() {
            "" => "default",
            "unconfined" => "unconfined",
            _ => "profile",
        },
        no_new_privileges: security.no_new_privileges,
        userns_mode: security.userns,
        devices: security.devices.into_iter().map(device).collect(),
    }
}

fn network(endpoint: pb::Endpoint) -> NetworkSettingsView {
    NetworkSettingsView {
        network: endpoint.network,
        ip_address: endpoint.ip_address,
        ip_prefix_len: endpoint.prefix_len,
        gateway: endpoint.gateway,
        mac_address: endpoint.mac_address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_that_docker_scripts_use() {
        let told = pb::InspectResponse {
            id: "a".repeat(64),
            config: Some(pb::ContainerConfig { name: "c1".into(), tty: true, ..Default::default() }),
            state: Some(pb::State { status: pb::Status::Running.into(), pid: 7, ..Default::default() }),
            endpoint: Some(pb::Endpoint { ip_address: "10.0.0.2".into(), ..Default::default() }),
            ..Default::default()
        };
        let value = serde_json::to_value(DetailsView::from(told)).unwrap();
        for (path, expected) in [
            ("/Name", serde_json::json!("c1")),
            ("/State/Status", "running".into()),
            ("/State/Running", true.into()),
            ("/State/Pid", 7.into()),
            ("/State/FinishedAt", serde_json::Value::Null),
            ("/Config/Tty", true.into()),
            ("/Config/StopSignal", "SIGTERM".into()),
            ("/NetworkSettings/IPAddress", "10.0.0.2".into()),
            ("/HostConfig/Seccomp", "default".into()),
        ] {
            assert_eq!(value.pointer(path), Some(&expected), "{path}");
        }
    }
}
