//! A process's last steps to its program, as its caller follows them. The conversation ends with the program, which inherits none of
//! it, and with the process: which of the two it was the kernel is asked.

use tinyd_core::{Error, Kind, Result};

use super::{
    agent::Agent,
    sync::{Heard, Phase, Sync},
};
use crate::stat::Stat;

/// A process that is about to be let go, or has been.
#[derive(Debug)]
pub(crate) struct Way {
    /// As the host counts.
    pid: i32,
    /// Who answers its filter.
    agent: Option<Agent>,
    /// Whether it has hooks to run on the way.
    has_hooks: bool,
    /// What the kernel says of it; none when that says nothing of the program.
    stat: Option<Stat>,
}

impl Way {
    /// That of process `pid`, which nobody has let go yet, or which goes alone; nobody has reaped it.
    ///
    /// # Errors
    /// When the kernel does not tell of it.
    pub(crate) fn of(pid: i32, agent: Option<Agent>, has_hooks: bool) -> Result<Way> {
        Ok(Way { pid, agent, has_hooks, stat: Stat::open(pid)? })
    }

    /// The same where `pid` stays what it is, and the program is its child's: see `init::one`.
    pub(crate) fn of_child(pid: i32, agent: Option<Agent>, has_hooks: bool) -> Way {
        Way { pid, agent, has_hooks, stat: None }
    }

    /// Hears whether it has come to its program.
    ///
    /// # Errors
    /// What kept it from its program, or the agent from its descriptor; the process ends then.
    pub(crate) fn hear(&self, sync: &mut Sync) -> Result<()> {
        while !self.hear_once(sync)? {}
        Ok(())
    }

    /// One step of [`Way::hear`]: whether the program has been executed.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn hear_once(&self, sync: &mut Sync) -> Result<bool> {
        match (sync.hear()?, &self.agent) {
            (Heard::Closed, _) => self.require_executed(sync).map(|()| true),
            (Heard::Failed(error), _) => Err(error),
            (Heard::Phase(Phase::Onward, ..), _) => Ok(false),
            (Heard::Phase(Phase::Filtered, _, fds), Some(agent)) => {
                let listener = fds.first();
                let none = || Error::new(Kind::Internal, "the filter came without its descriptor");
                agent.give(self.pid, listener.ok_or_else(none)?)?;
                sync.say(Phase::Watched, b"", &[])?;
                Ok(false)
            }
            (Heard::Phase(phase, ..), _) => {
                Err(Error::new(Kind::Internal, format!("{phase:?} was said instead of closing")))
            }
        }
    }

    /// A process that has ended says nothing either. One that somebody else has reaped by now is taken to have come to its program, which
    /// may be as short as that: what is left to be killed after its hooks are the few calls before execve(2).
    fn require_executed(&self, sync: &Sync) -> Result<()> {
        let ended = |place: &str| Err(Error::new(Kind::Internal, format!("the process ended {place}")));
        if self.has_hooks && !sync.has_come_to(Phase::Onward) {
            return ended("in its hooks");
        }
        match self.stat.as_ref().map(Stat::read).transpose()?.flatten() {
            Some(said) if !said.executed => ended("before its program was executed"),
            Some(_) | None => Ok(()),
        }
    }
}
