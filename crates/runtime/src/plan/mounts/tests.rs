//! Tests of what is planned for mounts.

use proptest::prelude::*;

use super::*;

fn namespaces(new: u64) -> Namespaces {
    Namespaces { new, ..Namespaces::default() }
}

fn plan_one(mount: oci::Mount, new: u64) -> Result<(Mount, Vec<Source>)> {
    plan_with(mount, new, true)
}

fn plan_with(mount: oci::Mount, new: u64, shares: bool) -> Result<(Mount, Vec<Source>)> {
    let namespaces = namespaces(new);
    let context = Context {
        bundle: Path::new("/bundle"),
        namespaces: &namespaces,
        devices: &[],
        label: Some("l"),
        label_option: "context",
        caller: Caller::Machine,
        shares,
    };
    let mut sources = Vec::new();
    one("mounts[0]", &mount, context, &mut sources).map(|mount| (mount, sources))
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> oci::Mount {
    oci::Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(|word| (*word).to_owned()).collect(),
        ..oci::Mount::default()
    }
}

#[test]
fn nothing_is_mounted_below_proc() {
    for (destination, kind) in
        [("/proc/self", "tmpfs"), ("/proc", "tmpfs"), ("/a/../proc/sys", "bind"), ("/proc//kcore", "proc")]
    {
        let error = plan_one(mount(destination, kind, "/x", &[]), flag::PID).unwrap_err();
        assert_eq!(error.field(), Some("mounts[0].destination"), "{destination}");
    }
    plan_one(mount("/proc", "proc", "proc", &[]), flag::PID).unwrap();
    plan_one(mount("/proc/meminfo", "bind", "/x", &[]), flag::PID).unwrap();
    let (_, sources) = plan_one(mount("/proc", "", "/proc", &["rbind"]), flag::PID).unwrap();
    assert!(matches!(sources[0].what, SourceKind::Path { must_be_proc: true, .. }));
}

