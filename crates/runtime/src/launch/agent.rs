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
use tinyd_core::{Error, Kind, Result, oci, wire};

use super::{
    kernel,
    sync::{Heard, Phase, Sync},
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

    fn give(&self, pid: i32, listener: &OwnedFd) -> Result<()> {
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

/// Hears whether a process has come to its program. On its way there it may have a filter that somebody has to answer.
///
/// # Errors
/// What kept it from its program, or the agent from its descriptor; the process ends then.
pub(crate) fn hear_of_program(sync: &mut Sync, pid: i32, agent: Option<&Agent>) -> Result<()> {
    while !hear_once(sync, pid, agent)? {}
    Ok(())
}

/// One step of [`hear_of_program`]: whether the program has been executed.
pub(crate) fn hear_once(sync: &mut Sync, pid: i32, agent: Option<&Agent>) -> Result<bool> {
    match (sync.hear()?, agent) {
        (Heard::Closed, _) => Ok(true),
        (Heard::Failed(error), _) => Err(error),
        (Heard::Phase(Phase::Filtered, _, fds), Some(agent)) => {
            let listener = fds.first();
            let none = || Error::new(Kind::Internal, "the filter came without its descriptor");
            agent.give(pid, listener.ok_or_else(none)?)?;
            sync.say(Phase::Watched, b"", &[])?;
            Ok(false)
        }
        (Heard::Phase(phase, ..), _) => {
            Err(Error::new(Kind::Internal, format!("{phase:?} was said instead of closing")))
        }
    }
}

/// The process's side: the filter holds from here on, and nobody answers before this has come back.
pub(crate) fn hand_over(sync: &mut Sync, listener: &OwnedFd) -> Result<()> {
    sync.say(Phase::Filtered, b"", &[listener.as_fd()])?;
    sync.hear_phase(Phase::Watched).map(drop)
}
