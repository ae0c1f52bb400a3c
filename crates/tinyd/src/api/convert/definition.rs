//! The definition of a container, both ways. Fields at fault are named as the command line spells them.

use std::net::IpAddr;

use tinyd_core::{
    Error, Name, Result,
    config::{
        ContainerConfig, DevicePair, HealthTest, Healthcheck, Mount, MountSource, NetworkMode, Port,
        Protocol, Resources, SeccompChoice, Security, Signal, Ulimit, User, UsernsChoice,
    },
};

use super::{absent_when_empty, fits, known, required};
use crate::pb;

impl From<&ContainerConfig> for pb::ContainerConfig {
    fn from(config: &ContainerConfig) -> Self {
        pb::ContainerConfig {
            name: config.name.as_ref().map(Name::to_string).unwrap_or_default(),
            image: config.image.clone(),
            command: config.command.clone(),
            entrypoint: config.entrypoint.clone().unwrap_or_default(),
            entrypoint_set: config.entrypoint.is_some(),
            env: config.env.clone(),
            workdir: config.workdir.clone().unwrap_or_default(),
            user: config.user.as_ref().map(User::to_string).unwrap_or_default(),
            hostname: config.hostname.clone().unwrap_or_default(),
            labels: config.labels.clone(),
            tty: config.tty,
            stdin_open: config.stdin_open,
            resources: Some((&config.resources).into()),
            mounts: config.mounts.iter().map(pb::Mount::from).collect(),
            ports: config.ports.iter().map(pb::Port::from).collect(),
            network: network_word(&config.network),
            dns: config.dns.iter().map(IpAddr::to_string).collect(),
            add_hosts: config.add_hosts.clone(),
            security: Some((&config.security).into()),
            auto_remove: config.auto_remove,
            init: config.init,
            stop_signal: config.stop_signal.map(Signal::number),
            stop_timeout_secs: config.stop_timeout_secs,
            publish_all: config.publish_all,
            healthcheck: config.healthcheck.as_ref().map(pb::Healthcheck::from),
            platform: config.platform.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ContainerConfig> for ContainerConfig {
    type Error = Error;

    fn try_from(config: pb::ContainerConfig) -> Result<Self> {
        Ok(ContainerConfig {
            name: absent_when_empty(config.name).map(|name| Name::parse("--name", &name)).transpose()?,
            image: config.image,
            command: config.command,
            entrypoint: config.entrypoint_set.then_some(config.entrypoint),
            env: config.env,
            workdir: absent_when_empty(config.workdir),
            user: user("-u", config.user)?,
            hostname: absent_when_empty(config.hostname),
            labels: config.labels,
            tty: config.tty,
            stdin_open: config.stdin_open,
            resources: config.resources.map(Resources::from).unwrap_or_default(),
            mounts: config.mounts.into_iter().map(Mount::try_from).collect::<Result<_>>()?,
            ports: config.ports.into_iter().map(Port::try_from).collect::<Result<_>>()?,
            network: network_mode(config.network)?,
            dns: config.dns.iter().map(|text| address("--dns", text)).collect::<Result<_>>()?,
            add_hosts: config.add_hosts,
            security: config.security.map(Security::try_from).transpose()?.unwrap_or_default(),
            auto_remove: config.auto_remove,
            init: config.init,
            stop_signal: config.stop_signal.map(|number| signal("--stop-signal", number)).transpose()?,
            stop_timeout_secs: config.stop_timeout_secs,
            publish_all: config.publish_all,
            healthcheck: config.healthcheck.map(Healthcheck::try_from).transpose()?,
            platform: absent_when_empty(config.platform),
        })
    }
}

impl From<&Healthcheck> for pb::Healthcheck {
    fn from(check: &Healthcheck) -> Self {
        pb::Healthcheck {
            test: check.test.as_ref().map(HealthTest::words).unwrap_or_default(),
            interval_ms: check.interval_ms,
            timeout_ms: check.timeout_ms,
            start_period_ms: check.start_period_ms,
            start_interval_ms: check.start_interval_ms,
            retries: check.retries,
        }
    }
}

impl TryFrom<pb::Healthcheck> for Healthcheck {
    type Error = Error;

    fn try_from(check: pb::Healthcheck) -> Result<Self> {
        Ok(Healthcheck {
            test: HealthTest::parse("--health-cmd", &check.test)?,
            interval_ms: check.interval_ms,
            timeout_ms: check.timeout_ms,
            start_period_ms: check.start_period_ms,
            start_interval_ms: check.start_interval_ms,
            retries: check.retries,
        })
    }
}

/// `name|uid[:group|gid]`; "" is absent.
pub(super) fn user(field: &str, text: String) -> Result<Option<User>> {
    absent_when_empty(text).map(|text| User::parse(field, &text)).transpose()
}

/// A signal by number.
pub(in crate::api) fn signal(field: &str, number: i32) -> Result<Signal> {
    Signal::parse(field, &number.to_string())
}

fn address(field: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::invalid(field, format!("{text:?} is not an IP address")))
}

fn network_word(network: &NetworkMode) -> String {
    match network {
        NetworkMode::Default => String::new(),
        NetworkMode::Named(name) => name.to_string(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(who) => format!("container:{who}"),
    }
}

fn network_mode(word: String) -> Result<NetworkMode> {
    Ok(match word.as_str() {
        "" => NetworkMode::Default,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        name => match name.strip_prefix("container:") {
            Some(who) => NetworkMode::Container(who.to_owned()),
            None => NetworkMode::Named(Name::parse("--net", name)?),
        },
    })
}

impl From<&Resources> for pb::Resources {
    fn from(resources: &Resources) -> Self {
        pb::Resources {
            cpu_quota_us: resources.cpu_quota_us,
            cpuset_cpus: resources.cpuset_cpus.clone().unwrap_or_default(),
            memory_bytes: resources.memory_bytes,
            memory_swap_bytes: resources.memory_swap_bytes,
            pids_limit: resources.pids_limit,
            ulimits: resources.ulimits.iter().map(pb::Ulimit::from).collect(),
        }
    }
}

impl From<pb::Resources> for Resources {
    fn from(resources: pb::Resources) -> Self {
        Resources {
            cpu_quota_us: resources.cpu_quota_us,
            cpuset_cpus: absent_when_empty(resources.cpuset_cpus),
            memory_bytes: resources.memory_bytes,
            memory_swap_bytes: resources.memory_swap_bytes,
            pids_limit: resources.pids_limit,
            ulimits: resources.ulimits.into_iter().map(Ulimit::from).collect(),
        }
    }
}

impl From<&Ulimit> for pb::Ulimit {
    fn from(limit: &Ulimit) -> Self {
        pb::Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard }
    }
}

impl From<pb::Ulimit> for Ulimit {
    fn from(limit: pb::Ulimit) -> Self {
        Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard }
    }
}

impl From<&Security> for pb::Security {
    fn from(security: &Security) -> Self {
        pb::Security {
            privileged: security.privileged,
            cap_add: security.cap_add.clone(),
            cap_drop: security.cap_drop.clone(),
            read_only: security.read_only,
            seccomp: match &security.seccomp {
                SeccompChoice::Default => String::new(),
                SeccompChoice::Unconfined => "unconfined".to_owned(),
                SeccompChoice::Profile(profile) => profile.clone(),
            },
            no_new_privileges: security.no_new_privileges,
            userns: match security.userns {
                UsernsChoice::Default => "",
                UsernsChoice::Auto => "auto",
                UsernsChoice::Host => "host",
            }
            .to_owned(),
            devices: security.devices.iter().map(pb::Device::from).collect(),
        }
    }
}

impl TryFrom<pb::Security> for Security {
    type Error = Error;

