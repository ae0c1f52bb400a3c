//! Images by their ids: which names they have, and by which documents they are known. What the documents say is read from them.

use std::{collections::BTreeSet, fs, io::ErrorKind, path::PathBuf};

use serde::{Deserialize, Serialize};
use tinyd_core::Result;

use super::{Store, file_name, layers::read_json, sync_dir};
use crate::{digest::Digest, failed, reference::Reference};

/// An image. Its id is its configuration's digest, as with Docker and podman, so that one image that came in two ways is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its configuration's digest.
    pub id: Digest,
    /// Its manifests: the same layers may be packed in several ways. The newest last.
    pub manifests: Vec<Digest>,
    /// The indexes that led to one of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub indexes: BTreeSet<Digest>,
    /// What it is called, with tags. No two images have one name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<Reference>,
    /// What it is called in registries, with digests.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pinned: BTreeSet<Reference>,
    /// When it came here, in nanoseconds since the epoch.
    pub added_unix_nanos: i64,
}

impl Store {
    fn image_path(&self, id: &Digest) -> PathBuf {
        self.images().join(format!("{}.json", file_name(id)))
    }

    /// An image by its whole id; `None` when it is not there.
    ///
    /// # Errors
    /// The call and the errno, or what the record says that cannot be read.
    pub fn image(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        read_json(&self.image_path(id))
    }

    /// Writes an image down: from here on it exists, and outlives a power cut.
    ///
    /// # Errors
    /// `Exhausted` when the disk is full, or the call and the errno.
    pub fn put_image(&self, record: &ImageRecord) -> Result<()> {
        let path = self.image_path(&record.id);
        let bytes = serde_json::to_vec(record)
            .map_err(|source| failed(format_args!("write {path:?}"), std::io::Error::from(source)))?;
        tinyd_sys::fs::write_atomic(&path, &bytes).map_err(|error| crate::failed_call(&error))
    }

    /// Forgets an image; its content stays until it is collected.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn remove_image(&self, id: &Digest) -> Result<()> {
        let path = self.image_path(id);
        match fs::remove_file(&path) {
            Ok(()) => sync_dir(&self.images()),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(()),
            Err(source) => Err(failed(format_args!("unlink({path:?})"), source)),
        }
    }

    /// Every image, and a line for each record that cannot be read.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn all_images(&self) -> Result<(Vec<ImageRecord>, Vec<String>)> {
        let dir = self.images();
        let tell = |source| failed(format_args!("read directory {dir:?}"), source);
        let (mut all, mut damaged) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&dir).map_err(tell)? {
            let path = entry.map_err(tell)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_json(&path) {
                Ok(record) => all.extend::<Option<ImageRecord>>(record),
                Err(error) => damaged.push(error.to_string()),
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((all, damaged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    #[test]
    fn an_image_is_written_down_found_and_forgotten() {
        let scratch = Scratch::new("records");
        let store = &scratch.store;
        let record = ImageRecord {
            id: Digest::of(b"config"),
            manifests: vec![Digest::of(b"manifest")],
            indexes: BTreeSet::new(),
            names: BTreeSet::from(["redis:7".parse().unwrap()]),
            pinned: BTreeSet::new(),
            added_unix_nanos: 7,
        };
        store.put_image(&record).unwrap();
        assert_eq!(store.image(&record.id).unwrap().as_ref(), Some(&record));
        fs::write(store.images().join("sha256-broken.json"), "{").unwrap();
        fs::write(store.images().join(".tmp"), "").unwrap();
        let (all, damaged) = store.all_images().unwrap();
        assert_eq!((all.as_slice(), damaged.len()), (std::slice::from_ref(&record), 1));
        store.remove_image(&record.id).unwrap();
        store.remove_image(&record.id).unwrap();
        assert_eq!(store.image(&record.id).unwrap(), None);
    }
}
