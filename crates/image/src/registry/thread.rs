//! Threads for work that blocks: writing, unpacking. Their number is that of the transfers; the daemon's own pool is left to its requests.

use std::{future::Future, io, thread};

use tinyd_core::{Error, Kind, Result};
use tokio::sync::oneshot;

use crate::failed;

/// Does something on a thread of its own.
pub(super) fn detached(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let begun = thread::Builder::new().name(name.to_owned()).spawn(work);
    begun.map(drop).map_err(|source: io::Error| failed(format_args!("begin a thread {name}"), source))
}

/// Does something on a thread of its own, which begins now. Who does not wait any more does not end it.
pub(super) fn run<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send {
    let (to, from) = oneshot::channel();
    let begun = detached(name, move || {
        // Nobody waits: nobody is told.
        let _ = to.send(work());
    });
    async move {
        begun?;
        let gone = |_| Error::new(Kind::Internal, format!("a thread {name} has ended"));
        from.await.map_err(gone)?
    }
}
