//! Interfaces of the host: finding them, and the words that `RTM_*LINK` messages are made of.

use std::time::Duration;

use tinyd_sys::{
    Result,
    netlink::{Body, Reply, Socket},
};

/// Length of `struct ifinfomsg`.
const IFINFO_BYTES: usize = 16;
/// `RTEXT_FILTER_SKIP_STATS`: leave out a kilobyte of counters per link.
const SKIP_STATS: u32 = 1 << 3;
/// `IF_OPER_UP` (linux/if.h).
const OPER_UP: u8 = 6;
/// `IFLA_INET6_ADDR_GEN_MODE`, inside `IFLA_AF_SPEC`, `AF_INET6`.
const INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`: the interface makes no link-local address.
const ADDR_GEN_NONE: u8 = 1;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    pub(crate) master: Option<u32>,
    pub(crate) mtu: u32,
    /// `bridge`, `veth`; empty for hardware.
    pub(crate) kind: String,
    /// Whether frames go through, as opposed to being up and not yet at work.
    pub(crate) works: bool,
}

impl Link {
    fn from_reply(reply: &Reply) -> Option<Link> {
        let index = u32::from_ne_bytes(reply.payload.get(4..8)?.try_into().ok()?);
        let mut link = Link { index, ..Link::default() };
        for attr in reply.attributes(IFINFO_BYTES) {
            match attr.kind {
                libc::IFLA_IFNAME => attr.text()?.clone_into(&mut link.name),
                libc::IFLA_IFALIAS => link.alias = attr.text().map(str::to_owned),
                libc::IFLA_MASTER => link.master = attr.u32(),
                libc::IFLA_MTU => link.mtu = attr.u32()?,
                libc::IFLA_OPERSTATE => link.works = attr.value == [OPER_UP],
                libc::IFLA_LINKINFO => {
                    let kind = attr.inner().find(|attr| attr.kind == libc::IFLA_INFO_KIND)?;
                    kind.text()?.clone_into(&mut link.kind);
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// All of them.
pub(crate) fn all(route: &mut Socket) -> Result<Vec<Link>> {
    let replies = route.dump("RTM_GETLINK", libc::RTM_GETLINK, |body| {
        ifinfo(body, BY_NAME, Up::AsIs);
        body.u32(libc::IFLA_EXT_MASK, SKIP_STATS);
    })?;
    Ok(replies.iter().filter_map(Link::from_reply).collect())
}

/// The one with this name.
pub(crate) fn find(route: &mut Socket, name: &str) -> Result<Option<Link>> {
    let reply = route.get(&format!("RTM_GETLINK({name})"), libc::RTM_GETLINK, |body| {
        ifinfo(body, BY_NAME, Up::AsIs);
        body.text(libc::IFLA_IFNAME, name);
        body.u32(libc::IFLA_EXT_MASK, SKIP_STATS);
    });
    match reply {
        Ok(reply) => Ok(Link::from_reply(&reply)),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How long the kernel may take to notice that a link is up, and how often it is asked. It notices on its own thread; a kernel since 6.8
/// notices at once when it is asked, so that the first look is the last.
const NOTICE_TRIES: u32 = 100;
const NOTICE_PAUSE: Duration = Duration::from_micros(500);

/// Waits until frames go through. A bridge's port drops what comes before that: a container's first packet would be lost, and TCP says it
/// again only after a second. One that does not come up in 50 ms is left to come up later.
pub(crate) fn wait_until_it_works(route: &mut Socket, name: &str) -> Result<()> {
    for _ in 0..NOTICE_TRIES {
        match find(route, name)? {
            Some(link) if !link.works => std::thread::sleep(NOTICE_PAUSE),
            Some(_) | None => break,
        }
    }
    Ok(())
}

/// Deletes the one with this name; that there is none is fine.
pub(crate) fn delete(route: &mut Socket, name: &str) -> Result<()> {
    let mut request = tinyd_sys::netlink::Messages::new();
    request.add(format!("RTM_DELLINK({name})"), libc::RTM_DELLINK, 0, |body| {
        ifinfo(body, BY_NAME, Up::AsIs);
        body.text(libc::IFLA_IFNAME, name);
    });
    match route.request(request) {
        Err(error) if error.errno() != Some(libc::ENODEV) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a request brings an interface up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Up {
    /// Leaves it as it is.
    AsIs,
    /// Brings it up.
    Yes,
}

/// Which interface: by the name attribute that follows.
pub(crate) const BY_NAME: u32 = 0;

/// A `struct ifinfomsg` of the interface with this index, or [`BY_NAME`].
pub(crate) fn ifinfo(body: &mut Body<'_>, index: u32, up: Up) {
    let mut fixed = [0; IFINFO_BYTES];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    if up == Up::Yes {
        let flag = (libc::IFF_UP as u32).to_ne_bytes();
        fixed[8..12].copy_from_slice(&flag);
        fixed[12..16].copy_from_slice(&flag);
    }
    body.fixed(&fixed);
}

/// A `struct ifaddrmsg` for an IPv4 address, with the address as its own and as its peer's.
pub(crate) fn ifaddr(body: &mut Body<'_>, index: u32, ip: std::net::Ipv4Addr, prefix_len: u8) {
    let [a, b, c, d] = index.to_ne_bytes();
    body.fixed(&[libc::AF_INET as u8, prefix_len, 0, libc::RT_SCOPE_UNIVERSE, a, b, c, d]);
    body.bytes(libc::IFA_LOCAL, &ip.octets());
    body.bytes(libc::IFA_ADDRESS, &ip.octets());
}

/// Says that the interface makes no IPv6 address of its own.
pub(crate) fn no_ipv6_address(body: &mut Body<'_>) {
    body.nest(libc::IFLA_AF_SPEC, |body| {
        body.nest(libc::AF_INET6 as u16, |body| body.u8(INET6_ADDR_GEN_MODE, ADDR_GEN_NONE));
    });
}
