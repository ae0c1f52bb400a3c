//! aufs, for kernels that have it: the same directories as overlay, told in one option string.

use std::path::Path;

use tinyd_core::{Error, Kind, Result, wire};

use crate::{Driver, Image, Prepared, overlay::own_dir, tree};

/// The aufs driver.
#[derive(Clone, Copy, Debug)]
pub struct Aufs(());

impl Aufs {
    /// Looks whether the kernel has aufs.
    ///
    /// # Errors
    /// `Unsupported` when `/proc/filesystems` has no aufs.
    pub fn detect() -> Result<Aufs> {
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if knows_aufs(&known) {
            return Ok(Aufs(()));
        }
        Err(Error::new(
            Kind::Unsupported,
            "this kernel has no aufs (/proc/filesystems does not list it): use overlay or copy",
        )
        .of_field("--storage-driver"))
    }
}

impl Driver for Aufs {
    fn name(&self) -> &'static str {
        "aufs"
    }

    fn maps_ids(&self) -> bool {
        false
    }

    fn prepare(&self, container_dir: &Path, image: &Image, owner: Option<u32>) -> Result<Prepared> {
        image.only_layer("aufs")?;
        let upper = container_dir.join("upper");
        own_dir(&upper, owner)?;
        let branches = branches(&upper, image)?;
        Ok(Prepared { rootfs: wire::Rootfs::Aufs { branches }, notes: Vec::new() })
    }

    fn remove(&self, container_dir: &Path) -> Result<()> {
        tree::remove(&container_dir.join("upper"))
    }
}

fn knows_aufs(filesystems: &str) -> bool {
    filesystems.lines().any(|line| line.split_whitespace().next_back() == Some("aufs"))
}

/// The value of aufs's `br` option: the container's branch writable, then the image's layers, read-only, with whiteouts honoured.
fn branches(upper: &Path, image: &Image) -> Result<String> {
    let mut option = format!("{}=rw", branch(upper)?);
    for layer in image.layers() {
        option.push_str(&format!(":{}=ro+wh", branch(layer)?));
    }
    Ok(option)
}

/// A branch's path. aufs has no way to escape what separates branches and options.
fn branch(path: &Path) -> Result<&str> {
    path.to_str().filter(|text| !text.contains([':', '=', ','])).ok_or_else(|| {
        Error::invalid("-i", format!("{path:?} cannot be an aufs branch: its path has a ':', '=' or ','"))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_branch_option_is_as_aufs_spells_it() {
        let image = Image::from_layers(vec![PathBuf::from("/img/top"), PathBuf::from("/img/base")]);
        let option = branches(Path::new("/var/lib/tinyd/containers/x/upper"), &image).unwrap();
        assert_eq!(option, "/var/lib/tinyd/containers/x/upper=rw:/img/top=ro+wh:/img/base=ro+wh");
        for bad in ["/a:b", "/a=rw", "/a,b"] {
            assert!(branches(Path::new("/u"), &Image::from_layers(vec![bad.into()])).is_err(), "{bad}");
        }
    }

    #[test]
    fn aufs_is_a_whole_word_of_the_list() {
        assert!(knows_aufs("nodev\tsysfs\nnodev\taufs\n"));
        assert!(!knows_aufs("nodev\tsysfs\n\taufsx\n"));
    }
}
