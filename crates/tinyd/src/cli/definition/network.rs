//! Whom it reaches and who reaches it.

use std::net::IpAddr;

use clap::Args;
use tinyd_core::{
    Error, Name, Result,
    config::{ContainerConfig, NetworkMode, Port},
};

// Whom it reaches.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkArgs {
    /// A network's name, host, none, or container:NAME [default: Tiny-docker]
    #[arg(long = "net", visible_alias = "network", value_name = "NETWORK")]
    network: Option<String>,
    /// A port of the host that leads to one of the container: 8080:80, 127.0.0.1:53:53/udp; several may be given
    #[arg(short = 'p', long, value_name = "[IP:]HOST:CONTAINER[/udp]")]
    publish: Vec<String>,
    /// Publish every port that the image exposes, each on a free port of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// A name server in place of the host's; several may be given
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// A line for /etc/hosts; several may be given
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
}

impl NetworkArgs {
    /// Writes what was said into the definition.
    pub(super) fn apply(self, config: &mut ContainerConfig) -> Result<()> {
        config.network = mode(self.network.as_deref())?;
        config.ports = self.publish.iter().map(|text| Port::parse("-p", text)).collect::<Result<_>>()?;
        config.publish_all = self.publish_all;
        config.dns = self.dns.iter().map(|text| address("--dns", text)).collect::<Result<_>>()?;
        config.add_hosts = self.add_host.iter().map(|text| host_line(text)).collect::<Result<_>>()?;
        Ok(())
    }
}

fn mode(text: Option<&str>) -> Result<NetworkMode> {
    match text {
        None | Some("default") => Ok(NetworkMode::Default),
        Some("host") => Ok(NetworkMode::Host),
        Some("none") => Ok(NetworkMode::None),
        Some(text) => match text.strip_prefix("container:") {
            Some("") => Err(Error::invalid("--net", format!("{text:?} names no container: container:NAME"))),
            Some(other) => Ok(NetworkMode::Container(other.to_owned())),
            None => Ok(NetworkMode::Named(Name::parse("--net", text)?)),
        },
    }
}

fn address(field: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::invalid(field, format!("{text:?} is not an IP address")))
}

/// `HOST:IP`, the address with or without brackets.
fn host_line(text: &str) -> Result<String> {
    let shape = || Error::invalid("--add-host", format!("{text:?} is not HOST:IP, such as db:10.0.0.5"));
    let (host, ip) = text.split_once(':').ok_or_else(shape)?;
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
    if !plain || bare.parse::<IpAddr>().is_err() {
        return Err(shape());
    }
    Ok(format!("{host}:{bare}"))
}
