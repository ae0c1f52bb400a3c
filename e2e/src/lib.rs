//! The end-to-end harness: every test gets a host of its own (network and mount namespace), a daemon of its own, and the
//! real binaries; when the test ends the harness proves that nothing is left.
//!
//! Nothing here knows the product's insides: it speaks the command line, and reads the kernel.

mod archive;
mod host;
mod image;
mod leaks;
mod output;
pub mod promises;
mod pty;
mod registry;
mod sandbox;
mod wait;

pub use archive::{Recipe, archive, archive_for, sha256};
pub use host::Host;
pub use image::{busybox, debian, helper};
pub use output::{Background, Output};
pub use pty::Terminal;
pub use registry::{Dam, PASSWORD, Registry, USER};
pub use sandbox::{Options, Sandbox};
pub use wait::{patience, wait_for};

use std::{io::Write, path::PathBuf};

/// The directory of the binaries under test.
///
/// # Panics
/// When `TINYD_BIN_DIR` does not name a directory with both.
#[must_use]
pub fn bin_dir() -> PathBuf {
    let dir = PathBuf::from(std::env::var_os("TINYD_BIN_DIR").unwrap_or_default());
    for binary in ["tinyd", "tinyrun"] {
        assert!(
            dir.join(binary).is_file(),
            "TINYD_BIN_DIR={}: no {binary} there; `./test e2e` builds both and sets it",
            dir.display()
        );
    }
    dir
}

/// Says that a test cannot run here, and why. The line is counted by `./test`, which reads the file named by
/// `TINYD_E2E_SKIPS`; the test's own result must not count as passed there.
pub fn skip(test: &str, why: &str) {
    let line = format!("skipped {test}: {why}\n");
    // Written past libtest's capture, so that it is seen in a green run as well.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(file) = std::env::var_os("TINYD_E2E_SKIPS") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}
