//! `system df`: what is kept on disk, and how much of that nobody needs.

use std::collections::{BTreeMap, BTreeSet};

use tinyd_core::Result;
use tinyd_image::{digest::Digest, tree};

use crate::{
    Inner,
    api::{ContainerUsage, DiskUsage, ImageUsage, VolumeUsage},
    images, list, volumes,
};

/// Looks at everything.
pub(crate) fn df(inner: &Inner) -> Result<DiskUsage> {
    let (images, images_bytes, images_reclaimable_bytes) = images(inner);
    Ok(DiskUsage {
        images,
        images_bytes,
        images_reclaimable_bytes,
        containers: containers(inner),
        volumes: volumes::list(inner)?
            .into_iter()
            .map(|volume| VolumeUsage { size_bytes: tree::disk_usage(&volume.mountpoint), volume })
            .collect(),
    })
}

fn containers(inner: &Inner) -> Vec<ContainerUsage> {
    let usage = |summary: crate::api::ContainerSummary| {
        let size_bytes = tree::disk_usage(&inner.layout.container(&summary.id));
        ContainerUsage { summary, size_bytes }
    };
    list::list(inner, true).into_iter().map(usage).collect()
}

/// What an image has: digests of documents, packed layers and stacks, with their bytes.
type Parts = BTreeMap<Digest, u64>;

/// Each image, the bytes of all together, and of those the bytes that would go with the images that no container has.
fn images(inner: &Inner) -> (Vec<ImageUsage>, u64, u64) {
    let shelf = &inner.shelf;
    let parts: BTreeMap<String, Parts> = shelf
        .images
        .list()
        .iter()
        // One whose documents are damaged is told by `system check`.
        .filter_map(|record| {
            let facts = shelf.facts(record).ok()?;
            Some((record.id.to_string(), parts(inner, &facts)))
        })
        .collect();
    let summaries = images::list(inner);
    let mut holders: BTreeMap<&Digest, u32> = BTreeMap::new();
    for digest in parts.values().flat_map(BTreeMap::keys) {
        *holders.entry(digest).or_default() += 1;
    }
    let kept = kept(inner, &parts, &summaries);
    let mut all: Parts = parts.values().flatten().map(|(digest, bytes)| (digest.clone(), *bytes)).collect();
    // Layers of images that are gone are the containers'.
    for chain_id in &kept {
        if !all.contains_key(chain_id)
            && let Ok(Some(layer)) = shelf.store().layer(chain_id)
        {
            all.insert(chain_id.clone(), layer.bytes);
        }
    }
    let reclaimable = all.iter().filter(|(digest, _)| !kept.contains(*digest)).map(|(_, bytes)| bytes).sum();
    let usages = summaries.into_iter().map(|summary| {
        let own = parts.get(&summary.id);
        let sum = |is_shared: bool| {
            let chosen = own
                .into_iter()
                .flatten()
                .filter(|(digest, _)| (holders.get(digest).copied().unwrap_or(0) > 1) == is_shared);
            chosen.map(|(_, bytes)| bytes).sum()
        };
        ImageUsage { shared_bytes: sum(true), unique_bytes: sum(false), summary }
    });
    (usages.collect(), all.values().sum(), reclaimable)
}

fn parts(inner: &Inner, facts: &images::Facts) -> Parts {
    let store = inner.shelf.store();
    let manifest = &facts.manifest;
    let packed = std::iter::once(&manifest.config)
        .chain(&manifest.layers)
        .map(|part| &part.digest)
        .chain([&facts.digest])
        .map(|digest| (digest.clone(), store.blob_size(digest).unwrap_or(0)));
    let unpacked = facts.chain.iter().cloned().zip(facts.layer_bytes.iter().copied());
    let mut parts: Parts = packed.collect();
    // The lowest stack has the digest of its archive: packed and unpacked may be under one name.
    for (chain_id, bytes) in unpacked {
        *parts.entry(chain_id).or_default() += bytes;
    }
    parts
}

/// What would stay if every image went that no container has.
fn kept(
    inner: &Inner,
    parts: &BTreeMap<String, Parts>,
    summaries: &[crate::api::ImageSummary],
) -> BTreeSet<Digest> {
    let used = summaries.iter().filter(|summary| summary.containers > 0);
    let mut kept: BTreeSet<Digest> =
        used.filter_map(|summary| parts.get(&summary.id)).flat_map(|parts| parts.keys().cloned()).collect();
    let tables = inner.registry.lock();
    let records = tables.containers.values().filter_map(|handle| handle.record.image.as_ref());
    kept.extend(records.flat_map(|used| used.chain.iter().cloned()));
    kept
}
