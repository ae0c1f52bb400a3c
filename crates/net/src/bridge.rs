//! Bridges. One belongs to a daemon when its alias says so; nothing else tells whose it is, and no file repeats it.

use std::net::Ipv4Addr;

use tinyd_core::{Error, Kind, Name, Result};
use tinyd_sys::netlink::{Messages, Socket};

use crate::{
    Bridge, BridgeConfig, DEFAULT_NETWORK, Owned, internal,
    link::{self, BY_NAME, Link, Up},
    mac_for, route, sysctl,
    veth::VETH_PREFIX,
};

/// Attributes of `IFLA_INFO_DATA` of a bridge (linux/if_link.h).
const BR_STP_STATE: u16 = 5;
const BR_MCAST_SNOOPING: u16 = 23;

/// The mark of a daemon's bridges: the beginning of their alias.
fn mark(tag: &str) -> String {
    format!("tinyd:{tag}:")
}

/// Makes the bridge or finds it; sets right what differs.
pub(crate) fn ensure(socket: &mut Socket, tag: &str, config: &BridgeConfig) -> Result<Bridge> {
    let alias = format!("{}{}", mark(tag), config.network);
    let links = link::all(socket).map_err(internal)?;
    let found = links.into_iter().find(|link| link.alias.as_deref() == Some(&alias));
    let link = match found {
        Some(link) => link,
        None => create(socket, tag, config, &alias)?,
    };
    configure(socket, &link, config).map_err(internal)?;
    sysctl::quiet_bridge(&link.name);
    Ok(Bridge { network: config.network.clone(), interface: link.name })
}

/// Makes it and marks it. It is born under its hashed name, which nobody else uses: a daemon killed before the mark is there finds its
/// own work again by that name. The default network's is renamed once it is marked, unless somebody has that name.
fn create(socket: &mut Socket, tag: &str, config: &BridgeConfig, alias: &str) -> Result<Link> {
    let name = hashed_name(tag, &config.network);
    match request_bridge(socket, &name, config.gateway) {
        Err(error) if error.errno() != Some(libc::EEXIST) => return Err(internal(error)),
        Ok(()) | Err(_) => {}
    }
    let mut link = link::find(socket, &name)
        .map_err(internal)?
        .filter(|link| link.kind == "bridge" && link.alias.is_none())
        .ok_or_else(|| not_ours(config, &name))?;
    set_alias(socket, &link, alias).map_err(internal)?;
    if config.network.as_str() == DEFAULT_NETWORK {
        match rename(socket, &link, DEFAULT_NETWORK) {
            Ok(()) => DEFAULT_NETWORK.clone_into(&mut link.name),
            Err(error) if error.errno() == Some(libc::EEXIST) => {}
            Err(error) => return Err(internal(error)),
        }
    }
    Ok(link)
}

fn not_ours(config: &BridgeConfig, name: &str) -> Error {
    let rule = format!("network {}: the interface {name} exists and is not this daemon's", config.network);
    Error::new(Kind::AlreadyExists, rule)
}

/// `td-` and twelve hexadecimal digits: an interface's name has at most 15 bytes, a network's 128.
fn hashed_name(tag: &str, network: &Name) -> String {
    // FNV-1a, 64 bits. Two networks that collide get an error and not each other's bridge: the alias tells them apart.
    let hash = [tag.as_bytes(), b"\0", network.as_str().as_bytes()]
        .concat()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
    format!("td-{:012x}", hash >> 16)
}

fn request_bridge(socket: &mut Socket, name: &str, gateway: Ipv4Addr) -> tinyd_sys::Result<()> {
    let mut request = Messages::new();
    let create = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    request.add(format!("RTM_NEWLINK({name}, bridge)"), libc::RTM_NEWLINK, create, |body| {
        link::ifinfo(body, BY_NAME, Up::AsIs);
        body.text(libc::IFLA_IFNAME, name);
        // A bridge without an address of its own takes its lowest port's, and changes it with every port.
        body.bytes(libc::IFLA_ADDRESS, &mac_for(gateway));
        body.nest(libc::IFLA_LINKINFO, |body| {
            body.text(libc::IFLA_INFO_KIND, "bridge");
            body.nest(libc::IFLA_INFO_DATA, |body| {
                body.u32(BR_STP_STATE, 0);
                body.u8(BR_MCAST_SNOOPING, 0);
            });
        });
    });
    socket.request(request)
}

