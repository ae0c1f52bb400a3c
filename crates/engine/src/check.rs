//! Whether a definition makes sense on this machine: every rule of a container's definition that the words themselves do not hold.
//! Looks at the host's files where a rule is about them, changes nothing.

use std::{
    collections::{BTreeMap, HashSet},
    os::unix::fs::FileTypeExt,
    path::Path,
};

use tinyd_core::{
    Error, Kind, Name, Result,
    config::{
        ContainerConfig, Healthcheck, MountSource, NetworkMode, SeccompChoice, Ulimit, UsernsChoice,
        check_argv, check_env,
    },
    size,
};

use crate::{
    etc,
    host::{self, Host},
    profile,
    registry::same_port,
    spec::caps,
};

/// The longest hostname that the kernel takes, in bytes.
const HOSTNAME_MAX_BYTES: usize = 64;
/// The most labels' bytes, so that a list of containers stays a small message.
const LABELS_MAX_BYTES: usize = 64 << 10;

/// Checks a definition whose image is known.
pub(crate) fn check(config: &ContainerConfig, host: &Host) -> Result<()> {
    command(config)?;
    names(config)?;
    limits(config, host)?;
    mounts(config)?;
    network(config)?;
    security(config, host)
}

fn command(config: &ContainerConfig) -> Result<()> {
    let argv: Vec<String> = config.entrypoint.iter().flatten().chain(&config.command).cloned().collect();
    if argv.first().is_none_or(String::is_empty) {
        let image = if config.image.starts_with('/') { "an image directory" } else { "this image" };
        let rule = format!("no command: {image} has none of its own, so say what to run, such as /bin/sh");
        return Err(Error::invalid("COMMAND", rule));
    }
    check_argv("COMMAND", &argv)?;
    check_env("-e", &config.env)?;
    if let Some(workdir) = &config.workdir {
        check_workdir(workdir)?;
    }
    config.healthcheck.as_ref().map_or(Ok(()), health)
}

fn health(check: &Healthcheck) -> Result<()> {
    if let Some(test) = &check.test {
        check_argv("--health-cmd", &test.words())?;
    }
    for (option, given) in [
        ("--health-interval", check.interval_ms),
        ("--health-timeout", check.timeout_ms),
        ("--health-start-interval", check.start_interval_ms),
        ("--health-retries", check.retries.map(u64::from)),
    ] {
        if given == Some(0) {
            return Err(Error::invalid(option, "0 is too little: at least 1 (times: 1ms)"));
        }
    }
    Ok(())
}

/// Checks a working directory.
pub(crate) fn check_workdir(workdir: &str) -> Result<()> {
    if !workdir.starts_with('/') {
        return Err(Error::invalid("-w", format!("{workdir:?} is not absolute: it begins with /")));
    }
    if workdir.chars().any(char::is_control) || workdir.len() >= 4096 {
        let rule = "the working directory has a control character or is over 4095 bytes";
        return Err(Error::invalid("-w", rule));
    }
    Ok(())
}

fn names(config: &ContainerConfig) -> Result<()> {
    if let Some(hostname) = &config.hostname {
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if hostname.len() > HOSTNAME_MAX_BYTES || !hostname.split('.').all(label) {
            return Err(Error::invalid(
                "--hostname",
                format!(
                    "{hostname:?} is not a hostname: letters, digits, '-' and '.', at most {HOSTNAME_MAX_BYTES} bytes"
                ),
            ));
        }
    }
    check_labels(&config.labels)
}

/// Checks the labels of a container, a network or a volume.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in labels {
        if key.is_empty() || key.chars().any(char::is_control) {
            return Err(Error::invalid(
                "--label",
                format!("{key:?} is not a label's key: not empty, no control characters"),
            ));
        }
        if value.contains('\0') {
            return Err(Error::invalid("--label", format!("the value of {key:?} has a NUL byte")));
        }
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > LABELS_MAX_BYTES {
        return Err(Error::invalid(
            "--label",
            format!("the labels have {bytes} bytes: at most {LABELS_MAX_BYTES}"),
        ));
    }
    Ok(())
}

