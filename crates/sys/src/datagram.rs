//! Datagrams, and which of the host's addresses they were sent to: an answer has to come from there.

#![expect(unsafe_code, reason = "recvmsg and sendmsg with IP_PKTINFO have no safe wrapper")]

use std::{
    io,
    mem::{MaybeUninit, zeroed},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use crate::{Error, Result};

/// Which of the host's addresses a datagram was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    ip: IpAddr,
    /// The interface, which a link-local address has no meaning without; 0 otherwise.
    interface: u32,
}

/// A datagram that has come.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Its length in bytes.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// Where to; `None` when [`want_local`] was not called, or it was sent to a group.
    pub to: Option<Local>,
}

/// Room for one control message, aligned as its header.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Has the kernel tell [`Arrived::to`].
///
/// # Errors
/// ENOPROTOOPT for a socket that is not UDP.
pub fn want_local(socket: BorrowedFd<'_>, ipv6: bool) -> Result<()> {
    let (level, option) = match ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer and the length are of a local integer, which is what both options take.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), len) };
    if done == -1 { Err(Error::last("setsockopt(PKTINFO)")) } else { Ok(()) }
}

/// Whether a socket is an IPv6 one.
///
/// # Errors
/// ENOTSOCK.
pub fn is_ipv6(socket: BorrowedFd<'_>) -> Result<bool> {
    let family = rustix::net::sockopt::socket_domain(socket);
    family
        .map(|family| family == rustix::net::AddressFamily::INET6)
        .map_err(|error| Error::new("getsockopt(SO_DOMAIN)", error))
}

/// Receives one datagram without waiting; what does not fit into `buf` is cut off. `None` when none is there.
///
/// # Errors
/// What an earlier answer met: ECONNREFUSED and the like.
pub fn receive(socket: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Option<Arrived>> {
    // SAFETY: a sockaddr_storage is integers, for which zero is a value.
    let mut name: libc::sockaddr_storage = unsafe { zeroed() };
    let mut control = Control([0; 64]);
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut header = header(&mut name, &mut iov, &mut control);
    // SAFETY: `header` points to the locals above and to `buf`, with their sizes; all live through the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let Ok(len) = usize::try_from(len) else {
        return none_if_nothing("recvmsg");
    };
    let to = local(&header);
    Ok(address(&name).map(|from| Arrived { len, from, to }))
}

/// Sends one datagram to `to`, from the address that a datagram had come to. A full queue drops it, as datagrams may be.
///
/// # Errors
/// EMSGSIZE, ENETUNREACH and the like.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], to: SocketAddr, from: Option<Local>) -> Result<()> {
    let (mut name, len) = storage(to);
    let mut control = Control([0; 64]);
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = header(&mut name, &mut iov, &mut control);
    header.msg_namelen = len;
    match from {
        Some(from) => say_local(&mut header, from),
        None => header.msg_controllen = 0,
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `header` points to the locals above and to `bytes`, which sendmsg only reads; all live through the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    if sent == -1 { none_if_nothing::<()>("sendmsg").map(drop) } else { Ok(()) }
}

fn none_if_nothing<T>(call: &str) -> Result<Option<T>> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => Ok(None),
        _ => Err(Error::new(call, error)),
    }
}

fn header(name: &mut libc::sockaddr_storage, iov: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: a msghdr is pointers and integers, for which zero is a value; it has private padding on some targets.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = ptr::from_mut(name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = iov;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    header
}

/// The address that the control message tells, if there is one and it can be answered from.
fn local(header: &libc::msghdr) -> Option<Local> {
    // SAFETY: recvmsg has filled the control buffer and its length in; the pointer is into that buffer or null.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: CMSG_FIRSTHDR returns null or a whole header inside the buffer, which is aligned for it.
    let message = unsafe { first.as_ref() }?;
    // SAFETY: `first` is a header inside the buffer, and its data comes right behind.
    let data = unsafe { libc::CMSG_DATA(first) };
    match (message.cmsg_level, message.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: a message of this type holds an in_pktinfo; read without demanding its alignment.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
            Some(Local { ip: ip.into(), interface: 0 })
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: as above, an in6_pktinfo.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            let interface = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
            (!ip.is_multicast()).then_some(Local { ip: ip.into(), interface: interface as u32 })
        }
        _ => None,
    }
}

/// Puts the control message for an answer into the header's buffer.
fn say_local(header: &mut libc::msghdr, from: Local) {
    match from.ip {
        IpAddr::V4(ip) => {
            let address = libc::in_addr { s_addr: u32::from(ip).to_be() };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: address,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(ip) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                ipi6_ifindex: from.interface as _,
            };
            put(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

fn put<T>(header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, info: T) {
    let size = size_of::<T>() as libc::c_uint;
    // SAFETY: arithmetic on a size.
    let space = unsafe { libc::CMSG_SPACE(size) } as usize;
    assert!(space <= size_of::<Control>());
    header.msg_controllen = space as _;
    // SAFETY: the header's control buffer is a `Control`: large enough (just checked), aligned, zeroed.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: arithmetic on a size.
    let len = unsafe { libc::CMSG_LEN(size) };
    // SAFETY: `first` is not null, since the buffer holds a header, and nobody else refers to it.
    let message = unsafe { &mut *first };
    message.cmsg_level = level;
    message.cmsg_type = kind;
    message.cmsg_len = len as _;
    // SAFETY: `first` is a header inside the buffer.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: behind the header there is room for a `T`, as CMSG_SPACE has counted; written without demanding its alignment.
    unsafe { data.cast::<T>().write_unaligned(info) };
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in, which is smaller and less aligned than the storage.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, a sockaddr_in6.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn storage(to: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let len = match to {
        SocketAddr::V4(to) => {
            let short = libc::sockaddr_in {
                sin_family: libc::AF_INET as _,
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_in is smaller and less aligned than the storage it is written to.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in>().write(short) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(to) => {
            let long = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as _,
                sin6_port: to.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: to.ip().octets() },
                sin6_scope_id: to.scope_id(),
            };
            // SAFETY: as above, a sockaddr_in6.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in6>().write(long) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: zeroed, then partly written: every byte is initialised, and all are integers.
    (unsafe { name.assume_init() }, len as libc::socklen_t)
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

    use super::*;

    fn answered(server: &str, asked: &str) {
        let server = UdpSocket::bind(server).unwrap();
        let ipv6 = is_ipv6(server.as_fd()).unwrap();
        want_local(server.as_fd(), ipv6).unwrap();
        let port = server.local_addr().unwrap().port();
        let asked: SocketAddr = SocketAddr::new(asked.parse().unwrap(), port);
        let client = UdpSocket::bind(if ipv6 { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"ask", asked).unwrap();

        let mut buf = [0; 10];
        let arrived = receive(server.as_fd(), &mut buf).unwrap().unwrap();
        assert_eq!(&buf[..arrived.len], b"ask");
        assert!(receive(server.as_fd(), &mut buf).unwrap().is_none());
        send(server.as_fd(), b"answer", arrived.from, arrived.to).unwrap();
        let (len, from) = client.recv_from(&mut buf).unwrap();
        assert_eq!((&buf[..len], from), (&b"answer"[..], asked));
    }

    #[test]
    fn an_answer_comes_from_where_was_asked() {
        answered("0.0.0.0:0", "127.0.0.77");
        answered("[::]:0", "::1");
    }
}
