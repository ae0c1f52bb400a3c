//! A container's link: one veth pair, one end on the bridge, the other born inside the container's namespace as `eth0`.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use tinyd_core::{Error, Kind, Result};
use tinyd_sys::netlink::{Messages, Socket};

use crate::{
    Endpoint, internal,
    link::{self, BY_NAME, Up},
    mac_for, sysctl,
};

/// The host's end is called so, and the twelve digits of the container's short id: 15 bytes, as many as a name may have.
pub(crate) const VETH_PREFIX: &str = "tdv";
/// The container's end.
const INSIDE: &str = "eth0";
/// `VETH_INFO_PEER` (linux/veth.h).
const VETH_INFO_PEER: u16 = 1;
/// A bridge port's hairpin mode (linux/if_link.h).
const IFLA_BRPORT_MODE: u16 = 4;

/// The name of a container's link on the host.
pub(crate) fn name(short_id: &str) -> String {
    format!("{VETH_PREFIX}{short_id}")
}

/// Makes the pair and sets up the container's side. Nothing of it is left after a failure.
pub(crate) fn attach(
    socket: &mut Socket,
    endpoint: &Endpoint,
    netns: BorrowedFd<'_>,
    inside: OwnedFd,
) -> Result<()> {
    let name = name(endpoint.container.short());
    let mut inside = Socket::from_fd(inside).map_err(internal)?;
    let bridge = link::find(socket, &endpoint.interface)
        .map_err(internal)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("bridge {} is gone", endpoint.interface)))?;
    make(socket, &name, &bridge, endpoint, netns)?;
    sysctl::quiet_port(&name);
    if !endpoint.ports.is_empty() && sysctl::bridges_filter() {
        allow_hairpin(socket, &name).map_err(internal)?;
    }
    let done = set_up_inside(&mut inside, endpoint)
        .and_then(|()| link::wait_until_it_works(&mut inside, INSIDE).map_err(internal))
        .and_then(|()| link::wait_until_it_works(socket, &name).map_err(internal))
        // A bridge is at work when its first port is.
        .and_then(|()| {
            if bridge.works {
                Ok(())
            } else {
                link::wait_until_it_works(socket, &bridge.name).map_err(internal)
            }
        });
    done.inspect_err(|_| {
        // The first failure is what matters; a link that stays is found by its name.
        let _ = link::delete(socket, &name);
    })
}

/// Makes the pair. A container that starts again may meet its link of the last time, whose namespace is still being taken down.
fn make(
    socket: &mut Socket,
    name: &str,
    bridge: &link::Link,
    endpoint: &Endpoint,
    netns: BorrowedFd<'_>,
) -> Result<()> {
    let mut made = socket.request(pair(name, bridge, endpoint, netns));
    if made.as_ref().is_err_and(|error| error.errno() == Some(libc::EEXIST)) {
        link::delete(socket, name).map_err(internal)?;
        made = socket.request(pair(name, bridge, endpoint, netns));
    }
    made.map_err(|error| match error.errno() {
        Some(libc::EXFULL) => {
            Error::new(Kind::Exhausted, format!("bridge {} is full: it has 1023 ports", bridge.name))
        }
        _ => internal(error),
    })
}

/// The pair as one request: made, on the bridge, up, the peer in its place.
fn pair(name: &str, bridge: &link::Link, endpoint: &Endpoint, netns: BorrowedFd<'_>) -> Messages {
    let mut request = Messages::new();
    let create = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    request.add(format!("RTM_NEWLINK({name}, veth on {})", bridge.name), libc::RTM_NEWLINK, create, |body| {
        link::ifinfo(body, BY_NAME, Up::Yes);
        body.text(libc::IFLA_IFNAME, name);
        body.u32(libc::IFLA_MASTER, bridge.index);
        body.u32(libc::IFLA_MTU, bridge.mtu);
        // One queue: a veth transmits without a lock, and each queue costs objects in sysfs on both ends.
        body.u32(libc::IFLA_NUM_TX_QUEUES, 1);
        body.u32(libc::IFLA_NUM_RX_QUEUES, 1);
        body.nest(libc::IFLA_LINKINFO, |body| {
            body.text(libc::IFLA_INFO_KIND, "veth");
            body.nest(libc::IFLA_INFO_DATA, |body| {
                body.nest(VETH_INFO_PEER, |body| {
                    link::ifinfo(body, BY_NAME, Up::AsIs);
                    body.text(libc::IFLA_IFNAME, INSIDE);
                    body.bytes(libc::IFLA_ADDRESS, &mac_for(endpoint.ip));
                    body.u32(libc::IFLA_MTU, bridge.mtu);
                    body.u32(libc::IFLA_NUM_TX_QUEUES, 1);
                    body.u32(libc::IFLA_NUM_RX_QUEUES, 1);
                    body.u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
                });
            });
        });
    });
    request
}

