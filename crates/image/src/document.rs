//! Manifests and indexes: what leads to the content of an image (OCI image specification 1.1, and Docker's "image manifest version 2,
//! schema 2"). The bytes are what is hashed and kept; these types are for reading them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use tinyd_core::{Error, Kind, Result};

use crate::{digest::Digest, platform::Platform};

/// The most bytes that a manifest or an index may have.
pub const MANIFEST_MAX_BYTES: u64 = 4 << 20;
/// The most bytes that a configuration may have.
pub const CONFIG_MAX_BYTES: u64 = 8 << 20;
/// The most layers that an image may have.
pub const LAYERS_MAX: usize = 128;
/// The most images that an index may name.
const MANIFESTS_MAX: usize = 4096;

/// Media types.
pub mod media {
    /// An image's manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// A list of manifests.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image's configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer: a tar archive.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer, compressed with gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer, compressed with zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's list of manifests.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer, compressed with gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer, compressed with zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// Docker's layer, not compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// What points to content: how large it is and what its digest is, before anything is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Which machines it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What else is said about it.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Of content that is at hand, without more words about it.
    #[must_use]
    pub fn of(digest: &Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: digest.clone(),
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// An image's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// What else is said about it.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// One per platform.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// What else is said about it.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a registry has under a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// One for each of several platforms.
    Index(Index),
}

impl Document {
    /// Reads a document. `media_type` is what came with it, "" when nothing did.
    ///
    /// # Errors
    /// `InvalidArgument` when it is neither, or both (CVE-2021-41190), or larger than is allowed; `Unsupported` for Docker's schema 1.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Document> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            #[serde(default)]
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            config: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
            fs_layers: Option<serde::de::IgnoredAny>,
        }
        if bytes.len() as u64 > MANIFEST_MAX_BYTES {
            return Err(bad(format_args!(
                "a manifest has {} bytes: at most {MANIFEST_MAX_BYTES}",
                bytes.len()
            )));
        }
        let shape: Shape = read("manifest", bytes)?;
        if shape.schema_version == 1 || shape.fs_layers.is_some() {
            let message = "the image has a manifest of Docker's schema 1, which is not supported any more: push it again with a newer tool";
            return Err(Error::new(Kind::Unsupported, message));
        }
        if shape.schema_version != 2 {
            return Err(bad(format_args!(
                "a manifest has schemaVersion {}: 2 is what there is",
                shape.schema_version
            )));
        }
        let said = if shape.media_type.is_empty() { media_type } else { &shape.media_type };
        let is_image = shape.config.is_some() || shape.layers.is_some();
        match (is_image, shape.manifests.is_some()) {
            (true, true) => Err(bad(format_args!(
                "a manifest has both layers and manifests: it must be one or the other"
            ))),
            (false, false) => Err(bad(format_args!("a manifest has neither layers nor manifests"))),
            (true, false) if matches!(said, media::OCI_INDEX | media::DOCKER_LIST) => {
                Err(bad(format_args!("a manifest with layers says that it is {said}")))
            }
            (false, true) if matches!(said, media::OCI_MANIFEST | media::DOCKER_MANIFEST) => {
                Err(bad(format_args!("an index says that it is {said}")))
            }
            (true, false) => Manifest::checked(read("manifest", bytes)?).map(Document::Manifest),
            (false, true) => Index::checked(read("index", bytes)?).map(Document::Index),
        }
    }
}

impl Manifest {
    fn checked(manifest: Manifest) -> Result<Manifest> {
        if manifest.layers.len() > LAYERS_MAX {
            return Err(bad(format_args!(
                "the image has {} layers: at most {LAYERS_MAX}",
                manifest.layers.len()
            )));
        }
        let config = &manifest.config;
        if !matches!(config.media_type.as_str(), media::OCI_CONFIG | media::DOCKER_CONFIG) {
            let message = format!("it is no image: its configuration is {:?}", config.media_type);
            return Err(Error::new(Kind::Unsupported, message));
        }
        if config.size > CONFIG_MAX_BYTES {
            return Err(bad(format_args!(
                "the image's configuration has {} bytes: at most {CONFIG_MAX_BYTES}",
                config.size
            )));
        }
        for layer in &manifest.layers {
            Compression::of(&layer.media_type)?;
        }
        Ok(manifest)
    }
}

impl Index {
    fn checked(index: Index) -> Result<Index> {
        if index.manifests.len() > MANIFESTS_MAX {
            return Err(bad(format_args!(
                "the index names {} images: at most {MANIFESTS_MAX}",
                index.manifests.len()
            )));
        }
        Ok(index)
    }

    /// The image for a platform: the best that fits, and of equals the first.
    ///
    /// # Errors
    /// `NotFound` with those that there are.
    pub fn pick(&self, wanted: &Platform) -> Result<&Descriptor> {
        let is_image = |one: &&Descriptor| {
            matches!(one.media_type.as_str(), "" | media::OCI_MANIFEST | media::DOCKER_MANIFEST)
        };
        let fits = |one: &Descriptor| match &one.platform {
            Some(platform) => platform.fits(wanted),
            // Of an index with one image nobody says what is obvious.
            None => (self.manifests.len() == 1).then_some(0),
        };
        let mut best: Option<(u8, &Descriptor)> = None;
        for one in self.manifests.iter().filter(is_image) {
            if let Some(how_well) = fits(one)
                && best.is_none_or(|(other, _)| how_well > other)
            {
                best = Some((how_well, one));
            }
        }
        best.map(|(_, one)| one).ok_or_else(|| {
            let known = |one: &Descriptor| one.platform.clone().filter(|platform| platform.os != "unknown");
            let all: Vec<String> =
                self.manifests.iter().filter_map(known).map(|platform| platform.to_string()).collect();
            let all = if all.is_empty() { "none that says its platform".to_owned() } else { all.join(", ") };
            Error::new(Kind::NotFound, format!("no image for {wanted}: there is {all}"))
                .of_field("--platform")
        })
    }
}

/// How a layer's archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What a layer's media type says.
    ///
    /// # Errors
    /// `Unsupported` with the media type.
    pub fn of(media_type: &str) -> Result<Compression> {
        match media_type {
            media::OCI_LAYER | media::DOCKER_LAYER => Ok(Compression::None),
            media::OCI_LAYER_GZIP | media::DOCKER_LAYER_GZIP => Ok(Compression::Gzip),
            media::OCI_LAYER_ZSTD | media::DOCKER_LAYER_ZSTD => Ok(Compression::Zstd),
            other if other.contains("nondistributable") || other.contains("foreign") => Err(Error::new(
                Kind::Unsupported,
                format!("a layer of type {other:?} is to be fetched from somewhere else: tinyd does not"),
            )),
            other => Err(Error::new(Kind::Unsupported, format!("a layer of type {other:?} is not known"))),
        }
    }

    /// What the first bytes say (at least four, unless there are no more).
    #[must_use]
    pub fn sniff(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

pub(crate) fn read<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|source| bad(format_args!("the image's {what} cannot be read: {source}")))
}

pub(crate) fn bad(what: std::fmt::Arguments<'_>) -> Error {
    Error::new(Kind::InvalidArgument, what.to_string())
}

/// Go writes `null` for what is empty.
pub(crate) fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
