//! Images that are made here: a layer out of a tar stream, a configuration, a manifest. Everything goes to the store under its digest;
//! the layers below are taken as they are.

use std::io::{self, Read, Write};

use flate2::{Compression as Level, write::GzEncoder};
use tinyd_core::{Error, Kind, Result};

use crate::{
    config::{History, ImageConfig},
    digest::{Algorithm, Digest, Hasher},
    document::{Compression, Descriptor, LAYERS_MAX, Manifest, media},
    failed, layer,
    store::{Lease, Unnamed},
};

/// How much is copied at a time.
const PIECE_BYTES: usize = 128 << 10;

/// A layer whose packed archive is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLayer {
    /// What travels.
    pub packed: Descriptor,
    /// The digest of the archive before it was packed.
    pub diff_id: Digest,
}

/// Takes a tar stream that is made here, and packs it with gzip on its way to the store.
#[derive(Debug)]
pub struct LayerWriter<'a> {
    lease: &'a Lease,
    packer: GzEncoder<Content>,
    hasher: Hasher,
    bytes: u64,
}

/// Content on its way to the store, as a writer.
#[derive(Debug)]
struct Content(Unnamed);

impl Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_io(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> LayerWriter<'a> {
    /// Begins a layer. What comes of it is in `lease`; dropped before its end, it is taken away.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn new(lease: &'a Lease) -> Result<LayerWriter<'a>> {
        let content = Content(lease.store().unnamed()?);
        let packer = GzEncoder::new(content, Level::default());
        Ok(LayerWriter { lease, packer, hasher: Hasher::new(Algorithm::Sha256), bytes: 0 })
    }

    /// The stream has ended. An archive of almost nothing but zeros stays as it is: packed, it would look like one that is there to fill
    /// a disk, and nobody would unpack it.
    ///
    /// # Errors
    /// `Exhausted` when the disk is full, or the call and the errno.
    pub fn finish(self) -> Result<NewLayer> {
        let unwritten = |source| failed(format_args!("write the layer"), source);
        let packed = self.packer.finish().map_err(unwritten)?.0.publish(self.lease)?;
        let diff_id = self.hasher.finish();
        if self.bytes <= layer::rules(packed.size).bytes_max {
            let packed = Descriptor { media_type: media::OCI_LAYER_GZIP.into(), ..packed };
            return Ok(NewLayer { packed, diff_id });
        }
        let store = self.lease.store();
        let mut file = store.open_blob(&packed.digest)?;
        let mut tar = layer::inflater(&mut file, Compression::Gzip)?;
        let mut plain = Content(store.unnamed()?);
        io::copy(&mut tar, &mut plain).map_err(unwritten)?;
        let plain = plain.0.publish(self.lease)?;
        Ok(NewLayer { packed: Descriptor { media_type: media::OCI_LAYER.into(), ..plain }, diff_id })
    }
}

impl Write for LayerWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.packer.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes in an archive as somebody has packed it: with gzip or zstd it stays as it is, without it is packed.
///
/// # Errors
/// `Unsupported` when it is packed in another way, `InvalidArgument` when it cannot be inflated, `Exhausted` on a full disk, or what
/// `archive` says.
pub fn take_in(lease: &Lease, archive: &mut dyn Read) -> Result<NewLayer> {
    let unread = |source| failed(format_args!("read the archive"), source);
    let mut head = Vec::with_capacity(6);
    archive.take(6).read_to_end(&mut head).map_err(unread)?;
    if head.is_empty() {
        return Err(Error::new(Kind::InvalidArgument, "there is nothing in the archive"));
    }
    layer::refuse_unreadable(&head)?;
    let compression = Compression::sniff(&head);
    let mut whole = io::Cursor::new(head).chain(archive);
    let media_type = match compression {
        Compression::None => {
            let mut writer = LayerWriter::new(lease)?;
            io::copy(&mut whole, &mut writer).map_err(unread)?;
            return writer.finish();
        }
        Compression::Gzip => media::OCI_LAYER_GZIP,
        Compression::Zstd => media::OCI_LAYER_ZSTD,
    };
    let mut tee = Tee { from: whole, content: Content(lease.store().unnamed()?) };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut piece = vec![0; PIECE_BYTES];
    let mut tar = layer::inflater(&mut tee, compression)?;
    loop {
        let count = tar.read(&mut piece).map_err(unread)?;
        if count == 0 {
            break;
        }
        hasher.update(&piece[..count]);
    }
    drop(tar);
    // What is behind the packed archive is what was sent, too.
    io::copy(&mut tee, &mut io::sink()).map_err(unread)?;
    let packed = Descriptor { media_type: media_type.into(), ..tee.content.0.publish(lease)? };
    Ok(NewLayer { packed, diff_id: hasher.finish() })
}

/// Keeps what is read through it.
struct Tee<R> {
    from: R,
    content: Content,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        self.content.write_all(&into[..count])?;
        Ok(count)
    }
}

