//! The mounts that the caller prepares: detached, so that none of them is ever seen in the host's mount namespace and nothing is
//! left of them when anyone dies.

use std::{
    ffi::{CStr, CString},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use tinyd_core::{Error, Kind, Result, error::chain, wire::Rootfs};
use tinyd_sys::{
    fs,
    mount::{self, Attr, FsContext},
    ns::{self, Proc},
};

use super::{
    ids, step,
    sync::{Phase, Sync},
};
use crate::{
    init,
    plan::{
        Plan, Supply,
        devices::{Dev, LINKS},
        mounts::{Idmap, Source, SourceKind},
    },
};

/// What sources are opened with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// What the root is made of.
    pub(crate) rootfs: &'a Rootfs,
    /// What relative paths are relative to.
    pub(crate) bundle: &'a Path,
    /// The host's procfs.
    pub(crate) proc: &'a Proc,
    /// The container's user namespace, once it exists.
    pub(crate) userns: Option<BorrowedFd<'a>>,
}

/// Opens every source that does not wait for the container's user namespace; the others are left out.
///
/// # Errors
/// As [`open`].
pub(super) fn open_early(
    plan: &Plan,
    context: Context<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Option<OwnedFd>>> {
    with_exact_modes(|| open_some(plan, context, warnings, |source| !source.waits_for_ids()))
}

fn open_some(
    plan: &Plan,
    context: Context<'_>,
    warnings: &mut Vec<String>,
    is_wanted: impl Fn(&Source) -> bool,
) -> Result<Vec<Option<OwnedFd>>> {
    let mut open = |source| open(source, context, warnings);
    plan.sources.iter().map(|source| is_wanted(source).then(|| open(source)).transpose()).collect()
}

/// Makes what steps take, and hands it to the first process one by one, which takes the first while the others are made. What the host may
/// not have is opened before: nothing is made in the root then.
///
/// # Errors
/// As [`open`]; what the process has said when it has ended.
pub(super) fn hand_over(
    plan: &Plan,
    context: Context<'_>,
    warnings: &mut Vec<String>,
    sync: &mut Sync,
) -> Result<()> {
    with_exact_modes(|| {
        let is_the_hosts = |source: &Source| !source.waits_for_ids() && !source.is_new();
        let mut there = open_some(plan, context, warnings, is_the_hosts)?;
        let mut make = |supply| match supply {
            Supply::Source(at) => match (there.get_mut(at).and_then(Option::take), plan.sources.get(at)) {
                (Some(source), _) => Ok(source),
                (None, Some(source)) => open(source, context, warnings),
                (None, None) => Err(init::impossible("a source of no plan")),
            },
            Supply::Fs(mount) => init::file_system(mount),
        };
        plan.supplies().try_for_each(|supply| sync.say(Phase::Cgroup, b"", &[make(supply)?.as_fd()]))
    })
}

/// What is made meanwhile has its mode, whatever the umask is.
pub(super) fn with_exact_modes<T>(make: impl FnOnce() -> T) -> T {
    let umask = rustix::process::umask(Mode::empty());
    let made = make();
    rustix::process::umask(umask);
    made
}

/// Opens a source.
///
/// # Errors
/// `InvalidArgument` for a path that is not there, `Unsupported` for a file system that cannot show other ids.
pub(crate) fn open(source: &Source, context: Context<'_>, warnings: &mut Vec<String>) -> Result<OwnedFd> {
    match &source.what {
        SourceKind::Root { propagation, attributes } => {
            let root = root(*propagation, &source.idmap, context)?;
            let attr = Attr { set: *attributes, ..Attr::default() };
            mount::set_attr(root.as_fd(), attr, false).map_err(step("root"))?;
            Ok(root)
        }
        SourceKind::Dev { dev, data, attributes } => {
            make_dev(dev, data, *attributes).map_err(step(&source.field))
        }
        SourceKind::Queues { ipc, attributes } => ids::queues_of(&source.field, ipc, *attributes),
        SourceKind::Device { path, node } => {
            let tree =
                mount::clone_path(path, false).map_err(|error| missing(&source.field, path, &error))?;
            if !fs::is_node(tree.as_fd(), node).map_err(step(&source.field))? {
                let message =
                    format!("the host's {path:?} is another device, and a user namespace can make none");
                return Err(Error::invalid(source.field.as_str(), message));
            }
            // What is mounted on it inside would be on the host's, too.
            let attr = Attr { propagation: libc::MS_PRIVATE, ..Attr::default() };
            mount::set_attr(tree.as_fd(), attr, false).map_err(step(&source.field))?;
            Ok(tree)
        }
        SourceKind::Path { path, recursive, changes, must_be_proc } => {
            let mut tree =
                mount::clone_path(path, *recursive).map_err(|error| missing(&source.field, path, &error))?;
            if *must_be_proc {
                let checked = Proc::of_mount(tree).map_err(|_| {
                    Error::invalid(
                        source.field.as_str(),
                        format!("{path:?} is not a procfs, and only one is mounted there"),
                    )
                })?;
                tree = checked.into_mount();
            }
            map_ids(&tree, source, path, context, warnings)?;
            for (attr, below) in changes {
                mount::set_attr(tree.as_fd(), *attr, *below)
                    .map_err(|error| locked(&source.field, path, *attr, error))?;
            }
            Ok(tree)
        }
    }
}

/// What a mount came with into a user namespace stays: nosuid and the like, and how access times are kept.
fn locked(field: &str, path: &CStr, attr: Attr, error: tinyd_sys::Error) -> Error {
    if attr.clear == 0 || error.errno() != Some(libc::EPERM) {
        return step(field)(error);
    }
    let rule = format!(
        "the host mounts {} with an attribute that is to be taken away here, and only root may: {}",
        path.to_string_lossy(),
        chain(&error)
    );
    Error::invalid(field, rule)
}

fn missing(field: &str, path: &CStr, error: &tinyd_sys::Error) -> Error {
    let absent = matches!(error.errno(), Some(libc::ENOENT | libc::ENOTDIR));
    if absent {
        return Error::invalid(field, format!("its source {} does not exist", path.to_string_lossy()));
    }
    Error::new(Kind::Internal, chain(error)).of_field(field)
}

fn map_ids(
    tree: &OwnedFd,
    source: &Source,
    path: &CStr,
    context: Context<'_>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let own;
    let (userns, recursive, required) = match &source.idmap {
        Idmap::No => return Ok(()),
        Idmap::Container { recursive, required } => (context.userns, *recursive, *required),
        Idmap::Own { ids, recursive } => {
            own = ids::namespace_of(context.proc, ids)?;
            (Some(own.as_fd()), *recursive, true)
        }
    };
    let Some(userns) = userns else { return Ok(()) };
    match mount::set_idmap(tree.as_fd(), userns, recursive) {
        Ok(()) => Ok(()),
        Err(error) if !required => {
            let path = path.to_string_lossy();
            warnings.push(format!(
                "{path} shows the host's ids: its file system cannot map them ({})",
                chain(&error)
            ));
            Ok(())
        }
        Err(error) => Err(cannot_map(&source.field, path, &error)),
    }
}

fn cannot_map(field: &str, path: &CStr, error: &tinyd_sys::Error) -> Error {
    let path = path.to_string_lossy();
    Error::new(Kind::Unsupported, format!("the file system of {path} cannot map ids: {}", chain(error)))
        .of_field(field)
}

/// The root file system.
fn root(propagation: u64, idmap: &Idmap, context: Context<'_>) -> Result<OwnedFd> {
    let userns = if *idmap == Idmap::No { None } else { context.userns };
    match context.rootfs {
        Rootfs::Overlay { lower, upper, work } => overlay(lower, upper, work, userns),
        Rootfs::Aufs { branches } => aufs(branches),
        Rootfs::Directory { path } => {
            let path = c_path(&context.bundle.join(path))?;
            // The mounts below come along, as they do when a runtime binds the directory.
            let tree = mount::clone_path(&path, true).map_err(|error| missing("root.path", &path, &error))?;
            if tinyd_sys::fs::file_type(tree.as_fd()).map_err(step("root.path"))?
                != rustix::fs::FileType::Directory
            {
                return Err(Error::invalid(
                    "root.path",
                    format!("{} is not a directory", path.to_string_lossy()),
                ));
            }
            if let Some(userns) = userns {
                mount::set_idmap(tree.as_fd(), userns, false)
                    .map_err(|error| cannot_map("root", &path, &error))?;
            }
            let attr = Attr { propagation, ..Attr::default() };
            mount::set_attr(tree.as_fd(), attr, true).map_err(step("root"))?;
            Ok(tree)
        }
    }
}

fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    // A mount that exists nowhere else ends with its descriptor, and overlay wants it alive when it is created.
    let layers = lower.iter().map(|layer| layer_mount(layer, userns)).collect::<Result<Vec<_>>>()?;
    let (upper_dir, work_dir) = (open_dir(upper)?, open_dir(work)?);
    let context = overlay_context().map_err(step("mount the root"))?;
    let by_descriptor = layers
        .iter()
        .map(|layer| ("lowerdir+", layer))
        .chain([("upperdir", &upper_dir), ("workdir", &work_dir)])
        .try_for_each(|(option, dir)| context.fd(option, dir.as_fd()));
    let root = match by_descriptor.and_then(|()| context.mount(0)) {
        Ok(root) => root,
        // Before Linux 6.13 overlay takes paths alone (EINVAL), before 6.5 it was not told that there are others (EOPNOTSUPP). Before 6.15 it
        // takes no descriptor that is only a path (EBADF), and no layer that is attached nowhere (EINVAL).
        Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EBADF)) => {
            overlay_by_path(lower, &layers, upper, work, userns.is_some())?
        }
        Err(error) => return Err(step("mount the root")(error)),
    };
    writable(root, upper)
}

