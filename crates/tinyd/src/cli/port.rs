//! `tinyd port`: the published ports of a container.

use clap::Args;
use tinyd_core::{Error, Kind};

use super::{
    failure::Result,
    format::Format,
    globals::Globals,
    output,
    remote::answer,
    verb::Verb,
    views::{PortView, protocol},
};
use crate::pb;

/// Show where the ports of a container are published
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd port c1\n  tinyd port c1 80/tcp")]
pub(super) struct Port {
    /// json, or a template such as '{{.HostPort}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Its name, id, or a unique beginning of its id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// One port of the container only
    #[arg(value_name = "PORT[/tcp|/udp]")]
    port: Option<String>,
}

impl Verb for Port {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        let wanted = self.port.as_deref().map(parse).transpose()?;
        globals.online(async move |remote| {
            let request = pb::InspectRequest { container: self.container.clone() };
            let mut ports =
                answer(remote.containers().inspect(request)).await?.config.unwrap_or_default().ports;
            if let Some((number, word)) = wanted {
                ports.retain(|port| port.container == number && protocol(port) == word);
                if ports.is_empty() {
                    let told = format!("{}: port {number}/{word} is not published", self.container);
                    return Err(Error::new(Kind::NotFound, told).into());
                }
            }
            let views: Vec<PortView> = ports.iter().map(PortView::from).collect();
            output::print(&format.list(&views, || lines(&ports, wanted.is_some()))?)?;
            Ok(0)
        })
    }
}

fn parse(text: &str) -> tinyd_core::Result<(u32, &'static str)> {
    let bad = || {
        Error::invalid(
            "PORT",
            format!("{text:?} is not a port of the container: 80, 80/tcp or 53/udp, from 1 to 65535"),
        )
    };
    let (number, word) = match text.split_once('/') {
        None => (text, "tcp"),
        Some((number, "tcp")) => (number, "tcp"),
        Some((number, "udp")) => (number, "udp"),
        Some(_) => return Err(bad()),
    };
    let number: u16 = number.parse().map_err(|_| bad())?;
    if number == 0 { Err(bad()) } else { Ok((number.into(), word)) }
}

fn lines(ports: &[pb::Port], bare: bool) -> String {
    let mut text = String::new();
    for port in ports {
        let ips: &[&str] =
            if port.host_ip.is_empty() { &["0.0.0.0", "[::]"] } else { &[&bracketed(&port.host_ip)] };
        for ip in ips {
            let from =
                if bare { String::new() } else { format!("{}/{} -> ", port.container, protocol(port)) };
            text.push_str(&format!("{from}{ip}:{}\n", port.host));
        }
    }
    text
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_address() {
        let every = pb::Port { host: 8080, container: 80, ..pb::Port::default() };
        let one =
            pb::Port { host_ip: "::1".into(), host: 53, container: 53, protocol: pb::Protocol::Udp.into() };
        assert_eq!(
            lines(&[every.clone(), one], false),
            "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n53/udp -> [::1]:53\n"
        );
        assert_eq!(lines(&[every], true), "0.0.0.0:8080\n[::]:8080\n");
    }

    #[test]
    fn ports_that_are_none() {
        assert_eq!(parse("53/udp").unwrap(), (53, "udp"));
        for bad in ["", "0", "65536", "80/sctp", "http"] {
            assert!(parse(bad).unwrap_err().to_string().contains("1 to 65535"), "{bad}");
        }
    }
}
