//! What is mounted where: the configuration's mounts as sources that the parent opens and mounts that the child makes.

mod dev;
mod idmap;
#[cfg(test)]
mod tests;

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use rustix::fs::FileType;
use tinyd_core::{Error, Kind, Result, oci};
use tinyd_sys::{fs::Node, mount::Attr, ns::flag};

pub(crate) use self::dev::read_only_dev;
use self::dev::{bound_devices, dev, last_dev};
use super::{
    devices::{self, Dev},
    namespaces::{IdMaps, Namespaces},
    options::{self, Options},
};
use crate::caller::Caller;

/// A detached mount that the parent prepares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where the configuration names it.
    pub field: String,
    /// What it is.
    pub what: SourceKind,
    /// Whose ids it shows.
    pub idmap: Idmap,
}

impl Source {
    /// Whether it is opened when the ids of the container's user namespace are mapped, and not before.
    pub(crate) fn waits_for_ids(&self) -> bool {
        matches!(self.idmap, Idmap::Container { .. })
    }

    /// Whether it is made anew, of nothing that the host might not have.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.what, SourceKind::Dev { .. })
    }
}

/// What a [`Source`] is a mount of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// The root file system.
    Root {
        /// Propagation from and to the host, for a root that is a directory of the host: `MS_…`.
        propagation: u64,
        /// Attributes of the mount.
        attributes: u64,
    },
    /// A file or directory of the host.
    Path {
        /// Absolute.
        path: CString,
        /// With the mounts below.
        recursive: bool,
        /// What is changed on the copy, in order: attributes, and whether on the mounts below too.
        changes: Vec<(Attr, bool)>,
        /// Whether it has to be a procfs.
        must_be_proc: bool,
    },
    /// The host's own node of a device, for a container that may make none.
    Device {
        /// Absolute, and the same in the container.
        path: CString,
        /// What it has to be.
        node: Node,
    },
    /// The message queues of a namespace that is joined, for a user namespace that has no right over it.
    Queues {
        /// The namespace's file.
        ipc: String,
        /// Attributes of the mount.
        attributes: u64,
    },
    /// A tmpfs with device nodes.
    Dev {
        /// Nodes and owner.
        dev: Dev,
        /// Options of the tmpfs.
        data: Vec<(String, Option<String>)>,
        /// Attributes of the mount.
        attributes: u64,
    },
}

/// Whose ids a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Idmap {
    /// The host's.
    No,
    /// The container's.
    Container {
        /// On the mounts below too.
        recursive: bool,
        /// Whether a file system that cannot is an error; it is a warning otherwise.
        required: bool,
    },
    /// Those of a map of its own.
    Own {
        /// The map.
        ids: IdMaps,
        /// On the mounts below too.
        recursive: bool,
    },
}

/// A mount that the child makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where the configuration names it, and its destination.
    pub field: String,
    /// Where, absolute and clean.
    pub destination: PathBuf,
    /// What.
    pub what: What,
}

impl Mount {
    /// Whether it is of a new file system that belongs to none of the container's namespaces, unless that has users of its own: whoever makes
    /// it makes the same. A devpts is none such: one that is made in the machine's first mount namespace may give out the terminals that are
    /// kept for the host (`kernel.pty.reserve`; fs/devpts/inode.c).
    pub(crate) fn is_anybodys(&self) -> bool {
        matches!(&self.what, What::Fs { kind, copy_up: false, .. } if kind == "tmpfs")
    }
}

/// What the child mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The parent's source of this index.
    Source(usize),
    /// A new file system.
    Fs {
        /// Its type.
        kind: String,
        /// What it is called in the list of mounts.
        source: Option<String>,
        /// Its options.
        data: Vec<(String, Option<String>)>,
        /// Attributes and propagation of the mount.
        attr: Attr,
        /// Whether it begins with a copy of what it covers.
        copy_up: bool,
    },
    /// A device node, made where it is and not mounted.
    Node(Node),
    /// Another state of the mount that is there.
    Remount {
        /// What is changed on it, in order: attributes, and whether on the mounts below too.
        changes: Vec<(Attr, bool)>,
        /// What its file system is told, unless it is left alone.
        data: Option<Vec<(String, Option<String>)>>,
    },
    /// The container's own cgroups.
    Cgroup {
        /// Attributes of the mounts.
        attributes: u64,
        /// Whether it is to be v2's, where the host's controllers are on v1 too.
        unified: bool,
    },
}