/// Lets a container reach itself through its own published port. With `br_netfilter` on, the kernel turns the packet round inside the
/// bridge, which otherwise sends nothing back to the port it came from; without it the packet goes through the host and comes back
/// by itself.
fn allow_hairpin(socket: &mut Socket, name: &str) -> tinyd_sys::Result<()> {
    let mut request = Messages::new();
    request.add(format!("RTM_NEWLINK({name}, hairpin)"), libc::RTM_NEWLINK, 0, |body| {
        link::ifinfo(body, BY_NAME, Up::AsIs);
        body.text(libc::IFLA_IFNAME, name);
        body.nest(libc::IFLA_LINKINFO, |body| {
            body.text(libc::IFLA_INFO_SLAVE_KIND, "bridge");
            body.nest(libc::IFLA_INFO_SLAVE_DATA, |body| body.u8(IFLA_BRPORT_MODE, 1));
        });
    });
    socket.request(request)
}

/// Loopback, address, link, default route, in one system call.
fn set_up_inside(inside: &mut Socket, endpoint: &Endpoint) -> Result<()> {
    let eth0 = link::find(inside, INSIDE)
        .map_err(internal)?
        .ok_or_else(|| Error::new(Kind::Internal, "eth0 is gone from the container's namespace"))?;
    let mut request = Messages::new();
    // First, because a kernel without IPv6 refuses it, and that one refusal is fine.
    request.add("RTM_SETLINK(eth0, no IPv6)", libc::RTM_SETLINK, 0, |body| {
        link::ifinfo(body, eth0.index, Up::AsIs);
        link::no_ipv6_address(body);
    });
    up_by_name(&mut request, "lo");
    let create = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let (ip, len) = (endpoint.ip, endpoint.prefix_len);
    request.add(format!("RTM_NEWADDR(eth0, {ip}/{len})"), libc::RTM_NEWADDR, create, |body| {
        link::ifaddr(body, eth0.index, ip, len);
    });
    up_by_name(&mut request, INSIDE);
    let gateway = endpoint.gateway;
    request.add(format!("RTM_NEWROUTE(default via {gateway})"), libc::RTM_NEWROUTE, create, |body| {
        // struct rtmsg: family, destination, source, tos, table, protocol, scope, type, flags.
        let boot = libc::RTPROT_BOOT;
        let (table, scope, kind) = (libc::RT_TABLE_MAIN, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST);
        body.fixed(&[libc::AF_INET as u8, 0, 0, 0, table, boot, scope, kind, 0, 0, 0, 0]);
        body.bytes(libc::RTA_GATEWAY, &gateway.octets());
        body.u32(libc::RTA_OIF, eth0.index);
    });
    inside
        .exchange(request)
        .map_err(internal)?
        .into_iter()
        .skip(1)
        .collect::<Result<_, _>>()
        .map_err(internal)
}

fn up_by_name(request: &mut Messages, name: &str) {
    request.add(format!("RTM_SETLINK({name}, up)"), libc::RTM_SETLINK, 0, |body| {
        link::ifinfo(body, BY_NAME, Up::Yes);
        body.text(libc::IFLA_IFNAME, name);
    });
}

/// Loopback alone.
pub(crate) fn loopback_up(inside: OwnedFd) -> Result<()> {
    let mut request = Messages::new();
    up_by_name(&mut request, "lo");
    Socket::from_fd(inside).and_then(|mut inside| inside.request(request)).map_err(internal)
}
