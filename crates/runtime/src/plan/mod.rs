//! Decides: a configuration becomes data that the parent and the child act on without a decision of their own.
//!
//! Nothing here touches the kernel; every refusal names the field at fault.

pub mod annotations;
pub mod devices;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod hooks;
pub mod mounts;
pub mod namespaces;
pub mod netdev;
pub mod numa;
pub mod options;
mod order;
pub mod process;
#[cfg(test)]
mod properties;
pub mod sysctl;

use std::path::{Path, PathBuf};

use tinyd_core::{Error, Kind, Result, oci};
use tinyd_sys::{creds::CapSet, mount::Attr, ns::flag};

use self::{
    hooks::Hooks,
    mounts::{Idmap, Mount, Source, SourceKind, What},
    namespaces::Namespaces,
    process::ProcessPlan,
    sysctl::Sysctl,
};
use crate::caller::Caller;

/// Everything about a container that is to be made.
#[derive(Debug)]
pub struct Plan {
    /// Namespaces to make and to join.
    pub namespaces: Namespaces,
    /// Mounts that the parent prepares; the first is the root.
    pub sources: Vec<Source>,
    /// What the child does, in order.
    pub steps: Vec<Step>,
    /// What the child becomes.
    pub process: ProcessPlan,
    /// Offsets of a new time namespace, as /proc/PID/timens_offsets takes them.
    pub time_offsets: Option<String>,
    /// Network devices of the host that it gets.
    pub net_devices: Vec<netdev::NetDevice>,
    /// Programs that run at points of its life.
    pub hooks: Hooks,
    /// What the specification wants warned about.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether `lo` of a new network is to be brought up, and can be as late as before the program: nothing sees it before.
    pub(crate) fn lo_can_wait(&self) -> bool {
        self.steps.contains(&Step::Network) && !self.steps.iter().any(Step::sees_lo)
    }

    /// What a step takes that its process need not make.
    pub(crate) fn supply<'a>(&self, step: &'a Step) -> Option<Supply<'a>> {
        if let Step::Root { .. } = step {
            return Some(Supply::Source(0));
        }
        let Step::Mount(mount) = step else { return None };
        if let What::Source(at) = mount.what {
            return Some(Supply::Source(at));
        }
        let is_anybodys = mount.is_anybodys() && !self.namespaces.has(flag::USER);
        is_anybodys.then_some(Supply::Fs(mount))
    }

    /// What all steps take so, in their order, but for what waits until ids are mapped.
    pub(crate) fn supplies(&self) -> impl Iterator<Item = Supply<'_>> {
        let waits = |at: &usize| self.sources.get(*at).is_some_and(Source::waits_for_ids);
        let supplies = self.steps.iter().filter_map(|step| self.supply(step));
        supplies.filter(move |supply| !matches!(supply, Supply::Source(at) if waits(at)))
    }

    /// Whether one of its mounts shows something below the host's cgroups, which may be the container's own.
    pub(crate) fn shows_hosts_cgroups(&self) -> bool {
        self.sources.iter().any(|source| {
            let SourceKind::Path { path, .. } = &source.what else { return false };
            path.to_bytes().starts_with(b"/sys/fs/cgroup/")
        })
    }
}

/// What a step takes that its process need not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supply<'a> {
    /// The source of this index.
    Source(usize),
    /// The file system of this mount.
    Fs(&'a Mount),
}

/// One thing that the child does on the way to its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sets the hostname.
    Hostname(String),
    /// Sets the domain name.
    Domainname(String),
    /// Brings `lo` up and makes the socket through which the network is set up later.
    Network,
    /// Cuts the copies of the host's mounts off from the host.
    DetachFromHost,
    /// Puts the root over the old one, or at this place of it.
    Root {
        /// Absolute; where hooks look for it.
        place: Option<PathBuf>,
    },
    /// Mounts.
    Mount(Mount),
    /// Makes the working directory where it is missing.
    WorkingDirectory(PathBuf),
    /// Runs the caller's hooks and those of the container's namespaces.
    Hooks,
    /// Makes a terminal, and mounts it on /dev/console.
    Terminal,
    /// Writes a sysctl.
    Sysctl(Sysctl),
    /// Makes a path read-only.
    ReadOnly(PathBuf),
    /// Makes a path unreadable.
    Mask(PathBuf),
    /// Makes the root itself read-only.
    ReadOnlyRoot,
    /// Leaves the old root.
    Pivot,
    /// Changes the root, where the old one cannot be left.
    Chroot,
    /// Sets the propagation of the new one.
    RootPropagation(u64),
}