/// What may be mounted below /proc: single files that say how much the machine has, as lxcfs does.
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/kernel/ns_last_pid",
];

/// Whether a mount may lie on this file of /proc.
#[must_use]
pub fn may_cover_proc(destination: &Path) -> bool {
    PROC_FILES.iter().any(|file| destination == Path::new(file))
}

/// What the mounts of a configuration are read with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What relative sources are relative to.
    pub bundle: &'a Path,
    /// The container's namespaces.
    pub namespaces: &'a Namespaces,
    /// Extra device nodes.
    pub devices: &'a [oci::Device],
    /// The SELinux label of what is mounted anew.
    pub label: Option<&'a str>,
    /// What option the label is.
    pub label_option: &'a str,
    /// Who asks for the container.
    pub caller: Caller,
    /// Whether the root's mounts are shared with the host's (`linux.rootfsPropagation`): a shared mount's own are then, too.
    pub shares: bool,
}

/// File systems whose label is the policy's and not the container's.
const UNLABELLED: [&str; 3] = ["proc", "sysfs", "mqueue"];

/// Reads `mounts`; sources are added to `sources`.
///
/// # Errors
/// `InvalidArgument` and `Unsupported` with the field and the rule.
pub fn plan(mounts: &[oci::Mount], context: Context<'_>, sources: &mut Vec<Source>) -> Result<Vec<Mount>> {
    let mut planned = Vec::with_capacity(mounts.len() + 1);
    if !mounts.iter().any(|mount| clean(&mount.destination) == Path::new("/dev")) {
        // Every container has the standard devices; they never go into the image.
        let tmpfs = oci::Mount {
            destination: "/dev".into(),
            kind: Some("tmpfs".into()),
            source: Some("tmpfs".into()),
            options: ["nosuid", "noexec", "mode=755", "size=65536k"].map(str::to_owned).to_vec(),
            ..oci::Mount::default()
        };
        planned.push(one("linux.devices", &tmpfs, context, sources)?);
        planned.extend(bound_devices(context, sources)?);
    }
    for (at, mount) in mounts.iter().enumerate() {
        let mount = one(&format!("mounts[{at}]"), mount, context, sources)?;
        let is_dev = matches!(sources.last(), Some(Source { what: SourceKind::Dev { .. }, .. }));
        if let (What::Fs { copy_up: false, .. }, Some(dev)) = (&mount.what, last_dev(sources)) {
            dev.add_place(&mount.destination);
        }
        planned.push(mount);
        if is_dev {
            planned.extend(bound_devices(context, sources)?);
        }
    }
    for (field, path, node) in devices::elsewhere(context.devices)? {
        planned.push(device(&field, path, node, context, sources)?);
    }
    Ok(planned)
}

/// Reads mounts for a container that runs; they are named as those of its configuration. Sources are added to `sources`.
///
/// # Errors
/// As [`plan`]; `Unsupported` for what is made at creation alone.
pub fn more(mounts: &[oci::Mount], context: Context<'_>, sources: &mut Vec<Source>) -> Result<Vec<Mount>> {
    let mut planned = Vec::with_capacity(mounts.len());
    for (at, mount) in mounts.iter().enumerate() {
        let field = format!("mounts[{at}]");
        let mount = one(&field, mount, context, sources)?;
        let is_dev = sources.last().is_some_and(|source| matches!(source.what, SourceKind::Dev { .. }));
        if is_dev || matches!(mount.what, What::Cgroup { .. }) {
            let message = "it is mounted when a container is made, and not later";
            return Err(Error::new(Kind::Unsupported, message).of_field(mount.field));
        }
        planned.push(mount);
    }
    Ok(planned)
}

