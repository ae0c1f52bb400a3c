//! Elements: what networks and published ports are, in the table's sets.

use std::{collections::BTreeSet, net::IpAddr, net::Ipv4Addr};

use tinyd_core::config::{Port, Protocol};

use super::rules::{BRIDGES, PORTS, PORTS_OF_ADDRESS, SUBNETS, WITHIN, interface};
use crate::Subnet;

/// An element of a set, as the kernel has it. Their order is the one in which the kernel takes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    pub(super) set: &'static str,
    pub(super) key: Vec<u8>,
    pub(super) role: Role,
    /// Empty for a set.
    pub(super) data: Vec<u8>,
}

/// What a key stands for. Where one range ends and the next begins at the same key, the kernel wants the end first: a range that begins
/// while another is open is EEXIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The first key after a range.
    RangeEnd,
    /// Itself, or the first key of a range.
    Member,
}

impl Element {
    fn of_set(set: &'static str, key: Vec<u8>) -> Element {
        Element { set, key, role: Role::Member, data: Vec::new() }
    }
}

/// A network's elements.
pub(super) fn of_network(bridge: &str, subnet: Subnet) -> Vec<Element> {
    let name = interface(bridge);
    let after = subnet.broadcast().to_bits().wrapping_add(1).to_be_bytes().to_vec();
    vec![
        Element::of_set(BRIDGES, name.to_vec()),
        Element::of_set(WITHIN, [name, name].concat()),
        Element::of_set(SUBNETS, subnet.base().octets().to_vec()),
        Element { role: Role::RangeEnd, ..Element::of_set(SUBNETS, after) },
    ]
}

/// The elements of a container's published ports. Those on the host's loopback, and on IPv6 addresses, have none: the shim's sockets serve
/// them.
pub(super) fn of_ports(ip: Ipv4Addr, ports: &[Port]) -> BTreeSet<Element> {
    ports.iter().filter_map(|port| of_port(ip, port)).collect()
}

fn of_port(ip: Ipv4Addr, port: &Port) -> Option<Element> {
    let protocol = match port.protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    };
    let service = [[protocol as u8, 0, 0, 0], port_key(port.host)].concat();
    let (set, key) = match port.host_ip {
        None => (PORTS, service),
        Some(IpAddr::V4(host)) if !host.is_loopback() => {
            (PORTS_OF_ADDRESS, [&host.octets()[..], &service].concat())
        }
        Some(IpAddr::V4(_) | IpAddr::V6(_)) => return None,
    };
    let data = [ip.octets(), port_key(port.container)].concat();
    Some(Element { set, key, role: Role::Member, data })
}

/// A port, filled up to a register.
fn port_key(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::firewall::rules::SETS;

    proptest! {
        #[test]
        fn an_element_is_as_long_as_its_set_says(ip: [u8; 4], host_ip: Option<[u8; 4]>, host in 1u16.., container in 1u16.., udp: bool) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let port = Port { host_ip: host_ip.map(IpAddr::from), host, container, protocol };
            let mut elements: Vec<Element> = of_ports(ip.into(), &[port]).into_iter().collect();
            prop_assert_eq!(elements.is_empty(), host_ip.is_some_and(|ip| ip[0] == 127));
            elements.extend(of_network("Tiny-docker", Subnet::around(ip.into(), 24)));
            for element in elements {
                let set = SETS.iter().find(|set| set.name == element.set).unwrap();
                let bytes = |types: &[crate::firewall::rules::Type]| types.iter().map(|t| t.key_bytes()).sum::<u32>() as usize;
                prop_assert_eq!(element.key.len(), bytes(set.key));
                prop_assert_eq!(element.data.len(), bytes(set.data));
            }
        }
    }
}
