//! `rmi`: a name goes, and with its last one the image.

use std::sync::Arc;

use tinyd_core::Result;
use tinyd_image::{images::User, store::ImageRecord};

use super::{collect_soon, familiar};
use crate::{Inner, api::ImageRemoved, blocking};

/// Takes a name away, or an image by its id.
pub(crate) async fn remove(inner: &Arc<Inner>, image: String, force: bool) -> Result<ImageRemoved> {
    let task = Arc::clone(inner);
    let removed = blocking(move || forget(&task, &image, force)).await?;
    if removed.removed.is_some() {
        collect_soon(inner);
    }
    Ok(removed)
}

/// The same, without what follows: its content is still to be collected.
pub(super) fn forget(inner: &Inner, image: &str, force: bool) -> Result<ImageRemoved> {
    let forgotten = inner.shelf.images.forget(image, force, |record| user(inner, record))?;
    Ok(ImageRemoved {
        untagged: familiar(&forgotten.untagged),
        removed: forgotten.removed.map(|record| record.id.to_string()),
    })
}

/// A container that is made from the image; one that runs, if there is one.
pub(super) fn user(inner: &Inner, record: &ImageRecord) -> Option<User> {
    let tables = inner.registry.lock();
    let made_from = tables
        .containers
        .values()
        .filter(|handle| handle.record.image.as_ref().is_some_and(|used| used.id == record.id));
    made_from
        .map(|handle| User {
            container: handle.record.id.short().to_owned(),
            is_running: handle.view.borrow().state.is_alive(),
        })
        .max_by_key(|user| user.is_running)
}
