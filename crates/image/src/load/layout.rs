//! An OCI layout's `index.json`: manifests, and indexes of them, with the names that tools write beside them.

use tinyd_core::{Error, Kind, Result};

use super::Loaded;
use crate::{
    document::{Descriptor, Document, Index, MANIFEST_MAX_BYTES},
    platform::Platform,
    reference::Reference,
    store::Store,
};

/// Names as containerd, docker and nerdctl write them, and as the specification says, which may be a tag alone.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

pub(super) fn images(store: &Store, index: &[u8], platform: &Platform) -> Result<Vec<Loaded>> {
    let Document::Index(index) = Document::parse(index, "").map_err(|error| error.context("index.json"))?
    else {
        return Err(Error::new(
            Kind::InvalidArgument,
            "index.json: it is a manifest, and an index is needed",
        ));
    };
    let mut all: Vec<Loaded> = Vec::new();
    for one in &index.manifests {
        let mut image = image(store, one, platform)?;
        // An image of two names is listed twice.
        match all.iter_mut().find(|other| other.manifest == image.manifest) {
            Some(other) => other.names.append(&mut image.names),
            None => all.push(image),
        }
    }
    Ok(all)
}

fn image(store: &Store, one: &Descriptor, platform: &Platform) -> Result<Loaded> {
    let bytes = store.read_blob(&one.digest, MANIFEST_MAX_BYTES)?;
    let names = names(one);
    match Document::parse(&bytes, &one.media_type)? {
        Document::Manifest(_) => Ok(Loaded { manifest: one.digest.clone(), index: None, names }),
        Document::Index(inner) => {
            let manifest = pick(store, &inner, platform)?;
            Ok(Loaded { manifest, index: Some(one.digest.clone()), names })
        }
    }
}

/// Of an index of images: one level, as everywhere else.
fn pick(store: &Store, index: &Index, platform: &Platform) -> Result<crate::digest::Digest> {
    let digest = &index.pick(platform)?.digest;
    let bytes = store.read_blob(digest, MANIFEST_MAX_BYTES)?;
    match Document::parse(&bytes, "")? {
        Document::Manifest(_) => Ok(digest.clone()),
        Document::Index(_) => {
            Err(Error::new(Kind::InvalidArgument, format!("{digest}: an index within an index")))
        }
    }
}

fn names(one: &Descriptor) -> Vec<Reference> {
    let said = NAMES.iter().filter_map(|key| one.annotations.get(*key));
    // A tag alone names no repository.
    let whole = |text: &String| text.contains(['/', ':']).then(|| Reference::parse("IMAGE", text).ok())?;
    said.filter_map(whole).take(1).collect()
}
