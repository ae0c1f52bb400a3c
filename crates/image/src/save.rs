//! Images into an archive: an OCI layout, and beside it Docker's manifest.json where that is wanted. Contents go out as they came in, with
//! their digests; the same images are the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
};

use rustix::fs::Timespec;
use serde::Serialize;
use tinyd_core::{Error, Kind, Result};

use crate::{
    assemble,
    digest::Digest,
    document::{Descriptor, Index, Manifest, media},
    failed,
    pack::writer::{self, Head},
    reference::Reference,
    store::Store,
};

/// How much of a blob is read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// An archive's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI layout with Docker's manifest.json beside it, as `docker save` writes since 25: every tool finds what it looks for.
    Docker,
    /// An OCI layout.
    Oci,
}

/// An image that goes into an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its manifest.
    pub manifest: Digest,
    /// What the archive calls it.
    pub names: Vec<Reference>,
}

/// One image of Docker's list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// What is written, before the first byte is.
#[derive(Debug)]
struct Plan {
    index: Vec<u8>,
    list: Vec<u8>,
    /// Every blob once, with its size.
    blobs: BTreeMap<Digest, u64>,
}

/// Writes the archive. Nothing is written when a content is missing; `lease`, held by whoever calls, keeps them from being collected.
///
/// # Errors
/// `NotFound` when the store lacks a content, `Internal` when a document is not what it was, or what `out` says.
pub fn save(store: &Store, images: &[Saved], form: Form, out: &mut dyn Write) -> Result<()> {
    let plan = plan(store, images)?;
    file(out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    file(out, "index.json", &plan.index)?;
    if form == Form::Docker {
        file(out, "manifest.json", &plan.list)?;
    }
    let algorithms: BTreeSet<&str> = plan.blobs.keys().map(|digest| digest.algorithm().name()).collect();
    directory(out, "blobs/")?;
    for algorithm in algorithms {
        directory(out, &format!("blobs/{algorithm}/"))?;
    }
    for (digest, size) in &plan.blobs {
        blob(store, out, digest, *size)?;
    }
    writer::end(out).map_err(unwritten)
}

fn plan(store: &Store, images: &[Saved]) -> Result<Plan> {
    let (mut blobs, mut list, mut manifests) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut tags = BTreeMap::new();
    for name in images.iter().flat_map(|image| &image.names) {
        *tags.entry(name.tag().unwrap_or_default()).or_insert(0_u32) += 1;
    }
    for image in images {
        let (manifest, _) = assemble::read(store, &image.manifest)?;
        let size = whole(store, &image.manifest, None)?;
        blobs.insert(image.manifest.clone(), size);
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            blobs.insert(part.digest.clone(), whole(store, &part.digest, Some(part.size))?);
        }
        manifests.extend(descriptors(image, &manifest, size, &tags));
        list.push(Listed {
            config: path(&manifest.config.digest),
            repo_tags: image.names.iter().map(Reference::familiar).collect(),
            layers: manifest.layers.iter().map(|layer| path(&layer.digest)).collect(),
        });
    }
    let index = Index {
        schema_version: 2,
        media_type: media::OCI_INDEX.into(),
        manifests,
        annotations: BTreeMap::new(),
    };
    let json = |bytes: serde_json::Result<Vec<u8>>| bytes.map_err(|error| Error::internal(&error));
    Ok(Plan { index: json(serde_json::to_vec(&index))?, list: json(serde_json::to_vec(&list))?, blobs })
}

/// One for each name, or one without.
fn descriptors(image: &Saved, manifest: &Manifest, size: u64, tags: &BTreeMap<&str, u32>) -> Vec<Descriptor> {
    let media_type = match manifest.media_type.as_str() {
        "" => media::OCI_MANIFEST.to_owned(),
        said => said.to_owned(),
    };
    let plain = Descriptor { media_type, ..Descriptor::of(&image.manifest, size) };
    if image.names.is_empty() {
        return vec![plain];
    }
    let named = |name: &Reference| {
        // The specification's name is a tag, and tools look an image up by it: it has to be one image's alone.
        let short = name.tag().filter(|tag| tags.get(tag) == Some(&1));
        let short = short.map_or_else(|| name.to_string(), str::to_owned);
        let annotations = [
            ("io.containerd.image.name".to_owned(), name.to_string()),
            ("org.opencontainers.image.ref.name".to_owned(), short),
        ];
        Descriptor { annotations: annotations.into(), ..plain.clone() }
    };
    image.names.iter().map(named).collect()
}