/// An overlay whose upper directory says by itself what the container has changed: a directory that is moved is copied, and a file
/// whose looks change is copied whole, whatever the kernel was built to do. It can be read as a layer then.
fn overlay_context() -> tinyd_sys::Result<FsContext<'static>> {
    let context = FsContext::open("overlay")?;
    let options = [("source", "overlay"), ("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];
    options.iter().try_for_each(|(option, value)| context.set(option, value))?;
    Ok(context)
}

/// A layer as a mount that exists nowhere else, with the container's ids.
fn layer_mount(layer: &Path, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let path = c_path(layer)?;
    let tree = mount::clone_path(&path, false).map_err(|error| missing("root", &path, &error))?;
    if let Some(userns) = userns {
        mount::set_idmap(tree.as_fd(), userns, false).map_err(|error| cannot_map("root", &path, &error))?;
    }
    Ok(tree)
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| super::kernel(&format!("mount the root: open({path:?})"), &error))
}

/// The same for kernels that take paths. Those of open descriptors are short and have no colon, comma or backslash in them; but a
/// mount has a path only where it is attached, and nothing of ours may be seen in the host's mounts. So this process leaves
/// them first: from then on it follows the host's mounts and keeps its own to itself.
fn overlay_by_path(
    lower: &[PathBuf],
    layers: &[OwnedFd],
    upper: &Path,
    work: &Path,
    mapped: bool,
) -> Result<OwnedFd> {
    if mapped {
        leave_the_hosts_mounts()?;
    }
    // Opened after leaving: overlay wants directories of the mounts that this process sees.
    let plain = lower.iter().map(|layer| open_dir(layer)).collect::<Result<Vec<_>>>()?;
    let (upper, work) = (open_dir(upper)?, open_dir(work)?);
    if mapped {
        let mut pairs = layers.iter().zip(&plain);
        pairs
            .try_for_each(|(tree, dir)| mount::attach(tree.as_fd(), dir.as_fd()))
            .map_err(step("mount the root"))?;
    }
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let dirs: Vec<String> = if mapped { layers } else { &plain }.iter().map(path).collect();
    let context = overlay_context().map_err(step("mount the root"))?;
    let options = [("lowerdir", dirs.join(":")), ("upperdir", path(&upper)), ("workdir", path(&work))];
    options
        .iter()
        .try_for_each(|(option, value)| context.set(option, value))
        .map_err(step("mount the root"))?;
    let root = context.mount(0).map_err(step("mount the root"));
    for dir in dirs.iter().filter(|_| mapped) {
        // It would end with this process anyway; overlay has a copy of its own.
        let _ = rustix::mount::unmount(dir.as_str(), rustix::mount::UnmountFlags::DETACH);
    }
    root
}

