//! Collects what nobody needs: content that no image, no container and no lease has. Never more than that: when it cannot be read what an
//! image needs, nothing is taken.

use std::{collections::BTreeSet, time::Duration};

use tinyd_core::{Error, Kind, Result};

use crate::{
    assemble,
    config::chain_ids,
    digest::Digest,
    document::{Document, MANIFEST_MAX_BYTES},
    images::Images,
    store::{ImageRecord, Store},
    tree,
};

/// How long the beginning of a blob waits for somebody who goes on with it.
const RESUME_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// What was given back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs that are gone.
    pub blobs: u64,
    /// Unpacked layers that are gone.
    pub layers: u64,
    /// Bytes that this gives back: of blobs, and of layers on disk.
    pub bytes: u64,
}

/// Takes away what is not needed. `held` tells the stacks of layers that containers have below them, whose images may be gone; it is asked
/// while no lease ends, so that whoever makes a container keeps its layers in a lease until `held` tells them.
///
/// # Errors
/// The image whose documents cannot be read, or the call and the errno; what was taken by then is gone.
pub fn collect(images: &Images, held: impl FnOnce() -> BTreeSet<Digest>) -> Result<Collected> {
    let store = images.store();
    let mut collected = Collected::default();
    let mut doomed = Vec::new();
    // The images first: one that arrives has its lease until it is written down.
    images.with_all(|records| {
        if let Some((path, why)) = store.unreadable_images()?.into_iter().next() {
            let message =
                format!("the record {path:?} of an image cannot be read: {why}: see tinyd system check");
            return Err(Error::new(Kind::Internal, message));
        }
        let pinned = store.pinned();
        let held = held();
        let mut needed = needed(store, records)?;
        for manifest in store.begun_pulls(RESUME_WITHIN)? {
            needed.extend(begun(store, &manifest));
        }
        let is_free = |digest: &Digest| !needed.contains(digest) && !pinned.has(digest);
        for digest in store.all_blobs()?.iter().filter(|digest| is_free(digest)) {
            collected.bytes += store.remove_blob(digest)?;
            collected.blobs += 1;
        }
        collected.bytes += store.sweep_stale(RESUME_WITHIN, |digest| pinned.has(digest))?;
        // Those on top first: what is left, if this ends early, are whole stacks.
        let mut layers = store.all_layers()?;
        layers.retain(|layer| is_free(&layer.chain_id) && !held.contains(&layer.chain_id));
        for layer in top_first(layers) {
            doomed.extend(store.retire_layer(&layer)?);
        }
        Ok(())
    })?;
    // They have no name any more: nobody waits for their files to go.
    for dir in doomed {
        collected.bytes += tree::disk_usage(&dir);
        tree::remove(&dir)?;
        collected.layers += 1;
    }
    Ok(collected)
}

/// Every digest that an image needs: of documents, packed layers and stacks.
fn needed(store: &Store, records: &[&ImageRecord]) -> Result<BTreeSet<Digest>> {
    let mut needed = BTreeSet::new();
    for record in records {
        needed.insert(record.id.clone());
        needed.extend(record.indexes.iter().cloned());
        for digest in &record.manifests {
            let (manifest, config) = assemble::read(store, digest)
                .map_err(|error| error.context(format_args!("image {}", record.id.short())))?;
            needed.insert(digest.clone());
            needed.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            needed.extend(chain_ids(&config.rootfs.diff_ids));
        }
    }
    Ok(needed)
}

/// What has come of an image that somebody has begun to pull, as far as its documents are here. They are strangers': what cannot be read
/// needs nothing.
fn begun(store: &Store, manifest: &Digest) -> BTreeSet<Digest> {
    let bytes = store.read_blob(manifest, MANIFEST_MAX_BYTES);
    let Ok(Ok(Document::Manifest(document))) = bytes.map(|bytes| Document::parse(&bytes, "")) else {
        return BTreeSet::new();
    };
    let mut needed = BTreeSet::from([manifest.clone(), document.config.digest]);
    needed.extend(document.layers.into_iter().map(|layer| layer.digest));
    needed
}

