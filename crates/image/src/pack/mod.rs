//! A tar stream of a directory tree: of an overlay's upper directory the layer that it is, of any directory an archive for export.
//! Follows no link, crosses no mount, opens nothing but regular files and directories, and writes the same tree as the same bytes.

mod walk;
pub(crate) mod writer;

use std::{io::Write, os::fd::BorrowedFd};

use tinyd_core::Result;

/// What is written of a tree, and how.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What the tree is.
    pub form: Form,
    /// The first of the host's ids that stand for 0 and upwards in the archive, and how many there are. Others are refused by name.
    pub ids: (u32, u32),
}

/// What a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The upper directory of an overlay: character devices 0:0 and opaque directories become whiteouts.
    Upper,
    /// A directory as it is.
    Plain,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of files' contents.
    pub bytes: u64,
    /// Sockets, which an archive cannot hold, and mount points' contents, which are not the tree's: left out.
    pub skipped: u64,
}

/// Writes `tree` to `out`, end marker included. A file that becomes shorter meanwhile is an error, one that grows is cut.
///
/// # Errors
/// `InvalidArgument` for an id outside of the range, `Unsupported` for an upper directory that refers to lower ones (`redirect_dir`,
/// `metacopy`), `Internal` with the call and the errno. The path is named.
pub fn pack(tree: BorrowedFd<'_>, out: &mut dyn Write, rules: &Rules) -> Result<Packed> {
    walk::Walk::new(tree, out, rules).run()
}
