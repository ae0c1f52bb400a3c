//! Hands the descriptor of a filter that asks (`SCMP_ACT_NOTIFY`) to the agent that answers: over its socket, with the state of the
//! process, as the specification has it (config-linux.md, The Container Process State).

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use serde::Serialize;
use tinyd_core::{Error, Result, oci, wire};

use super::{
    kernel,
    sync::{Phase, Sync},
};

/// Whoever answers.
#[derive(Clone, Debug)]
pub struct Agent {
    path: String,
    metadata: String,
    state: oci::ContainerState,
}

/// What the agent is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a oci::ContainerState,
}

impl Agent {
    /// The agent of a profile, when it names one.
    pub(crate) fn of(seccomp: &wire::Seccomp, state: oci::ContainerState) -> Option<Agent> {
        let wire::Seccomp::Profile(profile) = seccomp else { return None };
        let path = profile.listener_path.clone().filter(|path| !path.is_empty())?;
        Some(Agent { path, metadata: profile.listener_metadata.clone().unwrap_or_default(), state })
    }

    /// Hands it over. `pid` is whose filter it is.
    ///
    /// # Errors
    /// `InvalidArgument` when nobody listens at the path.
    pub(super) fn give(&self, pid: i32, listener: &OwnedFd) -> Result<()> {
        let first = self.state.pid.filter(|pid| *pid != 0).unwrap_or(pid);
        let state = oci::ContainerState { pid: Some(first), ..self.state.clone() };
        let told = ProcessState {
            oci_version: oci::OCI_VERSION,
            fds: ["seccompFd"],
            pid,
            metadata: &self.metadata,
            state: &state,
        };
        let told = serde_json::to_vec(&told).map_err(|error| kernel("write the process's state", &error))?;
        send(&self.path, &told, listener)
            .map_err(|error| Error::invalid("linux.seccomp.listenerPath", format!("{}: {error}", self.path)))
    }
}

fn send(path: &str, told: &[u8], listener: &OwnedFd) -> rustix::io::Result<()> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let fds = [listener.as_fd()];
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = rustix::net::sendmsg(&socket, &[IoSlice::new(told)], &mut control, SendFlags::NOSIGNAL)?;
    let mut rest = told.get(sent..).unwrap_or_default();
    while !rest.is_empty() {
        let sent = rustix::net::send(&socket, rest, SendFlags::NOSIGNAL)?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// The process's side: the filter holds from here on, and nobody answers before this has come back.
pub(crate) fn hand_over(sync: &mut Sync, listener: &OwnedFd) -> Result<()> {
    sync.say(Phase::Filtered, b"", &[listener.as_fd()])?;
    sync.hear_phase(Phase::Watched).map(drop)
}
