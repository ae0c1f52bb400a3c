//! What `image inspect` shows: Docker's names, and `Config` as the image has it.

use serde::Serialize;
use serde_json::Value;
use tinyd_core::{Error, Result, time::rfc3339};

use crate::pb;

/// Everything about an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::cli) struct ImageView {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    manifest: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    created: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    author: Value,
    architecture: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    variant: Value,
    os: Value,
    size: u64,
    packed_size: u64,
    containers: u32,
    added_at: String,
    config: Value,
    #[serde(rename = "RootFS")]
    root_fs: RootView,
    layers: Vec<LayerView>,
}

/// Docker's list of what the layers unpack to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootView {
    r#type: &'static str,
    layers: Vec<String>,
}

/// One layer, the lowest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LayerView {
    diff_id: String,
    digest: String,
    size: u64,
    packed_size: u64,
}

impl ImageView {
    /// Reads the image's own document.
    ///
    /// # Errors
    /// `Internal` when it is no JSON, which the daemon has checked.
    pub(in crate::cli) fn read(told: pb::InspectImageResponse) -> Result<ImageView> {
        let mut document: Value =
            serde_json::from_slice(&told.config).map_err(|error| Error::internal(&error))?;
        let mut take = |key: &str| document.get_mut(key).map(Value::take).unwrap_or_default();
        let summary = told.summary.unwrap_or_default();
        Ok(ImageView {
            id: summary.id,
            repo_tags: summary.names,
            repo_digests: summary.digests,
            manifest: told.manifest,
            created: take("created"),
            author: take("author"),
            architecture: take("architecture"),
            variant: take("variant"),
            os: take("os"),
            size: summary.size_bytes,
            packed_size: summary.packed_bytes,
            containers: summary.containers,
            added_at: rfc3339(told.added_unix_nanos),
            config: take("config"),
            root_fs: RootView {
                r#type: "layers",
                layers: told.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            },
            layers: told.layers.into_iter().map(LayerView::from).collect(),
        })
    }
}

impl From<pb::ImageLayer> for LayerView {
    fn from(layer: pb::ImageLayer) -> LayerView {
        LayerView {
            diff_id: layer.diff_id,
            digest: layer.digest,
            size: layer.size_bytes,
            packed_size: layer.packed_bytes,
        }
    }
}
