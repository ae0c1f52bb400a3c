//! What an image is: an absolute directory. Checked once, when a container is made.

use std::path::{Path, PathBuf};

use tinyd_core::{Error, Kind, Result};

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
    /// `NotFound` when it is missing, `InvalidArgument` when it is a file, empty or has a control character, `Unsupported` when it is a
    /// name.
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
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "{text:?} is not an absolute path: images by name are not supported yet, name a directory that holds a root file system, such as /root/redis"
                ),
            )
            .of_field(FIELD));
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

    /// An image of several layers, the uppermost first.
    #[must_use]
    pub const fn from_layers(layers: Vec<PathBuf>) -> Image {
        Image { layers }
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
            ("redis:7".into(), Kind::Unsupported, "images by name"),
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
}