fn top_first(mut layers: Vec<crate::store::LayerRecord>) -> Vec<Digest> {
    let mut order = Vec::with_capacity(layers.len());
    while !layers.is_empty() {
        let parents: BTreeSet<Digest> = layers.iter().filter_map(|layer| layer.parent.clone()).collect();
        let before = layers.len();
        layers.retain(|layer| {
            let is_below = parents.contains(&layer.chain_id);
            if !is_below {
                order.push(layer.chain_id.clone());
            }
            is_below
        });
        if layers.len() == before {
            // Damaged records that are each other's parents.
            order.extend(layers.drain(..).map(|layer| layer.chain_id));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assemble::{assemble, tests::image},
        images::Arrival,
        layer::tests::archive,
        store::tests::Scratch,
    };

    struct Made {
        images: Images,
        manifests: [Digest; 2],
        ids: [Digest; 2],
        chain: Vec<Digest>,
    }

    /// Two images that share their lower layer.
    fn two(scratch: &Scratch) -> Made {
        let store = &scratch.store;
        let (images, _) = Images::open(store.clone()).unwrap();
        let archives = [archive("base", b"x"), archive("top", b"y")];
        let lease = store.lease();
        let manifests = [image(store, &archives[..1], "linux"), image(store, &archives, "linux")];
        let made =
            [0, 1].map(|at: usize| assemble(&lease, &manifests[at], &crate::progress::nobody).unwrap());
        for (at, name) in ["base", "top"].into_iter().enumerate() {
            let names = vec![name.parse().unwrap()];
            let (id, manifest) = (made[at].id.clone(), manifests[at].clone());
            images
                .arrive(Arrival { id, manifest, index: None, names, pinned: None, at_unix_nanos: 1 })
                .unwrap();
        }
        let [base, top] = made;
        Made { images, manifests, ids: [base.id, top.id], chain: top.chain }
    }

    fn forget(made: &Made, name: &str) {
        made.images.forget(name, false, |_| None).unwrap();
    }

    #[test]
    fn what_is_shared_stays_and_what_is_not_goes() {
        let scratch = Scratch::new("collect");
        let (store, made) = (&scratch.store, two(&scratch));
        assert_eq!(collect(&made.images, BTreeSet::new).unwrap(), Collected::default());
        forget(&made, "top");
        let collected = collect(&made.images, BTreeSet::new).unwrap();
        // Manifest, configuration and packed layer.
        assert_eq!((collected.blobs, collected.layers), (3, 1));
        assert!(collected.bytes > 0);
        assert!(store.blob_size(&made.ids[1]).is_none() && store.blob_size(&made.manifests[0]).is_some());
        assert!(
            store.layer(&made.chain[0]).unwrap().is_some() && store.layer(&made.chain[1]).unwrap().is_none()
        );
        forget(&made, "base");
        collect(&made.images, BTreeSet::new).unwrap();
        assert!(store.all_blobs().unwrap().is_empty() && store.all_layers().unwrap().is_empty());
    }

    #[test]
    fn a_containers_layers_and_what_is_on_its_way_in_stay() {
        let scratch = Scratch::new("held");
        let (store, made) = (&scratch.store, two(&scratch));
        forget(&made, "top");
        forget(&made, "base");
        let lease = store.lease();
        lease.pin(&made.ids[1]);
        let held: BTreeSet<Digest> = made.chain.iter().cloned().collect();
        assert_eq!(collect(&made.images, || held).unwrap().layers, 0);
        assert_eq!(store.all_blobs().unwrap(), [made.ids[1].clone()]);
        drop(lease);
        assert_eq!(collect(&made.images, BTreeSet::new).unwrap().layers, 2);
        assert!(store.all_blobs().unwrap().is_empty());
    }

    #[test]
    fn what_has_come_of_a_pull_stays_until_it_ends() {
        let scratch = Scratch::new("begun");
        let (store, made) = (&scratch.store, two(&scratch));
        store.begin_pull(&made.manifests[1]).unwrap();
        store.begin_pull(&Digest::of(b"not here yet")).unwrap();
        forget(&made, "top");
        // The packed layer, the configuration and the manifest: unpacking takes no bandwidth.
        let collected = collect(&made.images, BTreeSet::new).unwrap();
        assert_eq!((collected.blobs, collected.layers), (0, 1));
        let names = vec!["top".parse().unwrap()];
        let (id, manifest) = (made.ids[1].clone(), made.manifests[1].clone());
        made.images
            .arrive(Arrival { id, manifest, index: None, names, pinned: None, at_unix_nanos: 1 })
            .unwrap();
        forget(&made, "top");
        assert_eq!(collect(&made.images, BTreeSet::new).unwrap().blobs, 3);
        assert!(store.blob_size(&made.ids[1]).is_none());
    }

    #[test]
    fn what_cannot_be_read_costs_nothing() {
        let scratch = Scratch::new("unreadable");
        let (store, made) = (&scratch.store, two(&scratch));
        forget(&made, "top");
        std::fs::write(store.blob_path(&made.manifests[0]), "{}").unwrap();
        let before = store.all_blobs().unwrap().len();
        let error = collect(&made.images, BTreeSet::new).unwrap_err();
        assert!(error.message().starts_with(&format!("image {}", made.ids[0].short())), "{error}");
        assert_eq!(store.all_blobs().unwrap().len(), before);
    }
}
