//! Applies one layer, a tar stream that is already inflated, to an empty directory: one pass, on directory descriptors. What comes out
//! is a lower layer for overlayfs. It never follows a link of the archive, never mounts, starts no program, and reads nothing twice.
//!
//! What there is a choice about, and what is chosen:
//!
//! | in the archive | here | elsewhere |
//! | --- | --- | --- |
//! | `/a`, `./a`, `a//b` | `a`, `a`, `a/b` | the same |
//! | `..` anywhere in a name | refused | Docker refuses what leads out, umoci resolves it inside |
//! | a symbolic link on the way | refused | Docker and podman follow it inside of the root |
//! | a file on the way | refused | the same |
//! | the same name again | the last entry counts; a directory keeps what is in it, and its looks are the last one's | the same |
//! | a directory in place of something else | it is opaque: so it would be on top of the lower layers | Docker merges it |
//! | a name both hidden and there | it is there, and only what the layer itself has | in Docker the order counts |
//! | `.wh..wh..opq` | for lower layers only | the same |
//! | other `.wh..wh.*` | ignored | the same |
//! | hard link to nothing before it | refused, both named | the same |
//! | a hard link's own owner, mode, times | ignored: they are the target's | GNU tar and umoci: the same |
//! | character device 0:0 | refused: it would be a whiteout | Docker makes it |
//! | other devices, FIFOs, set-id files | made: a container's root is mounted `nodev` | the same |
//! | contents of what is no file | refused | GNU tar skips them, Go ignores their size |
//! | `trusted.*`, `user.overlay.*`, `security.*` but `capability` | left out, with a note | containerd, umoci: the same |
//! | global PAX headers | ignored | Docker, umoci: the same |
//! | no end marker | accepted: the digest says that it is whole | the same |

pub(crate) mod archive;
pub(crate) mod dirs;
mod header;
mod make;
pub(crate) mod name;
mod pax;
mod settle;
mod sparse;
mod stream;
pub(crate) mod xattr;

use std::{io::Read, os::fd::BorrowedFd, path::PathBuf};

use tinyd_core::{Error, Kind, Result};

pub use settle::settle;

/// What a layer may have.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many entries, directories counted that the archive does not mention.
    pub entries_max: u64,
    /// How many bytes of tar stream.
    pub bytes_max: u64,
    /// The largest user and group id.
    pub id_max: u32,
}

impl Default for Rules {
    /// A million entries; any size; the ids of a user namespace of 65,536.
    fn default() -> Rules {
        Rules { entries_max: 1_000_000, bytes_max: u64::MAX, id_max: 65_535 }
    }
}

/// What a layer had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries, directories counted that the archive does not mention.
    pub entries: u64,
    /// Bytes that were written to files.
    pub bytes: u64,
    /// Directories that the archive has things in and does not mention, parents first; the root is the empty path. They are root's,
    /// mode 0755: see [`settle`].
    pub implied: Vec<PathBuf>,
    /// The root itself is opaque: nothing of the layers below is to be seen. Overlayfs does not look at the root's attribute, so who
    /// stacks the layers leaves those below out.
    pub hides_all: bool,
    /// What was left out, one line each.
    pub notes: Vec<String>,
}

/// Applies the archive `tar` to the empty directory `into`, which nobody else changes meanwhile. The stream is read to its end also
/// after the archive's; an interrupted or refused one leaves what was made so far.
///
/// # Errors
/// `InvalidArgument` when the archive breaks a rule, `Exhausted` at a limit or on a full disk, `Unsupported` for an unknown type of
/// entry, `Internal` with the call and the errno. The entry is named.
pub fn apply(tar: &mut dyn Read, into: BorrowedFd<'_>, rules: &Rules) -> Result<Unpacked> {
    let mut archive = archive::Archive::new(tar, rules.bytes_max);
    let mut maker = make::Maker::new(into, rules)?;
    while let Some(entry) = archive.next()? {
        let path = entry.path.clone();
        maker
            .entry(entry, &mut archive)
            .map_err(|error| error.context(format_args!("entry {:?}", String::from_utf8_lossy(&path))))?;
    }
    maker.finish()
}

/// An archive that breaks a rule.
fn malformed(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}
