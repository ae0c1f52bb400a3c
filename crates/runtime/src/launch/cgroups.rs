//! What a container sees at /sys/fs/cgroup: copies of its own cgroup directories. That is what a new cgroup mount in a cgroup
//! namespace would show, and it needs neither the namespace nor a right in the user namespace.

use std::{
    ffi::{CString, OsStr},
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use tinyd_core::Result;
use tinyd_sys::{cgroup::is_hierarchy, mount};

use super::{kernel, step};
use crate::cgroup::{Cgroup, own::Own};

const ROOT: &str = "/sys/fs/cgroup";

/// The mounts that make up /sys/fs/cgroup.
#[derive(Debug)]
pub enum View {
    /// v2: one directory.
    Unified(OwnedFd),
    /// v1 and hybrid: one directory per hierarchy, by name, and symbolic links between names.
    Hierarchies {
        /// Name and detached mount.
        mounts: Vec<(PathBuf, OwnedFd)>,
        /// Name and target.
        links: Vec<(PathBuf, PathBuf)>,
    },
}

/// What is at /sys/fs/cgroup on a host that has more than v2's: directories that may be hierarchies, and links between names.
#[derive(Debug)]
pub(crate) struct Names {
    dirs: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Names {
    /// Looks there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn read() -> Result<Names> {
        let entries = std::fs::read_dir(ROOT).map_err(|error| kernel(&format!("read {ROOT}"), &error))?;
        let mut names = Names { dirs: Vec::new(), links: Vec::new() };
        for entry in entries {
            let entry = entry.map_err(|error| kernel(&format!("read {ROOT}"), &error))?;
            let name = PathBuf::from(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                names.links.extend(std::fs::read_link(entry.path()).ok().map(|target| (name, target)));
            } else {
                names.dirs.push(name);
            }
        }
        Ok(names)
    }

    /// Opens the container's view of its cgroup: for each directory whether there is one, and those that there are. In another process that has
    /// read the same names, [`Names::view`] makes a view of it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn open(&self, cgroup: &Cgroup) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
        let below = cgroup.path().trim_start_matches('/');
        let trees = self.trees(|name| cgroup.hierarchy(name), |_| Some(below))?;
        let there = trees.iter().map(|tree| u8::from(tree.is_some())).collect();
        Ok((there, trees.into_iter().flatten().collect()))
    }

    /// The view that [`Names::open`] has opened.
    pub(super) fn view(&self, there: &[u8], trees: Vec<OwnedFd>) -> View {
        let names =
            self.dirs.iter().zip(there).filter(|(_, there)| **there != 0).map(|(name, _)| name.clone());
        View::Hierarchies { mounts: names.zip(trees).collect(), links: self.links.clone() }
    }

    /// `known` are the directories that are open already, by the names of their hierarchies; `below` is where it is in the others.
    fn trees<'a>(
        &self,
        known: impl Fn(&OsStr) -> Option<BorrowedFd<'a>>,
        below: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Vec<Option<OwnedFd>>> {
        let open = |name: &PathBuf| {
            let place = Path::new(ROOT).join(name);
            let tree = match known(name.as_os_str()) {
                Some(dir) => mount::clone_fd(dir, false),
                None => match below(&name.to_string_lossy()).filter(|_| is_hierarchy(&place)) {
                    Some(below) => mount::clone_path(&c_path(&place.join(below)), false),
                    None => return Ok(None),
                },
            };
            match tree {
                Ok(tree) => Ok(Some(tree)),
                Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
                Err(error) => Err(step("open the cgroup")(error)),
            }
        };
        self.dirs.iter().map(open).collect()
    }
}

/// Who opens a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Who has opened the cgroup's directories.
    Caller,
    /// The first process, from a mount namespace of its own: what has been opened in another one cannot be copied to it.
    Inside,
}

/// Opens the container's view of its cgroup. A container without one sees its caller's, where it is.
///
/// # Errors
/// The kernel's refusal. A hierarchy that does not have the cgroup is left out.
pub(super) fn open(cgroup: &Cgroup, side: Side) -> Result<View> {
    if cgroup.is_somewhere() {
        let below = cgroup.path().trim_start_matches('/');
        let known = |name: &OsStr| cgroup.hierarchy(name).filter(|_| side == Side::Caller);
        return view(cgroup.clone_fd().is_some(), known, |_| Some(below));
    }
    let own = Own::read()?;
    view(own.is_unified(), |_| None, |hierarchy| own.below(hierarchy))
}

fn view<'a>(
    unified: bool,
    known: impl Fn(&OsStr) -> Option<BorrowedFd<'a>>,
    below: impl Fn(&str) -> Option<&'a str>,
) -> Result<View> {
    if unified {
        let dir = c_path(&Path::new(ROOT).join(below("unified").unwrap_or_default()));
        return mount::clone_path(&dir, false).map(View::Unified).map_err(step("open the cgroup"));
    }
    let names = Names::read()?;
    let trees = names.trees(known, below)?;
    let mounts = names.dirs.into_iter().zip(trees).filter_map(|(name, tree)| Some((name, tree?))).collect();
    Ok(View::Hierarchies { mounts, links: names.links })
}

fn c_path(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    // Neither a directory entry nor a checked cgroup path has a NUL.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}
