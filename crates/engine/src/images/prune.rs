//! `image prune`: images that nobody needs go, and everything that is then nobody's.

use tinyd_core::{Kind, Result};

use super::{collect::collect, facts::Facts, remove};
use crate::{Inner, api::ImagesPruned};

/// Removes images without a name, or `all` that no container has.
pub(crate) fn prune(inner: &Inner, all: bool) -> Result<ImagesPruned> {
    prune_if(inner, all, |_| true)
}

/// The same, of those that `is_chosen` only, which is asked with what their documents say; `None` when they cannot be read.
pub(crate) fn prune_if(
    inner: &Inner,
    all: bool,
    is_chosen: impl Fn(Option<&Facts>) -> bool,
) -> Result<ImagesPruned> {
    let mut pruned = ImagesPruned::default();
    for record in inner.shelf.images.list() {
        let is_wanted = record.names.is_empty() || all;
        if !is_wanted || remove::user(inner, &record).is_some() {
            continue;
        }
        if !is_chosen(inner.shelf.facts(&record).ok().as_deref()) {
            continue;
        }
        let mut called: Vec<String> = record.names.iter().map(ToString::to_string).collect();
        if called.is_empty() {
            called.push(record.id.to_string());
        }
        for image in called {
            match remove::forget(inner, &image, false) {
                Ok(removed) => {
                    pruned.untagged.extend(removed.untagged);
                    pruned.removed.extend(removed.removed);
                }
                // Somebody has taken it meanwhile.
                Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
    }
    pruned.freed_bytes = collect(inner)?.bytes;
    Ok(pruned)
}