fn limits(config: &ContainerConfig, host: &Host) -> Result<()> {
    let wanted = &config.resources;
    if let Some(quota) = wanted.cpu_quota_us {
        size::check_cpu("--cpu", quota, host.cpus.len() as u64)?;
    }
    if let Some(list) = &wanted.cpuset_cpus {
        cpuset(list, host)?;
    }
    if let Some(bytes) = wanted.memory_bytes {
        size::check_memory("--mem", bytes)?;
        if i64::try_from(bytes).is_err() {
            return Err(Error::invalid("--mem", format!("{bytes} bytes is too large")));
        }
    }
    memory_swap(wanted.memory_bytes, wanted.memory_swap_bytes)?;
    if let Some(limit) = wanted.pids_limit.filter(|limit| *limit < -1 || *limit == 0) {
        return Err(Error::invalid(
            "--pids-limit",
            format!("{limit} is out of range: 1 or more, or -1 for no limit"),
        ));
    }
    for ulimit in &wanted.ulimits {
        if !Ulimit::NAMES.contains(&ulimit.name.as_str()) || ulimit.soft > ulimit.hard {
            return Err(Error::invalid(
                "--ulimit",
                format!(
                    "\"{}={}:{}\" is not a limit: a known name, soft at most hard",
                    ulimit.name.escape_debug(),
                    ulimit.soft,
                    ulimit.hard
                ),
            ));
        }
        if let Some(most) = host.ulimits.get(ulimit.name.as_str()).filter(|most| ulimit.hard > **most) {
            let wanted = if ulimit.hard == u64::MAX { "-1".to_owned() } else { ulimit.hard.to_string() };
            let rule = format!("out of range: the most that this host's daemon can give is {most}");
            return Err(Error::invalid("--ulimit", format!("{}={wanted} is {rule}", ulimit.name)));
        }
    }
    Ok(())
}

fn cpuset(list: &str, host: &Host) -> Result<()> {
    // What the kernel writes ends with a newline; what a caller writes does not.
    let plain = Some(list).filter(|list| !list.contains(char::is_whitespace));
    let wanted = plain.and_then(host::parse_list).ok_or_else(|| {
        Error::invalid("--cpuset-cpus", format!("{list:?} is not a list of CPUs such as 0-1,3"))
    })?;
    match wanted.iter().find(|cpu| !host.cpus.contains(cpu)) {
        Some(cpu) => Err(Error::invalid(
            "--cpuset-cpus",
            format!("{list:?}: CPU {cpu} is not online: this machine has {}", told(&host.cpus)),
        )),
        None => Ok(()),
    }
}

fn told(cpus: &[u32]) -> String {
    match cpus {
        [only] => format!("CPU {only}"),
        [first, .., last] if (last - first) as usize + 1 == cpus.len() => format!("CPUs {first}-{last}"),
        several => format!("CPUs {}", several.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    }
}

fn memory_swap(memory: Option<u64>, swap: Option<i64>) -> Result<()> {
    match (memory, swap) {
        (_, None | Some(-1)) => Ok(()),
        (None, Some(_)) => Err(Error::invalid("--memory-swap", "it needs a memory limit (--mem) beside it")),
        (Some(memory), Some(swap)) if u64::try_from(swap).is_ok_and(|swap| swap >= memory) => Ok(()),
        (Some(memory), Some(swap)) => Err(Error::invalid(
            "--memory-swap",
            format!(
                "{swap} is out of range: memory and swap together, at least --mem ({memory}), or -1 for no limit"
            ),
        )),
    }
}

/// Places that the runtime itself makes and that nothing may hide.
const RESERVED: [&str; 1] = ["/proc"];

fn mounts(config: &ContainerConfig) -> Result<()> {
    let mut targets = HashSet::new();
    for mount in &config.mounts {
        let (target, field) = match &mount.source {
            MountSource::Tmpfs { .. } => (&mount.target, "--tmpfs"),
            MountSource::Host(_) | MountSource::Volume(_) => (&mount.target, "-v"),
        };
        let plain = target.starts_with('/')
            && target != "/"
            && !target.chars().any(char::is_control)
            && target.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
        if !plain {
            return Err(Error::invalid(
                field,
                format!(
                    "{target:?} is not a place in the container: an absolute path other than /, without ., .. and control characters"
                ),
            ));
        }
        if RESERVED.iter().any(|place| target == place || target.starts_with(&format!("{place}/"))) {
            return Err(Error::invalid(
                field,
                format!("{target:?}: nothing can be mounted on or below /proc"),
            ));
        }
        if !targets.insert(target) {
            return Err(Error::invalid(field, format!("{target:?} is mounted twice")));
        }
        match &mount.source {
            MountSource::Host(source) => host_source(field, source)?,
            MountSource::Tmpfs { mode: Some(mode @ 0o10000..), .. } => {
                return Err(Error::invalid(field, format!("{mode:o} is not a mode: octal, at most 7777")));
            }
            MountSource::Tmpfs { .. } | MountSource::Volume(_) => {}
        }
    }
    Ok(())
}

fn host_source(field: &str, source: &str) -> Result<()> {
    if !source.starts_with('/') || source.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            format!("the host path {source:?} is not absolute, or has a control character"),
        ));
    }
    match std::fs::metadata(source) {
        Ok(meta) if meta.is_dir() || meta.is_file() => Ok(()),
        Ok(meta) if meta.file_type().is_socket() || meta.file_type().is_char_device() => Ok(()),
        Ok(_) => {
            Err(Error::invalid(field, format!("the host path {source:?} is neither a file nor a directory")))
        }
        // Made when the container is.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::invalid(field, format!("the host path {source:?} cannot be used: {error}"))),
    }
}

