//! `run`: create and start as one. A failure of either leaves nothing.

use std::sync::Arc;

use tinyd_core::{Result, config::ContainerConfig};

use crate::{
    Inner,
    api::{self, AttachOptions, Attachment},
    attach,
    container::Input,
    create::{Purpose, define, sync_record},
    handle::Handle,
    start::{Started, start_handle},
};

/// Makes and starts a container.
pub(crate) async fn run(inner: &Arc<Inner>, config: ContainerConfig) -> Result<api::Created> {
    let (handle, started) = launch(inner, config, None).await?;
    Ok(api::Created { id: handle.record.id.clone(), warnings: started.warnings })
}

/// Makes and starts a container, with its streams joined before its first byte.
pub(crate) async fn run_attached(
    inner: &Arc<Inner>,
    config: ContainerConfig,
    options: AttachOptions,
) -> Result<Attachment> {
    let (handle, started) = launch(inner, config, Some(options)).await?;
    attach::attachment(handle, started)
}

/// In a task of its own: a client that goes away half-way leaves a container that runs, or none.
async fn launch(
    inner: &Arc<Inner>,
    config: ContainerConfig,
    attach: Option<AttachOptions>,
) -> Result<(Handle, Started)> {
    let task_inner = Arc::clone(inner);
    let task = inner.tasks.spawn(async move {
        let handle = define(&task_inner, config, Purpose::Run).await?;
        // The disk is slow: the record gets there while the container is made.
        let (synced, started) =
            tokio::join!(sync_record(&task_inner, &handle), start_handle(&handle, attach));
        match synced.and(started) {
            Ok(started) => Ok((handle, started)),
            Err(error) => {
                if let Err(error) =
                    handle.ask(|reply| Input::Remove { force: true, volumes: true, reply }).await
                {
                    tracing::warn!(%error, "undo: remove the record");
                }
                Err(error)
            }
        }
    });
    task.await.map_err(|_| crate::shutting_down())?
}
