//! Published ports: `-p [IP:]HOST:CONTAINER[/tcp|/udp]`.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A port of the host that leads to a port of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// The host's address; every address when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The host's port, 1 to 65535.
    pub host: u16,
    /// The container's port, 1 to 65535.
    pub container: u16,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
}

impl Port {
    /// Reads `[IP:]HOST:CONTAINER[/tcp|/udp]`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// `InvalidArgument` of `field` with the part that is wrong and the rule.
    pub fn parse(field: &str, text: &str) -> Result<Port> {
        let shape = || {
            Error::invalid(
                field,
                format!("{text:?} is not a port mapping: [IP:]HOST:CONTAINER[/tcp|/udp], such as 8080:80"),
            )
        };
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => {
                return Err(Error::invalid(
                    field,
                    format!("{text:?}: {other:?} is not a protocol: tcp or udp"),
                ));
            }
        };
        let (rest, container) = ports.rsplit_once(':').ok_or_else(shape)?;
        let (ip, host) = match rest.rsplit_once(':') {
            Some((ip, host)) => (Some(ip), host),
            None => (None, rest),
        };
        let number = |part: &str| -> Result<u16> {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(shape());
            }
            part.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                Error::invalid(field, format!("{text:?}: port {part} is out of range: 1 to 65535"))
            })
        };
        let host_ip = ip
            .map(|ip| {
                let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                bare.parse::<IpAddr>()
                    .map_err(|_| Error::invalid(field, format!("{text:?}: {ip:?} is not an IP address")))
            })
            .transpose()?
            .filter(|ip| !ip.is_unspecified());
        Ok(Port { host_ip, host: number(host)?, container: number(container)?, protocol })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            None => {}
        }
        write!(f, "{}:{}", self.host, self.container)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_spellings_of_a_port() {
        let plain = Port::parse("-p", "8080:80").unwrap();
        assert_eq!(
            (plain.host, plain.container, plain.protocol, plain.host_ip),
            (8080, 80, Protocol::Tcp, None)
        );
        assert_eq!(Port::parse("-p", "127.0.0.1:53:53/udp").unwrap().to_string(), "127.0.0.1:53:53/udp");
        assert_eq!(Port::parse("-p", "[::1]:8080:80").unwrap().to_string(), "[::1]:8080:80");
        assert_eq!(Port::parse("-p", "0.0.0.0:8080:80").unwrap(), plain);
    }

    #[test]
    fn a_bad_port_says_which_rule() {
        for (bad, rule) in [
            ("80", "HOST:CONTAINER"),
            ("99999:80", "1 to 65535"),
            ("0:80", "1 to 65535"),
            ("80:80/sctp", "tcp or udp"),
            ("1.2.3:80:80", "IP address"),
            ("a:80", "HOST:CONTAINER"),
            (":80", "HOST:CONTAINER"),
            ("+80:80", "HOST:CONTAINER"),
        ] {
            let error = Port::parse("-p", bad).unwrap_err();
            assert!(error.message().contains(rule), "{bad}: {error}");
            assert!(error.message().contains(bad), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(host in 1u16.., container in 1u16.., udp: bool, ip: Option<[u8; 4]>) {
            let host_ip = ip.map(IpAddr::from).filter(|ip| !ip.is_unspecified());
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let port = Port { host_ip, host, container, protocol };
            prop_assert_eq!(Port::parse("-p", &port.to_string()).unwrap(), port);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = Port::parse("-p", &text);
        }
    }
}
