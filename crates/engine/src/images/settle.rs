//! What a definition leaves to its image, by Docker's rules. Pure but for the names of volumes and the ports that are free.

use tinyd_core::{
    Error, Name, Result,
    config::{
        ContainerConfig, Environment, HealthTest, Healthcheck, Mount, MountSource, Port, Protocol, Signal,
        User,
    },
};
use tinyd_image::config::RunConfig;

use crate::volumes;

/// Fills in what the definition does not say; the volumes that the image asks for.
pub(super) fn settle(config: &mut ContainerConfig, image: &RunConfig) -> Result<Vec<Name>> {
    command(config, image);
    environment(config, image);
    if config.workdir.is_none() && !image.working_dir.is_empty() {
        config.workdir = Some(absolute(&image.working_dir));
    }
    if config.user.is_none() && !image.user.is_empty() {
        config.user = Some(User::parse("-u", &image.user).map_err(of_image)?);
    }
    for (key, value) in &image.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if config.stop_signal.is_none() && !image.stop_signal.is_empty() {
        config.stop_signal = Some(Signal::parse("--stop-signal", &image.stop_signal).map_err(of_image)?);
    }
    health(config, image)?;
    publish(config, image)?;
    mounts(config, image)
}

fn of_image(error: Error) -> Error {
    error.context("the image's configuration")
}

/// An entrypoint of the user's own drops the image's arguments with its entrypoint: they are not meant for it.
fn command(config: &mut ContainerConfig, image: &RunConfig) {
    if config.entrypoint.is_some() {
        return;
    }
    if config.command.is_empty() {
        config.command.clone_from(&image.cmd);
    }
    if !image.entrypoint.is_empty() {
        config.entrypoint = Some(image.entrypoint.clone());
    }
}

fn environment(config: &mut ContainerConfig, image: &RunConfig) {
    let mut env = Environment::default();
    image.env.iter().chain(&config.env).for_each(|entry| env.set(entry));
    config.env = env.into_entries();
}

/// What the user does not say of the check is the image's, part by part. A line is for the image's shell.
fn health(config: &mut ContainerConfig, image: &RunConfig) -> Result<()> {
    let of_image = match &image.healthcheck {
        Some(check) => health_of(check).map_err(of_image)?,
        None => Healthcheck::default(),
    };
    let mut check = config.healthcheck.take().unwrap_or_default().or(of_image);
    if let Some(HealthTest::Shell(line)) = &check.test
        && !image.shell.is_empty()
    {
        check.test = Some(HealthTest::Exec([&image.shell[..], std::slice::from_ref(line)].concat()));
    }
    config.healthcheck = Some(check).filter(|check| check.test.is_some());
    Ok(())
}

fn health_of(check: &tinyd_image::config::Healthcheck) -> Result<Healthcheck> {
    let millis =
        |nanos: i64| u64::try_from(nanos).ok().map(|nanos| nanos / 1_000_000).filter(|millis| *millis > 0);
    Ok(Healthcheck {
        test: HealthTest::parse("Healthcheck", &check.test)?,
        interval_ms: millis(check.interval),
        timeout_ms: millis(check.timeout),
        start_period_ms: millis(check.start_period),
        start_interval_ms: millis(check.start_interval),
        retries: u32::try_from(check.retries).ok().filter(|retries| *retries > 0),
    })
}

/// Builders wrote relative ones: they count from the root.
fn absolute(dir: &str) -> String {
    let parts = dir.split('/').filter(|part| !matches!(*part, "" | "."));
    format!("/{}", parts.collect::<Vec<_>>().join("/"))
}

/// With `-P`, a free port of the host for every port that the image exposes and the user has not published.
fn publish(config: &mut ContainerConfig, image: &RunConfig) -> Result<()> {
    if !config.publish_all {
        return Ok(());
    }
    for exposed in image.exposed_ports.keys() {
        for (container, protocol) in exposed_ports(exposed).map_err(of_image)? {
            let is_published = |port: &Port| port.container == container && port.protocol == protocol;
            if config.ports.iter().any(is_published) {
                continue;
            }
            let host = tinyd_net::free_port(protocol)?;
            config.ports.push(Port { host_ip: None, host, container, protocol });
        }
    }
    Ok(())
}

/// The most ports of one entry: each takes a socket.
const RANGE_MAX: u16 = 1000;

