//! What an image's documents say, read once: documents never change, and reading them for each line of a list would cost more than the list.

use std::sync::{Arc, PoisonError};

use tinyd_core::{Error, Kind, Result};
use tinyd_image::{
    assemble,
    config::{ImageConfig, chain_ids},
    digest::Digest,
    document::Manifest,
    store::ImageRecord,
};

use super::Shelf;

/// What an image's documents say.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Its manifest's digest.
    pub(crate) digest: Digest,
    /// Its manifest.
    pub(crate) manifest: Manifest,
    /// Its configuration.
    pub(crate) config: ImageConfig,
    /// The stacks of its layers, the lowest first.
    pub(crate) chain: Vec<Digest>,
    /// Bytes of the files of each layer, the lowest first; 0 of one that is not there.
    pub(crate) layer_bytes: Vec<u64>,
    /// When it was made, in nanoseconds since the epoch; 0 when it does not say.
    pub(crate) created_unix_nanos: i64,
}

impl Shelf {
    /// What the documents of an image say.
    ///
    /// # Errors
    /// `Internal` when they are damaged, with the image's id.
    pub(crate) fn facts(&self, record: &ImageRecord) -> Result<Arc<Facts>> {
        let of_image = |error: Error| error.context(format_args!("image {}", record.id.short()));
        let digest = record
            .manifests
            .last()
            .ok_or_else(|| of_image(Error::new(Kind::Internal, "its record names no manifest")))?;
        let known = self.facts.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if let Some(facts) = known {
            return Ok(facts);
        }
        let facts = Arc::new(self.read_facts(digest).map_err(of_image)?);
        let mut all = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(digest.clone(), Arc::clone(&facts));
        Ok(facts)
    }

    fn read_facts(&self, digest: &Digest) -> Result<Facts> {
        let store = self.store();
        let (manifest, config) = assemble::read(store, digest)?;
        let chain = chain_ids(&config.rootfs.diff_ids);
        let bytes = |chain_id| Ok(store.layer(chain_id)?.map_or(0, |layer| layer.bytes));
        let layer_bytes = chain.iter().map(bytes).collect::<Result<_>>()?;
        let created_unix_nanos = config.created.as_deref().map_or(0, unix_nanos);
        Ok(Facts { digest: digest.clone(), manifest, config, chain, layer_bytes, created_unix_nanos })
    }

    /// Forgets what is known of images that are no more.
    pub(crate) fn forget_facts(&self) {
        let all = self.images.list();
        let is_there = |digest: &Digest| all.iter().any(|record| record.manifests.contains(digest));
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).retain(|digest, _| is_there(digest));
    }
}

/// RFC 3339 with any offset, in nanoseconds since the epoch; 0 for what is no time or before 1970.
pub(super) fn unix_nanos(text: &str) -> i64 {
    let time = text.parse::<jiff::Timestamp>().ok();
    time.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).unwrap_or(0).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_offset() {
        assert_eq!(unix_nanos("1970-01-01T00:00:01Z"), 1_000_000_000);
        assert_eq!(unix_nanos("1970-01-01T02:00:00.5+02:00"), 500_000_000);
        // Bazel's, and Go's zero.
        assert_eq!((unix_nanos("0001-01-01T00:00:00Z"), unix_nanos("yesterday")), (0, 0));
    }
}
