//! `kill`: a signal for the first process.

use tinyd_core::{ContainerId, Kind, Result, State, config::Signal, wire::Request};

use crate::{
    Inner,
    container::{Input, Owner},
};

/// Sends a signal to a container's first process.
pub(crate) async fn kill(inner: &Inner, who: &str, signal: Signal) -> Result<ContainerId> {
    let handle = inner.registry.find(who)?;
    match handle.ask(|reply| Input::Signal(signal.number(), reply)).await {
        Err(error) if error.kind() == Kind::Unavailable => Err(handle.ended_meanwhile("kill", error).await),
        other => other.map(|()| handle.record.id.clone()),
    }
}

impl Owner {
    pub(crate) async fn signal(&mut self, number: i32) -> Result<()> {
        // A frozen process does not die of its SIGKILL before it is thawed, which the shim does when it kills all.
        let is_frozen = matches!(self.state(), State::Paused { .. });
        let request = match number {
            9 if is_frozen => Request::KillAll,
            number => Request::Signal { number },
        };
        self.ask_shim("kill", request).await
    }

    pub(crate) async fn kill_all(&mut self) -> Result<()> {
        self.ask_shim("kill", Request::KillAll).await
    }
}
