//! The host's side of published ports: sockets that hold the port while the container lives.

use std::os::fd::OwnedFd;

use tinyd_core::{Result, config::Port};

/// A socket of the host that holds a published port. A TCP one listens.
#[derive(Debug)]
pub struct Listener {
    /// The port that it holds.
    pub port: Port,
    /// The socket.
    pub fd: OwnedFd,
}

/// Takes the ports on the host, IPv4 and (where the host has it) IPv6. The sockets go to the shim, which forwards what reaches them:
/// connections from the host's loopback and over IPv6. While they are open nobody else can have the port.
///
/// # Errors
/// `AlreadyExists` of `-p` naming the process that holds the port; `InvalidArgument` for an address that is not the host's.
#[expect(clippy::todo, clippy::missing_panics_doc, unused_variables, reason = "the door before the rooms")]
pub fn reserve(ports: &[Port]) -> Result<Vec<Listener>> {
    todo!()
}