/// `80`, `80/tcp`, `5000-5010/udp`.
fn exposed_ports(text: &str) -> Result<Vec<(u16, Protocol)>> {
    let wrong = || Error::invalid("ExposedPorts", format!("{text:?} is no port such as 80/tcp"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(wrong()),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (first, last) = (number(first)?, number(last)?);
    if first > last || last - first >= RANGE_MAX {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| (port, protocol)).collect())
}

/// A volume of its own for every place that the image calls one and the user has mounted nothing on.
fn mounts(config: &mut ContainerConfig, image: &RunConfig) -> Result<Vec<Name>> {
    let mut made = Vec::new();
    for target in image.volumes.keys().map(|target| absolute(target)) {
        if config.mounts.iter().any(|mount| mount.target == target) {
            continue;
        }
        let name = volumes::random_name()?;
        made.push(name.clone());
        config.mounts.push(Mount { source: MountSource::Volume(name), target, read_only: false });
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RunConfig {
        serde_json::from_str(
            r#"{ "Entrypoint": ["/entry"], "Cmd": ["serve"], "Env": ["PATH=/opt/bin", "A=image"], "WorkingDir": "srv/./app", "User": "alice:staff",
                "Labels": { "a": "image", "b": "image" }, "StopSignal": "SIGQUIT", "Volumes": { "/data": {}, "/cache/": {} }, "ExposedPorts": { "80/tcp": {} } }"#,
        )
        .unwrap()
    }

    fn settled(config: ContainerConfig) -> ContainerConfig {
        let mut config = config;
        settle(&mut config, &image()).unwrap();
        config
    }

    fn argv(command: &[&str], entrypoint: Option<&[&str]>) -> Vec<String> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let config = settled(ContainerConfig {
            command: owned(command),
            entrypoint: entrypoint.map(owned),
            ..ContainerConfig::default()
        });
        config.entrypoint.into_iter().flatten().chain(config.command).collect()
    }

    #[test]
    fn what_runs_is_what_docker_runs() {
        assert_eq!(argv(&[], None), ["/entry", "serve"]);
        assert_eq!(argv(&["other"], None), ["/entry", "other"]);
        // The image's arguments are not for another program.
        assert_eq!(argv(&[], Some(&["/mine"])), ["/mine"]);
        assert_eq!(argv(&["x"], Some(&["/mine"])), ["/mine", "x"]);
        assert_eq!(argv(&["x"], Some(&[])), ["x"]);
    }

    #[test]
    fn the_users_word_comes_before_the_images() {
        let plain = settled(ContainerConfig::default());
        assert_eq!(plain.env, ["PATH=/opt/bin", "A=image"]);
        assert_eq!(plain.workdir.as_deref(), Some("/srv/app"));
        assert_eq!(plain.user.unwrap().to_string(), "alice:staff");
        assert_eq!(plain.stop_signal.unwrap().number(), 3);
        let own = settled(ContainerConfig {
            env: vec!["A=mine".into(), "B=mine".into()],
            workdir: Some("/w".into()),
            user: Some(User::parse("-u", "0").unwrap()),
            labels: [("a".to_owned(), "mine".to_owned())].into(),
            stop_signal: Some(Signal::TERM),
            ..ContainerConfig::default()
        });
        assert_eq!(own.env, ["PATH=/opt/bin", "A=mine", "B=mine"]);
        assert_eq!((own.workdir.as_deref(), own.user.unwrap().to_string()), (Some("/w"), "0".into()));
        assert_eq!((own.labels["a"].as_str(), own.labels["b"].as_str()), ("mine", "image"));
        assert_eq!(own.stop_signal, Some(Signal::TERM));
    }

    #[test]
    fn a_health_check_is_the_users_and_then_the_images() {
        let image: RunConfig = serde_json::from_str(
            r#"{ "Healthcheck": { "Test": ["CMD-SHELL", "a | b"], "Interval": 7000000000, "Retries": 2 }, "Shell": ["/bin/ash", "-ec"] }"#,
        )
        .unwrap();
        let settled = |own: Option<Healthcheck>| {
            let mut config = ContainerConfig { healthcheck: own, ..ContainerConfig::default() };
            settle(&mut config, &image).unwrap();
            config.healthcheck.unwrap()
        };
        let of_image = settled(None);
        let words = ["/bin/ash", "-ec", "a | b"].map(str::to_owned).to_vec();
        assert_eq!(of_image.test, Some(HealthTest::Exec(words)));
        assert_eq!(
            (of_image.interval_ms, of_image.retries, of_image.timeout_ms),
            (Some(7000), Some(2), None)
        );
        let own = Healthcheck { retries: Some(9), interval_ms: None, ..Healthcheck::default() };
        assert_eq!(
            (settled(Some(own.clone())).retries, settled(Some(own)).interval_ms),
            (Some(9), Some(7000))
        );
        let off = Healthcheck { test: Some(HealthTest::None), ..Healthcheck::default() };
        assert!(!settled(Some(off)).is_on());
        let bad = serde_json::from_str(r#"{ "Healthcheck": { "Test": ["RUN"] } }"#).unwrap();
        let error = settle(&mut ContainerConfig::default(), &bad).unwrap_err();
        assert_eq!(error.field(), Some("Healthcheck"));
    }

    #[test]
    fn each_volume_of_the_image_is_one_unless_something_is_mounted_there() {
        let mount = Mount::parse_volume("-v", "/host:/cache").unwrap();
        let mut config = ContainerConfig { mounts: vec![mount], ..ContainerConfig::default() };
        let made = settle(&mut config, &image()).unwrap();
        assert_eq!((made.len(), config.mounts.len()), (1, 2));
        assert_eq!(config.mounts[1].source, MountSource::Volume(made[0].clone()));
        assert_eq!(config.mounts[1].target, "/data");
    }

    #[test]
    fn exposed_ports_are_published_when_that_is_asked_for() {
        assert!(settled(ContainerConfig::default()).ports.is_empty());
        let all = settled(ContainerConfig { publish_all: true, ..ContainerConfig::default() });
        assert_eq!((all.ports.len(), all.ports[0].container), (1, 80));
        assert!(all.ports[0].host > 0);
        let ports = vec![Port::parse("-p", "8080:80").unwrap()];
        let some = settled(ContainerConfig {
            publish_all: true,
            ports: ports.clone(),
            ..ContainerConfig::default()
        });
        assert_eq!(some.ports, ports);
        assert_eq!(exposed_ports("5000-5002/udp").unwrap().len(), 3);
        for bad in ["", "0", "80/sctp", "9-8", "1-9999"] {
            assert!(exposed_ports(bad).is_err(), "{bad}");
        }
    }
}
