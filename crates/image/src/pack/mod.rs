//! A tar stream of a directory tree: of an overlay's upper directory the layer that it is, of any directory, or of an overlay's directories
//! on each other, an archive for export.
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
    /// Whether somebody changes the tree meanwhile: what goes is left out, and a file that becomes shorter is filled up with zeros.
    /// Otherwise both are errors, since what is written would be nothing that ever was.
    pub is_live: bool,
}

/// One of the directories that are stacked to a tree: an overlay's upper or lower one.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The directory.
    pub dir: BorrowedFd<'a>,
    /// As [`Rules::ids`].
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

/// Writes `tree` to `out`, end marker included. A file that grows meanwhile is cut.
///
/// # Errors
/// `InvalidArgument` for an id outside of the range, `Unsupported` for an upper directory that refers to lower ones (`redirect_dir`,
/// `metacopy`), `Internal` with the call and the errno. The path is named.
pub fn pack(tree: BorrowedFd<'_>, out: &mut dyn Write, rules: &Rules) -> Result<Packed> {
    let whiteouts = match rules.form {
        Form::Upper => walk::Whiteouts::Written,
        Form::Plain => walk::Whiteouts::Files,
    };
    walk::Walk::new(vec![Part { dir: tree, ids: rules.ids }], out, whiteouts, rules.is_live).run()
}

/// Writes the tree that overlayfs would show of these directories, the uppermost first: whiteouts and opaque directories hide what is
/// below and are not written. Nothing is mounted for it.
///
/// # Errors
/// Those of [`pack`].
pub fn pack_stack(parts: &[Part<'_>], out: &mut dyn Write, is_live: bool) -> Result<Packed> {
    walk::Walk::new(parts.to_vec(), out, walk::Whiteouts::Obeyed, is_live).run()
}
