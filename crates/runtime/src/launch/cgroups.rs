//! What a container sees at /sys/fs/cgroup: copies of its own cgroup directories. That is what a new cgroup mount in a cgroup
//! namespace would show, and it needs neither the namespace nor a right in the user namespace.
//!
//! Where there are several hierarchies a tmpfs lies below them. The caller makes it when it is asked for a view while the first process
//! is busy, puts them on it where the kernel lets it (Linux 6.15), and hands over what there is.

use std::{
    ffi::{CString, OsStr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Kind, Result, json};
use tinyd_sys::{
    Ask,
    cgroup::is_hierarchy,
    mount::{self, Attr, FsContext},
};

use super::{kernel, step};
use crate::cgroup::{Cgroup, own::Own};

const ROOT: &str = "/sys/fs/cgroup";

/// The mounts that make up /sys/fs/cgroup.
#[derive(Debug)]
pub enum View {
    /// v2: one directory.
    Unified(OwnedFd),
    /// v1 and hybrid: one directory per hierarchy, by name.
    Hierarchies {
        /// What lies below them, by [`base`]; none when it is yet to be made.
        base: Option<OwnedFd>,
        /// Name and detached mount; none that are on the base already.
        mounts: Vec<(PathBuf, OwnedFd)>,
        /// The symbolic links between names: name and target.
        links: Vec<(PathBuf, PathBuf)>,
    },
}

/// What is told of a view to a process that its descriptors are handed to.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    Unified,
    Hierarchies { has_base: bool, names: Vec<PathBuf>, links: Vec<(PathBuf, PathBuf)> },
}

impl View {
    /// What is told of it, and the descriptors that go with that.
    ///
    /// # Errors
    /// For a name that is not UTF-8.
    pub(super) fn tell(&self) -> Result<(Vec<u8>, Vec<BorrowedFd<'_>>)> {
        let (told, fds) = match self {
            View::Unified(tree) => (Told::Unified, vec![tree.as_fd()]),
            View::Hierarchies { base, mounts, links } => {
                let names = mounts.iter().map(|(name, _)| name.clone()).collect();
                let fds = base.iter().chain(mounts.iter().map(|(_, tree)| tree)).map(AsFd::as_fd).collect();
                (Told::Hierarchies { has_base: base.is_some(), names, links: links.clone() }, fds)
            }
        };
        let told =
            serde_json::to_vec(&told).map_err(|error| kernel("tell what is seen of the cgroup", &error))?;
        Ok((told, fds))
    }

    /// The view that was told of.
    ///
    /// # Errors
    /// When that cannot be read, or not all of it has come.
    pub(super) fn of_told(told: &[u8], fds: Vec<OwnedFd>) -> Result<View> {
        let told = json::read(told).map_err(|error| kernel("hear what is seen of the cgroup", &error))?;
        let mut fds = fds.into_iter();
        let missing = || Error::new(Kind::Internal, "a view of the cgroup came without its mounts");
        match told {
            Told::Unified => fds.next().map(View::Unified).ok_or_else(missing),
            Told::Hierarchies { has_base, names, links } => {
                let base = if has_base { Some(fds.next().ok_or_else(missing)?) } else { None };
                if fds.len() != names.len() {
                    return Err(missing());
                }
                Ok(View::Hierarchies { base, mounts: names.into_iter().zip(fds).collect(), links })
            }
        }
    }

    /// Makes what lies below its hierarchies, and puts them on it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn with_base(self, attributes: u64) -> tinyd_sys::Result<View> {
        match self {
            View::Hierarchies { base: None, mounts, links } => {
                let base = base(mounts.iter().map(|(name, _)| name.as_path()), &links, attributes)?;
                let put = |(name, tree): &(PathBuf, OwnedFd)| put_on(&base, name, tree, attributes);
                let mounts = match mounts.iter().try_for_each(put) {
                    Ok(()) => Vec::new(),
                    // Before Linux 6.15 nothing can be put on a mount that is attached nowhere itself.
                    Err(error) if error.errno() == Some(libc::EINVAL) => mounts,
                    Err(error) => return Err(error),
                };
                Ok(View::Hierarchies { base: Some(base), mounts, links })
            }
            view @ (View::Unified(_) | View::Hierarchies { .. }) => Ok(view),
        }
    }
}

