//! `wait`: answers when a container has ended.

use tinyd_core::{ContainerId, Error, Exit, Kind, Result};

use crate::Inner;

/// Waits for the end of a container.
pub(crate) async fn wait(inner: &Inner, who: &str) -> Result<(ContainerId, Exit)> {
    let handle = inner.registry.find(who)?;
    let exit = handle.ended().await.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("container {} was removed before it ran", handle.record.name))
    })?;
    Ok((handle.record.id.clone(), exit))
}