/// Gives this process mounts of its own, which follow the host's and are not seen there.
fn leave_the_hosts_mounts() -> Result<()> {
    ns::unshare(ns::flag::MOUNT)
        .and_then(|()| mount::set_propagation(c"/", libc::MS_REC | libc::MS_SLAVE))
        .map_err(step("leave the host's mounts"))
}

/// overlayfs mounts read-only, with no error but a line in the kernel's log, when it cannot make its work directory.
fn writable(root: OwnedFd, upper: &Path) -> Result<OwnedFd> {
    if mount::is_read_only(root.as_fd()).map_err(step("check the root"))? {
        let rule = format!(
            "overlay of {} came out read-only: its file system cannot hold a writable layer",
            upper.display()
        );
        return Err(Error::new(Kind::Unsupported, rule));
    }
    Ok(root)
}

fn aufs(branches: &str) -> Result<OwnedFd> {
    let context = FsContext::open("aufs").map_err(|error| {
        let rule = format!("this kernel has no aufs: {}", chain(&error));
        Error::new(Kind::Unsupported, rule).of_field("--storage-driver")
    })?;
    context.set("source", "none").map_err(step("mount the root"))?;
    context.set("br", branches).map_err(step("mount the root"))?;
    context.mount(0).map_err(step("mount the root"))
}