/// Puts a hierarchy on what lies below all of them.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn put_on(base: &OwnedFd, name: &Path, tree: &OwnedFd, attributes: u64) -> tinyd_sys::Result<()> {
    confine(tree, attributes)?;
    mount::attach_in(tree.as_fd(), base.as_fd(), name)
}

/// Gives the copy of a hierarchy its attributes, and takes it out of the host's peers: what somebody mounts on it inside is not to appear
/// there, over the files that say which processes are the container's.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn confine(tree: &OwnedFd, attributes: u64) -> tinyd_sys::Result<()> {
    let attr = Attr { set: attributes, propagation: libc::MS_PRIVATE, ..Attr::default() };
    mount::set_attr(tree.as_fd(), attr, false)
}

/// A tmpfs, detached and not yet read-only, with a directory for each hierarchy, and links between them.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn base<'a>(
    names: impl Iterator<Item = &'a Path>,
    links: &[(PathBuf, PathBuf)],
    attributes: u64,
) -> tinyd_sys::Result<OwnedFd> {
    let context = FsContext::open("tmpfs")?;
    context.set("source", "tmpfs")?;
    context.set("mode", "755")?;
    let base = context.mount(attributes & !Attr::RDONLY)?;
    for name in names {
        let made = rustix::fs::mkdirat(&base, name, Mode::from_raw_mode(0o755));
        made.ask(format_args!("mkdirat({name:?})"))?;
    }
    for (name, target) in links {
        rustix::fs::symlinkat(target, &base, name).ask(format_args!("symlinkat({name:?})"))?;
    }
    Ok(base)
}

/// What is at /sys/fs/cgroup on a host that has more than v2's: directories that may be hierarchies, and links between names.
#[derive(Debug)]
struct Names {
    dirs: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Names {
    fn read() -> Result<Names> {
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
    Ok(View::Hierarchies { base: None, mounts, links: names.links })
}

fn c_path(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    // Neither a directory entry nor a checked cgroup path has a NUL.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_view_is_what_was_told_of_it() {
        let mounts = || vec![("memory".into(), file()), ("cpu,cpuacct".into(), file())];
        let links: Vec<(PathBuf, PathBuf)> = vec![("cpu".into(), "cpu,cpuacct".into())];
        for base in [None, Some(file())] {
            let has_base = base.is_some();
            let view = View::Hierarchies { base, mounts: mounts(), links: links.clone() };
            let (told, fds) = view.tell().unwrap();
            assert_eq!(fds.len(), 2 + usize::from(has_base));
            let fds = fds.iter().map(|fd| fd.try_clone_to_owned().unwrap());
            let heard = View::of_told(&told, fds.clone().collect()).unwrap();
            let View::Hierarchies { base, mounts: heard, links: heard_links } = heard else {
                panic!("{heard:?}")
            };
            let names = |mounts: &[(PathBuf, OwnedFd)]| {
                mounts.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
            };
            assert_eq!((base.is_some(), names(&heard), &heard_links), (has_base, names(&mounts()), &links));
            // Not all of it has come.
            assert!(View::of_told(&told, fds.skip(1).collect()).is_err());
        }
        let unified = View::Unified(file());
        let (told, fds) = unified.tell().unwrap();
        assert_eq!(fds.len(), 1);
        assert!(matches!(View::of_told(&told, vec![file()]), Ok(View::Unified(_))));
        assert!(View::of_told(&told, Vec::new()).is_err());
    }
}