impl Step {
    /// The attributes of a mount that shows the container its cgroup, when this is one.
    pub(crate) fn shows_cgroup(&self) -> Option<u64> {
        if let Step::Mount(Mount { what: What::Cgroup { attributes, .. }, .. }) = self {
            return Some(*attributes);
        }
        None
    }

    /// Whether it makes a difference to it whether `lo` is up.
    fn sees_lo(&self) -> bool {
        *self == Step::Hooks || matches!(self, Step::Sysctl(sysctl) if sysctl.owner == flag::NET)
    }

    /// Whether its process has to be in its cgroup for it: the cgroup is seen, or hooks look for it, or the image has a say in how much is
    /// written to memory.
    pub(crate) fn needs_cgroup(&self) -> bool {
        let fills_memory = matches!(self, Step::Mount(Mount { what: What::Fs { copy_up: true, .. }, .. }));
        fills_memory || *self == Step::Hooks || self.shows_cgroup().is_some()
    }
}

/// What a plan is made from, beside the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What relative paths are relative to.
    pub bundle: &'a Path,
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// Whether the root shows the container's ids.
    pub idmap_root: bool,
    /// The id maps of a user namespace that is joined.
    pub joined_ids: Option<&'a namespaces::IdMaps>,
    /// Whether the old root stays below the new one.
    pub no_pivot: bool,
    /// Who asks for the container.
    pub caller: Caller,
}

/// Turns a configuration into a plan.
///
/// # Errors
/// `InvalidArgument` with the field and the rule; `Unsupported` for what this runtime does not do.
pub fn plan(spec: &oci::Spec, context: Context<'_>) -> Result<Plan> {
    check_version(spec)?;
    let default = oci::Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&default);
    let process = spec.process.as_ref().ok_or_else(|| Error::invalid("process", "a process is needed"))?;
    let mut warnings: Vec<String> = mounts::relative(&spec.mounts).collect();
    let mut namespaces = namespaces::plan(linux)?;
    namespaces.joined_ids = context.joined_ids.cloned();
    let mut process = process::plan(process, linux, &mut warnings)?;
    process.keep_groups(&spec.annotations);
    let mut sources = vec![root_source(linux, &namespaces, &process, context)?];
    let hooks = hooks::plan(spec.hooks.as_ref(), &spec.annotations)?;
    let steps = steps(spec, linux, &namespaces, (&process, &hooks), context, &mut sources)?;
    let time_offsets = time_offsets(linux, &namespaces)?;
    let net_devices = netdev::plan(linux, &namespaces)?;
    Ok(Plan { namespaces, sources, steps, process, time_offsets, net_devices, hooks, warnings })
}

fn root_source(
    linux: &oci::Linux,
    namespaces: &Namespaces,
    process: &ProcessPlan,
    context: Context<'_>,
) -> Result<Source> {
    // What the host mounts below a directory shows in the container only when the configuration says so.
    let propagation = match propagation(linux)? {
        Some(libc::MS_SLAVE) => libc::MS_SLAVE,
        Some(_) | None => libc::MS_PRIVATE,
    };
    let idmap = if context.idmap_root && namespaces.makes(flag::USER) {
        Idmap::Container { recursive: false, required: true }
    } else {
        Idmap::No
    };
    let attributes = if opens_devices(linux, namespaces, process)? { 0 } else { Attr::NODEV };
    Ok(Source { field: "root".into(), what: SourceKind::Root { propagation, attributes }, idmap })
}

/// Whether device nodes on the root are for use: the container makes some, or the configuration has some put there. All others came
/// with the image and are not the container's to open, whatever the list of devices says.
fn opens_devices(linux: &oci::Linux, namespaces: &Namespaces, process: &ProcessPlan) -> Result<bool> {
    if namespaces.has(flag::USER) {
        // The capability makes no device there, and those of the configuration are mounts.
        return Ok(false);
    }
    let can_make = CapSet::number("CAP_MKNOD").is_some_and(|mknod| process.capabilities.bounding.has(mknod));
    Ok(can_make || !devices::elsewhere(&linux.devices)?.is_empty())
}

