//! `stop` and `restart`: the stop signal, a grace period, SIGKILL. Waits outside the owner, so that others reach the container meanwhile.

use std::{sync::Arc, time::Duration};

use tinyd_core::{ContainerId, Error, Kind, Result, State, config::Signal};
use tokio::time::timeout;

use crate::{Inner, container::Input, handle::Handle, start, top};

/// The grace period unless the container or the user says otherwise, in seconds.
const GRACE_SECS: u32 = 10;
/// How long SIGKILL may take before we look why.
const KILL_GRACE: Duration = Duration::from_millis(400);
/// How long SIGKILL may take in all.
const KILL_MAX: Duration = Duration::from_secs(10);

/// Ends a container; one that has ended is left as it is.
pub(crate) async fn stop(inner: &Arc<Inner>, who: &str, timeout_secs: Option<u32>) -> Result<ContainerId> {
    let handle = inner.registry.find(who)?;
    end(inner, &handle, timeout_secs).await?;
    // The next thing that its user does may be to remove it.
    let _ = timeout(KILL_MAX, handle.settled()).await;
    Ok(handle.record.id.clone())
}

/// Ends a container, then starts it.
pub(crate) async fn restart(inner: &Arc<Inner>, who: &str, timeout_secs: Option<u32>) -> Result<ContainerId> {
    let handle = inner.registry.find(who)?;
    if handle.record.config.auto_remove {
        return Err(Error::new(
            Kind::InvalidArgument,
            format!("cannot restart container {}: it is removed when it ends (--rm)", handle.record.name),
        ));
    }
    end(inner, &handle, timeout_secs).await?;
    start::start_handle(&handle, None).await?;
    Ok(handle.record.id.clone())
}

async fn end(inner: &Arc<Inner>, handle: &Handle, timeout_secs: Option<u32>) -> Result<()> {
    let config = &handle.record.config;
    match handle.view.borrow().state {
        State::Created | State::Stopped { .. } => return Ok(()),
        State::Running { .. } | State::Paused { .. } => {}
    }
    // A frozen process cannot act on a signal.
    ignore_ended(handle.ask(Input::Resume).await)?;
    let signal = config.stop_signal.unwrap_or(Signal::TERM);
    ignore_ended(handle.ask(|reply| Input::Signal(signal.number(), reply)).await)?;
    let grace = timeout_secs.or(config.stop_timeout_secs).unwrap_or(GRACE_SECS);
    if timeout(Duration::from_secs(grace.into()), handle.ended()).await.is_ok() {
        return Ok(());
    }
    ignore_ended(handle.ask(Input::KillAll).await)?;
    dies(inner, handle, "stop").await
}

/// Waits until a container to which SIGKILL was sent has ended.
///
/// # Errors
/// `Internal`, naming the process, when the kernel does not let it end.
pub(crate) async fn dies(inner: &Arc<Inner>, handle: &Handle, verb: &str) -> Result<()> {
    if timeout(KILL_GRACE, handle.ended()).await.is_ok() {
        return Ok(());
    }
    if let Some(unkillable) = top::uninterruptible(inner, handle).await {
        return Err(Error::new(
            Kind::Internal,
            format!(
                "{verb} {}: process {} ({}) is in uninterruptible sleep and cannot be killed until the kernel wakes it",
                handle.record.name,
                unkillable.pid,
                unkillable.command.join(" ")
            ),
        ));
    }
    let ended = timeout(KILL_MAX, handle.ended()).await;
    ended.map(drop).map_err(|_| {
        Error::new(
            Kind::Internal,
            format!(
                "{verb} {}: it has not ended {} seconds after SIGKILL",
                handle.record.name,
                KILL_MAX.as_secs()
            ),
        )
    })
}

/// A container that ends by itself meanwhile is what was wanted.
fn ignore_ended(asked: Result<()>) -> Result<()> {
    match asked {
        Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound | Kind::Unavailable) => Ok(()),
        other => other,
    }
}
