//! Sockets: bytes with descriptors, who is at the other end, non-blocking connections.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
    },
};

use crate::{Ask, Error, Result};

/// The most descriptors that the kernel takes with one message.
pub const FDS_MAX: usize = 253;

const FDS_SPACE: usize = rustix::cmsg_space!(ScmRights(FDS_MAX));

/// Sends as much as fits of `bytes`, without waiting, with `fds` beside the first byte. How much went; `None` when nothing fits.
///
/// # Errors
/// EPIPE and ECONNRESET when the other end is gone, EINVAL for more than [`FDS_MAX`] descriptors, ETOOMANYREFS.
pub fn send(socket: BorrowedFd<'_>, bytes: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> Result<Option<usize>> {
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > FDS_MAX {
        return Err(Error::new(format_args!("sendmsg with {} descriptors", fds.len()), Errno::INVAL));
    }
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    none_if_full(rustix::net::sendmsg(socket, bytes, &mut control, flags), "sendmsg")
}

/// Receives what is there into `buf`, without waiting; descriptors are added to `fds`. How much came, 0 at the end; `None` when
/// nothing is there.
///
/// # Errors
/// ECONNRESET and the like.
pub fn receive(socket: BorrowedFd<'_>, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<Option<usize>> {
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buf)], &mut control, flags);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            fds.extend(came);
        }
    }
    none_if_full(got.map(|message| message.bytes), "recvmsg")
}

fn none_if_full(done: rustix::io::Result<usize>, call: &str) -> Result<Option<usize>> {
    match done {
        Ok(len) => Ok(Some(len)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(Error::new(call, error)),
    }
}

/// Reads what is there into `buf`, without waiting when the descriptor is non-blocking. How much, 0 at the end; `None` when nothing is there.
/// A terminal whose other side is closed is at its end.
///
/// # Errors
/// What the kernel said.
pub fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Option<usize>> {
    match rustix::io::read(fd, buf) {
        Err(Errno::IO) => Ok(Some(0)),
        done => none_if_full(done, "read"),
    }
}

/// Writes as much as fits. How much; `None` when nothing fits.
///
/// # Errors
/// EPIPE when nobody reads any more.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<Option<usize>> {
    none_if_full(rustix::io::write(fd, bytes), "write")
}

/// Takes a waiting connection: non-blocking, close-on-exec. `None` when none waits (any more).
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM: wait a little before the next attempt, the connection stays in the queue.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => Ok(None),
        Err(error) => Err(Error::new("accept4", error)),
    }
}

/// The user that connected a unix socket.
///
/// # Errors
/// EINVAL for a socket of another kind.
pub fn peer_uid(socket: BorrowedFd<'_>) -> Result<u32> {
    let peer = sockopt::socket_peercred(socket).ask("getsockopt(SO_PEERCRED)")?;
    Ok(peer.uid.as_raw())
}

/// A non-blocking TCP socket that has begun to connect; it is writable when that has come to an end.
///
/// # Errors
/// EMFILE and the like, and refusals that are known at once.
pub fn connect_tcp(target: SocketAddr) -> Result<OwnedFd> {
    let socket = new_socket(target, SocketType::STREAM)?;
    // Small answers are not to wait for more: the container's program has decided what to send when.
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(Error::new(format_args!("connect({target})"), error)),
    }
}

/// A non-blocking UDP socket that talks to `target` alone.
///
/// # Errors
/// EMFILE and the like, ENETUNREACH.
pub fn connect_udp(target: SocketAddr) -> Result<OwnedFd> {
    let socket = new_socket(target, SocketType::DGRAM)?;
    rustix::net::connect(&socket, &target).ask(format_args!("connect({target}, udp)"))?;
    Ok(socket)
}

fn new_socket(target: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).ask("socket")
}

/// How a connection attempt ended.
///
/// # Errors
/// ECONNREFUSED and the like.
pub fn connected(socket: BorrowedFd<'_>) -> Result<()> {
    sockopt::socket_error(socket).ask("getsockopt(SO_ERROR)")?.ask("connect")
}

/// Says that no more bytes will be sent.
///
/// # Errors
/// ENOTCONN when the connection is gone.
pub fn shutdown_write(socket: BorrowedFd<'_>) -> Result<()> {
    rustix::net::shutdown(socket, Shutdown::Write).ask("shutdown(SHUT_WR)")
}

/// Has the connection reset when it is closed, so that the other end learns that this was no orderly end.
pub fn reset_on_close(socket: BorrowedFd<'_>) {
    // Refused only for a socket that is gone.
    let _ = sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}

/// Sends one datagram where the socket is connected to. A full queue drops it, as datagrams may be.
///
/// # Errors
/// EMSGSIZE, ECONNREFUSED, ENETUNREACH and the like.
pub fn send_datagram(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match rustix::net::send(socket, bytes, flags) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(()),
        Err(error) => Err(Error::new("send", error)),
    }
}

/// A copy of a descriptor, close-on-exec.
///
/// # Errors
/// EMFILE.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3).ask("fcntl(F_DUPFD_CLOEXEC)")
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn descriptors_travel_with_bytes() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let sent = send(a.as_fd(), &[IoSlice::new(b"ab"), IoSlice::new(b"c")], &[writer.as_fd()]);
        assert_eq!(sent.unwrap(), Some(3));
        drop(writer);

        let (mut buf, mut fds) = ([0; 8], Vec::new());
        assert_eq!(receive(b.as_fd(), &mut buf, &mut fds).unwrap(), Some(3));
        assert_eq!((&buf[..3], fds.len()), (&b"abc"[..], 1));
        assert_eq!(write(fds[0].as_fd(), b"through").unwrap(), Some(7));
        fds.clear();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");

        assert_eq!(receive(b.as_fd(), &mut buf, &mut fds).unwrap(), None);
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut buf, &mut fds).unwrap(), Some(0));
    }

    #[test]
    fn the_peer_of_a_pair_is_this_user() {
        let (a, _b) = UnixStream::pair().unwrap();
        assert_eq!(peer_uid(a.as_fd()).unwrap(), rustix::process::geteuid().as_raw());
    }

    #[test]
    fn a_refused_connection_says_so() {
        // A port that was just free and is not listened on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = connect_tcp(port).and_then(|socket| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            connected(socket.as_fd())
        });
        assert!(refused.is_err());
    }
}
