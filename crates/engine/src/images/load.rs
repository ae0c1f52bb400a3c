//! `load`: images out of an archive that a client sends. Half an image never has a name; what was whole of a load that failed is collected.

use std::sync::Arc;

use tinyd_core::Result;
use tinyd_image::{
    assemble::assemble,
    images::Arrival,
    load::{self, Loaded},
    platform::Platform,
    progress::{Progress, Step},
    store::Lease,
};
use tokio::sync::mpsc;

use super::{collect_soon, familiar, pipe::Reader};
use crate::{
    Inner,
    api::{ImageArrived, ImageEvent, ImageEvents, ImageProgress, ImageStep, Incoming},
    container::now,
};

/// How many events wait for a client that is slow. Reports of progress beyond them are not told.
pub(super) const EVENTS: usize = 256;

/// Takes in what the client sends. `platform` says which image of an index; "" is this machine's.
pub(crate) fn load(inner: &Arc<Inner>, incoming: Incoming, platform: &str) -> Result<ImageEvents> {
    let platform = if platform.is_empty() { Platform::host() } else { platform.parse()? };
    let (events, receiver) = mpsc::channel(EVENTS);
    let task = Arc::clone(inner);
    inner.tasks.spawn_blocking(move || {
        let mut reader = Reader::new(incoming);
        if let Err(error) = take_in(&task, &mut reader, &platform, &events) {
            collect_soon(&task);
            // One that has gone away is not told.
            let _ = events.blocking_send(Err(error));
        }
    });
    Ok(receiver)
}

fn take_in(
    inner: &Inner,
    reader: &mut Reader,
    platform: &Platform,
    events: &mpsc::Sender<Result<ImageEvent>>,
) -> Result<()> {
    let lease = inner.shelf.store().lease();
    for loaded in load::load(&lease, reader, platform)? {
        let arrived = settle(inner, &lease, loaded, &|progress| report(events, &progress))?;
        let _ = events.blocking_send(Ok(ImageEvent::Arrived(arrived)));
    }
    Ok(())
}

/// Unpacks what is in the store and gives the image its names.
pub(super) fn settle(
    inner: &Inner,
    lease: &Lease,
    loaded: Loaded,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<ImageArrived> {
    let Loaded { manifest, index, names } = loaded;
    let assembled = assemble(lease, &manifest, tell)?;
    let store = inner.shelf.store();
    // Its documents too: a name must not outlive what it stands for.
    store.sync()?;
    store.sync_names()?;
    let called = familiar(&names);
    let arrival = Arrival { id: assembled.id, manifest, index, names, pinned: None, at_unix_nanos: now() };
    let record = inner.shelf.images.arrive(arrival)?;
    Ok(ImageArrived { id: record.id.to_string(), names: called, notes: assembled.notes })
}

/// Tells a client how far a layer is, unless it is too slow to be told.
pub(super) fn report(events: &mpsc::Sender<Result<ImageEvent>>, progress: &Progress) {
    let _ = events.try_send(Ok(ImageEvent::Progress(told(progress))));
}

/// How far a layer is, in the words of clients.
pub(crate) fn told(progress: &Progress) -> ImageProgress {
    let (step, done_bytes, total_bytes) = match progress.step {
        Step::Present => (ImageStep::Present, 0, 0),
        Step::Waiting => (ImageStep::Waiting, 0, 0),
        Step::Downloading { done_bytes, total_bytes } | Step::Uploading { done_bytes, total_bytes } => {
            (ImageStep::Transferring, done_bytes, total_bytes)
        }
        Step::Downloaded | Step::Uploaded => (ImageStep::Transferred, 0, 0),
        Step::Unpacking { done_bytes, total_bytes } => (ImageStep::Unpacking, done_bytes, total_bytes),
        Step::Unpacked => (ImageStep::Unpacked, 0, 0),
    };
    ImageProgress { layer: progress.layer.to_string(), step, done_bytes, total_bytes }
}
