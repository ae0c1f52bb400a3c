//! `image inspect` and `image history`.

use tinyd_core::Result;
use tinyd_image::document::CONFIG_MAX_BYTES;

use super::{facts::unix_nanos, familiar, list::summary};
use crate::{
    Inner,
    api::{HistoryStep, ImageDetails, ImageHistory, ImageLayer},
};

/// Everything about one.
pub(crate) fn inspect(inner: &Inner, image: &str) -> Result<ImageDetails> {
    let record = inner.shelf.images.find("IMAGE", image)?;
    let facts = inner.shelf.facts(&record)?;
    let layers = facts.manifest.layers.iter().zip(&facts.config.rootfs.diff_ids).zip(&facts.layer_bytes);
    let layers = layers.map(|((layer, diff_id), size_bytes)| ImageLayer {
        diff_id: diff_id.to_string(),
        digest: layer.digest.to_string(),
        packed_bytes: layer.size,
        size_bytes: *size_bytes,
    });
    Ok(ImageDetails {
        summary: summary(inner, &record),
        manifest: facts.digest.to_string(),
        config: inner.shelf.store().read_blob(&record.id, CONFIG_MAX_BYTES)?,
        added_unix_nanos: record.added_unix_nanos,
        layers: layers.collect(),
    })
}

/// How one was made.
pub(crate) fn history(inner: &Inner, image: &str) -> Result<ImageHistory> {
    let record = inner.shelf.images.find("IMAGE", image)?;
    let facts = inner.shelf.facts(&record)?;
    let mut layers = facts.layer_bytes.iter();
    let mut steps: Vec<HistoryStep> = facts
        .config
        .history
        .iter()
        .map(|step| HistoryStep {
            created_unix_nanos: step.created.as_deref().map_or(0, unix_nanos),
            created_by: step.created_by.clone(),
            comment: step.comment.clone(),
            size_bytes: if step.empty_layer { 0 } else { layers.next().copied().unwrap_or(0) },
        })
        .collect();
    // Tools that put a layer on an image without a word about it.
    steps.extend(layers.map(|size_bytes| HistoryStep {
        created_unix_nanos: 0,
        created_by: String::new(),
        comment: String::new(),
        size_bytes: *size_bytes,
    }));
    steps.reverse();
    Ok(ImageHistory { id: record.id.to_string(), names: familiar(&record.names), steps })
}
