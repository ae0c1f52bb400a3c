//! Addresses and routes of the host, as the kernel lists them.

use std::{collections::HashMap, net::Ipv4Addr};

use tinyd_sys::{
    Result,
    netlink::{Attribute, Reply, Socket},
};

use crate::{HostRoute, Subnet, Via, link, resolv};

/// Length of `struct rtmsg`.
const RTMSG_BYTES: usize = 12;
/// Length of `struct ifaddrmsg`.
const IFADDR_BYTES: usize = 8;
/// An interface's MTU where no route says otherwise.
const ETHERNET_MTU: u32 = 1500;
/// The smallest MTU of IPv4 in practice; an interface that claims less is not believed.
const MTU_MIN: u32 = 576;

/// A route as the kernel lists it.
struct Route {
    to: Subnet,
    output: Option<u32>,
    /// Leads somewhere or refuses, as opposed to the host's own addresses and broadcasts.
    is_unicast: bool,
}

/// Routes that a new subnet must not overlap: of every table, but not the default routes (nor their two halves, as VPNs make them), not the
/// host's own addresses, and not those over the interfaces that `ignore` names.
pub(crate) fn host_routes(socket: &mut Socket, ignore: &[String]) -> Result<Vec<HostRoute>> {
    let names: HashMap<u32, String> =
        link::all(socket)?.into_iter().map(|link| (link.index, link.name)).collect();
    let routes = routes(socket)?.into_iter().filter(|route| route.is_unicast && route.to.prefix_len() > 1);
    let via = |output: Option<u32>| match output {
        Some(index) => Via::Interface(names.get(&index).cloned().unwrap_or_else(|| index.to_string())),
        None => Via::Nowhere,
    };
    let mut found: Vec<HostRoute> = routes
        .map(|route| HostRoute { to: route.to, via: via(route.output) })
        .filter(|route| !matches!(&route.via, Via::Interface(name) if ignore.contains(name)))
        .collect();
    found.dedup();
    Ok(found)
}

/// The DNS servers that a `resolv.conf` names.
pub(crate) fn resolvers(text: &str) -> impl Iterator<Item = HostRoute> {
    text.lines()
        .filter_map(resolv::reachable_server)
        .map(|ip| HostRoute { to: Subnet::around(ip, 32), via: Via::Resolver })
}

/// The MTU of the interface that leads outside, where it is smaller than a bridge's own.
pub(crate) fn outside_mtu(socket: &mut Socket) -> Result<u32> {
    let default = routes(socket)?.into_iter().find(|route| route.is_unicast && route.to.prefix_len() == 0);
    let Some(index) = default.and_then(|route| route.output) else { return Ok(ETHERNET_MTU) };
    let mtu = link::all(socket)?.into_iter().find(|link| link.index == index).map(|link| link.mtu);
    Ok(mtu.unwrap_or(ETHERNET_MTU).clamp(MTU_MIN, ETHERNET_MTU))
}

/// The IPv4 addresses of an interface.
pub(crate) fn addresses(socket: &mut Socket, index: u32) -> Result<Vec<(Ipv4Addr, u8)>> {
    let replies = socket.dump("RTM_GETADDR", libc::RTM_GETADDR, |body| {
        body.fixed(&[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0]);
    })?;
    Ok(replies.iter().filter_map(|reply| address(reply, index)).collect())
}

fn address(reply: &Reply, index: u32) -> Option<(Ipv4Addr, u8)> {
    let prefix_len = *reply.payload.get(1)?;
    let its_index = u32::from_ne_bytes(reply.payload.get(4..8)?.try_into().ok()?);
    let local = reply.attributes(IFADDR_BYTES).find(|attr| attr.kind == libc::IFA_LOCAL).and_then(ipv4)?;
    (its_index == index).then_some((local, prefix_len))
}

fn routes(socket: &mut Socket) -> Result<Vec<Route>> {
    let replies = socket.dump("RTM_GETROUTE", libc::RTM_GETROUTE, |body| {
        let mut fixed = [0; RTMSG_BYTES];
        fixed[0] = libc::AF_INET as u8;
        body.fixed(&fixed);
    })?;
    Ok(replies.iter().filter_map(parse).collect())
}

fn parse(reply: &Reply) -> Option<Route> {
    let (prefix_len, kind) = (*reply.payload.get(1)?, *reply.payload.get(7)?);
    let mut to = Ipv4Addr::UNSPECIFIED;
    let mut output = None;
    for attr in reply.attributes(RTMSG_BYTES) {
        match attr.kind {
            libc::RTA_DST => to = ipv4(attr)?,
            libc::RTA_OIF => output = attr.u32(),
            _ => {}
        }
    }
    let is_unicast = matches!(
        kind,
        libc::RTN_UNICAST
            | libc::RTN_BLACKHOLE
            | libc::RTN_UNREACHABLE
            | libc::RTN_PROHIBIT
            | libc::RTN_THROW
    );
    Some(Route { to: Subnet::around(to, prefix_len), output, is_unicast })
}

fn ipv4(attr: Attribute<'_>) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(attr.value).ok().map(Ipv4Addr::from)
}
