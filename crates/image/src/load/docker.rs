//! docker-archive's `manifest.json`: files of the archive for configuration and layers. It has no manifest as registries know them, so
//! one is written here; it is the same whenever the archive is.

use serde::Deserialize;
use tinyd_core::{Error, Kind, Result};

use super::{Contents, Loaded};
use crate::{
    document::{Compression, Descriptor, LAYERS_MAX, Manifest, media},
    layer,
    reference::Reference,
    store::{Lease, Store},
};

/// One image of the list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn images(lease: &Lease, list: &[u8], contents: &Contents) -> Result<Vec<Loaded>> {
    let list: Vec<Listed> = serde_json::from_slice(list).map_err(|source| {
        Error::new(Kind::InvalidArgument, format!("manifest.json cannot be read: {source}"))
    })?;
    list.into_iter().map(|listed| image(lease, listed, contents)).collect()
}

fn image(lease: &Lease, listed: Listed, contents: &Contents) -> Result<Loaded> {
    let layers = listed.layers.unwrap_or_default();
    if layers.len() > LAYERS_MAX {
        let message = format!("manifest.json: an image has {} layers: at most {LAYERS_MAX}", layers.len());
        return Err(Error::new(Kind::InvalidArgument, message));
    }
    let config =
        Descriptor { media_type: media::OCI_CONFIG.into(), ..contents.find(&listed.config)?.clone() };
    let layers =
        layers.iter().map(|path| layer(lease.store(), contents.find(path)?)).collect::<Result<_>>()?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: media::OCI_MANIFEST.into(),
        config,
        layers,
        annotations: Default::default(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::internal(&error))?;
    let names = listed.repo_tags.unwrap_or_default();
    let names =
        names.iter().map(|name| Reference::parse("manifest.json: RepoTags", name)).collect::<Result<_>>()?;
    Ok(Loaded { manifest: lease.put_blob(&bytes)?, index: None, names })
}

fn layer(store: &Store, found: &Descriptor) -> Result<Descriptor> {
    let tell = |source| crate::failed(format_args!("read {}", found.digest), source);
    let (compression, _) = layer::sniff(store.open_blob(&found.digest)?).map_err(tell)?;
    let media_type = match compression {
        Compression::None => media::OCI_LAYER,
        Compression::Gzip => media::OCI_LAYER_GZIP,
        Compression::Zstd => media::OCI_LAYER_ZSTD,
    };
    Ok(Descriptor { media_type: media_type.into(), ..found.clone() })
}
