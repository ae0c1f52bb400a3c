//! One more process in the container, at a client's request. Until it has executed its program, which the container's root can delay,
//! everything else goes on.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use tinyd_core::{
    Error, Kind, Result,
    wire::{ExecPlan, Message},
};
use tinyd_sys::{
    poll::{Interest, Poll, Watch},
    process,
};

use super::{
    Shim,
    token::{Of, token},
};
use crate::{
    exec::{PATIENCE, Starting},
    launch::Stdio,
};

/// A process on its way to its program. Who forgets it kills it.
#[derive(Debug)]
pub(super) struct Pending {
    /// None once it has come there.
    starting: Option<Starting>,
    /// When it should have.
    until: Instant,
    /// Its exit code, when it has ended before its start was noticed.
    ended: Option<u8>,
}

impl Pending {
    /// Watches it on behalf of client `index`.
    fn watch(poll: &Poll, starting: Starting, index: usize) -> Result<Pending> {
        let pending = Pending { until: Instant::now() + PATIENCE, ended: None, starting: Some(starting) };
        let mut watch = Watch::new(token(Of::Exec, index));
        let of = pending.starting.as_ref().map(AsFd::as_fd);
        of.map_or(Ok(()), |fd| poll.set(&mut watch, fd, Interest::READ))
            .map_err(|error| Error::internal(&error))?;
        Ok(pending)
    }

    /// When it should have come to its program.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Takes the news of an end, if it is this process's. A program that is short has ended before anyone looks.
    pub(super) fn ended(&mut self, pid: i32, code: u8) {
        if self.starting.as_ref().is_some_and(|starting| starting.pid() == pid) {
            self.ended = Some(code);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(starting) = self.starting.take() {
            starting.kill();
        }
    }
}

impl Shim {
    /// Sends a process on its way. The answer comes when it has executed its program.
    pub(super) fn exec(&mut self, index: usize, mut plan: ExecPlan) {
        plan.process.oom_score_adj = plan.process.oom_score_adj.or(self.oom_score_adj);
        let begun = self
            .alive("exec in")
            .and_then(|container| container.require_running("exec in"))
            .and_then(|()| self.exec_stdio(index, &plan))
            .and_then(|stdio| self.alive("exec in")?.exec(&plan, stdio))
            .and_then(|starting| Pending::watch(&self.poll, starting, index));
        match begun {
            Ok(pending) => {
                if let Some(client) = self.clients.get_mut(index) {
                    client.starting = Some(pending);
                }
            }
            Err(error) => self.say(index, &Message::Failed(error)),
        }
    }

    fn exec_stdio(&mut self, index: usize, plan: &ExecPlan) -> Result<Stdio> {
        if self.clients.get_mut(index).is_some_and(|client| client.exec.is_some()) {
            return Err(Error::new(Kind::WrongState, "this connection's process has not ended yet"));
        }
        if plan.process.terminal {
            return Ok(Stdio::Terminal);
        }
        let fds = self.take_fds(index, 3)?;
        let fds: [OwnedFd; 3] =
            fds.try_into().map_err(|_| Error::new(Kind::Internal, "take three descriptors"))?;
        Ok(Stdio::Fds(fds))
    }

    /// Hears from the process of client `index`.
    pub(super) fn hear_exec(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        let Some(mut pending) = client.starting.take() else { return };
        let heard = pending.starting.as_mut().map_or(Ok(true), Starting::hear);
        match heard {
            Ok(false) => client.starting = Some(pending),
            Ok(true) => {
                let Some(exec) = pending.starting.take().map(Starting::started) else { return };
                let terminal = exec.terminal.into_iter().collect();
                client.say_with(&Message::ExecStarted { pid: exec.pid }, terminal);
                match pending.ended {
                    Some(code) => client.say(&Message::ExecExited { code }),
                    None => client.exec = Some(exec.pid),
                }
            }
            Err(error) => client.say(&Message::Failed(error)),
        }
    }

    /// Sends a signal to the process of client `index`. It is this process's child, and its number its own until it is reaped here.
    pub(super) fn signal_exec(&mut self, index: usize, number: i32) {
        let pid = self.clients.get_mut(index).and_then(|client| client.exec);
        if let Some(pid) = pid.filter(|_| (1..=64).contains(&number)) {
            // One that has ended takes no more.
            let _ = process::kill(pid, number);
        }
    }

    /// Gives up those that should have come to their programs by now.
    pub(super) fn give_up_execs(&mut self, now: Instant) {
        for (_, client) in self.clients.iter_mut() {
            if client.starting.take_if(|pending| pending.until <= now).is_some() {
                let secs = PATIENCE.as_secs();
                let message = format!("the process did not get to its program in {secs} seconds");
                client.say(&Message::Failed(Error::new(Kind::Internal, message)));
            }
        }
    }
}
