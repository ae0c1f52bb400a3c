//! What a container sees at /sys/fs/cgroup: copies of its own cgroup directories. That is what a new cgroup mount in a cgroup
//! namespace would show, and it needs neither the namespace nor a right in the user namespace.

use std::{
    ffi::CString,
    os::fd::OwnedFd,
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

/// Opens the container's view of its cgroup. A container without one sees its caller's, where it is.
///
/// # Errors
/// The kernel's refusal. A hierarchy that does not have the cgroup is left out.
pub(super) fn open(cgroup: &Cgroup) -> Result<View> {
    if cgroup.is_somewhere() {
        let below = cgroup.path().trim_start_matches('/');
        return view(cgroup.clone_fd().is_some(), |_| Some(below));
    }
    let own = Own::read()?;
    view(own.is_unified(), |hierarchy| own.below(hierarchy))
}

fn view<'a>(unified: bool, below: impl Fn(&str) -> Option<&'a str>) -> Result<View> {
    if unified {
        let dir = c_path(&Path::new(ROOT).join(below("unified").unwrap_or_default()));
        return mount::clone_path(&dir, false).map(View::Unified).map_err(step("open the cgroup"));
    }
    let entries = std::fs::read_dir(ROOT).map_err(|error| kernel(&format!("read {ROOT}"), &error))?;
    let (mut mounts, mut links) = (Vec::new(), Vec::new());
    for entry in entries {
        let entry = entry.map_err(|error| kernel(&format!("read {ROOT}"), &error))?;
        let name = PathBuf::from(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            links.extend(std::fs::read_link(entry.path()).ok().map(|target| (name, target)));
        } else if let Some(below) = below(&name.to_string_lossy()).filter(|_| is_hierarchy(&entry.path())) {
            match mount::clone_path(&c_path(&entry.path().join(below)), false) {
                Ok(tree) => mounts.push((name, tree)),
                Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
                Err(error) => return Err(step("open the cgroup")(error)),
            }
        }
    }
    Ok(View::Hierarchies { mounts, links })
}

fn c_path(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    // Neither a directory entry nor a checked cgroup path has a NUL.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}