/// The places of mounts that are to be taken away.
///
/// # Errors
/// `InvalidArgument` for one that [`may_be_uncovered`] denies.
pub fn places(mounts: &[oci::Mount]) -> Result<Vec<PathBuf>> {
    let place = |(at, mount): (usize, &oci::Mount)| {
        let field = format!("mounts[{at}]");
        let place = destination(&field, &mount.destination, false)?;
        if may_be_uncovered(&place) {
            return Ok(place);
        }
        Err(Error::invalid(format!("{field}.destination"), format!("{place:?} has to stay")))
    };
    mounts.iter().enumerate().map(place).collect()
}

/// Whether the mount at this place of a container may be taken away: not its root, not /dev, and nothing in /proc and /sys, where
/// mounts keep the host's files from it.
#[must_use]
pub fn may_be_uncovered(place: &Path) -> bool {
    let keeps = ["/proc", "/sys"].iter().any(|dir| place.starts_with(dir)) && !may_cover_proc(place);
    !keeps && place != Path::new("/") && place != Path::new("/dev")
}

/// A device that is not in /dev. A user namespace cannot make one, only show one that is there.
fn device(
    field: &str,
    destination: PathBuf,
    node: Node,
    context: Context<'_>,
    sources: &mut Vec<Source>,
) -> Result<Mount> {
    check_proc(field, &destination, false)?;
    let field = format!("{field} ({})", destination.display());
    let makes_nodes = context.caller.makes_nodes() && !context.namespaces.has(flag::USER);
    let what = if !makes_nodes && node.kind != FileType::Fifo {
        let path = CString::new(destination.as_os_str().as_bytes())
            .map_err(|_| Error::invalid(field.as_str(), "its path has a NUL"))?;
        let what = SourceKind::Device { path, node };
        sources.push(Source { field: field.clone(), what, idmap: Idmap::No });
        What::Source(sources.len() - 1)
    } else {
        What::Node(node)
    };
    Ok(Mount { field, destination, what })
}

fn one(field: &str, mount: &oci::Mount, context: Context<'_>, sources: &mut Vec<Source>) -> Result<Mount> {
    let options = options::parse(&format!("{field}.options"), &mount.options)?;
    let destination = destination(field, &mount.destination, options.remount)?;
    let named = format!("{field} ({})", destination.display());
    if options.remount {
        check_proc(field, &destination, true)?;
        idmap::refuse(field, mount, &options)?;
        return Ok(Mount { field: named, destination, what: remount(options) });
    }
    if options.copy_up && (mount.kind.as_deref() != Some("tmpfs") || destination == Path::new("/dev")) {
        return Err(Error::invalid(format!("{field}.options"), "tmpcopyup is for a tmpfs, and not for /dev"));
    }
    let what = match classify(mount, &options, &destination, context) {
        Class::Bind { path, recursive } => {
            check_proc(field, &destination, true)?;
            sources.push(bind(&named, mount, &options, &path, recursive, &destination, context)?);
            What::Source(sources.len() - 1)
        }
        Class::Dev => {
            idmap::refuse(field, mount, &options)?;
            let dev = dev(context)?;
            let data = labelled(options.data, context.label, context.label_option);
            let what = SourceKind::Dev { dev, data, attributes: options.whole.set };
            sources.push(Source { field: named.clone(), what, idmap: Idmap::No });
            What::Source(sources.len() - 1)
        }
        Class::Queues { ipc } => {
            check_proc(field, &destination, false)?;
            idmap::refuse(field, mount, &options)?;
            let what = SourceKind::Queues { ipc, attributes: options.whole.set };
            sources.push(Source { field: named.clone(), what, idmap: Idmap::No });
            What::Source(sources.len() - 1)
        }
        Class::Cgroup => {
            check_proc(field, &destination, false)?;
            let unified = mount.kind.as_deref() == Some("cgroup2");
            What::Cgroup { attributes: options.whole.set, unified }
        }
        Class::Fs { kind } => {
            check_proc(field, &destination, kind == "proc")?;
            idmap::refuse(field, mount, &options)?;
            let source = mount.source.clone().filter(|source| !source.is_empty() && *source != kind);
            let attr = Attr { clear: 0, ..options.whole };
            let label = context.label.filter(|_| !UNLABELLED.contains(&kind.as_str()));
            let mut data = labelled(options.data, label, context.label_option);
            if kind == "devpts" {
                data.retain(|option| is_mapped(option, context.namespaces));
            }
            What::Fs { kind, source, data, attr, copy_up: options.copy_up }
        }
    };
    Ok(Mount { field: named, destination, what })
}