fn network(config: &ContainerConfig) -> Result<()> {
    let has_ports = match &config.network {
        NetworkMode::Default | NetworkMode::Named(_) => true,
        NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => false,
    };
    if let Some(port) = config.ports.first().filter(|_| !has_ports) {
        return Err(Error::invalid(
            "-p",
            format!(
                "{port}: ports are published on bridge networks only, not with --net host, none or container:NAME"
            ),
        ));
    }
    for (index, port) in config.ports.iter().enumerate() {
        if port.host == 0 || port.container == 0 {
            return Err(Error::invalid("-p", format!("{port}: a port is a number from 1 to 65535")));
        }
        if config.ports[..index].iter().any(|other| same_port(other, port)) {
            return Err(Error::invalid("-p", format!("{port}: host port {} is published twice", port.host)));
        }
    }
    config.add_hosts.iter().try_for_each(|line| etc::parse_added("--add-host", line).map(drop))
}

fn security(config: &ContainerConfig, host: &Host) -> Result<()> {
    let security = &config.security;
    caps::resolve(&security.cap_add, &security.cap_drop, None)?;
    if security.privileged && security.userns == UsernsChoice::Auto {
        return Err(Error::invalid(
            "--userns",
            "auto does not go with --privileged, which means the host's user namespace",
        ));
    }
    if let SeccompChoice::Profile(text) = &security.seccomp {
        profile::resolve(text, &[], host)?;
    }
    for device in &security.devices {
        let meta = std::fs::metadata(&device.host);
        let is_device = meta
            .as_ref()
            .is_ok_and(|meta| meta.file_type().is_char_device() || meta.file_type().is_block_device());
        if !is_device {
            let why = meta.err().map_or_else(|| "it is no device".to_owned(), |error| error.to_string());
            return Err(Error::invalid(
                "--device",
                format!("{:?} is not a device of this host: {why}", device.host),
            ));
        }
        let plain = device.container.starts_with("/dev/")
            && !device.container.split('/').any(|part| part == "..")
            && !device.container.chars().any(char::is_control);
        if !plain {
            return Err(Error::invalid(
                "--device",
                format!("{:?} is not a place for a device: a path below /dev", device.container),
            ));
        }
        if device.access.is_empty() || !device.access.bytes().all(|b| b"rwm".contains(&b)) {
            return Err(Error::invalid(
                "--device",
                format!("{:?} is not an access to a device: some of rwm", device.access),
            ));
        }
    }
    Ok(())
}

/// Checks one more process's definition.
pub(crate) fn check_exec(exec: &crate::api::ExecConfig) -> Result<()> {
    if exec.command.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("COMMAND", "no command: say what to run, such as sh"));
    }
    check_argv("COMMAND", &exec.command)?;
    check_env("-e", &exec.env)?;
    exec.workdir.as_deref().map_or(Ok(()), check_workdir)
}

/// A network's or volume's name as a caller wrote it.
pub(crate) fn parse_name(field: &str, what: &str, text: &str) -> Result<Name> {
    Name::parse(field, text)
        .map_err(|_| Error::new(Kind::NotFound, format!("no {what} is called {text:?}")).of_field(field))
}

