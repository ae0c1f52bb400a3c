//! A container as everybody but its owner knows it: its facts, where it is, and how to ask for something.

use std::{sync::Arc, time::Duration};

use tinyd_core::{Error, Exit, Kind, Result, State, health::Health};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    container::{Input, Reply, wrong_state},
    record::{Record, StateRecord},
};

/// How long the news of an end may take, once its supervisor is gone.
const NEWS_MAX: Duration = Duration::from_millis(500);

/// Where a container is, for everybody to see.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Its state.
    pub(crate) state: State,
    /// Whether the kernel has killed one of its processes for memory, in its last run.
    pub(crate) oom: bool,
    /// Its health in this run, as far as this daemon has seen it; `None` when nobody asks.
    pub(crate) health: Option<Health>,
    /// How often it has been started.
    pub(crate) starts: u32,
    /// Whether it has the host's user namespace although its record has a range.
    pub(crate) host_userns: bool,
    /// What starting it could not do and was not asked for by name.
    pub(crate) warnings: Vec<String>,
    /// Whether its published ports are its own now.
    pub(crate) holds_ports: bool,
    /// Whether it has been removed; the last view.
    pub(crate) gone: bool,
}

impl Default for View {
    fn default() -> View {
        View {
            state: State::Created,
            oom: false,
            health: None,
            starts: 0,
            host_userns: false,
            warnings: Vec::new(),
            holds_ports: false,
            gone: false,
        }
    }
}

impl View {
    /// What was last written about a container.
    pub(crate) fn from_record(written: StateRecord) -> View {
        View {
            state: written.state.unwrap_or(State::Created),
            oom: written.oom,
            starts: written.starts,
            host_userns: written.host_userns,
            warnings: written.warnings,
            ..View::default()
        }
    }

    /// What is to be written.
    pub(crate) fn to_record(&self) -> StateRecord {
        StateRecord {
            state: Some(self.state),
            oom: self.oom,
            starts: self.starts,
            host_userns: self.host_userns,
            warnings: self.warnings.clone(),
        }
    }
}

/// How others reach a container.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    /// Its facts.
    pub(crate) record: Arc<Record>,
    /// Where it is.
    pub(crate) view: watch::Receiver<View>,
    /// Its owner's inbox.
    pub(crate) inbox: mpsc::Sender<Input>,
}

impl Handle {
    /// Sends a question and waits for the owner's answer.
    pub(crate) async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Input) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(question(reply)).await.map_err(|_| self.is_gone())?;
        answer.await.map_err(|_| self.is_gone())?
    }

    /// The shim's directory leads to it while the container is alive.
    pub(crate) fn require_alive(&self, verb: &str) -> Result<State> {
        let state = self.view.borrow().state;
        if state.is_alive() { Ok(state) } else { Err(self.wrong_state(verb, state)) }
    }

    /// Waits until the container has ended; `None` when it was removed without.
    pub(crate) async fn ended(&self) -> Option<Exit> {
        let mut view = self.view.clone();
        let ended = view.wait_for(|view| view.gone || matches!(view.state, State::Stopped { .. })).await;
        // The owner is gone when the channel is closed; its last word stays.
        let state = ended.map_or_else(|_| self.view.borrow().state, |view| view.state);
        match state {
            State::Stopped { exit, .. } => Some(exit),
            State::Created | State::Running { .. } | State::Paused { .. } => None,
        }
    }

    /// Waits until everything that follows an end is done: for one that is removed then, its removal.
    pub(crate) async fn settled(&self) {
        let removed = self.record.config.auto_remove;
        let mut view = self.view.clone();
        let _ = view.wait_for(|view| view.gone || !(removed || view.state.is_alive())).await;
    }

    /// A supervisor that answers no more has in most cases ended with its container; then that is what is told.
    pub(crate) async fn ended_meanwhile(&self, verb: &str, error: Error) -> Error {
        match tokio::time::timeout(NEWS_MAX, self.ended()).await {
            Ok(_) => self.wrong_state(verb, self.view.borrow().state),
            Err(_) => error.context(format_args!("{verb} {}", self.record.name)),
        }
    }

    /// A verb that does not fit the state.
    pub(crate) fn wrong_state(&self, verb: &str, state: State) -> Error {
        wrong_state(&self.record, verb, state)
    }

    fn is_gone(&self) -> Error {
        Error::new(Kind::NotFound, format!("container {} has been removed", self.record.name))
    }

    /// A handle with no owner.
    #[cfg(test)]
    pub(crate) fn for_test(record: Record, view: View) -> Handle {
        Handle { record: Arc::new(record), view: watch::channel(view).1, inbox: mpsc::channel(1).0 }
    }
}
