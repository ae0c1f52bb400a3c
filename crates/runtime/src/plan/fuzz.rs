//! Any configuration, and any mount of one: it is refused with its field, or becomes a plan that keeps to the container's root.

use std::{
    ffi::CStr,
    path::{Component, Path},
};

use tinyd_core::{Error, Kind, json, oci, wire};
use tinyd_sys::{mount::Attr, ns::flag};

use super::{
    Context, Plan, Step, Supply,
    mounts::{self, Mount, Source, SourceKind, What, may_cover_proc},
    namespaces::Namespaces,
    options::{self, Options},
    plan,
};
use crate::{caller::Caller, cgroup, seccomp};

/// A `config.json`.
///
/// # Panics
/// When a promise is broken.
pub fn config(bytes: &[u8]) {
    let Ok(spec) = json::read::<oci::Spec>(bytes) else { return };
    let written = serde_json::to_vec(&spec).expect("a configuration can be written");
    assert_eq!(json::read::<oci::Spec>(&written).ok().as_ref(), Some(&spec));
    for (caller, flags) in [(Caller::Machine, 0), (Caller::Namespace { mounts: true }, 3), (Caller::User, 6)]
    {
        let (terminal, idmap_root, no_pivot) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        let bundle = Path::new("/bundle");
        let context = Context { bundle, terminal, idmap_root, joined_ids: None, no_pivot, caller };
        match plan(&spec, context) {
            Ok(plan) => stays_inside(&plan, no_pivot),
            Err(error) => is_told_with_its_field(&error, ""),
        }
    }
    let Some(linux) = &spec.linux else { return };
    if let Some(profile) = &linux.seccomp {
        let profile = wire::Seccomp::Profile(profile.clone());
        if let Err(error) = seccomp::filter(&profile, tinyd_sys::creds::CapSet::default()) {
            is_told_with_its_field(&error, "linux.seccomp.");
        }
    }
    if let Some(resources) = &linux.resources {
        cgroup::fuzz::resources(resources);
    }
}

fn is_told_with_its_field(error: &Error, prefix: &str) {
    assert!(matches!(error.kind(), Kind::InvalidArgument | Kind::Unsupported), "{error}");
    let field = error.field().unwrap_or_default();
    assert!(!field.is_empty() && field.starts_with(prefix), "{error}");
}

fn stays_inside(plan: &Plan, no_pivot: bool) {
    let position = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted);
    let root = position(|step| matches!(step, Step::Root { .. })).expect("there is a root");
    if !plan.namespaces.has(flag::USER) {
        let detached = position(|step| *step == Step::DetachFromHost).expect("the host is cut off");
        assert!(detached < root, "{:?}", plan.steps);
    }
    let leave = if no_pivot { Step::Chroot } else { Step::Pivot };
    let left = plan.steps.iter().position(|step| *step == leave).expect("the old root is left");
    // What is seen of the cgroup may come last; it lies in the container's own sysfs then (`order.rs`).
    let is_view = |step: &Step| step.shows_cgroup().is_some() && !no_pivot;
    let after = &plan.steps[left + 1..];
    let may_come = |step: &Step| matches!(step, Step::RootPropagation(_)) || is_view(step);
    assert!(after.iter().all(may_come), "{:?}", plan.steps);
    for (at, step) in plan.steps.iter().enumerate() {
        match step {
            Step::Mount(mount) => {
                assert!(root < at && (at < left || is_view(step)), "{:?}", plan.steps);
                a_mount_keeps_to_the_root(mount, &plan.sources, &plan.namespaces);
            }
            Step::ReadOnly(path) | Step::Mask(path) => assert!(is_clean(path), "{path:?}"),
            Step::WorkingDirectory(path) => assert!(path.is_absolute(), "{path:?}"),
            Step::Sysctl(sysctl) => {
                assert!(plan.namespaces.has(sysctl.owner), "{sysctl:?}");
                let plain = |part| matches!(part, Component::Normal(_));
                assert!(sysctl.path.starts_with("sys") && sysctl.path.components().all(plain), "{sysctl:?}");
            }
            Step::Hostname(_)
            | Step::Domainname(_)
            | Step::Network
            | Step::DetachFromHost
            | Step::Root { .. }
            | Step::Hooks
            | Step::Terminal
            | Step::ReadOnlyRoot
            | Step::Pivot
            | Step::Chroot
            | Step::RootPropagation(_) => {}
        }
    }
    assert!(!plan.process.args.is_empty() && plan.process.cwd.is_absolute());
    assert!(i32::try_from(plan.process.uid).is_ok() && i32::try_from(plan.process.gid).is_ok());
    sources_are_the_hosts(&plan.sources);
    each_source_is_taken_once(plan);
}