fn labelled(mut data: FsData, label: Option<&str>, option: &str) -> FsData {
    if !data.iter().any(|(key, _)| key == option) {
        data.extend(label.map(|label| (option.to_owned(), Some(label.to_owned()))));
    }
    data
}

/// Whether an option names no owner that this container does not have. Its terminals belong to the group `tty` in every configuration,
/// and few ordinary users have that to give: they belong to their user's group then.
fn is_mapped((key, value): &(String, Option<String>), namespaces: &Namespaces) -> bool {
    let id = value.as_deref().and_then(|value| value.parse::<u32>().ok());
    let (Some(ids), Some(id)) = (namespaces.id_maps(), id) else { return true };
    match key.as_str() {
        "uid" => ids.host_uid(id).is_some(),
        "gid" => ids.host_gid(id).is_some(),
        _ => true,
    }
}

/// What a file system is told: a name, and a value where it takes one.
type FsData = Vec<(String, Option<String>)>;

/// Only what the options name is changed. With `bind` that is the mount alone; otherwise it is the file system too, as mount(8) has it.
fn remount(options: Options) -> What {
    let mut changes = in_order(&options);
    changes.retain(|(attr, _)| !attr.is_empty());
    let mut data = options.data;
    for (bits, word) in [(options.attr.set, "ro"), (options.attr.clear, "rw")] {
        if bits & Attr::RDONLY != 0 {
            data.push((word.to_owned(), None));
        }
    }
    What::Remount { changes, data: (options.bind.is_none() && !data.is_empty()).then_some(data) }
}

enum Class {
    Bind { path: String, recursive: bool },
    Dev,
    Queues { ipc: String },
    Cgroup,
    Fs { kind: String },
}

fn classify(mount: &oci::Mount, options: &Options, destination: &Path, context: Context<'_>) -> Class {
    let kind = mount.kind.as_deref().unwrap_or("");
    if let Some(recursive) = options.bind.or((kind == "bind").then_some(false)) {
        return Class::Bind { path: mount.source.clone().unwrap_or_default(), recursive };
    }
    // In a user namespace the container has no right to a new view of what is the host's; it gets the host's view.
    let in_user_namespace = context.namespaces.has(flag::USER) || context.caller.is_rootless();
    let foreign = |owner: u64| in_user_namespace && !context.namespaces.has(owner);
    // A network that is joined belongs to a user namespace that was there before.
    let has_network = !context.namespaces.makes(flag::USER) || context.namespaces.makes(flag::NET);
    match kind {
        "sysfs" if foreign(flag::NET) || !has_network => Class::Bind { path: "/sys".into(), recursive: true },
        "proc" if foreign(flag::PID) => Class::Bind { path: "/proc".into(), recursive: true },
        "mqueue" if foreign(flag::IPC) => Class::Bind { path: "/dev/mqueue".into(), recursive: false },
        "mqueue" if context.namespaces.makes(flag::USER) => match context.namespaces.joined(flag::IPC) {
            Some(join) => Class::Queues { ipc: join.path.clone() },
            None => Class::Fs { kind: kind.to_owned() },
        },
        "cgroup" | "cgroup2" => Class::Cgroup,
        "tmpfs" if destination == Path::new("/dev") => Class::Dev,
        "" => Class::Bind { path: mount.source.clone().unwrap_or_default(), recursive: false },
        kind => Class::Fs { kind: kind.to_owned() },
    }
}

