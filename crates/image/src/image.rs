//! What a root is made of: a directory that the user names, or the layers of an image in the store.

use std::path::{Path, PathBuf};

use tinyd_core::{Error, Kind, Result};

use crate::{digest::Digest, store::Store};

/// The option under which a user names an image.
const FIELD: &str = "-i";

/// A checked image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    layers: Vec<PathBuf>,
}

impl Image {
    /// Checks that `text` is the absolute path of a directory that holds something.
    ///
    /// # Errors
    /// `NotFound` when it is missing, `InvalidArgument` when it is no absolute path, a file, empty or has a control character.
    pub fn open(text: &str) -> Result<Image> {
        if text.is_empty() {
            return Err(Error::invalid(
                FIELD,
                "no image: name a directory that holds a root file system, such as /root/redis",
            ));
        }
        if text.chars().any(char::is_control) {
            return Err(Error::invalid(FIELD, format!("{text:?} has a control character")));
        }
        if !text.starts_with('/') {
            return Err(Error::invalid(FIELD, format!("{text:?} is not an absolute path")));
        }
        let dir = Path::new(text);
        let meta = std::fs::metadata(dir).map_err(|source| unreadable(text, &source))?;
        if !meta.is_dir() {
            return Err(Error::invalid(
                FIELD,
                format!(
                    "image directory {text:?} is a file: a directory that holds a root file system is needed"
                ),
            ));
        }
        let mut entries = std::fs::read_dir(dir).map_err(|source| unreadable(text, &source))?;
        if entries.next().is_none() {
            return Err(Error::invalid(
                FIELD,
                format!("image directory {text:?} is empty: it holds no root file system"),
            ));
        }
        // The real path: a symbolic link that changes later changes no container.
        let real = dir.canonicalize().map_err(|source| unreadable(text, &source))?;
        Ok(Image { layers: vec![real] })
    }

    /// The layers of an image in the store, by the stacks `chain`, the lowest first. What a layer hides as a whole is left out: overlayfs
    /// does not look at the opaque mark of a root.
    ///
    /// # Errors
    /// `NotFound` when a layer is not there, or the call and the errno.
    pub fn stacked(store: &Store, chain: &[Digest]) -> Result<Image> {
        let mut layers = Vec::with_capacity(chain.len());
        for chain_id in chain.iter().rev() {
            let layer = store.layer(chain_id)?.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("layer {chain_id} of the image is not in the store"))
            })?;
            layers.push(store.layer_files(chain_id));
            if layer.hides_all {
                break;
            }
        }
        Ok(Image { layers })
    }

    /// Layers at any places, the uppermost first.
    #[cfg(test)]
    pub(crate) const fn from_layers(layers: Vec<PathBuf>) -> Image {
        Image { layers }
    }

    /// Its only layer, for drivers that cannot lay several on each other as the store has them: with overlay's whiteouts.
    pub(crate) fn only_layer(&self, driver: &str) -> Result<&Path> {
        match self.layers.as_slice() {
            [layer] => Ok(layer),
            several => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "the storage driver {driver} takes images of one layer, and this one has {}",
                    several.len()
                ),
            )),
        }
    }

    /// Its read-only layers, the uppermost first.
    #[must_use]
    pub fn layers(&self) -> &[PathBuf] {
        &self.layers
    }
}

fn unreadable(text: &str, source: &std::io::Error) -> Error {
    if matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) {
        return Error::new(Kind::NotFound, format!("image directory {text:?} does not exist"))
            .of_field(FIELD);
    }
    Error::invalid(FIELD, format!("image directory {text:?} cannot be read: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LayerRecord, tests::Scratch};

    #[test]
    fn what_is_no_image_says_why() {
        let dir = std::env::temp_dir().join(format!("tinyd-image-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("empty")).unwrap();
        std::fs::write(dir.join("file"), "x").unwrap();
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        for (bad, kind, rule) in [
            (at("missing"), Kind::NotFound, "does not exist"),
            (at("file"), Kind::InvalidArgument, "is a file"),
            (at("empty"), Kind::InvalidArgument, "is empty"),
            ("/a\nb".into(), Kind::InvalidArgument, "control character"),
            ("redis:7".into(), Kind::InvalidArgument, "not an absolute path"),
            (String::new(), Kind::InvalidArgument, "no image"),
        ] {
            let error = Image::open(&bad).unwrap_err();
            assert_eq!(error.kind(), kind, "{bad:?}");
            assert!(error.message().contains(rule), "{bad:?}: {error}");
            assert_eq!(error.field(), Some("-i"));
        }
        let image = Image::open(dir.to_str().unwrap()).unwrap();
        assert_eq!(image.layers(), [dir.canonicalize().unwrap()]);
        crate::tree::remove(&dir).unwrap();
    }

    #[test]
    fn a_layer_that_hides_all_is_the_last() {
        let scratch = Scratch::new("stacked");
        let store = &scratch.store;
        let chain: Vec<Digest> = ["low", "hiding", "high"].map(|text| Digest::of(text.as_bytes())).into();
        for (at, chain_id) in chain.iter().enumerate() {
            let unpacking = store.begin_layer().unwrap();
            let record = LayerRecord {
                chain_id: chain_id.clone(),
                diff_id: chain_id.clone(),
                parent: None,
                entries: 0,
                bytes: 0,
                hides_all: at == 1,
            };
            unpacking.describe(&record).unwrap();
            unpacking.publish(chain_id).unwrap();
        }
        let files = |at: usize| store.layer_files(&chain[at]);
        assert_eq!(Image::stacked(store, &chain).unwrap().layers(), [files(2), files(1)]);
        assert_eq!(Image::stacked(store, &chain[..1]).unwrap().layers(), [files(0)]);
        let missing = Image::stacked(store, &[Digest::of(b"gone")]).unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
    }
}
