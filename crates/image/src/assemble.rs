//! From documents and packed layers that are in the store to an image: what is not unpacked yet is, several layers at once, brought to
//! disk with one call, and only then named.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Read,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use tinyd_core::{Error, Kind, Result};

use crate::{
    config::{ImageConfig, chain_ids},
    digest::Digest,
    document::{CONFIG_MAX_BYTES, Document, MANIFEST_MAX_BYTES, Manifest},
    failed,
    layer::{self, Applied, Settled},
    progress::{Progress, Reported, Step, Tell},
    store::{Lease, Store},
};

/// The most layers that are unpacked at once: each takes a CPU.
const AT_ONCE_MAX: usize = 4;

/// An image whose content is whole and on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// Its configuration's digest: its id.
    pub id: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// The stacks of its layers, the lowest first.
    pub chain: Vec<Digest>,
    /// What was left out of its layers, one line each.
    pub notes: Vec<String>,
}

/// Reads an image's documents from the store.
///
/// # Errors
/// `NotFound` when one is not there, `InvalidArgument` when one breaks a rule, `Unsupported` when it is not for Linux.
pub fn read(store: &Store, manifest: &Digest) -> Result<(Manifest, ImageConfig)> {
    let bytes = store.read_blob(manifest, MANIFEST_MAX_BYTES)?;
    let Document::Manifest(manifest) = Document::parse(&bytes, "")? else {
        return Err(Error::new(
            Kind::InvalidArgument,
            format!("{manifest} is an index where an image's manifest should be"),
        ));
    };
    let config = ImageConfig::parse(&store.read_blob(&manifest.config.digest, CONFIG_MAX_BYTES)?, &manifest)?;
    if !matches!(config.platform.os.as_str(), "linux" | "") {
        return Err(Error::new(
            Kind::Unsupported,
            format!("the image is for {}: tinyd runs those for Linux", config.platform),
        ));
    }
    Ok((manifest, config))
}

/// Makes the image of a manifest ready to run. Its documents and packed layers are in the store, and `lease` has them; the unpacked layers
/// are put into it. How far it is goes to `tell`.
///
/// # Errors
/// As [`read`], and as the layers' unpacking. What was unpacked before the failure is taken away again.
pub fn assemble(lease: &Lease, manifest: &Digest, tell: Tell<'_>) -> Result<Assembled> {
    let plan = Plan::new(lease, manifest, tell)?;
    let applied = apply_all(lease.store(), &plan, tell)?;
    plan.finish(lease.store(), applied)
}

/// What there is to do for an image whose documents are in the store.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) manifest: Manifest,
    pub(crate) config: ImageConfig,
    chain: Vec<Digest>,
    /// The layers that are not unpacked yet, by their places.
    pub(crate) missing: Vec<usize>,
}

impl Plan {
    /// Puts the unpacked layers into the lease, and looks which of them are there.
    pub(crate) fn new(lease: &Lease, manifest: &Digest, tell: Tell<'_>) -> Result<Plan> {
        let store = lease.store();
        let (manifest, config) = read(store, manifest)?;
        let chain = chain_ids(&config.rootfs.diff_ids);
        let mut missing = Vec::new();
        for (at, chain_id) in chain.iter().enumerate() {
            lease.pin(chain_id);
            match store.layer(chain_id)? {
                None => missing.push(at),
                Some(_) => tell(Progress { layer: manifest.layers[at].digest.clone(), step: Step::Present }),
            }
        }
        Ok(Plan { manifest, config, chain, missing })
    }

    /// Unpacks the layer at a place out of what `packed` reads. It may be called for several at once.
    pub(crate) fn apply(
        &self,
        store: &Store,
        at: usize,
        packed: impl Read,
        tell: Tell<'_>,
    ) -> Result<Applied> {
        let layer = &self.manifest.layers[at];
        let packed = Reported::new(packed, &layer.digest, layer.size, tell);
        // What its bytes say: media types of old tools are wrong about it.
        let unread = |source| failed(format_args!("read {}", layer.digest), source);
        let (compression, mut packed) = layer::sniff(packed).map_err(unread)?;
        let diff_id = &self.config.rootfs.diff_ids[at];
        let applied = layer::apply(store, &mut packed, compression, diff_id, &layer::rules(layer.size))?;
        tell(Progress { layer: layer.digest.clone(), step: Step::Unpacked });
        Ok(applied)
    }

    /// Names the layers that were missing, once they are on disk.
    pub(crate) fn finish(&self, store: &Store, mut applied: BTreeMap<usize, Applied>) -> Result<Assembled> {
        let mut notes = Vec::new();
        // Where each layer's files are by now, the nearest of those below first.
        let mut lower: VecDeque<PathBuf> = VecDeque::with_capacity(self.chain.len());
        let mut settled = Vec::with_capacity(applied.len());
        for (at, chain_id) in self.chain.iter().enumerate() {
            let files = match applied.remove(&at) {
                None => store.layer_files(chain_id),
                Some(own) => {
                    let parent = at.checked_sub(1).and_then(|below| self.chain.get(below));
                    let layer = own.settle(chain_id, parent, lower.make_contiguous())?;
                    notes.extend(layer.notes.iter().map(|note| format!("layer {}: {note}", at + 1)));
                    let files = layer.files();
                    settled.push(layer);
                    files
                }
            };
            lower.push_front(files);
        }
        publish(store, settled)?;
        let (id, config, chain) =
            (self.manifest.config.digest.clone(), self.config.clone(), self.chain.clone());
        Ok(Assembled { id, config, chain, notes })
    }
}

