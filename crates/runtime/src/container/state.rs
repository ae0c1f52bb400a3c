//! `state`: where a container is, asked of the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tinyd_core::{Error, Kind, Result, oci::Status};

use super::{
    first::Init,
    list::{Listed, listed, users},
    record::{Place, Record},
    root::Root,
};

/// What was found.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) record: Record,
    pub(super) status: Status,
    /// Its first process, while there is one.
    pub(super) pidfd: Option<OwnedFd>,
}

impl Seen {
    /// Its first process, where it is there to be joined: what is being created has the host's root still.
    pub(super) fn first(&self) -> Option<(BorrowedFd<'_>, Init)> {
        let is_made = self.status != Status::Creating;
        self.pidfd.as_ref().map(AsFd::as_fd).zip(self.record.process).filter(|_| is_made)
    }

    /// The word for its state.
    pub(super) fn word(&self) -> &'static str {
        self.status.word()
    }
}

impl Seen {
    /// A refusal: in runc's words, which its callers look for, and then the container's.
    pub(super) fn refused(&self, id: &str, words: &str) -> Error {
        Error::new(Kind::WrongState, format!("{words}: container {id} is {}", self.word()))
    }

    /// A failure as it is told: that of a process that has ended meanwhile comes of that.
    pub(super) fn told(&self, id: &str, error: Error) -> Error {
        let ended = self.record.process.is_none_or(|first| matches!(first.open(), Ok(None)));
        if ended && matches!(error.kind(), Kind::Internal | Kind::NotFound | Kind::WrongState) {
            let message = format!("container not running: container {id} has ended: {error}");
            return Error::new(Kind::WrongState, message);
        }
        error
    }
}

/// Asks what there is to ask: is there a process, is it that one, has it come so far, is it frozen, does it wait. One that waits and is frozen is paused: nobody
/// could start it.
pub(super) fn observe(place: &Place) -> Result<Seen> {
    let record = place.read()?;
    let alive = record.process.as_ref().map(Init::open).transpose()?.flatten();
    let status = match (record.process, &alive) {
        (None, _) => Status::Creating,
        (Some(_), None) => Status::Stopped,
        (Some(_), Some(first)) if record.ahead && !first.executed => Status::Creating,
        (Some(_), Some(first)) => {
            let frozen = record.open_cgroup().and_then(|cgroup| cgroup.frozen()).unwrap_or(false);
            match (frozen, !first.executed && place.has_gate()?) {
                (true, _) => Status::Paused,
                (false, true) => Status::Created,
                (false, false) => Status::Running,
            }
        }
    };
    Ok(Seen { record, status, pidfd: alive.map(|first| first.pidfd) })
}

/// The state of a container.
///
/// # Errors
/// `NotFound`.
pub fn state(root: &Root, id: &str) -> Result<Listed> {
    let place = root.place(id)?;
    listed(&place, observe(&place)?, &users(), true)
}

/// The processes of a container, as the host counts.
///
/// # Errors
/// `NotFound`.
pub fn processes(root: &Root, id: &str) -> Result<Vec<i32>> {
    let record = root.place(id)?.read()?;
    record.open_cgroup()?.required()?.pids()
}
