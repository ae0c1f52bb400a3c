//! The gate: the socket in a container's directory at which its first process waits for `start`.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use tinyd_core::{Error, Kind, Result, error::chain};

use super::record::Place;
use crate::launch::kernel;

const GATE: &str = "gate";

impl Place {
    /// Makes the socket at which the first process waits for `start`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn make_gate(&self) -> Result<OwnedFd> {
        let socket = gate_socket()?;
        let near = Near::open(&self.dir).map_err(|error| kernel("open(directory of the gate)", &error))?;
        let address = near.address().map_err(|error| kernel("make the gate's address", &error))?;
        rustix::net::bind(&socket, &address).map_err(|error| kernel("bind(gate)", &error))?;
        rustix::net::listen(&socket, 1).map_err(|error| kernel("listen(gate)", &error))?;
        Ok(socket)
    }

    /// Whether there is a gate. A first process that has come to its program waits no longer, whatever is left of it.
    ///
    /// # Errors
    /// When the container's directory cannot be looked at.
    pub(super) fn has_gate(&self) -> Result<bool> {
        let gate = self.dir.join(GATE);
        gate.try_exists().map_err(|error| kernel(&format!("stat {}", gate.display()), &error))
    }

    /// Connects to the gate.
    ///
    /// # Errors
    /// `WrongState` when nobody waits there.
    pub(super) fn open_gate(&self) -> Result<OwnedFd> {
        let socket = gate_socket()?;
        let near =
            Near::open(&self.dir).map_err(|error| self.no_gate("open(directory of the gate)", &error))?;
        let address = near.address().map_err(|error| self.no_gate("make the gate's address", &error))?;
        rustix::net::connect(&socket, &address).map_err(|error| self.no_gate("connect(gate)", &error))?;
        Ok(socket)
    }

    /// Takes the gate away: a container is started once. Not before the first process has been told to go, or who is killed in between
    /// would leave one that waits for ever.
    pub(super) fn remove_gate(&self) {
        // One that stays says nothing for longer than hooks take.
        let _ = std::fs::remove_file(self.dir.join(GATE));
    }

    fn no_gate(&self, call: &str, error: &dyn std::error::Error) -> Error {
        let message =
            format!("container {:?} is not waiting to be started: {call}: {}", self.id, chain(error));
        Error::new(Kind::WrongState, message)
    }
}

/// A directory reached by descriptor: a socket's address holds no more than 107 bytes, and a path may be longer.
struct Near(OwnedFd);

impl Near {
    fn open(dir: &Path) -> rustix::io::Result<Near> {
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map(Near)
    }

    fn address(&self) -> rustix::io::Result<SocketAddrUnix> {
        SocketAddrUnix::new(format!("/proc/self/fd/{}/{GATE}", self.0.as_fd().as_raw_fd()))
    }
}

fn gate_socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| kernel("socket(gate)", &error))
}