fn steps(
    spec: &oci::Spec,
    linux: &oci::Linux,
    namespaces: &Namespaces,
    (process, hooks): (&ProcessPlan, &Hooks),
    context: Context<'_>,
    sources: &mut Vec<Source>,
) -> Result<Vec<Step>> {
    /// How many steps there are that come once.
    const SINGLE: usize = 13;
    // At once: what it grows out of is not had again (`tinyd_sys::heap`).
    let lists = [linux.sysctl.len(), linux.readonly_paths.len(), linux.masked_paths.len(), spec.mounts.len()];
    let mut steps = Vec::with_capacity(lists.iter().sum::<usize>() + SINGLE);
    steps.extend(names(spec, namespaces)?);
    if namespaces.makes(flag::NET) {
        steps.push(Step::Network);
    }
    if !namespaces.has(flag::USER) || !namespaces.makes(flag::MOUNT) {
        // For a user namespace the kernel cuts them off itself when it copies them.
        steps.push(Step::DetachFromHost);
    }
    let place = spec.root.as_ref().filter(|_| hooks.at_creation());
    steps.push(Step::Root { place: place.map(|root| context.bundle.join(&root.path)) });
    let label = linux.mount_label.as_deref().filter(|label| !label.is_empty());
    let mounts_context = mounts::Context {
        bundle: context.bundle,
        namespaces,
        devices: &linux.devices,
        label,
        label_option: annotations::context(&spec.annotations)?,
        caller: context.caller,
        shares: shares(linux)?,
    };
    steps.extend(mounts::plan(&spec.mounts, mounts_context, sources)?.into_iter().map(Step::Mount));
    let read_only_dev = mounts::read_only_dev(sources).map(Step::Mount);
    steps.push(Step::WorkingDirectory(process.cwd.clone()));
    if hooks.at_creation() {
        // What they mount is masked and made read-only like the rest.
        steps.push(Step::Hooks);
    }
    if context.terminal {
        steps.push(Step::Terminal);
    }
    steps.extend(read_only_dev);
    steps.extend(sysctl::plan(&linux.sysctl, namespaces)?.into_iter().map(Step::Sysctl));
    steps.extend(paths("linux.readonlyPaths", &linux.readonly_paths)?.into_iter().map(Step::ReadOnly));
    steps.extend(paths("linux.maskedPaths", &linux.masked_paths)?.into_iter().map(Step::Mask));
    if spec.root.as_ref().is_some_and(|root| root.readonly) {
        steps.push(Step::ReadOnlyRoot);
    }
    steps.push(if context.no_pivot { Step::Chroot } else { Step::Pivot });
    order::put_off_cgroup(&mut steps);
    match propagation(linux)? {
        Some(libc::MS_PRIVATE | libc::MS_SLAVE) | None => {}
        Some(flag) => steps.push(Step::RootPropagation(flag | recursion(linux))),
    }
    Ok(steps)
}

fn names(spec: &oci::Spec, namespaces: &Namespaces) -> Result<Vec<Step>> {
    const BYTES_MAX: usize = 64;
    let mut steps = Vec::new();
    let both = [("hostname", &spec.hostname), ("domainname", &spec.domainname)];
    for (field, name) in both {
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else { continue };
        if !namespaces.has(flag::UTS) {
            return Err(Error::invalid(field, "it needs a uts namespace in linux.namespaces"));
        }
        if name.len() > BYTES_MAX {
            return Err(Error::invalid(field, format!("{name:?} is too long: at most {BYTES_MAX} bytes")));
        }
        if name.chars().any(char::is_control) {
            return Err(Error::invalid(field, format!("{name:?} has a control character")));
        }
        let step = if field == "hostname" { Step::Hostname } else { Step::Domainname };
        steps.push(step(name.clone()));
    }
    Ok(steps)
}

fn paths(field: &str, paths: &[String]) -> Result<Vec<PathBuf>> {
    let one = |(at, path): (usize, &String)| {
        if path.starts_with('/') && !path.contains('\0') {
            return Ok(mounts::clean(path));
        }
        Err(Error::invalid(format!("{field}[{at}]"), format!("{path:?} is not an absolute path")))
    };
    paths.iter().enumerate().map(one).collect()
}

fn propagation(linux: &oci::Linux) -> Result<Option<u64>> {
    Ok(match linux.rootfs_propagation.as_deref() {
        None | Some("") => None,
        Some("private" | "rprivate") => Some(libc::MS_PRIVATE),
        Some("slave" | "rslave") => Some(libc::MS_SLAVE),
        Some("shared" | "rshared") => Some(libc::MS_SHARED),
        Some("unbindable" | "runbindable") => Some(libc::MS_UNBINDABLE),
        Some(other) => {
            let rule = format!(
                "{other:?} is none of shared, slave, private, unbindable, with or without an r before it"
            );
            return Err(Error::invalid("linux.rootfsPropagation", rule));
        }
    })
}