fn set_alias(socket: &mut Socket, link: &Link, alias: &str) -> tinyd_sys::Result<()> {
    let mut request = Messages::new();
    request.add(format!("RTM_SETLINK({}, alias {alias})", link.name), libc::RTM_SETLINK, 0, |body| {
        link::ifinfo(body, link.index, Up::AsIs);
        body.bytes(libc::IFLA_IFALIAS, alias.as_bytes());
    });
    socket.request(request)
}

fn rename(socket: &mut Socket, link: &Link, name: &str) -> tinyd_sys::Result<()> {
    let mut request = Messages::new();
    request.add(format!("RTM_SETLINK({}, name {name})", link.name), libc::RTM_SETLINK, 0, |body| {
        link::ifinfo(body, link.index, Up::AsIs);
        body.text(libc::IFLA_IFNAME, name);
    });
    socket.request(request)
}

/// Address, MTU, up. Another address that it had is taken away.
fn configure(socket: &mut Socket, link: &Link, config: &BridgeConfig) -> tinyd_sys::Result<()> {
    let (name, prefix_len) = (&link.name, config.subnet.prefix_len());
    let stale = route::addresses(socket, link.index)?;
    let mut request = Messages::new();
    for (ip, len) in stale.into_iter().filter(|address| *address != (config.gateway, prefix_len)) {
        request.add(format!("RTM_DELADDR({name}, {ip}/{len})"), libc::RTM_DELADDR, 0, |body| {
            link::ifaddr(body, link.index, ip, len);
        });
    }
    let replace = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
    let call = format!("RTM_NEWADDR({name}, {}/{prefix_len})", config.gateway);
    request.add(call, libc::RTM_NEWADDR, replace, |body| {
        link::ifaddr(body, link.index, config.gateway, prefix_len);
        body.bytes(libc::IFA_BROADCAST, &config.subnet.broadcast().octets());
    });
    let mtu = route::outside_mtu(socket)?;
    request.add(format!("RTM_SETLINK({name}, mtu {mtu}, up)"), libc::RTM_SETLINK, 0, |body| {
        link::ifinfo(body, link.index, Up::Yes);
        body.u32(libc::IFLA_MTU, mtu);
    });
    socket.request(request)
}

/// Deletes the network's bridge; its interface, when there was one.
pub(crate) fn delete(socket: &mut Socket, tag: &str, network: &Name) -> Result<Option<String>> {
    let owned = list(socket, tag)?;
    let Some(bridge) = owned.bridges.into_iter().find(|bridge| bridge.network == *network) else {
        return Ok(None);
    };
    link::delete(socket, &bridge.interface).map_err(internal)?;
    Ok(Some(bridge.interface))
}

/// The daemon's bridges, and the containers on them.
pub(crate) fn list(socket: &mut Socket, tag: &str) -> Result<Owned> {
    let (links, mark) = (link::all(socket).map_err(internal)?, mark(tag));
    let network = |link: &Link| Name::parse("network", link.alias.as_deref()?.strip_prefix(&mark)?).ok();
    let is_ours = |index: u32| links.iter().any(|link| link.index == index && network(link).is_some());
    let bridges = links
        .iter()
        .filter_map(|link| Some(Bridge { network: network(link)?, interface: link.name.clone() }))
        .collect();
    let containers = links
        .iter()
        .filter(|link| link.master.is_some_and(is_ours))
        .filter_map(|link| link.name.strip_prefix(VETH_PREFIX).map(str::to_owned))
        .collect();
    Ok(Owned { bridges, containers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interfaces_name_fits_and_tells_networks_and_daemons_apart() {
        let name = |text: &str| Name::parse("name", text).unwrap();
        let long = name(&"n".repeat(128));
        assert_eq!(hashed_name("a", &long).len(), 15);
        assert_ne!(hashed_name("a", &name("bc")), hashed_name("ab", &name("c")));
        assert_ne!(hashed_name("a", &name("x")), hashed_name("a", &name("y")));
    }
}