/// Its maker hands what steps take over in their order, and the first process takes it so.
fn each_source_is_taken_once(plan: &Plan) {
    let supplies = plan.steps.iter().filter_map(|step| plan.supply(step));
    let mut taken: Vec<usize> =
        supplies.filter_map(|supply| if let Supply::Source(at) = supply { Some(at) } else { None }).collect();
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..plan.sources.len()), "{plan:?}");
}

fn is_clean(path: &Path) -> bool {
    path.is_absolute() && path.components().skip(1).all(|part| matches!(part, Component::Normal(_)))
}

fn sources_are_the_hosts(sources: &[Source]) {
    let is_absolute = |path: &CStr| path.to_bytes().first() == Some(&b'/');
    for source in sources {
        match &source.what {
            SourceKind::Path { path, changes, .. } => {
                assert!(is_absolute(path), "{source:?}");
                assert!(changes.iter().all(|(attr, _)| !attr.is_empty()), "{source:?}");
                // Without a word about it nothing that is mounted on one side shows on the other.
                assert!(changes.iter().any(|(attr, _)| attr.propagation != 0), "{source:?}");
                changes.iter().for_each(|(attr, _)| the_kernel_would_take(attr));
            }
            SourceKind::Device { path, .. } => assert!(is_absolute(path), "{source:?}"),
            SourceKind::Dev { dev, .. } => {
                assert!(dev.nodes.iter().all(|(name, _)| is_clean(&Path::new("/").join(name))), "{source:?}");
                assert!(dev.nodes.iter().all(|(name, _)| name.is_relative()), "{source:?}");
            }
            SourceKind::Queues { ipc, .. } => assert!(ipc.starts_with('/'), "{source:?}"),
            SourceKind::Root { .. } => {}
        }
    }
}

fn a_mount_keeps_to_the_root(mount: &Mount, sources: &[Source], namespaces: &Namespaces) {
    let destination = &mount.destination;
    assert!(is_clean(destination), "{mount:?}");
    let remount = matches!(mount.what, What::Remount { .. });
    assert!(remount || destination != Path::new("/"), "{mount:?}");
    match &mount.what {
        What::Source(at) => {
            let source = &sources[*at];
            if let SourceKind::Path { must_be_proc, changes, .. } = &source.what {
                assert_eq!(*must_be_proc, destination == Path::new("/proc"), "{mount:?} {source:?}");
                let first = changes.first().map(|(attr, _)| attr.propagation);
                let shares = changes.iter().any(|(attr, _)| attr.propagation == libc::MS_SHARED);
                // Its own mounts do not reach the host through a copy of a shared mount.
                let cut = !namespaces.has(flag::USER) || !shares || first == Some(libc::MS_SLAVE);
                assert!(cut, "{mount:?} {source:?}");
            }
        }
        What::Fs { kind, attr, .. } => {
            assert!(!kind.is_empty() && (kind == "proc" || destination != Path::new("/proc")), "{mount:?}");
            the_kernel_would_take(attr);
        }
        What::Remount { changes, .. } => changes.iter().for_each(|(attr, _)| the_kernel_would_take(attr)),
        What::Node(_) | What::Cgroup { .. } => {}
    }
    if destination.starts_with("/proc") && destination != Path::new("/proc") {
        assert!(may_cover_proc(destination), "{mount:?}");
    }
}

/// The rules of mount_setattr(2).
fn the_kernel_would_take(attr: &Attr) {
    let atime = Attr::ATIME_MASK;
    assert_eq!(attr.set & attr.clear & !atime, 0, "{attr:?}");
    assert!([0, atime].contains(&(attr.clear & atime)), "{attr:?}");
    // The mode of access times that is set must be one, and may only be set where the field is cleared.
    let mode = attr.set & atime;
    assert!([0, Attr::NOATIME, Attr::STRICTATIME].contains(&mode), "{attr:?}");
    assert!(attr.propagation.count_ones() <= 1, "{attr:?}");
}

