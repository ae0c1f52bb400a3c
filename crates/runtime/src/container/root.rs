//! Where the records are: a directory with one of its own for each container, whose name is the id.

use std::{
    io,
    path::{Path, PathBuf},
};

use tinyd_core::{Error, Kind, Result};

use super::record::Place;
use crate::{caller::Caller, launch::kernel};

/// Where the records are.
#[derive(Clone, Debug)]
pub struct Root(pub(super) PathBuf);

impl Root {
    /// The records' directory: `given`, or the usual one. It is made when a container is. Whoever gets its path may work elsewhere than
    /// this process does (a mount of a container, who answers for it while it runs): it is absolute.
    ///
    /// # Errors
    /// When `given` is relative to a working directory that is gone.
    pub fn new(given: Option<PathBuf>) -> Result<Root> {
        let usual = || {
            let private = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty() && !is_root());
            private.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("tinyrun")
        };
        let dir = given.unwrap_or_else(usual);
        std::path::absolute(&dir)
            .map(Root)
            .map_err(|error| kernel(&format!("--root {}", dir.display()), &error))
    }

    /// The ids of all records.
    ///
    /// # Errors
    /// When the directory cannot be read; one that is missing has none.
    pub(super) fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(kernel(&format!("read {}", self.0.display()), &error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| kernel(&format!("read {}", self.0.display()), &error))?;
            // What is no directory is nobody's record.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                ids.extend(entry.file_name().into_string().ok().filter(|id| check_id(id).is_ok()));
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The place of one container, which may not exist.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no id.
    pub(super) fn place(&self, id: &str) -> Result<Place> {
        check_id(id)?;
        Ok(Place { id: id.to_owned(), dir: self.0.join(id) })
    }
}

/// Whether this process is root as the machine's users know it: not somebody who is root of a user namespace alone, and has kept the
/// user's name.
fn is_root() -> bool {
    let keeps_name = std::env::var_os("USER").is_none_or(|user| user != "root");
    let in_namespace =
        || Caller::of_this_process().is_ok_and(|caller| matches!(caller, Caller::Namespace { .. }));
    rustix::process::geteuid().is_root() && !(keeps_name && in_namespace())
}

/// Who is not root has its own place for records.
pub(super) fn not_ours(root: &Path, error: &io::Error) -> Error {
    let made = kernel(&format!("make {}", root.display()), error);
    if error.kind() != io::ErrorKind::PermissionDenied {
        return made;
    }
    let hint = "who is not root sets XDG_RUNTIME_DIR or gives --root";
    Error::new(Kind::PermissionDenied, format!("{}; {hint}", made.message()))
}

/// The specification leaves ids open; these are safe as a file name and in a cgroup path.
fn check_id(id: &str) -> Result<()> {
    const BYTES_MAX: usize = 1024;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
    if !id.is_empty() && id.len() <= BYTES_MAX && id != "." && id != ".." && id.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::invalid("id", format!("{id:?} is not a container id: letters, digits, '_', '+', '-' and '.'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_records_is_absolute() {
        let here = std::env::current_dir().unwrap();
        for (given, dir) in [("records", here.join("records")), ("/run/x", "/run/x".into())] {
            assert_eq!(Root::new(Some(given.into())).unwrap().0, dir, "{given}");
        }
    }

    #[test]
    fn ids_are_safe_names() {
        for good in ["a", "web.1", "A_b+c-d", "..a"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a\n", "é", &"x".repeat(1025)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }
}
