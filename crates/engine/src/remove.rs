//! `rm`: everything of a container goes, its record last of all that has a name.

use std::{sync::Arc, time::Duration};

use tinyd_core::{ContainerId, Error, Event, Exit, Kind, Result, wire::Request};
use tinyd_image::tree;

use crate::{
    Inner,
    container::{Input, Owner, now, wrong_state},
    files::failed,
    volumes,
};

/// How long a shim may take to kill and take down everything.
const DESTROY_MAX: Duration = Duration::from_secs(10);

/// Removes a container; a running one only when forced.
pub(crate) async fn remove(inner: &Inner, who: &str, force: bool, volumes: bool) -> Result<ContainerId> {
    let handle = inner.registry.find(who)?;
    handle.ask(|reply| Input::Remove { force, volumes, reply }).await?;
    Ok(handle.record.id.clone())
}

impl Owner {
    pub(crate) async fn remove(&mut self, force: bool, volumes: bool) -> Result<()> {
        let state = self.state();
        if state.is_alive() {
            if !force {
                let error = wrong_state(&self.record, "remove", state);
                return Err(Error::new(
                    error.kind(),
                    format!("{}: stop it first, or use force", error.message()),
                ));
            }
            self.destroy().await?;
        }
        self.settle().await?;
        let (inner, record) = (Arc::clone(&self.inner), Arc::clone(&self.record));
        let doomed = crate::blocking(move || {
            let doomed = if volumes || record.config.auto_remove {
                volumes::retire_own(&inner, &record)?
            } else {
                Vec::new()
            };
            discard_files(&inner, &record.id)?;
            Ok(doomed)
        })
        .await?;
        self.vanish();
        crate::blocking(move || volumes::delete(&doomed)).await
    }

    /// Ends a container that is alive, with everything that runs in it.
    async fn destroy(&mut self) -> Result<()> {
        let destroyed = tokio::time::timeout(DESTROY_MAX, self.ask_shim("remove", Request::Destroy)).await;
        match destroyed {
            Ok(Ok(())) => {}
            // The shim has just ended by itself, or is lost; what it left is taken away.
            Ok(Err(error)) if error.kind() == Kind::Unavailable => self.reap().await,
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(Error::new(
                    Kind::Internal,
                    format!(
                        "remove {}: its processes have not ended {} seconds after SIGKILL",
                        self.record.name,
                        DESTROY_MAX.as_secs()
                    ),
                ));
            }
        }
        self.ended_by_us().await;
        Ok(())
    }

    async fn ended_by_us(&mut self) {
        let killed = Exit { code: 137, signal: Some(9), oom: self.view.borrow().oom, at_unix_nanos: now() };
        self.log_refusal(self.detach().await);
        self.log_refusal(self.on(Event::Exited(killed)));
    }
}

/// Takes a container's files away. What is deleted has first lost its name, so a crash in between leaves nothing that looks like a
/// container.
pub(crate) fn discard_files(inner: &Inner, id: &ContainerId) -> Result<()> {
    let (dir, trash) = (inner.layout.container(id), inner.layout.trash());
    let doomed = trash.join(id.as_str());
    match std::fs::rename(&dir, &doomed) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed(format_args!("rename({dir:?})"), source));
        }
        Ok(()) | Err(_) => {}
    }
    // How it ended is in there, so it goes after the record.
    tree::remove(&inner.layout.live_of(id))?;
    tree::remove(&doomed)
}