    fn try_from(security: pb::Security) -> Result<Self> {
        Ok(Security {
            privileged: security.privileged,
            cap_add: security.cap_add,
            cap_drop: security.cap_drop,
            read_only: security.read_only,
            seccomp: match security.seccomp.as_str() {
                "" => SeccompChoice::Default,
                "unconfined" => SeccompChoice::Unconfined,
                _ => SeccompChoice::Profile(security.seccomp),
            },
            no_new_privileges: security.no_new_privileges,
            userns: match security.userns.as_str() {
                "" => UsernsChoice::Default,
                "auto" => UsernsChoice::Auto,
                "host" => UsernsChoice::Host,
                other => {
                    return Err(Error::invalid("--userns", format!("{other:?} is neither auto nor host")));
                }
            },
            devices: security.devices.into_iter().map(DevicePair::from).collect(),
        })
    }
}

impl From<&DevicePair> for pb::Device {
    fn from(device: &DevicePair) -> Self {
        pb::Device {
            host: device.host.clone(),
            container: device.container.clone(),
            access: device.access.clone(),
        }
    }
}

impl From<pb::Device> for DevicePair {
    fn from(device: pb::Device) -> Self {
        DevicePair { host: device.host, container: device.container, access: device.access }
    }
}

impl From<&Mount> for pb::Mount {
    fn from(mount: &Mount) -> Self {
        use pb::mount::Source;
        let source = match &mount.source {
            MountSource::Host(path) => Source::HostPath(path.clone()),
            MountSource::Volume(name) => Source::Volume(name.to_string()),
            MountSource::Tmpfs { size_bytes, mode, exec } => {
                Source::Tmpfs(pb::Tmpfs { size_bytes: *size_bytes, mode: *mode, exec: *exec })
            }
        };
        pb::Mount { source: Some(source), target: mount.target.clone(), read_only: mount.read_only }
    }
}

impl TryFrom<pb::Mount> for Mount {
    type Error = Error;

    fn try_from(mount: pb::Mount) -> Result<Self> {
        use pb::mount::Source;
        let source = match required("-v", mount.source)? {
            Source::HostPath(path) => MountSource::Host(path),
            Source::Volume(name) => MountSource::Volume(Name::parse("-v", &name)?),
            Source::Tmpfs(pb::Tmpfs { size_bytes, mode, exec }) => {
                MountSource::Tmpfs { size_bytes, mode, exec }
            }
        };
        Ok(Mount { source, target: mount.target, read_only: mount.read_only })
    }
}

impl From<&Port> for pb::Port {
    fn from(port: &Port) -> Self {
        let protocol = match port.protocol {
            Protocol::Tcp => pb::Protocol::Tcp,
            Protocol::Udp => pb::Protocol::Udp,
        };
        pb::Port {
            host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host: port.host.into(),
            container: port.container.into(),
            protocol: protocol.into(),
        }
    }
}

impl TryFrom<pb::Port> for Port {
    type Error = Error;

    fn try_from(port: pb::Port) -> Result<Self> {
        let host_ip = absent_when_empty(port.host_ip).map(|text| address("-p", &text)).transpose()?;
        Ok(Port {
            host_ip: host_ip.filter(|ip| !ip.is_unspecified()),
            host: fits("-p", port.host, 1)?,
            container: fits("-p", port.container, 1)?,
            protocol: match known("-p", port.protocol)? {
                pb::Protocol::Tcp => Protocol::Tcp,
                pb::Protocol::Udp => Protocol::Udp,
            },
        })
    }
}