/// Writes the documents of an image: `config` with one step more, and, when the step has made one, a layer above `below`. The manifest's
/// digest; everything is in `lease`.
///
/// # Errors
/// `InvalidArgument` when the image would have more layers than there may be, or the call and the errno.
pub fn compose(
    lease: &Lease,
    config: ImageConfig,
    below: &[Descriptor],
    step: History,
    new: Option<NewLayer>,
) -> Result<Digest> {
    if below.len() + usize::from(new.is_some()) > LAYERS_MAX {
        let message = format!(
            "the image has {} layers, and there may be {LAYERS_MAX}: export the container and import that, which makes one of them",
            below.len()
        );
        return Err(Error::new(Kind::InvalidArgument, message));
    }
    let mut config = config;
    config.created.clone_from(&step.created);
    config.history.push(History { empty_layer: new.is_none(), ..step });
    let mut layers: Vec<Descriptor> = below.iter().map(in_oci_words).collect();
    if let Some(new) = new {
        config.rootfs.diff_ids.push(new.diff_id);
        layers.push(new.packed);
    }
    config.rootfs.kind = "layers".to_owned();
    let json = |bytes: serde_json::Result<Vec<u8>>| bytes.map_err(|error| Error::internal(&error));
    let bytes = json(serde_json::to_vec(&config))?;
    let config = Descriptor::of(&lease.put_blob(&bytes)?, bytes.len() as u64);
    let manifest = Manifest {
        schema_version: 2,
        media_type: media::OCI_MANIFEST.into(),
        config: Descriptor { media_type: media::OCI_CONFIG.into(), ..config },
        layers,
        annotations: Default::default(),
    };
    lease.put_blob(&json(serde_json::to_vec(&manifest))?)
}

/// A layer of Docker's in the words of the manifest that is written: the content is the same.
fn in_oci_words(layer: &Descriptor) -> Descriptor {
    let media_type = match layer.media_type.as_str() {
        media::DOCKER_LAYER => media::OCI_LAYER,
        media::DOCKER_LAYER_GZIP => media::OCI_LAYER_GZIP,
        media::DOCKER_LAYER_ZSTD => media::OCI_LAYER_ZSTD,
        other => other,
    };
    Descriptor { media_type: media_type.to_owned(), ..layer.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assemble::{self, assemble},
        layer::tests::{archive, gzip},
        progress::nobody,
        store::tests::Scratch,
    };

    fn step(comment: &str) -> History {
        History {
            created: Some("2026-01-02T03:04:05Z".into()),
            comment: comment.into(),
            ..History::default()
        }
    }

    #[test]
    fn a_layer_is_the_same_however_it_came_and_stays_as_it_was_packed() {
        let scratch = Scratch::new("take-in");
        let lease = scratch.store.lease();
        let tar = archive("a", b"hello");
        let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
        for (packed, media_type, is_kept) in [
            (tar.clone(), media::OCI_LAYER_GZIP, false),
            (gzip(&tar), media::OCI_LAYER_GZIP, true),
            (zstd, media::OCI_LAYER_ZSTD, true),
        ] {
            let layer = take_in(&lease, &mut packed.as_slice()).unwrap();
            assert_eq!((&layer.diff_id, layer.packed.media_type.as_str()), (&Digest::of(&tar), media_type));
            assert_eq!(layer.packed.digest == Digest::of(&packed), is_kept);
            scratch.store.verify_blob(&layer.packed.digest).unwrap();
        }
        for (packed, rule) in [
            (b"\xfd7zXZ\0rest".to_vec(), "xz"),
            (b"BZh91AY".to_vec(), "bzip2"),
            (Vec::new(), "nothing"),
            (gzip(&tar)[..40].to_vec(), "read the archive"),
        ] {
            let error = take_in(&lease, &mut packed.as_slice()).unwrap_err();
            assert!(error.message().contains(rule), "{error}");
        }
    }

    #[test]
    fn an_image_grows_by_a_step_and_shares_what_is_below() {
        let scratch = Scratch::new("compose");
        let store = &scratch.store;
        let lease = store.lease();
        let first = take_in(&lease, &mut archive("a", b"1").as_slice()).unwrap();
        let manifest = compose(&lease, ImageConfig::default(), &[], step("one"), Some(first)).unwrap();
        let (below, config) = assemble::read(store, &manifest).unwrap();
        let base = assemble(&lease, &manifest, &nobody).unwrap();
        let mut docker = below.layers.clone();
        docker[0].media_type = media::DOCKER_LAYER_GZIP.into();
        let second = take_in(&lease, &mut archive("b", b"2").as_slice()).unwrap();
        let manifest = compose(&lease, config.clone(), &docker, step("two"), Some(second)).unwrap();
        let grown = assemble(&lease, &manifest, &nobody).unwrap();
        assert_eq!((grown.chain.len(), &grown.chain[..1]), (2, base.chain.as_slice()));
        let (again, grown) = assemble::read(store, &manifest).unwrap();
        assert_eq!(again.layers[0], below.layers[0]);
        let told: Vec<_> =
            grown.history.iter().map(|step| (step.comment.as_str(), step.empty_layer)).collect();
        assert_eq!(told, [("one", false), ("two", false)]);
        let manifest = compose(&lease, config, &below.layers, step("words"), None).unwrap();
        let (same, words) = assemble::read(store, &manifest).unwrap();
        assert_eq!((same.layers.len(), words.history[1].empty_layer), (1, true));
    }

    #[test]
    fn zeros_stay_as_they_are_and_too_many_layers_are_refused() {
        let scratch = Scratch::new("zeros");
        let lease = scratch.store.lease();
        let mut writer = LayerWriter::new(&lease).unwrap();
        writer.write_all(&archive("a", b"x")).unwrap();
        // As if a thousand times more had come.
        writer.bytes = 2 << 30;
        let layer = writer.finish().unwrap();
        assert_eq!(
            (layer.packed.media_type.as_str(), layer.packed.digest),
            (media::OCI_LAYER, layer.diff_id.clone())
        );
        let below = vec![Descriptor::of(&layer.diff_id, 1); LAYERS_MAX];
        let new = NewLayer { packed: below[0].clone(), diff_id: layer.diff_id };
        let error = compose(&lease, ImageConfig::default(), &below, step(""), Some(new)).unwrap_err();
        assert!(error.message().contains("128"), "{error}");
    }
}
