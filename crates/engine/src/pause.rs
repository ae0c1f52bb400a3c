//! `pause` and `unpause`.

use tinyd_core::{ContainerId, Event, Kind, Result, State, wire::Request};

use crate::{
    Inner,
    container::{Input, Owner, wrong_state},
};

/// Freezes a container.
pub(crate) async fn pause(inner: &Inner, who: &str) -> Result<ContainerId> {
    let handle = inner.registry.find(who)?;
    match handle.ask(Input::Pause).await {
        Err(error) if error.kind() == Kind::Unavailable => Err(handle.ended_meanwhile("pause", error).await),
        other => other.map(|()| handle.record.id.clone()),
    }
}

/// Thaws a container.
pub(crate) async fn unpause(inner: &Inner, who: &str) -> Result<ContainerId> {
    let handle = inner.registry.find(who)?;
    match handle.ask(Input::Resume).await {
        Err(error) if error.kind() == Kind::Unavailable => {
            Err(handle.ended_meanwhile("unpause", error).await)
        }
        other => other.map(|()| handle.record.id.clone()),
    }
}

impl Owner {
    pub(crate) async fn pause(&mut self) -> Result<()> {
        match self.state() {
            State::Running { .. } => {}
            state @ (State::Created | State::Paused { .. } | State::Stopped { .. }) => {
                return Err(wrong_state(&self.record, "pause", state));
            }
        }
        self.ask_shim("pause", Request::Pause).await?;
        self.on(Event::Paused)?;
        self.save_live()
    }

    pub(crate) async fn resume(&mut self) -> Result<()> {
        match self.state() {
            State::Paused { .. } => {}
            state @ (State::Created | State::Running { .. } | State::Stopped { .. }) => {
                return Err(wrong_state(&self.record, "unpause", state));
            }
        }
        self.ask_shim("unpause", Request::Resume).await?;
        self.on(Event::Resumed)?;
        self.save_live()
    }
}