/// Five lines: the container's namespaces (`u`, `n`, `p`, `i`, `c`) who asks (`r` is root of a user namespace, `o` an ordinary user),
/// and `s` where the root is shared; destination, type, source, and the options with commas between them.
///
/// # Panics
/// When a promise is broken.
pub fn mounts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let letters =
        [('u', flag::USER), ('n', flag::NET), ('p', flag::PID), ('i', flag::IPC), ('c', flag::CGROUP)];
    let has = line();
    let new = letters.iter().filter(|(letter, _)| has.contains(*letter)).map(|(_, kind)| kind).sum();
    let namespaces = Namespaces { new, ..Namespaces::default() };
    let mount = oci::Mount {
        destination: line().to_owned(),
        kind: Some(line().to_owned()).filter(|kind| !kind.is_empty()),
        source: Some(line().to_owned()).filter(|source| !source.is_empty()),
        options: line().split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        ..oci::Mount::default()
    };
    if let Ok(options) = options::parse("options", &mount.options) {
        mean_what_they_say(&mount.options, &options);
    }
    let caller = match (has.contains('r'), has.contains('o')) {
        (_, true) => Caller::User,
        (true, false) => Caller::Namespace { mounts: true },
        (false, false) => Caller::Machine,
    };
    let (bundle, all) = (Path::new("/bundle"), std::slice::from_ref(&mount));
    let context = mounts::Context {
        bundle,
        namespaces: &namespaces,
        devices: &[],
        label: None,
        label_option: "context",
        caller,
        shares: has.contains('s'),
    };
    for reader in [mounts::plan, mounts::more] {
        let mut sources = Vec::new();
        match reader(all, context, &mut sources) {
            Ok(planned) => {
                planned.iter().for_each(|mount| a_mount_keeps_to_the_root(mount, &sources, &namespaces));
                sources_are_the_hosts(&sources);
            }
            Err(error) => is_told_with_its_field(&error, "mounts[0]"),
        }
    }
    match mounts::places(all) {
        Ok(places) => assert!(places.iter().all(|place| is_clean(place) && !keeps_the_host_away(place))),
        Err(error) => is_told_with_its_field(&error, "mounts[0]"),
    }
}

/// Whether a mount that the container may not lose is there.
fn keeps_the_host_away(place: &Path) -> bool {
    let text = place.to_str().unwrap_or_default();
    let below = |dir: &str| text == dir || text.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    text == "/" || text == "/dev" || below("/sys") || (below("/proc") && !may_cover_proc(place))
}

/// Words that set a bit of a mount, and those that clear it. With an `r` before them they are for the mounts below too.
const BITS: [(&str, &str, u64); 6] = [
    ("ro", "rw", Attr::RDONLY),
    ("nosuid", "suid", Attr::NOSUID),
    ("nodev", "dev", Attr::NODEV),
    ("noexec", "exec", Attr::NOEXEC),
    ("nodiratime", "diratime", Attr::NODIRATIME),
    ("nosymfollow", "symfollow", Attr::NOSYMFOLLOW),
];

/// Whether it is `idmap` or `ridmap` with ids.
fn asks_for_ids(word: &str) -> bool {
    word.starts_with("idmap=") || word.starts_with("ridmap=")
}

/// The last word about each thing is what holds.
fn mean_what_they_say(words: &[String], options: &Options) {
    let views = [(&[""][..], &options.attr), (&["r"], &options.attr_all), (&["", "r"], &options.whole)];
    for (before, attr) in views {
        for (on, off, bit) in BITS {
            let is = |word: &String, known: &str| before.iter().any(|r| word.strip_prefix(r) == Some(known));
            let last = words.iter().rev().find_map(|word| match (is(word, on), is(word, off)) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                (false, false) => None,
            });
            let (set, clear) = (attr.set & bit != 0, attr.clear & bit != 0);
            assert_eq!(
                (set, clear),
                (last == Some(true), last == Some(false)),
                "{before:?} {on} in {words:?}"
            );
        }
        the_kernel_would_take(attr);
    }
    let last_of = |all: &[&str]| words.iter().rev().find(|word| all.contains(&word.as_str())).cloned();
    assert_eq!(options.bind, last_of(&["bind", "rbind"]).map(|word| word == "rbind"), "{words:?}");
    assert_eq!(options.remount, words.iter().any(|word| word == "remount"));
    // A file system's own words reach it in their order.
    let known: Vec<&str> = options::known().collect();
    let is_ours =
        |word: &str| word == "x-tinyd.idmap" || options::ENGINES.contains(&word) || asks_for_ids(word);
    let own = words.iter().filter(|word| !known.contains(&word.as_str()) && !is_ours(word));
    let told: Vec<String> = options
        .data
        .iter()
        .filter(|(key, value)| value.is_some() || !known.contains(&key.as_str()))
        .map(|(key, value)| value.as_ref().map_or(key.clone(), |value| format!("{key}={value}")))
        .collect();
    assert!(own.clone().eq(told.iter()), "{words:?}: {told:?}");
    assert_eq!(options.own_word.as_ref(), own.clone().next(), "{words:?}");
    let idmap = words
        .iter()
        .rev()
        .find(|word| ["idmap", "ridmap", "x-tinyd.idmap"].contains(&word.as_str()) || asks_for_ids(word));
    let ids = idmap.and_then(|word| word.split_once('=')).map(|(_, ids)| ids);
    assert_eq!(options.idmap_ids.as_deref(), ids, "{words:?}");
    // Said twice is said once.
    let twice = [words, words].concat();
    let again = options::parse("options", &twice).expect("they are words");
    assert_eq!((again.attr, again.attr_all, again.idmap), (options.attr, options.attr_all, options.idmap));
}
