//! `images`: a line for each.

use std::collections::BTreeMap;

use tinyd_image::{digest::Digest, store::ImageRecord};

use super::familiar;
use crate::{Inner, api::ImageSummary};

/// All images, the newest first.
pub(crate) fn list(inner: &Inner) -> Vec<ImageSummary> {
    let users = users(inner);
    let mut all: Vec<ImageSummary> =
        inner.shelf.images.list().iter().map(|record| line(inner, record, &users)).collect();
    all.sort_by(|a, b| b.created_unix_nanos.cmp(&a.created_unix_nanos).then_with(|| a.id.cmp(&b.id)));
    all
}

/// One of them.
pub(super) fn summary(inner: &Inner, record: &ImageRecord) -> ImageSummary {
    line(inner, record, &users(inner))
}

fn line(inner: &Inner, record: &ImageRecord, users: &BTreeMap<Digest, u32>) -> ImageSummary {
    let named = ImageSummary {
        id: record.id.to_string(),
        names: familiar(&record.names),
        digests: familiar(&record.pinned),
        containers: users.get(&record.id).copied().unwrap_or(0),
        ..ImageSummary::default()
    };
    match inner.shelf.facts(record) {
        Ok(facts) => ImageSummary {
            created_unix_nanos: facts.created_unix_nanos,
            size_bytes: facts.layer_bytes.iter().sum(),
            packed_bytes: facts.manifest.layers.iter().map(|layer| layer.size).sum(),
            labels: facts.config.config.labels.clone(),
            platform: facts.config.platform.to_string(),
            ..named
        },
        Err(error) => {
            // The others are listed, and this one can still be removed.
            tracing::warn!(%error, "read the documents of an image");
            named
        }
    }
}

/// How many containers are made from each image.
fn users(inner: &Inner) -> BTreeMap<Digest, u32> {
    let mut users = BTreeMap::new();
    for handle in inner.registry.lock().containers.values() {
        if let Some(used) = &handle.record.image {
            *users.entry(used.id.clone()).or_insert(0) += 1;
        }
    }
    users
}
