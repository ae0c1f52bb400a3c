//! Gives network devices of the host to a container: moved into its namespace, named, with the addresses that they had, and up. When the
//! namespace ends the kernel takes them back, or takes away those that are only its own.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use tinyd_core::{Error, Kind, Result, error::chain};
use tinyd_sys::{
    netlink::{Body, Family, Messages, Reply, Socket},
    ns::{self, flag},
};

use super::{kernel, step};
use crate::plan::netdev::NetDevice;

/// `struct ifinfomsg`.
const IFINFO_BYTES: usize = 16;
/// `struct ifaddrmsg`.
const IFADDR_BYTES: usize = 8;

/// Devices that a container has been given, for as long as it can still fail to come about.
#[derive(Debug)]
pub(super) struct Given {
    devices: Vec<(NetDevice, bool)>,
    namespace: OwnedFd,
}

/// Moves devices into a network namespace.
///
/// # Errors
/// The device and the kernel's refusal; those that have been moved are back then.
pub(super) fn give(devices: &[NetDevice], namespace: OwnedFd) -> Result<Given> {
    let mut outside = Socket::open(Family::Route).map_err(step("linux.netDevices"))?;
    let mut inside = socket_inside(&namespace)?;
    let mut given = Given { devices: Vec::with_capacity(devices.len()), namespace };
    for device in devices {
        let (from, to) = ((&mut outside, device.outside.as_str()), (&mut inside, device.inside.as_str()));
        let was_up = move_link(from, to, given.namespace.as_fd(), None);
        match was_up {
            Ok(was_up) => given.devices.push((device.clone(), was_up)),
            Err(error) => {
                given.take_back();
                let error = Error::new(Kind::Internal, chain(&error));
                return Err(error.of_field(format!("linux.netDevices[{:?}]", device.outside)));
            }
        }
    }
    Ok(given)
}

impl Given {
    /// Moves them back to the host, with their names. What is only a part of a network goes with it otherwise, and others get a name of the
    /// kernel's.
    pub(super) fn take_back(&self) {
        // The error that is told is the one that led here.
        let _ = self.try_take_back();
    }

    fn try_take_back(&self) -> Result<()> {
        let own = own_namespace()?;
        let mut outside = Socket::open(Family::Route).map_err(step("linux.netDevices"))?;
        let mut inside = socket_inside(&self.namespace)?;
        for (device, was_up) in &self.devices {
            let (from, to) = ((&mut inside, device.inside.as_str()), (&mut outside, device.outside.as_str()));
            let _ = move_link(from, to, own.as_fd(), Some(*was_up));
        }
        Ok(())
    }
}

fn own_namespace() -> Result<OwnedFd> {
    rustix::fs::open(c"/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| kernel("open(/proc/self/ns/net)", &error))
}

/// A socket that was made in another namespace; this process comes back to its own.
fn socket_inside(namespace: &OwnedFd) -> Result<Socket> {
    let own = own_namespace()?;
    let same = |a: &OwnedFd, b: &OwnedFd| {
        let ids = [a, b].map(|fd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)));
        matches!(ids, [Ok(a), Ok(b)] if a == b)
    };
    if same(&own, namespace) {
        return Err(Error::invalid("linux.netDevices", "the network namespace is the runtime's own"));
    }
    ns::join(namespace.as_fd(), flag::NET).map_err(step("join the network namespace"))?;
    let socket = Socket::open(Family::Route);
    ns::join(own.as_fd(), flag::NET).map_err(step("leave the network namespace"))?;
    socket.map_err(step("linux.netDevices"))
}

/// Moves one device from a namespace to another, under another name, with its addresses; whether it was up. It is up
/// afterwards unless something else is said.
fn move_link(
    (from, name): (&mut Socket, &str),
    (to, new_name): (&mut Socket, &str),
    namespace: BorrowedFd<'_>,
    up: Option<bool>,
) -> tinyd_sys::Result<bool> {
    let (index, was_up) = index_of(from, name)?;
    let addresses = addresses_of(from, index)?;
    let mut request = Messages::new();
    request.add(format!("RTM_SETLINK({name}, to another network)"), libc::RTM_SETLINK, 0, |body| {
        ifinfo(body, index, false);
        body.u32(libc::IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        body.text(libc::IFLA_IFNAME, new_name);
    });
    from.request(request)?;
    // Its number may have been taken there.
    let (index, _) = index_of(to, new_name)?;
    let up = up.unwrap_or(true);
    if !up && addresses.is_empty() {
        return Ok(was_up);
    }
    let mut request = Messages::new();
    if up {
        request.add(format!("RTM_SETLINK({new_name}, up)"), libc::RTM_SETLINK, 0, |body| {
            ifinfo(body, index, true);
        });
    }
    for address in &addresses {
        let create = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        request.add(format!("RTM_NEWADDR({new_name})"), libc::RTM_NEWADDR, create, |body| {
            address.write(body, index);
        });
    }
    to.request(request).map(|()| was_up)
}

fn ifinfo(body: &mut Body<'_>, index: u32, up: bool) {
    let up = if up { libc::IFF_UP.cast_unsigned() } else { 0 };
    let mut head = [0; IFINFO_BYTES];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&up.to_ne_bytes());
    head[12..].copy_from_slice(&up.to_ne_bytes());
    body.fixed(&head);
}

/// A device's number, and whether it is up.
fn index_of(socket: &mut Socket, name: &str) -> tinyd_sys::Result<(u32, bool)> {
    let link = socket.get(&format!("RTM_GETLINK({name})"), libc::RTM_GETLINK, |body| {
        ifinfo(body, 0, false);
        body.text(libc::IFLA_IFNAME, name);
    })?;
    let is_up = number_at(&link.payload, 8) & libc::IFF_UP.cast_unsigned() != 0;
    Ok((number_at(&link.payload, 4), is_up))
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// An address as the kernel tells it and takes it.
struct Address {
    head: [u8; IFADDR_BYTES],
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Of those that are the device's for good and are seen from elsewhere.
    fn of(reply: &Reply, index: u32) -> Option<Address> {
        let head: [u8; IFADDR_BYTES] = reply.payload.get(..IFADDR_BYTES)?.try_into().ok()?;
        let flags = reply.attributes(IFADDR_BYTES).find(|one| one.kind == libc::IFA_FLAGS);
        let flags = flags.and_then(tinyd_sys::netlink::Attribute::u32).unwrap_or_else(|| head[2].into());
        let global = head[3] == libc::RT_SCOPE_UNIVERSE;
        if number_at(&head, 4) != index || !global || flags & libc::IFA_F_PERMANENT == 0 {
            return None;
        }
        // The label is the old name's, and the lifetime is for ever.
        let kept = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST, libc::IFA_FLAGS];
        let attributes = reply.attributes(IFADDR_BYTES).filter(|one| kept.contains(&one.kind));
        Some(Address { head, attributes: attributes.map(|one| (one.kind, one.value.to_vec())).collect() })
    }

    fn write(&self, body: &mut Body<'_>, index: u32) {
        let mut head = self.head;
        head[4..].copy_from_slice(&index.to_ne_bytes());
        body.fixed(&head);
        self.attributes.iter().for_each(|(kind, value)| body.bytes(*kind, value));
    }
}

fn addresses_of(socket: &mut Socket, index: u32) -> tinyd_sys::Result<Vec<Address>> {
    let all = socket.dump("RTM_GETADDR", libc::RTM_GETADDR, |body| body.fixed(&[0; IFADDR_BYTES]))?;
    Ok(all.iter().filter_map(|reply| Address::of(reply, index)).collect())
}
