//! Images out of an archive: what `docker save`, `podman save` and skopeo write (docker-archive, oci-archive, a tar of an OCI layout),
//! packed or not, read once from beginning to end. Contents go straight to the store under the digests that they have; what the archive
//! says about them is believed only where that agrees.

mod docker;
mod layout;

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
};

use tinyd_core::{Error, Kind, Result};

use crate::{
    digest::Digest,
    document::{Compression, Descriptor, MANIFEST_MAX_BYTES},
    layer,
    platform::Platform,
    reference::Reference,
    store::Lease,
    unpack::{
        archive::{Archive, Entry, Type},
        name,
    },
};

/// The most entries of an archive: several images with all their layers.
const ENTRIES_MAX: usize = 100_000;
/// How often a link of an archive may lead to another.
const LINKS_MAX: usize = 8;

/// An image that an archive has: its documents and packed layers are in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its manifest.
    pub manifest: Digest,
    /// The index that led to it.
    pub index: Option<Digest>,
    /// What the archive calls it.
    pub names: Vec<Reference>,
}

/// Reads an archive to its end, and names what is in it. Nothing is unpacked, nothing brought to disk yet. Of an index with several
/// platforms it is the one that `platform` says. What came in is in `lease`.
///
/// # Errors
/// `InvalidArgument` when it is no archive of images, or damaged; `NotFound` when it lacks what it names; `Exhausted` on a full disk. Contents
/// that were whole stay until they are collected.
pub fn load(lease: &Lease, packed: &mut dyn Read, platform: &Platform) -> Result<Vec<Loaded>> {
    let tell = |source| crate::failed(format_args!("read the archive"), source);
    let mut head = Vec::with_capacity(6);
    packed.take(6).read_to_end(&mut head).map_err(tell)?;
    layer::refuse_unreadable(&head)?;
    let compression = Compression::sniff(&head);
    let mut packed = std::io::Cursor::new(head).chain(packed);
    let mut tar = layer::inflater(&mut packed, compression)?;
    let contents = Contents::read(lease, &mut tar)?;
    let loaded = match (contents.document("index.json"), contents.document("manifest.json")) {
        // Docker writes both since 25; the layout keeps the digests that a registry knows.
        (Some(index), _) => layout::images(lease.store(), index, platform),
        (None, Some(list)) => docker::images(lease, list, &contents),
        (None, None) => Err(Error::new(
            Kind::InvalidArgument,
            "it is no archive of images: there is neither an index.json nor a manifest.json in it",
        )),
    }?;
    if loaded.is_empty() {
        return Err(Error::new(Kind::InvalidArgument, "there is no image in the archive"));
    }
    Ok(loaded)
}

/// What an archive has, by name.
#[derive(Debug, Default)]
struct Contents {
    /// Files at the top that are read as a whole.
    documents: HashMap<String, Vec<u8>>,
    files: BTreeMap<Vec<u8>, Descriptor>,
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Contents {
    fn read(lease: &Lease, tar: &mut dyn Read) -> Result<Contents> {
        let mut archive = Archive::new(tar, u64::MAX);
        let mut contents = Contents::default();
        let mut count = 0;
        while let Some(entry) = archive.next()? {
            count += 1;
            if count > ENTRIES_MAX {
                return Err(Error::new(
                    Kind::Exhausted,
                    format!("the archive has more than {ENTRIES_MAX} entries"),
                ));
            }
            let shown = String::from_utf8_lossy(&entry.path).into_owned();
            contents
                .take(lease, &entry, &mut archive)
                .map_err(|error| error.context(format_args!("{shown:?}")))?;
        }
        Ok(contents)
    }

    fn take(&mut self, lease: &Lease, entry: &Entry, archive: &mut Archive<'_>) -> Result<()> {
        let path = name::clean(&entry.path)?;
        match entry.kind {
            Type::Directory => Ok(()),
            Type::Symlink | Type::HardLink => {
                // Old docker has one layer's file for several images. A symbolic link is meant from where it is.
                let above =
                    path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |slash| &path[..=slash]);
                let from = if entry.kind == Type::Symlink { above } else { &[] };
                self.links.insert(path.clone(), resolve(from, &entry.link)?);
                Ok(())
            }
            Type::File if entry.is_sparse() => Err(Error::new(Kind::Unsupported, "it is a sparse file")),
            Type::File => match std::str::from_utf8(&path) {
                Ok(top @ ("index.json" | "manifest.json")) => {
                    self.documents.insert(top.to_owned(), whole(archive)?);
                    Ok(())
                }
                text => self.file(lease, &path, text.ok().and_then(named_digest), archive),
            },
            Type::Character | Type::Block | Type::Fifo => Err(Error::new(
                Kind::InvalidArgument,
                "an archive of images has files, directories and links",
            )),
        }
    }

    fn file(
        &mut self,
        lease: &Lease,
        path: &[u8],
        digest: Option<Digest>,
        archive: &mut Archive<'_>,
    ) -> Result<()> {
        let (store, size) = (lease.store(), archive.left());
        let descriptor = match digest {
            Some(digest) => {
                lease.pin(&digest);
                let wanted = Descriptor::of(&digest, size);
                if store.blob_size(&digest) != Some(size) {
                    // A file of its own: the same may come from a registry, or another archive, at the same time.
                    let mut content = store.unnamed_by(digest.algorithm())?;
                    while let Some(piece) = archive.piece(u64::MAX)? {
                        content.write(piece)?;
                    }
                    content.publish_as(&digest)?;
                }
                wanted
            }
            None => {
                let mut unnamed = store.unnamed()?;
                while let Some(piece) = archive.piece(u64::MAX)? {
                    unnamed.write(piece)?;
                }
                unnamed.publish(lease)?
            }
        };
        self.files.insert(path.to_vec(), descriptor);
        Ok(())
    }

    fn document(&self, name: &str) -> Option<&[u8]> {
        self.documents.get(name).map(Vec::as_slice)
    }

    /// The contents of a file of the archive, which may be a link to one.
    fn find(&self, path: &str) -> Result<&Descriptor> {
        let missing =
            || Error::new(Kind::NotFound, format!("the archive names a file {path:?} and does not have it"));
        let mut at = name::clean(path.as_bytes())?;
        for _ in 0..LINKS_MAX {
            match self.links.get(&at) {
                Some(next) => at.clone_from(next),
                None => return self.files.get(&at).ok_or_else(missing),
            }
        }
        Err(missing())
    }
}

/// The digest that a file of an OCI layout has by its name.
fn named_digest(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// A document as a whole.
fn whole(archive: &mut Archive<'_>) -> Result<Vec<u8>> {
    if archive.left() > MANIFEST_MAX_BYTES {
        let message = format!("it has {} bytes: at most {MANIFEST_MAX_BYTES}", archive.left());
        return Err(Error::new(Kind::InvalidArgument, message));
    }
    let mut bytes = Vec::new();
    while let Some(piece) = archive.piece(u64::MAX)? {
        bytes.extend_from_slice(piece);
    }
    Ok(bytes)
}

/// Where a link leads, without a look at what is there: `..` takes a name away, and none leads out of the archive.
fn resolve(from: &[u8], link: &[u8]) -> Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = from.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    for part in link.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts
                    .pop()
                    .ok_or_else(|| Error::new(Kind::InvalidArgument, "the link leads out of the archive"))?;
            }
            name => parts.push(name),
        }
    }
    Ok(parts.join(&b'/'))
}

#[cfg(test)]
mod tests;
