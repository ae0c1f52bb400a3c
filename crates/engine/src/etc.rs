//! The container's `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`: written anew at every start.

use std::{
    fmt::Write,
    net::IpAddr,
    os::unix::fs::{PermissionsExt, fchown},
    path::Path,
};

use tinyd_core::{Error, Result, config::ContainerConfig};

use crate::{
    files::{self, failed},
    host::Host,
    record::{Endpoint, Record},
    spec,
};

/// The texts of the three files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Etc {
    hosts: String,
    hostname: String,
    resolv: String,
    /// What had to be done that the user may want to know.
    pub(crate) warning: Option<String>,
}

impl Etc {
    /// What the container gets. `shared` is the directory of the container whose network it shares.
    pub(crate) fn plan(record: &Record, host: &Host, shared: Option<&Path>) -> Etc {
        let name = spec::hostname(record, host);
        let (resolv, warning) = match shared {
            Some(dir) if record.config.dns.is_empty() => (text(&dir.join("resolv.conf")), None),
            Some(_) | None => resolvers(record),
        };
        let hosts = match (&record.endpoint, shared) {
            (Endpoint::Container(_), Some(dir)) => text(&dir.join("hosts")),
            (Endpoint::Host, _) => text(Path::new("/etc/hosts")),
            (Endpoint::Container(_) | Endpoint::Bridge { .. } | Endpoint::None, _) => {
                own_hosts(record, &name)
            }
        };
        let hosts = with_added(hosts, &record.config);
        Etc { hosts, hostname: format!("{name}\n"), resolv, warning }
    }

    /// Writes the files into a directory, as files of the container's root user.
    pub(crate) fn write(&self, dir: &Path, owner: Option<u32>) -> Result<()> {
        for (name, text) in
            [("hosts", &self.hosts), ("hostname", &self.hostname), ("resolv.conf", &self.resolv)]
        {
            let path = dir.join(name);
            let file = files::write(&path, text.as_bytes())?;
            let owner = Some(owner.unwrap_or(0));
            let own = || {
                file.set_permissions(PermissionsExt::from_mode(0o644))?;
                fchown(&file, owner, owner)
            };
            own().map_err(|source| failed(format_args!("chown({path:?})"), source))?;
        }
        Ok(())
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn resolvers(record: &Record) -> (String, Option<String>) {
    if !record.config.dns.is_empty() {
        let lines = record.config.dns.iter().map(|server| format!("nameserver {server}\n"));
        return (lines.collect(), None);
    }
    let host = text(Path::new("/etc/resolv.conf"));
    match &record.endpoint {
        Endpoint::Bridge { .. } => {
            let upstream = std::fs::read_to_string("/run/systemd/resolve/resolv.conf").ok();
            let usable = tinyd_net::usable_resolvers(&host, upstream.as_deref());
            (usable.text, usable.warning)
        }
        // The host's own servers are where the host's network is.
        Endpoint::Host | Endpoint::None | Endpoint::Container(_) => (host, None),
    }
}

fn own_hosts(record: &Record, name: &str) -> String {
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if let Some(ip) = record.ip() {
        // Writing to a String cannot fail.
        let _ = writeln!(hosts, "{ip}\t{name}");
    }
    hosts
}

fn with_added(mut hosts: String, config: &ContainerConfig) -> String {
    if !hosts.is_empty() && !hosts.ends_with('\n') {
        hosts.push('\n');
    }
    for (name, ip) in config.add_hosts.iter().filter_map(|line| parse_added("--add-host", line).ok()) {
        let _ = writeln!(hosts, "{ip}\t{name}");
    }
    hosts
}

/// Reads `HOST:IP`.
pub(crate) fn parse_added<'a>(field: &str, line: &'a str) -> Result<(&'a str, IpAddr)> {
    let shape = || Error::invalid(field, format!("{line:?} is not HOST:IP, such as db:10.0.0.5"));
    let (name, ip) = line.split_once(':').ok_or_else(shape)?;
    let ip = ip.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| shape())?;
    let plain = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if plain { Ok((name, ip)) } else { Err(shape()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_hosts_are_a_name_and_an_address() {
        assert_eq!(parse_added("f", "db:10.0.0.5").unwrap(), ("db", [10, 0, 0, 5].into()));
        assert_eq!(parse_added("f", "db:[::1]").unwrap().1, IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
        for bad in ["db", "db:x", ":1.1.1.1", "a b:1.1.1.1", "db\n:1.1.1.1", "db:1.1.1.1\nevil 2.2.2.2"] {
            assert!(parse_added("f", bad).is_err(), "{bad:?}");
        }
    }
}
