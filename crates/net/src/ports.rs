//! The host's side of published ports: sockets that hold the port while the container lives.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tinyd_core::{
    Error, Kind, Result,
    config::{Port, Protocol},
};

use crate::holder;

/// The option under which a user writes a port.
const FIELD: &str = "-p";
/// How many connections wait until the shim takes them. The kernel has a limit of its own, 4096.
const BACKLOG: i32 = 4096;

/// A socket of the host that holds a published port. A TCP one listens.
#[derive(Debug)]
pub struct Listener {
    /// The port that it holds.
    pub port: Port,
    /// The socket.
    pub fd: OwnedFd,
}

/// Takes the ports on the host, IPv4 and (where the host has it) IPv6. The sockets go to the shim, which forwards what reaches them:
/// connections from the host's loopback and over IPv6. While they are open nobody else can have the port.
///
/// # Errors
/// `AlreadyExists` of `-p` naming the process that holds the port; `InvalidArgument` for an address that is not the host's, and for two
/// ports of this list that cannot be had at once.
pub fn reserve(ports: &[Port]) -> Result<Vec<Listener>> {
    check_apart(ports)?;
    let mut listeners = Vec::new();
    for port in ports {
        for address in addresses(port) {
            match open(address, port.protocol) {
                Ok(fd) => listeners.push(Listener { port: *port, fd }),
                // Nobody asked for IPv6 by name.
                Err(error) if port.host_ip.is_none() && address.is_ipv6() && lacks_family(error) => {}
                Err(error) => return Err(refusal(port, address, error)),
            }
        }
    }
    Ok(listeners)
}

/// A port that nobody on the host has now, of those that the kernel gives away.
///
/// # Errors
/// `Exhausted` when there is none.
pub fn free_port(protocol: Protocol) -> Result<u16> {
    let ask = || match protocol {
        Protocol::Tcp => std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr(),
        Protocol::Udp => std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr(),
    };
    let told = |source: io::Error| Error::new(Kind::Exhausted, format!("find a free port: {source}"));
    ask().map(|address| address.port()).map_err(told)
}

/// That no two of them are one port of the host.
fn check_apart(ports: &[Port]) -> Result<()> {
    for (at, port) in ports.iter().enumerate() {
        let same = |other: &&Port| {
            let everywhere =
                other.host_ip.is_none() || port.host_ip.is_none() || other.host_ip == port.host_ip;
            (other.host, other.protocol) == (port.host, port.protocol) && everywhere
        };
        if let Some(other) = ports[..at].iter().find(same) {
            return Err(Error::invalid(FIELD, format!("{other} and {port} are the same port of the host")));
        }
    }
    Ok(())
}

/// Where a published port is on the host.
fn addresses(port: &Port) -> Vec<SocketAddr> {
    let ips = match port.host_ip {
        Some(ip) => vec![ip],
        None => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, port.host)).collect()
}

fn open(address: SocketAddr, protocol: Protocol) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    match protocol {
        Protocol::Tcp => {
            // The last container's connections, in TIME_WAIT, keep nobody from the port. (A UDP socket with this would share it.)
            sockopt::set_socket_reuseaddr(&fd, true)?;
            bind(&fd, &address)?;
            listen(&fd, BACKLOG)?;
        }
        Protocol::Udp => bind(&fd, &address)?,
    }
    Ok(fd)
}

fn lacks_family(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::PROTONOSUPPORT)
}

fn refusal(port: &Port, address: SocketAddr, error: rustix::io::Errno) -> Error {
    use rustix::io::Errno;
    let name = format!("port {}/{}", port.host, port.protocol.word());
    match error {
        Errno::ADDRINUSE => {
            let by = holder::of(address, port.protocol)
                .map_or_else(|| "another process".to_owned(), |by| by.to_string());
            Error::new(Kind::AlreadyExists, format!("{name} is held by {by}")).of_field(FIELD)
        }
        Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => {
            Error::invalid(FIELD, format!("{port}: {} is not an address of this host", address.ip()))
        }
        other => {
            let source = io::Error::from(other);
            Error::new(Kind::Internal, format!("bind {address}/{}: {source}", port.protocol.word()))
                .of_field(FIELD)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn port(text: &str) -> Port {
        Port::parse("-p", text).unwrap()
    }

    #[test]
    fn a_port_in_use_names_its_holder() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap().port();
        for text in [format!("{taken}:80"), format!("127.0.0.1:{taken}:80")] {
            let error = reserve(&[port(&text)]).unwrap_err();
            let by = format!("port {taken}/tcp is held by ");
            assert_eq!((error.kind(), error.field()), (Kind::AlreadyExists, Some("-p")));
            assert!(error.message().starts_with(&by), "{error}");
            assert!(error.message().contains(&format!("(pid {})", std::process::id())), "{error}");
        }
        assert!(reserve(&[port(&format!("127.0.0.2:{taken}:80"))]).is_ok());
    }

    #[test]
    fn a_datagram_port_in_use_names_its_holder() {
        let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap().port();
        let error = reserve(&[port(&format!("127.0.0.1:{taken}:53/udp"))]).unwrap_err();
        assert!(error.message().contains(&format!("(pid {})", std::process::id())), "{error}");
    }

    #[test]
    fn a_reserved_port_is_nobody_elses_until_it_is_dropped() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let wanted = [port(&format!("{free}:80"))];
        let held = reserve(&wanted).unwrap();
        assert!(!held.is_empty());
        assert_eq!(reserve(&wanted).unwrap_err().kind(), Kind::AlreadyExists);
        drop(held);
        assert!(reserve(&wanted).is_ok());
    }

    #[test]
    fn a_port_cannot_lead_to_two_places() {
        for pair in
            [["8080:80", "8080:81"], ["8080:80", "127.0.0.1:8080:80"], ["[::1]:8080:80", "[::1]:8080:81"]]
        {
            let error = reserve(&pair.map(port)).unwrap_err();
            assert_eq!((error.kind(), error.field()), (Kind::InvalidArgument, Some("-p")));
            assert!(pair.iter().all(|text| error.message().contains(text)), "{error}");
        }
        assert!(check_apart(&["8080:80", "8080:80/udp", "8081:80"].map(port)).is_ok());
        assert!(check_apart(&["127.0.0.1:8080:80", "127.0.0.2:8080:81"].map(port)).is_ok());
    }

    #[test]
    fn an_address_of_somebody_else_is_refused() {
        let error = reserve(&[port("192.0.2.77:8099:80")]).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.message().contains("192.0.2.77 is not an address of this host"), "{error}");
    }
}
