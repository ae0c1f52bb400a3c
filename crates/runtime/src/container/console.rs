//! Standard streams of the command line: handed on to a container, or joined to its terminal.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use tinyd_core::{Error, Result};

use crate::launch::{Stdio, kernel};

/// The caller's own standard streams.
///
/// # Errors
/// EBADF when one of them is closed.
pub(super) fn inherited() -> Result<Stdio> {
    let again = |fd: BorrowedFd<'_>| {
        rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|error| kernel("dup(standard stream)", &error))
    };
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    Ok(Stdio::Fds([again(stdin.as_fd())?, again(stdout.as_fd())?, again(stderr.as_fd())?]))
}

/// Sends a terminal's master side to a unix socket, as runc does.
///
/// # Errors
/// `InvalidArgument` when nobody listens there.
pub(super) fn send_master(path: &Path, master: BorrowedFd<'_>) -> Result<()> {
    send("--console-socket", path, b"/dev/ptmx", master)
}

/// Sends a descriptor to a unix socket, with a word about what it is.
///
/// # Errors
/// `InvalidArgument` of `field` when nobody listens there.
pub(super) fn send(field: &str, path: &Path, word: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let failed = |error: rustix::io::Errno| Error::invalid(field, format!("{}: {error}", path.display()));
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
    let fds = [fd];
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let name = [IoSlice::new(word)];
    rustix::net::sendmsg(&socket, &name, &mut control, SendFlags::NOSIGNAL).map_err(failed)?;
    Ok(())
}

/// Joins the caller's terminal to a container's: bytes both ways and the size, until the container's end has closed.
#[derive(Debug)]
pub(super) struct Proxy {
    master: OwnedFd,
    stdin_open: bool,
}

impl Proxy {
    pub(super) fn new(master: OwnedFd) -> Proxy {
        let proxy = Proxy { master, stdin_open: true };
        proxy.copy_size();
        proxy
    }

    /// Hands the size of the caller's terminal on.
    pub(super) fn copy_size(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdin()) {
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    pub(super) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    pub(super) fn stdin_open(&self) -> bool {
        self.stdin_open
    }

    /// Copies what there is of the container's output; false when it has closed.
    pub(super) fn output(&self) -> bool {
        copy(self.master.as_fd(), std::io::stdout().as_fd())
    }

    /// Copies what there is of the caller's input.
    pub(super) fn input(&mut self) {
        if !copy(std::io::stdin().as_fd(), self.master.as_fd()) {
            // The end of input, as a terminal says it.
            let _ = rustix::io::write(&self.master, &[4]);
            self.stdin_open = false;
        }
    }
}

/// Copies one piece; false at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut piece = [0; 8192];
    let len = match rustix::io::read(from, &mut piece) {
        Ok(0) => return false,
        Ok(len) => len,
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return true,
        Err(_) => return false,
    };
    let mut rest = piece.get(..len).unwrap_or_default();
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(done) => rest = rest.get(done..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}
