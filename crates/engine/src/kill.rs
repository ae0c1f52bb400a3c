//! `kill`: a signal for the first process.

use std::sync::Arc;

use tinyd_core::{ContainerId, Kind, Result, State, config::Signal, wire::Request};

use crate::{
    Inner,
    container::{Input, Owner},
    stop,
};

/// Sends a signal to a container's first process. SIGKILL has ended it by the time of the answer: nobody who asks next is told
/// that it runs.
pub(crate) async fn kill(inner: &Arc<Inner>, who: &str, signal: Signal) -> Result<ContainerId> {
    let handle = inner.registry.find(who)?;
    match handle.ask(|reply| Input::Signal(signal.number(), reply)).await {
        Err(error) if error.kind() == Kind::Unavailable => {
            return Err(handle.ended_meanwhile("kill", error).await);
        }
        asked => asked?,
    }
    if signal == Signal::KILL {
        stop::dies(inner, &handle, "kill").await?;
    }
    Ok(handle.record.id.clone())
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