#[test]
fn a_relative_destination_is_taken_from_the_root_and_warned_about() {
    let given = ["data/./x", "../x", "/y"].map(|destination| mount(destination, "tmpfs", "tmpfs", &[]));
    let planned = given.clone().map(|mount| plan_one(mount, 0).unwrap().0.destination);
    assert_eq!(planned, ["/data/x", "/x", "/y"].map(PathBuf::from));
    let warnings: Vec<String> = relative(&given).collect();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[1].starts_with(r#"mounts[1].destination: "../x" is not absolute"#), "{warnings:?}");
    // What may not be covered may not be by another spelling.
    for destination in ["", "proc/self", "proc", ".", "x/.."] {
        let error = plan_one(mount(destination, "tmpfs", "/x", &[]), flag::PID).unwrap_err();
        assert_eq!(error.field(), Some("mounts[0].destination"), "{destination}");
    }
}

#[test]
fn a_bind_is_private_and_keeps_to_its_words() {
    let (planned, sources) = plan_one(mount("/data", "bind", "data", &["rbind", "ro", "nosuid"]), 0).unwrap();
    assert_eq!(planned.what, What::Source(0));
    let SourceKind::Path { path, recursive, changes, .. } = &sources[0].what else { panic!() };
    assert_eq!((path.to_str().unwrap(), *recursive), ("/bundle/data", true));
    let private = Attr { propagation: libc::MS_PRIVATE, ..Attr::default() };
    let flags = Attr { set: Attr::RDONLY | Attr::NOSUID, ..Attr::default() };
    assert_eq!(*changes, [(private, true), (flags, false)]);
}

#[test]
fn a_shared_mount_does_not_carry_out_of_a_user_namespace() {
    let (_, sources) = plan_one(mount("/data", "bind", "/data", &["rbind", "rshared"]), flag::USER).unwrap();
    let SourceKind::Path { changes, .. } = &sources[0].what else { panic!() };
    assert_eq!(changes[0].0.propagation, libc::MS_SLAVE);
    assert_eq!(changes[1].0.propagation, libc::MS_SHARED);
}

#[test]
fn a_shared_mount_carries_out_of_a_root_that_is_shared_alone() {
    for (shares, first) in [(true, libc::MS_SHARED), (false, libc::MS_SLAVE)] {
        let (_, sources) =
            plan_with(mount("/data", "bind", "/data", &["rbind", "rshared"]), 0, shares).unwrap();
        let SourceKind::Path { changes, .. } = &sources[0].what else { panic!() };
        assert_eq!(changes[0].0.propagation, first);
    }
}

/// Found by the fuzzer: what was said of the mount alone hid that those below were shared.
#[test]
fn the_mounts_below_do_not_carry_out_either() {
    for options in
        [["rbind", "rshared", "slave"], ["rbind", "slave", "rshared"], ["rbind", "unbindable", "rshared"]]
    {
        let (_, sources) = plan_one(mount("/data", "bind", "/data", &options), flag::USER).unwrap();
        let SourceKind::Path { changes, .. } = &sources[0].what else { panic!() };
        let slave = Attr { propagation: libc::MS_SLAVE, ..Attr::default() };
        assert_eq!(changes[0], (slave, true), "{options:?}");
    }
}

/// Found by the fuzzer: the kernel takes one kind of propagation at a time.
#[test]
fn a_new_file_system_has_the_last_propagation_that_is_named() {
    let (planned, _) =
        plan_one(mount("/x", "tmpfs", "x", &["unbindable", "rshared", "ro", "rrw"]), 0).unwrap();
    let What::Fs { attr, .. } = planned.what else { panic!() };
    assert_eq!(attr, Attr { propagation: libc::MS_SHARED, ..Attr::default() });
}

#[test]
fn the_hosts_view_is_given_where_a_new_one_is_not_allowed() {
    let (planned, _) = plan_one(mount("/sys", "sysfs", "sysfs", &["ro"]), flag::USER).unwrap();
    assert_eq!(planned.what, What::Source(0));
    let (planned, _) = plan_one(mount("/sys", "sysfs", "sysfs", &["ro"]), flag::USER | flag::NET).unwrap();
    assert!(matches!(planned.what, What::Fs { .. }));
}

#[test]
fn a_remount_changes_what_it_names() {
    let remount = |options: &[&str]| plan_one(mount("/", "", "", options), 0).unwrap().0.what;
    let ro = Attr { set: Attr::RDONLY, ..Attr::default() };
    assert_eq!(remount(&["remount", "bind", "ro"]), What::Remount { changes: vec![(ro, false)], data: None });
    let own = |word: &str, value: Option<&str>| (word.to_owned(), value.map(str::to_owned));
    assert_eq!(
        remount(&["remount", "ro", "size=1m"]),
        What::Remount {
            changes: vec![(ro, false)],
            data: Some(vec![own("size", Some("1m")), own("ro", None)])
        }
    );
    assert_eq!(remount(&["remount", "rro"]), What::Remount { changes: vec![(ro, true)], data: None });
    assert!(plan_one(mount("/proc/self", "", "", &["remount", "ro"]), 0).is_err());
}

#[test]
fn only_a_tmpfs_begins_with_a_copy() {
    let planned = plan_one(mount("/run", "tmpfs", "tmpfs", &["tmpcopyup"]), 0).unwrap().0;
    assert!(matches!(planned.what, What::Fs { copy_up: true, .. }));
    for (destination, kind) in [("/dev", "tmpfs"), ("/x", "mqueue")] {
        let error = plan_one(mount(destination, kind, "x", &["tmpcopyup"]), flag::IPC).unwrap_err();
        assert_eq!(error.field(), Some("mounts[0].options"));
    }
}

#[test]
fn what_is_mounted_anew_has_the_containers_label() {
    let label = ("context".to_owned(), Some("l".to_owned()));
    for (kind, options, count) in
        [("tmpfs", &[][..], 1), ("devpts", &[], 1), ("mqueue", &[], 0), ("tmpfs", &["context=own"], 0)]
    {
        let (planned, _) = plan_one(mount("/x", kind, kind, options), flag::IPC).unwrap();
        let What::Fs { data, .. } = planned.what else { panic!() };
        assert_eq!(data.iter().filter(|one| **one == label).count(), count, "{kind} {options:?}");
    }
    let (_, sources) = plan_one(mount("/dev", "tmpfs", "tmpfs", &[]), 0).unwrap();
    let SourceKind::Dev { data, .. } = &sources[0].what else { panic!() };
    assert_eq!(*data, [label]);
}

#[test]
fn dev_is_made_when_the_configuration_has_none() {
    let namespaces = namespaces(0);
    let context = Context {
        bundle: Path::new("/"),
        namespaces: &namespaces,
        devices: &[],
        label: None,
        label_option: "context",
        caller: Caller::Machine,
        shares: false,
    };
    let mut sources = Vec::new();
    let planned = plan(&[], context, &mut sources).unwrap();
    assert_eq!(planned[0].destination, Path::new("/dev"));
    assert!(matches!(sources[0].what, SourceKind::Dev { .. }));
}

proptest! {
    #[test]
    fn a_clean_path_is_absolute_and_stays_clean(text in "/?[a-z./]{0,20}") {
        let path = clean(&text);
        prop_assert!(path.is_absolute());
        let normal = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
        prop_assert!(normal);
        prop_assert_eq!(clean(path.to_str().unwrap()), path);
    }
}
