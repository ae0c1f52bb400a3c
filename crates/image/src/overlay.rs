//! overlayfs: the image's layers read-only below, an upper directory of the container's own above.

use std::{
    fs::DirBuilder,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::Path,
};

use tinyd_core::{Result, wire};

use crate::{Driver, Image, Prepared, failed, tree};

/// The overlay driver.
#[derive(Clone, Copy, Debug)]
pub struct Overlay;

impl Driver for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn prepare(&self, container_dir: &Path, image: &Image, owner: Option<u32>) -> Result<Prepared> {
        let (upper, work) = (container_dir.join("upper"), container_dir.join("work"));
        own_dir(&upper, owner)?;
        own_dir(&work, owner)?;
        let rootfs = wire::Rootfs::Overlay { lower: image.layers().to_vec(), upper, work };
        Ok(Prepared { rootfs, notes: Vec::new() })
    }

    fn remove(&self, container_dir: &Path) -> Result<()> {
        tree::remove(&container_dir.join("upper"))?;
        tree::remove(&container_dir.join("work"))
    }
}

/// A directory of the container's root user, mode 0755: it is what the container sees as `/`.
pub(crate) fn own_dir(path: &Path, owner: Option<u32>) -> Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => {}
        // From an earlier start; its mode and owner are the container's to change.
        Err(source) if source.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(source) => return Err(failed(format_args!("mkdir({path:?})"), source)),
    }
    let set = || {
        // The umask of the daemon may have taken bits away. Asking costs less than a journal's entry.
        if path.metadata()?.mode() & 0o7777 != 0o755 {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))?;
        }
        if owner.is_some() { chown(path, owner, owner) } else { Ok(()) }
    };
    set().map_err(|source| failed(format_args!("chown({path:?})"), source))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_upper_directory_is_the_containers_and_kept() {
        let dir = std::env::temp_dir().join(format!("tinyd-overlay-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let image = Image::from_layers(vec![PathBuf::from("/b"), PathBuf::from("/a")]);
        let made = Overlay.prepare(&dir, &image, None).unwrap();
        let wire::Rootfs::Overlay { lower, upper, work } = made.rootfs else { panic!("not overlay") };
        assert_eq!(lower, image.layers());
        assert_eq!((upper.metadata().unwrap().mode() & 0o7777, work.exists()), (0o755, true));
        std::fs::write(upper.join("kept"), "").unwrap();
        Overlay.prepare(&dir, &image, None).unwrap();
        assert!(upper.join("kept").exists());
        Overlay.remove(&dir).unwrap();
        assert!(!upper.exists() && !work.exists());
        Overlay.remove(&dir).unwrap();
        tree::remove(&dir).unwrap();
    }
}