/// Makes sure that a host directory is there; files stay files.
pub(crate) fn make_host_dir(source: &str) -> Result<()> {
    let path = Path::new(source);
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(|error| {
        Error::invalid("-v", format!("the host path {source:?} does not exist and cannot be made: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use tinyd_core::config::{Mount, Port, Resources, Security};

    use super::*;

    fn host() -> Host {
        Host { cpus: vec![0, 1], ulimits: [("nofile", 1000)].into(), ..Host::default() }
    }

    fn good() -> ContainerConfig {
        ContainerConfig {
            image: "/usr".into(),
            command: vec!["/bin/sh".into()],
            ..ContainerConfig::default()
        }
    }

    fn told(config: ContainerConfig) -> (String, String) {
        let error = check(&config, &host()).unwrap_err();
        (error.field().unwrap_or_default().to_owned(), error.message().to_owned())
    }

    fn refused(config: ContainerConfig, field: &str, rule: &str) {
        let (at, message) = told(config);
        assert_eq!(at, field, "{message}");
        assert!(message.contains(rule), "{message:?} has no {rule:?}");
    }

    #[test]
    fn a_plain_definition_is_fine() {
        check(&good(), &host()).unwrap();
    }

    #[test]
    fn each_rule_names_its_option() {
        let limited = |resources| ContainerConfig { resources, ..good() };
        let none = Resources::default;
        refused(ContainerConfig { command: vec![], ..good() }, "COMMAND", "no command");
        refused(ContainerConfig { command: vec!["a\0b".into()], ..good() }, "COMMAND", "NUL");
        refused(ContainerConfig { workdir: Some("rel".into()), ..good() }, "-w", "not absolute");
        refused(ContainerConfig { hostname: Some("a_b..c".into()), ..good() }, "--hostname", "hostname");
        refused(limited(Resources { cpu_quota_us: Some(5), ..none() }), "--cpu", "10000 to 200000");
        refused(limited(Resources { memory_bytes: Some(1024), ..none() }), "--mem", "minimum is 6m");
        refused(
            limited(Resources { cpuset_cpus: Some("0-7".into()), ..none() }),
            "--cpuset-cpus",
            "CPUs 0-1",
        );
        refused(
            limited(Resources { cpuset_cpus: Some("x".into()), ..none() }),
            "--cpuset-cpus",
            "list of CPUs",
        );
        let ulimit = |text| Resources { ulimits: vec![Ulimit::parse("--ulimit", text).unwrap()], ..none() };
        refused(limited(ulimit("nofile=1000:1001")), "--ulimit", "nofile=1001 is out of range");
        refused(limited(ulimit("nofile=-1")), "--ulimit", "can give is 1000");
        check(&limited(ulimit("nofile=1000")), &host()).unwrap();
        check(&limited(ulimit("core=-1")), &host()).unwrap();
        refused(limited(Resources { pids_limit: Some(0), ..none() }), "--pids-limit", "1 or more");
        refused(limited(Resources { memory_swap_bytes: Some(5), ..none() }), "--memory-swap", "--mem");
    }

    #[test]
    fn mounts_and_ports_do_not_collide() {
        let mount = |text: &str| Mount::parse_volume("-v", text).unwrap();
        let mounted = |mounts| ContainerConfig { mounts, ..good() };
        refused(mounted(vec![mount("/a:/x"), mount("/b:/x")]), "-v", "twice");
        refused(mounted(vec![mount("/a:/proc/sys")]), "-v", "/proc");
        let ports =
            vec![Port::parse("-p", "8080:80").unwrap(), Port::parse("-p", "127.0.0.1:8080:81").unwrap()];
        refused(ContainerConfig { ports: ports.clone(), ..good() }, "-p", "published twice");
        let network = NetworkMode::Host;
        refused(ContainerConfig { ports, network, ..good() }, "-p", "bridge networks only");
        refused(ContainerConfig { add_hosts: vec!["x".into()], ..good() }, "--add-host", "HOST:IP");
    }

    #[test]
    fn security_options_are_known() {
        let secured = |security| ContainerConfig { security, ..good() };
        refused(secured(Security { cap_add: vec!["X".into()], ..Security::default() }), "--cap-add", "\"X\"");
        let seccomp = SeccompChoice::Profile("{".into());
        refused(secured(Security { seccomp, ..Security::default() }), "--security-opt", "seccomp");
        let both = Security { privileged: true, userns: UsernsChoice::Auto, ..Security::default() };
        refused(secured(both), "--userns", "--privileged");
        let devices = vec![tinyd_core::config::DevicePair::parse("--device", "/dev/nothing").unwrap()];
        refused(secured(Security { devices, ..Security::default() }), "--device", "/dev/nothing");
    }
}