/// A tmpfs with device nodes, made here since a user namespace cannot make any.
fn make_dev(dev: &Dev, data: &[(String, Option<String>)], attributes: u64) -> tinyd_sys::Result<OwnedFd> {
    let context = FsContext::open("tmpfs")?;
    context.set("source", "tmpfs")?;
    for (key, value) in data {
        match value {
            Some(value) => context.set(key, value)?,
            None => context.flag(key)?,
        }
    }
    let root = context.mount(attributes & !Attr::NODEV)?;
    fs::chown(root.as_fd(), Path::new("."), dev.owner.0, dev.owner.1)?;
    for (name, node) in &dev.nodes {
        make_parents(root.as_fd(), name, dev.owner)?;
        fs::make_node(root.as_fd(), name, node)?;
    }
    for name in &dev.places {
        // Whoever mounts there makes it where it is missing, and tells why it cannot be.
        if rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(0o755)).is_ok() {
            fs::chown(root.as_fd(), name, dev.owner.0, dev.owner.1)?;
        }
    }
    for (name, target) in LINKS {
        use tinyd_sys::Ask;
        rustix::fs::symlinkat(target, &root, name).ask(format_args!("symlinkat({target:?}, {name:?})"))?;
        fs::chown(root.as_fd(), Path::new(name), dev.owner.0, dev.owner.1)?;
    }
    Ok(root)
}

fn make_parents(dev: BorrowedFd<'_>, name: &Path, owner: (u32, u32)) -> tinyd_sys::Result<()> {
    use tinyd_sys::Ask;
    let mut parents: Vec<&Path> =
        name.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
    parents.reverse();
    for parent in parents {
        match rustix::fs::mkdirat(dev, parent, Mode::from_raw_mode(0o755)) {
            Ok(()) => fs::chown(dev, parent, owner.0, owner.1)?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).ask(format_args!("mkdirat({parent:?})")),
        }
    }
    Ok(())
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("root", format!("{path:?} has a NUL")))
}