/// Whether what is mounted in the container on a shared mount is mounted on the host too.
pub(crate) fn shares(linux: &oci::Linux) -> Result<bool> {
    Ok(propagation(linux)? == Some(libc::MS_SHARED))
}

fn recursion(linux: &oci::Linux) -> u64 {
    if linux.rootfs_propagation.as_deref().is_some_and(|word| word.starts_with('r')) {
        libc::MS_REC
    } else {
        0
    }
}

fn time_offsets(linux: &oci::Linux, namespaces: &Namespaces) -> Result<Option<String>> {
    if linux.time_offsets.is_empty() {
        return Ok(None);
    }
    if !namespaces.makes(flag::TIME) {
        return Err(Error::invalid(
            "linux.timeOffsets",
            "they need a new time namespace in linux.namespaces",
        ));
    }
    let mut lines = String::new();
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::invalid(
                "linux.timeOffsets",
                format!("{clock:?} is neither monotonic nor boottime"),
            ));
        }
        lines.push_str(&format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
    }
    Ok(Some(lines))
}

/// A version that this runtime does not know may mean what it does not do.
fn check_version(spec: &oci::Spec) -> Result<()> {
    if !spec.oci_version.starts_with("1.") {
        let rule = format!("{:?} is not a version that this runtime reads: 1.x", spec.oci_version);
        return Err(Error::new(Kind::Unsupported, rule).of_field("ociVersion"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> oci::Spec {
        let process =
            oci::Process { args: vec!["sh".into()], cwd: "/work".into(), ..oci::Process::default() };
        let namespaces = [oci::NamespaceKind::Mount, oci::NamespaceKind::Pid, oci::NamespaceKind::Uts]
            .map(|kind| oci::Namespace { kind, path: None })
            .to_vec();
        let linux = oci::Linux {
            namespaces,
            masked_paths: vec!["/proc/kcore".into()],
            readonly_paths: vec!["/proc/sys".into()],
            ..oci::Linux::default()
        };
        oci::Spec {
            oci_version: "1.2.0".into(),
            root: Some(oci::Root { path: "rootfs".into(), readonly: true }),
            process: Some(process),
            hostname: Some("web".into()),
            linux: Some(linux),
            ..oci::Spec::default()
        }
    }

    fn context() -> Context<'static> {
        Context {
            bundle: Path::new("/bundle"),
            terminal: false,
            idmap_root: false,
            joined_ids: None,
            no_pivot: false,
            caller: Caller::Machine,
        }
    }

    fn refused(change: impl FnOnce(&mut oci::Spec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        plan(&spec, context()).unwrap_err().to_string()
    }

    #[test]
    fn the_steps_come_in_the_order_that_protects() {
        let steps = plan(&spec(), context()).unwrap().steps;
        let at = |wanted: &Step| steps.iter().position(|step| step == wanted).unwrap();
        // Nothing is mounted before the host is cut off; what needs a writable root comes before it is read-only; masks come
        // after everything that could be mounted over them.
        assert!(at(&Step::DetachFromHost) < at(&Step::Root { place: None }));
        assert!(at(&Step::WorkingDirectory("/work".into())) < at(&Step::ReadOnlyRoot));
        assert!(at(&Step::ReadOnly("/proc/sys".into())) < at(&Step::Mask("/proc/kcore".into())));
        assert!(at(&Step::ReadOnlyRoot) < at(&Step::Pivot));
        let last_mount = steps.iter().rposition(|step| matches!(step, Step::Mount(_))).unwrap();
        assert!(last_mount < at(&Step::ReadOnly("/proc/sys".into())));
    }

    #[test]
    fn what_is_seen_of_the_cgroup_comes_after_what_is_covered() {
        let mut spec = spec();
        let mount = |kind: &str, destination: &str| oci::Mount {
            kind: Some(kind.to_owned()),
            destination: destination.to_owned(),
            ..oci::Mount::default()
        };
        spec.mounts = vec![mount("proc", "/proc"), mount("sysfs", "/sys"), mount("cgroup", "/sys/fs/cgroup")];
        let network = oci::Namespace { kind: oci::NamespaceKind::Network, path: None };
        spec.linux.as_mut().unwrap().namespaces.push(network);
        let plan = plan(&spec, context()).unwrap();
        let at = |wanted: &dyn Fn(&Step) -> bool| plan.steps.iter().position(wanted).unwrap();
        let view = at(&|step| step.shows_cgroup().is_some());
        assert!(at(&|step| *step == Step::Mask("/proc/kcore".into())) < view);
        assert!(at(&|step| *step == Step::Pivot) < view);
        assert!(plan.lo_can_wait() && !plan.shows_hosts_cgroups());
    }

    #[test]
    fn what_others_can_make_is_listed_as_steps_take_it() {
        let mut spec = spec();
        let mount = |kind: &str, destination: &str, options: &[&str]| oci::Mount {
            kind: Some(kind.to_owned()),
            source: Some("/host".to_owned()),
            destination: destination.to_owned(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            ..oci::Mount::default()
        };
        spec.mounts = vec![
            mount("proc", "/proc", &[]),
            mount("tmpfs", "/dev", &[]),
            mount("devpts", "/dev/pts", &[]),
            mount("bind", "/srv", &[]),
            mount("tmpfs", "/etc", &["tmpcopyup"]),
            mount("tmpfs", "/dev/copy", &["tmpcopyup"]),
            mount("tmpfs", "/dev/shm", &[]),
        ];
        let listed = |spec: &oci::Spec| {
            let plan = plan(spec, context()).unwrap();
            let listed: Vec<String> = plan
                .supplies()
                .map(|supply| match supply {
                    Supply::Source(at) => format!("{at}"),
                    Supply::Fs(mount) => mount.destination.display().to_string(),
                })
                .collect();
            let SourceKind::Dev { dev, .. } = &plan.sources[1].what else { panic!("{:?}", plan.sources) };
            assert_eq!(dev.places, ["pts", "shm"].map(PathBuf::from));
            listed
        };
        assert_eq!(listed(&spec), ["0", "1", "2", "/dev/shm"]);
        // They would belong to another user namespace.
        let linux = spec.linux.as_mut().unwrap();
        linux.namespaces.push(oci::Namespace { kind: oci::NamespaceKind::User, path: None });
        let all = vec![oci::IdMapping { container_id: 0, host_id: 100_000, size: 65_536 }];
        (linux.uid_mappings, linux.gid_mappings) = (all.clone(), all);
        assert_eq!(listed(&spec), ["0", "1", "2"]);
    }

    #[test]
    fn lo_waits_for_nobody_who_sees_it() {
        let lo_can_wait = |change: &dyn Fn(&mut oci::Spec)| {
            let mut spec = spec();
            change(&mut spec);
            plan(&spec, context()).unwrap().lo_can_wait()
        };
        assert!(!lo_can_wait(&|_| {}), "there is no network of its own");
        let with = |key: &'static str, value: &'static str| {
            move |spec: &mut oci::Spec| {
                let linux = spec.linux.as_mut().unwrap();
                linux.namespaces.push(oci::Namespace { kind: oci::NamespaceKind::Network, path: None });
                linux.namespaces.push(oci::Namespace { kind: oci::NamespaceKind::Ipc, path: None });
                linux.sysctl.insert(key.to_owned(), value.to_owned());
            }
        };
        assert!(lo_can_wait(&with("kernel.msgmax", "8192")));
        assert!(!lo_can_wait(&with("net.ipv6.conf.lo.mtu", "1400")));
    }

    #[test]
    fn refusals_name_the_field() {
        assert!(refused(|s| s.oci_version = "2.0".into()).starts_with("ociVersion: "));
        assert!(refused(|s| s.process = None).starts_with("process: "));
        assert!(
            refused(|s| s.linux.as_mut().unwrap().namespaces.truncate(2))
                .starts_with("hostname: it needs a uts")
        );
        assert!(refused(|s| s.hostname = Some("x".repeat(65))).contains("at most 64 bytes"));
        assert!(
            refused(|s| s.linux.as_mut().unwrap().masked_paths = vec!["kcore".into()])
                .starts_with("linux.maskedPaths[0]")
        );
        assert!(
            refused(|s| s.linux.as_mut().unwrap().rootfs_propagation = Some("x".into()))
                .contains("none of shared")
        );
    }

    #[test]
    fn time_offsets_need_their_namespace() {
        let offset = |s: &mut oci::Spec| {
            let offset = oci::TimeOffset { secs: 5, nanosecs: 1 };
            s.linux.as_mut().unwrap().time_offsets.insert("monotonic".into(), offset);
        };
        assert!(refused(offset).contains("time namespace"));
        let mut spec = spec();
        offset(&mut spec);
        let time = oci::Namespace { kind: oci::NamespaceKind::Time, path: None };
        spec.linux.as_mut().unwrap().namespaces.push(time);
        assert_eq!(plan(&spec, context()).unwrap().time_offsets.as_deref(), Some("monotonic 5 1\n"));
    }
}