/// Unpacks what is missing, on as many threads as the machine has CPUs, by place.
fn apply_all(store: &Store, plan: &Plan, tell: Tell<'_>) -> Result<BTreeMap<usize, Applied>> {
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let queue = Mutex::new(plan.missing.iter().copied());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut done = Vec::new();
        while let Some(at) = next() {
            let blob = store.open_blob(&plan.manifest.layers[at].digest);
            match blob.and_then(|blob| plan.apply(store, at, blob, tell)) {
                Ok(applied) => done.push((at, applied)),
                Err(error) => {
                    // What the others have not begun is not begun.
                    while next().is_some() {}
                    return Err(error.context(format_args!("layer {}", at + 1)));
                }
            }
        }
        Ok(done)
    };
    let mut all = BTreeMap::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..plan.missing.len().min(cpus).min(AT_ONCE_MAX)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let gone = |_| Error::new(Kind::Internal, "a thread that unpacked a layer has ended");
            all.extend(worker.join().map_err(gone)??);
        }
        Ok(all)
    })
}

/// Everything reaches the disk before anything has a name, and a layer has its name before those above it.
fn publish(store: &Store, settled: Vec<Settled>) -> Result<()> {
    if settled.is_empty() {
        return Ok(());
    }
    store.sync()?;
    for layer in settled {
        layer.publish()?;
    }
    store.sync_names()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        document::media,
        layer::tests::{archive, gzip},
        progress::nobody,
        store::tests::Scratch,
    };

    /// An image of these archives, every second of which is packed; its manifest.
    pub(crate) fn image(store: &Store, archives: &[Vec<u8>], os: &str) -> Digest {
        let diff_ids: Vec<Digest> = archives.iter().map(|tar| Digest::of(tar)).collect();
        let config = json!({ "os": os, "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let point = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": store.put_blob(bytes).unwrap(), "size": bytes.len() });
        let layer = |(at, tar): (usize, &Vec<u8>)| match at % 2 {
            0 => point(media::OCI_LAYER, tar),
            _ => point(media::OCI_LAYER_GZIP, &gzip(tar)),
        };
        let layers: Vec<Value> = archives.iter().enumerate().map(layer).collect();
        let config = point(media::OCI_CONFIG, config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        store.put_blob(manifest.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_image_of_many_layers_is_put_together_once() {
        let scratch = Scratch::new("assemble");
        let store = &scratch.store;
        let archives: Vec<_> = (0..9).map(|number| archive(&format!("d/{number}"), b"x")).collect();
        let manifest = image(store, &archives, "linux");
        let made = assemble(&store.lease(), &manifest, &nobody).unwrap();
        assert_eq!((made.chain.len(), made.notes.len()), (9, 0));
        for (at, chain_id) in made.chain.iter().enumerate() {
            assert_eq!(fs::read(store.layer_files(chain_id).join(format!("d/{at}"))).unwrap(), b"x");
        }
        // What is there is neither unpacked again nor asked for.
        for layer in read(store, &manifest).unwrap().0.layers {
            store.remove_blob(&layer.digest).unwrap();
        }
        assert_eq!(assemble(&store.lease(), &manifest, &nobody).unwrap(), made);
        // The lower half is shared with an image that has only that.
        let half = assemble(&store.lease(), &image(store, &archives[..4], "linux"), &nobody).unwrap();
        assert_eq!(half.chain, made.chain[..4]);
    }

    #[test]
    fn one_bad_layer_leaves_none() {
        let scratch = Scratch::new("bad-layer");
        let store = &scratch.store;
        let mut archives: Vec<_> = (0..5).map(|number| archive(&number.to_string(), b"x")).collect();
        archives[3] = archive("../out", b"x");
        let error = assemble(&store.lease(), &image(store, &archives, "linux"), &nobody).unwrap_err();
        assert!(error.message().starts_with("layer 4: "), "{error}");
        assert!(store.all_layers().unwrap().is_empty());
        assert_eq!(
            fs::read_dir(store.layer_files(&Digest::of(b"")).parent().unwrap().parent().unwrap())
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn what_is_for_another_system_or_no_image_is_refused() {
        let scratch = Scratch::new("other-system");
        let store = &scratch.store;
        let error = assemble(&store.lease(), &image(store, &[], "windows"), &nobody).unwrap_err();
        assert!(error.message().contains("windows/amd64"), "{error}");
        let index = store.put_blob(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        assert!(assemble(&store.lease(), &index, &nobody).unwrap_err().message().contains("is an index"));
        assert_eq!(
            assemble(&store.lease(), &Digest::of(b"nowhere"), &nobody).unwrap_err().kind(),
            Kind::NotFound
        );
    }
}