/// The size of a content that is there as a whole.
fn whole(store: &Store, digest: &Digest, size: Option<u64>) -> Result<u64> {
    let found = store.blob_size(digest).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the store has no content {digest}, which the image needs"))
    })?;
    match size {
        Some(size) if size != found => Err(Error::new(
            Kind::Internal,
            format!("content {digest} has {found} bytes on disk: the image says {size}"),
        )),
        Some(_) | None => Ok(found),
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn blob(store: &Store, out: &mut dyn Write, digest: &Digest, size: u64) -> Result<()> {
    head(out, &path(digest), b'0', 0o644, size)?;
    let (mut from, mut piece, mut left) = (store.open_blob(digest)?, vec![0; PIECE_BYTES], size);
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let count =
            from.read(&mut piece[..want]).map_err(|source| failed(format_args!("read {digest}"), source))?;
        if count == 0 {
            return Err(Error::new(Kind::Internal, format!("content {digest} has become shorter on disk")));
        }
        out.write_all(&piece[..count]).map_err(unwritten)?;
        left -= count as u64;
    }
    writer::pad(out, size).map_err(unwritten)
}

fn file(out: &mut dyn Write, name: &str, bytes: &[u8]) -> Result<()> {
    let size = bytes.len() as u64;
    head(out, name, b'0', 0o644, size)?;
    out.write_all(bytes).and_then(|()| writer::pad(out, size)).map_err(unwritten)
}

fn directory(out: &mut dyn Write, name: &str) -> Result<()> {
    head(out, name, b'5', 0o755, 0)
}

fn head(out: &mut dyn Write, name: &str, flag: u8, mode: u32, size: u64) -> Result<()> {
    let head = Head {
        name: name.as_bytes(),
        flag,
        link: b"",
        mode,
        uid: 0,
        gid: 0,
        size,
        mtime: Timespec { tv_sec: 0, tv_nsec: 0 },
        device: (0, 0),
        xattrs: Vec::new(),
    };
    writer::head(out, &head).map_err(unwritten)
}

fn unwritten(source: std::io::Error) -> Error {
    failed(format_args!("write the archive"), source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assemble::tests::image, layer::tests::archive, load::load, platform::Platform, store::tests::Scratch,
    };

    fn saved(store: &Store, text: &[u8], names: &[&str]) -> Saved {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        Saved { manifest: image(store, &[archive("base", b"x"), archive("top", text)], "linux"), names }
    }

    #[test]
    fn what_goes_out_comes_back_the_same() {
        let (from, to) = (Scratch::new("save-from"), Scratch::new("save-to"));
        let store = &from.store;
        let images = [saved(store, b"1", &["redis:7", "redis"]), saved(store, b"2", &["ghcr.io/a/b:7"])];
        for form in [Form::Docker, Form::Oci] {
            let mut tar = Vec::new();
            save(store, &images, form, &mut tar).unwrap();
            let mut again = Vec::new();
            save(store, &images, form, &mut again).unwrap();
            assert!(tar == again, "the same images are not the same bytes");
            let lease = to.store.lease();
            let loaded = load(&lease, &mut tar.as_slice(), &Platform::host()).unwrap();
            let seen: Vec<Saved> = loaded
                .into_iter()
                .map(|image| Saved { manifest: image.manifest, names: image.names })
                .collect();
            assert_eq!(seen, images);
            for digest in store.all_blobs().unwrap() {
                to.store.verify_blob(&digest).unwrap();
            }
        }
    }

    #[test]
    fn nothing_is_written_of_an_image_that_is_not_whole() {
        let scratch = Scratch::new("save-missing");
        let store = &scratch.store;
        let image = saved(store, b"1", &[]);
        let layer = assemble::read(store, &image.manifest).unwrap().0.layers[1].digest.clone();
        store.remove_blob(&layer).unwrap();
        let mut tar = Vec::new();
        let error = save(store, &[image], Form::Docker, &mut tar).unwrap_err();
        assert_eq!((error.kind(), tar.len()), (Kind::NotFound, 0), "{error}");
    }
}
