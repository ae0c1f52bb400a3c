//! What can be seen of a tree, so that two can be compared.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// A tree by path; the root is the empty one.
pub(crate) type Facts = BTreeMap<PathBuf, Fact>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) ids: (u32, u32),
    pub(crate) size: u64,
    pub(crate) hash: u64,
    /// Nanoseconds since 1970.
    pub(crate) mtime: i128,
    pub(crate) link: PathBuf,
    /// The first name of the same file.
    pub(crate) same_as: PathBuf,
    pub(crate) device: u64,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

pub(crate) fn facts(root: &Path) -> Facts {
    let (mut all, mut names) = (Facts::new(), HashMap::new());
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        all.insert(path, fact(&full, &meta));
    }
    for (path, fact) in &mut all {
        let meta = fs::symlink_metadata(root.join(path)).unwrap();
        fact.same_as = names.entry(meta.ino()).or_insert_with(|| path.clone()).clone();
    }
    all
}

fn fact(path: &Path, meta: &fs::Metadata) -> Fact {
    let kind = meta.file_type();
    let mut hasher = DefaultHasher::new();
    if kind.is_file() {
        fs::read(path).unwrap().hash(&mut hasher);
    }
    Fact {
        kind: match () {
            () if kind.is_dir() => "directory",
            () if kind.is_file() => "file",
            () if kind.is_symlink() => "link",
            () if kind.is_char_device() => "character",
            () if kind.is_block_device() => "block",
            () if kind.is_fifo() => "fifo",
            () => "socket",
        },
        mode: meta.mode() & 0o7777,
        ids: (meta.uid(), meta.gid()),
        size: if kind.is_dir() { 0 } else { meta.size() },
        hash: hasher.finish(),
        mtime: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        link: if kind.is_symlink() { fs::read_link(path).unwrap() } else { PathBuf::new() },
        same_as: PathBuf::new(),
        device: if kind.is_char_device() || kind.is_block_device() { meta.rdev() } else { 0 },
        xattrs: xattrs(path),
    }
}

pub(crate) fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 64 << 10];
    let size = rustix::fs::llistxattr(path, list.as_mut_slice()).unwrap();
    let names = list[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let size = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        value.truncate(size);
        value
    };
    names.map(|name| (String::from_utf8_lossy(name).into_owned(), value(name))).collect()
}

/// Differences, one line each, at most twenty.
pub(crate) fn differences(left: &Facts, right: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    for path in left.keys().chain(right.keys().filter(|path| !left.contains_key(*path))) {
        let (one, other) = (left.get(path), right.get(path));
        if one != other {
            lines.push(format!(
                "{:?}:\n  {one:?}\n  {other:?}",
                path.as_os_str().as_bytes().escape_ascii().to_string()
            ));
        }
    }
    lines.truncate(20);
    lines
}
