//! Applying layers and writing them, on real files. Needs root: device nodes, owners and `trusted.*` attributes are made.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod compare;
mod facts;
mod layer;
mod maker;
mod pack;
mod rules;
mod strangers;

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::fs::{Mode, OFlags};
use tinyd_core::Error;
use tinyd_image::unpack::{Rules, Unpacked, apply};

/// A directory of a test's own, gone with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tinyd-unpack-{}-{number}", std::process::id()));
        tinyd_image::tree::remove(&path).unwrap();
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A new directory in it.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        std::fs::create_dir(self.path(name)).unwrap();
        self.path(name)
    }

    /// Applies an archive to a new directory.
    pub(crate) fn apply(&self, name: &str, tar: &[u8]) -> Result<Unpacked, Error> {
        self.apply_by(name, tar, &Rules::default())
    }

    pub(crate) fn apply_by(&self, name: &str, mut tar: &[u8], rules: &Rules) -> Result<Unpacked, Error> {
        apply(&mut tar, open(&self.dir(name)).as_fd(), rules)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = tinyd_image::tree::remove(&self.0);
    }
}

pub(crate) fn open(dir: &Path) -> OwnedFd {
    rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}
