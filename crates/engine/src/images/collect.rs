//! Collecting what nobody needs: after an image went, after a load failed, and when the daemon begins.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use tinyd_core::Result;
use tinyd_image::{
    digest::Digest,
    gc::{self, Collected},
};

use crate::Inner;

/// Collects, and says what that gave back.
pub(crate) fn collect(inner: &Inner) -> Result<Collected> {
    let _one = inner.shelf.collecting.lock().unwrap_or_else(PoisonError::into_inner);
    inner.shelf.forget_facts();
    gc::collect(&inner.shelf.images, || held(inner))
}

/// Collects beside everything else: nobody waits for it, and what goes wrong is told in the log.
pub(crate) fn collect_soon(inner: &Arc<Inner>) {
    let task = Arc::clone(inner);
    inner.tasks.spawn_blocking(move || match collect(&task) {
        Ok(collected) => tracing::debug!(
            blobs = collected.blobs,
            layers = collected.layers,
            bytes = collected.bytes,
            "collected what no image needs"
        ),
        Err(error) => tracing::warn!(%error, "collect what no image needs"),
    });
}

/// The stacks of layers that containers have below them.
fn held(inner: &Inner) -> BTreeSet<Digest> {
    let tables = inner.registry.lock();
    let used = tables.containers.values().filter_map(|handle| handle.record.image.as_ref());
    used.flat_map(|used| used.chain.iter().cloned()).collect()
}