fn bind(
    named: &str,
    mount: &oci::Mount,
    options: &Options,
    path: &str,
    recursive: bool,
    destination: &Path,
    context: Context<'_>,
) -> Result<Source> {
    if path.is_empty() {
        return Err(Error::invalid(named, "a bind mount needs a source"));
    }
    if let Some(word) = &options.own_word {
        let message = match mount.kind.as_deref() {
            Some(kind @ ("proc" | "sysfs" | "mqueue")) if options.bind.is_none() => {
                format!(
                    "{word:?} is for a {kind} of the container's own, and in its user namespace it sees the host's"
                )
            }
            _ => format!("{word:?} is no option of a bind mount, which has none of a file system's"),
        };
        return Err(Error::invalid(named, message));
    }
    let path = context.bundle.join(path);
    let path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(named, "its source has a NUL"))?;
    let must_be_proc = destination == Path::new("/proc");
    let carries_out = context.shares && !context.namespaces.has(flag::USER);
    let changes = changes(options, recursive, carries_out);
    let what = SourceKind::Path { path, recursive, changes, must_be_proc };
    Ok(Source { field: named.to_owned(), what, idmap: idmap::of(named, mount, options, context.namespaces)? })
}

/// What is changed on the copy of a mount. Without a word about it, nothing that is mounted on either side shows on the other.
fn changes(options: &Options, recursive: bool, carries_out: bool) -> Vec<(Attr, bool)> {
    let mut changes = if recursive { in_order(options) } else { vec![(options.whole, false)] };
    if options.whole.propagation == 0 {
        changes[0].0.propagation = libc::MS_PRIVATE;
    }
    changes.retain(|(attr, _)| !attr.is_empty());
    if !carries_out && changes.iter().any(|(attr, _)| attr.propagation == libc::MS_SHARED) {
        // A copy shared with the host would carry mounts of the container's root out to it: it follows the host instead, and
        // shares from there.
        changes.insert(0, (Attr { propagation: libc::MS_SLAVE, ..Attr::default() }, recursive));
    } else if recursive && !carries_out && options.whole.propagation != 0 && options.attr_all.propagation == 0
    {
        // The word is about the mount alone: those below would stay what they are, the host's peers.
        changes.insert(0, (Attr { propagation: libc::MS_SLAVE, ..Attr::default() }, true));
    }
    changes
}

/// The mounts below and then the mount itself, on which words of either kind have had their say.
fn in_order(options: &Options) -> Vec<(Attr, bool)> {
    let one = if options.attr.is_empty() { Attr::default() } else { options.whole };
    vec![(options.attr_all, true), (one, false)]
}

/// Nothing is mounted on /proc but a procfs, and below it nothing but the files of [`PROC_FILES`]: a process's view of itself
/// (`/proc/self/attr/exec`) is what other protections are told by.
fn check_proc(field: &str, destination: &Path, may_be_proc: bool) -> Result<()> {
    let allowed = match destination.strip_prefix("/proc") {
        Err(_) => true,
        Ok(below) if below.as_os_str().is_empty() => may_be_proc,
        Ok(_) => may_cover_proc(destination),
    };
    if allowed {
        return Ok(());
    }
    Err(Error::invalid(
        format!("{field}.destination"),
        format!("{:?}: nothing may be mounted there", destination),
    ))
}

fn destination(field: &str, text: &str, may_be_root: bool) -> Result<PathBuf> {
    let field = || format!("{field}.destination");
    if text.is_empty() || text.contains('\0') {
        return Err(Error::invalid(field(), format!("{text:?} is not a path")));
    }
    let path = clean(text);
    if path == Path::new("/") && !may_be_root {
        return Err(Error::invalid(field(), "nothing can be mounted on the root itself"));
    }
    Ok(path)
}

/// Warns about destinations that begin at no `/`, which the specification has them do. They are taken from the root, as by others.
pub fn relative(mounts: &[oci::Mount]) -> impl Iterator<Item = String> {
    let listed = mounts.iter().enumerate().filter(|(_, mount)| !mount.destination.starts_with('/'));
    listed.map(|(at, mount)| {
        format!("mounts[{at}].destination: {:?} is not absolute, and taken from the root", mount.destination)
    })
}

/// An absolute path without `.`, `..` and doubled slashes, as its words say.
#[must_use]
pub fn clean(text: &str) -> PathBuf {
    let mut parts: Vec<&OsStr> = Vec::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let mut path = PathBuf::from("/");
    path.extend(parts);
    path
}
