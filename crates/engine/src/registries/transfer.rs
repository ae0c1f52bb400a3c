//! What pull and push have in common: a task that tells a client what happens, and that ends when nobody listens any more.

use std::{future::Future, sync::Arc};

use tinyd_core::Result;
use tinyd_image::registry::{Listener, Notice};
use tokio::sync::mpsc;

use crate::{
    Inner,
    api::{RegistryPaused, TransferEvent, TransferEvents},
    images,
};

/// How many events wait for a client that is slow. Reports of progress beyond them are not told.
const EVENTS: usize = 256;

/// Tells a client what happens.
#[derive(Clone, Debug)]
pub(super) struct Teller(mpsc::Sender<Result<TransferEvent>>);

impl Teller {
    /// Something that has to be told. A client that has gone away is not.
    pub(super) async fn tell(&self, event: TransferEvent) {
        let _ = self.0.send(Ok(event)).await;
    }

    /// Who is told of pauses.
    pub(super) fn notice(&self) -> Notice {
        let events = self.0.clone();
        Notice::new(move |pause| {
            let paused = RegistryPaused { why: pause.why.to_string(), length: pause.length };
            let _ = events.try_send(Ok(TransferEvent::Paused(paused)));
        })
    }

    /// Who is told how far layers are.
    pub(super) fn listener(&self) -> Listener {
        let events = self.0.clone();
        Listener::new(move |progress| {
            let _ = events.try_send(Ok(TransferEvent::Progress(images::told(&progress))));
        })
    }
}

/// Does the work in a task of its own, until it is done, the client goes away, or the daemon ends.
pub(super) fn transfer<F>(inner: &Arc<Inner>, work: impl FnOnce(Teller) -> F) -> TransferEvents
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (events, receiver) = mpsc::channel(EVENTS);
    let work = work(Teller(events.clone()));
    let closing = inner.closing.clone();
    inner.tasks.spawn(async move {
        tokio::select! {
            biased;
            () = events.closed() => {}
            () = closing.cancelled() => {}
            done = work => {
                if let Err(error) = done {
                    let _ = events.send(Err(error)).await;
                }
            }
        }
    });
    receiver
}
