//! Mounts, and images that try to lead them astray.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use serde_json::{Value, json};

use crate::driver::Bundle;

/// It was an error of /dev, whose maker makes such places.
#[test]
fn a_place_in_dev_that_cannot_be_made_is_told_of_its_mount() {
    let place = format!("/dev/{}", "x".repeat(300));
    let bundle = Bundle::new("mounts-place").args(&["true"]).mount(&place, "tmpfs", "tmpfs", &[]);
    let at = bundle.spec["mounts"].as_array().unwrap().len() - 1;
    bundle.run().fails(1, &format!("mounts[{at}] ({place}): "));
    bundle.assert_clean();
}

#[test]
fn files_and_directories_are_mounted_and_their_places_made() {
    let bundle = Bundle::new("bind");
    let source = bundle.dir.join("data");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), "hello\n").unwrap();
    let (dir, file) = (source.to_str().unwrap().to_owned(), source.join("f").to_str().unwrap().to_owned());
    let bundle = bundle
        .mount("/new/place", "bind", &dir, &["rbind"])
        .mount("/etc/one", "bind", &file, &["bind", "ro"])
        .script("cat /new/place/f /etc/one; echo x > /new/place/g; echo x > /etc/one; true");
    let said = bundle.run();
    assert_eq!(said.out, "hello\nhello", "{said:?}");
    assert!(said.err.contains("/etc/one: Read-only file system"), "{said:?}");
    assert_eq!(fs::read_to_string(source.join("g")).unwrap(), "x\n");
}

#[test]
fn rro_reaches_the_mounts_below_and_ro_does_not() {
    for (option, refused) in [("rro", 2), ("ro", 1)] {
        let bundle = Bundle::new(&format!("below-{option}"));
        let source = bundle.dir.join("data");
        fs::create_dir_all(source.join("sub")).unwrap();
        let source_text = source.to_str().unwrap().to_owned();
        let bundle =
            bundle.mount("/a", "bind", &source_text, &["rbind", option]).script("touch /a/x /a/sub/x; true");
        bundle.write();
        // The mount below exists in a mount namespace of the test's own.
        let below = format!("mount -t tmpfs x {source_text}/sub && exec \"$0\" \"$@\"");
        let said = bundle.tinyrun_in(
            &["unshare", "-m", "sh", "-c", &below],
            &["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id],
        );
        assert_eq!(said.err.matches("Read-only file system").count(), refused, "{option}: {said:?}");
    }
}

#[test]
fn an_image_whose_proc_sys_or_dev_is_a_link_is_refused_and_touches_nothing() {
    for name in ["proc", "sys", "dev"] {
        let bundle = Bundle::new(&format!("link-{name}")).script("true");
        let target = bundle.dir.join("outside");
        fs::create_dir(&target).unwrap();
        fs::remove_dir(bundle.rootfs(name)).unwrap();
        symlink(&target, bundle.rootfs(name)).unwrap();
        bundle.run().fails(1, &format!("openat(/{name}, no link followed)"));
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }
}

#[test]
fn nothing_is_mounted_into_proc() {
    let bundle = Bundle::new("proc").script("true");
    let bundle = bundle.mount("/proc/self/attr", "tmpfs", "tmpfs", &[]);
    bundle.run().fails(1, "mounts[7].destination");
    // A link of the image leads there.
    let mut bundle = Bundle::new("proc-link").script("true");
    symlink("/proc/self", bundle.rootfs("innocent")).unwrap();
    bundle.spec["root"]["readonly"] = json!(false);
    let bundle = bundle.mount("/innocent/attr", "tmpfs", "tmpfs", &[]);
    bundle.run().fails(1, "leads into /proc");
}

#[test]
fn a_destination_through_links_stays_inside() {
    let bundle = Bundle::new("astray");
    symlink("/../../../../../../tmp", bundle.rootfs("up")).unwrap();
    let bundle =
        bundle.mount("/up/tinyrun-astray", "tmpfs", "tmpfs", &[]).script("ls -d /tmp/tinyrun-astray");
    bundle.run().says("/tmp/tinyrun-astray");
    assert!(!Path::new("/tmp/tinyrun-astray").exists());
    assert!(bundle.rootfs("tmp/tinyrun-astray").is_dir());
}

#[test]
fn a_relative_destination_is_below_the_root() {
    let bundle =
        Bundle::new("relative").mount("tmp/new", "tmpfs", "tmpfs", &[]).script("stat -f -c %T /tmp/new");
    bundle.write();
    let log = bundle.dir.join("log");
    let run = ["--log", log.to_str().unwrap(), "run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
    bundle.tinyrun(&run).says("tmpfs");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("mounts[7].destination") && log.contains("level=warning"), "{log}");
}

#[test]
fn a_file_on_a_directory_and_a_directory_on_a_file_are_told() {
    let on = |destination: &str, kind: &str, source: &str| {
        let bundle = Bundle::new("kinds").script("true").mount(destination, kind, source, &[]);
        bundle.run().fails(1, &format!("mounts[7] ({destination}): not a directory: "));
    };
    on("/etc", "bind", "/etc/passwd");
    on("/etc/passwd", "bind", "/etc");
    on("/etc/passwd", "tmpfs", "tmpfs");
}

#[test]
fn the_cgroup_is_mounted_at_two_places_each_with_its_options() {
    for users in [false, true] {
        let bundle = Bundle::new(&format!("cgroup-twice-{users}"));
        let bundle = if users { bundle.with_users() } else { bundle };
        let bundle = bundle.mount("/other", "cgroup", "cgroup", &["nosuid", "noexec"]).script(
            "for at in /sys/fs/cgroup /other; do cat $at/cgroup.procs $at/pids/cgroup.procs 2>/dev/null | head -1; \
             grep -m1 \" $at/pids \\| $at \" /proc/self/mountinfo | grep -c ' ro,'; done; true",
        );
        bundle.run().says("1\n1\n1\n0");
    }
}

/// Whoever makes a part of it, its modes are not for the caller's umask to say: a process of another user looks for its limits in its
/// cgroup.
#[test]
fn what_is_made_for_a_container_has_its_modes_under_every_umask() {
    for users in [false, true] {
        let bundle = Bundle::new(&format!("made-modes-{users}"));
        let bundle = if users { bundle.with_users() } else { bundle }
            .script("stat -c '%a %u:%g' /sys/fs/cgroup /sys/fs/cgroup/* /dev /dev/null /dev/shm | sort -u");
        bundle.write();
        let run = ["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
        let usual = bundle.tinyrun_in(&[], &run);
        assert!(
            usual.code == 0 && usual.out.contains("755 0:0") && usual.out.contains("666 0:0"),
            "{usual:?}"
        );
        // The mask of a fresh process is inherited, and so is that of a careful administrator.
        bundle.tinyrun_in(&["sh", "-c", "umask 077; exec \"$0\" \"$@\""], &run).says(&usual.out);
    }
}

/// On v1 too, where `cgroup` is the hierarchies of v1.
#[test]
fn a_cgroup2_is_one() {
    for users in [false, true] {
        let bundle = Bundle::new(&format!("cgroup2-{users}"));
        let bundle = if users { bundle.with_users() } else { bundle };
        let bundle = bundle.mount("/other", "cgroup2", "cgroup2", &["ro", "nosuid"]).script(
            "grep ' /other ' /proc/self/mountinfo; cat /other/cgroup.controllers >/dev/null; touch /other/x",
        );
        let said = bundle.run();
        let line: Vec<&str> = said.out.split(' ').collect();
        assert_eq!((&line[4..5], line[5].starts_with("ro,nosuid")), (&["/other"][..], true), "{said:?}");
        assert!(said.out.contains(" - cgroup2 ") && said.err.contains("/other/x: Read-only"), "{said:?}");
        assert!(!said.err.contains("cgroup.controllers"), "{said:?}");
    }
}

#[test]
fn a_source_that_is_missing_and_an_option_that_is_wrong_are_named() {
    let bundle = Bundle::new("wrong").script("true").mount("/x", "bind", "/nonexistent", &["bind"]);
    bundle.run().fails(1, "mounts[7] (/x): its source /nonexistent does not exist");
    let bundle = Bundle::new("wrong2").script("true").mount("/x", "tmpfs", "tmpfs", &["size=lots"]);
    bundle.run().fails(1, "mounts[7] (/x): fsconfig(\"tmpfs\", size=lots) (tmpfs: Bad value for 'size')");
}

/// crun's words for ids of a mount's own, which were not read, and the mount made without.
#[test]
fn ids_in_an_option_are_the_mounts() {
    let bundle = Bundle::new("idmap-ids").with_users();
    let source = bundle.dir.join("data");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    std::os::unix::fs::lchown(source.join("file"), Some(7), Some(8)).unwrap();
    let text = source.to_str().unwrap().to_owned();
    let shown = |options: &[&str]| {
        let mut other = Bundle::new("idmap-ids-one").with_users();
        other = other.mount("/data", "bind", &text, options);
        other.script("stat -c %u:%g /data/file").run()
    };
    shown(&["rbind", "idmap=uids=7-100009-1;gids=8-100010-1#9-100050-2"]).says("9:10");
    // One of the container's, wherever those are on the host.
    shown(&["rbind", "ridmap=uids=@0-5-10;gids=@8-3-1"]).says("12:3");
    for (option, message) in [
        ("idmap=uids=7-9-1", "idmap: gids: 0 mappings"),
        ("idmap=users=7-9-1", "idmap: \"users=7-9-1\" is neither uids= nor gids="),
        ("idmap=uids=7-9;gids=8-9-1", "idmap: \"7-9\" is not three numbers"),
        (
            "idmap=uids=@0-65530-10;gids=8-9-1",
            "idmap: \"@0-65530-10\" is not within one range of the container's ids",
        ),
        ("size=1m", "\"size=1m\" is no option of a bind mount"),
    ] {
        shown(&["rbind", option]).fails(1, &format!("mounts[7] (/data): {message}"));
    }
}

#[test]
fn what_container_root_writes_to_an_idmapped_volume_belongs_to_the_hosts_root() {
    let bundle = Bundle::new("idmap").with_users();
    let source = bundle.dir.join("data");
    fs::create_dir(&source).unwrap();
    let source_text = source.to_str().unwrap().to_owned();
    let bundle = bundle
        .mount("/data", "bind", &source_text, &["rbind", "idmap"])
        .script("touch /data/x; stat -c %u /data/x");
    bundle.run().says("0");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(source.join("x")).unwrap()), 0);
}

#[test]
fn a_tmpfs_begins_with_a_copy_when_asked_to() {
    for users in [false, true] {
        let bundle = Bundle::new(&format!("copyup-{users}"));
        let data = bundle.rootfs("data");
        fs::create_dir_all(data.join("dir")).unwrap();
        fs::write(data.join("dir/file"), "hello\n").unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        let owner = |id: u32| if users { 100_000 + id } else { id };
        for (path, id, mode) in [("", 7, 0o757), ("dir", 5, 0o1777), ("dir/file", 6, 0o4644)] {
            let path = data.join(path);
            std::os::unix::fs::lchown(&path, Some(owner(id)), Some(owner(id))).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let bundle = if users { bundle.with_users() } else { bundle };
        let bundle = bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "nosuid"]).script(
            "stat -c '%n %u %g %a' /data /data/dir /data/dir/file; readlink /data/link; cat /data/dir/file; \
             echo more > /data/new; stat -f -c %T /data",
        );
        bundle
            .run()
            .says("/data 7 7 757\n/data/dir 5 5 1777\n/data/dir/file 6 6 4644\n/etc/passwd\nhello\ntmpfs");
        assert!(!data.join("new").exists());
        let bundle = bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "ro", "mode=700", "uid=0"]);
        let bundle = bundle.script("stat -c '%u %a' /data; touch /data/new");
        let said = bundle.run();
        assert_eq!(said.out, "0 700", "{said:?}");
        assert!(said.err.contains("Read-only file system"), "{said:?}");
    }
}

/// The image says how much that is.
#[test]
fn a_copy_on_a_tmpfs_counts_as_the_containers_memory() {
    let bundle = Bundle::new("copyup-limit");
    fs::create_dir(bundle.rootfs("data")).unwrap();
    fs::write(bundle.rootfs("data/large"), vec![1; 32 << 20]).unwrap();
    let mut bundle = bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]).args(&["true"]);
    // What is seen of a cgroup is a reason to be in it.
    bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    bundle.run().says("");
    bundle.spec["linux"]["resources"] = json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } });
    // Killed by the kernel, it says nothing.
    let said = bundle.run();
    let gone = ["the other side ended before it said Ready", "Broken pipe"];
    assert!(said.code == 1 && gone.iter().any(|gone| said.err.contains(gone)), "{said:?}");
}

#[test]
fn a_mount_is_changed_by_remount() {
    let bundle = Bundle::new("remount")
        .mount("/t", "tmpfs", "tmpfs", &["size=1m", "", "acl", "nosuid"])
        .mount("/t", "", "", &["remount", "size=2m"])
        .script("grep ' /t ' /proc/self/mountinfo; touch /t/x && echo written");
    let said = bundle.run();
    assert!(
        said.out.contains("size=2048k") && said.out.contains("nosuid") && said.out.ends_with("written"),
        "{said:?}"
    );
    let bundle = bundle.mount("/t", "", "", &["remount", "bind", "ro", "noexec"]);
    let said = bundle.run();
    assert!(said.out.contains(" ro,nosuid,noexec,") && said.out.contains(" - tmpfs tmpfs rw"), "{said:?}");
    let bundle = bundle.mount("/t", "", "", &["remount", "rw"]).mount("/t", "", "", &["remount", "ro"]);
    let said = bundle.run();
    assert!(said.out.contains(" - tmpfs tmpfs ro"), "{said:?}");
    // The root's own mount.
    let mut bundle = Bundle::new("remount-root").script("touch /x");
    bundle.spec["root"]["readonly"] = json!(false);
    let bundle = bundle.mount("/", "", "", &["remount", "bind", "ro"]);
    let said = bundle.run();
    assert!(said.err.contains("Read-only file system"), "{said:?}");
    let bundle = Bundle::new("remount-none").script("true").mount("/etc", "", "", &["remount", "ro"]);
    bundle.run().fails(1, "mounts[7] (/etc): fspick");
}

/// Whoever may write a volume had the container's /sys made writable, where a mount in the volume was meant.
#[test]
fn a_remount_follows_no_link_into_what_protects_the_host() {
    let bundle = Bundle::new("remount-link");
    let volume = bundle.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    let v1 = Path::new("/sys/fs/cgroup/pids").exists();
    let group = if v1 { "/sys/fs/cgroup/pids" } else { "/sys/fs/cgroup" };
    for (name, target) in [("sys", "/sys"), ("group", group), ("proc", "/proc"), ("t", "/t")] {
        std::os::unix::fs::symlink(target, volume.join(name)).unwrap();
    }
    let bundle =
        bundle.mount("/v", "bind", volume.to_str().unwrap(), &["bind"]).mount("/t", "tmpfs", "t", &["ro"]);
    for name in ["sys", "group", "proc"] {
        let mut other = Bundle::new(&format!("remount-link-{name}"));
        other.spec = bundle.spec.clone();
        let other = other.mount(&format!("/v/{name}"), "", "", &["remount", "bind", "rw"]).args(&["true"]);
        other.run().fails(1, &format!("mounts[9] (/v/{name}): it leads into /proc or /sys by a link"));
    }
    let bundle = bundle.mount("/v/t", "", "", &["remount", "bind", "rw"]).mount(
        "/sys",
        "",
        "",
        &["remount", "bind", "rw"],
    );
    bundle.script("touch /t/x; grep -c ' /sys rw,' /proc/self/mountinfo").run().says("1");
}

#[test]
fn a_device_may_be_anywhere() {
    let mut bundle = Bundle::new("device")
        .script("stat -c '%F %t:%T %a %u' /srv/new/zero /srv/fifo; head -c 3 /srv/new/zero | wc -c");
    bundle.spec["root"]["readonly"] = json!(false);
    bundle.spec["linux"]["devices"] = json!([
        { "path": "/srv/new/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o646, "uid": 9 },
        { "path": "/srv/fifo", "type": "p" },
    ]);
    let seen = "character special file 1:5 646 9\nfifo 0:0 666 0\n3";
    bundle.run().says(seen);
    // They are there the second time.
    bundle.run().says(seen);
    fs::remove_file(bundle.rootfs("srv/new/zero")).unwrap();
    fs::write(bundle.rootfs("srv/new/zero"), "").unwrap();
    bundle.run().fails(1, "linux.devices[0] (/srv/new/zero)");

    // A user namespace shows the host's.
    let mut bundle = Bundle::new("device-users").with_users();
    let host = bundle.dir.join("host-zero");
    let host = host.to_str().unwrap().to_owned();
    // Its root owns only the root's root.
    let place = bundle.rootfs(&host[1..]);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, "").unwrap();
    assert!(
        std::process::Command::new("mknod")
            .args(["-m", "666", &host, "c", "1", "5"])
            .status()
            .unwrap()
            .success()
    );
    bundle.spec["linux"]["devices"] = json!([{ "path": host, "type": "c", "major": 1, "minor": 5 }]);
    let bundle = bundle.script(&format!("stat -c '%F %t:%T' {host}; head -c 3 {host} | wc -c"));
    bundle.run().says("character special file 1:5\n3");
    let mut bundle = bundle;
    bundle.spec["linux"]["devices"][0]["minor"] = json!(3);
    bundle.run().fails(1, "is another device");
}

/// The optional words of the mount's line in mountinfo, where the host's is one that shares, and whether the host sees what is mounted on it.
#[test]
fn a_mount_shares_with_the_host_what_its_words_and_the_roots_say() {
    for (root, option, shown, is_seen) in [
        ("", "shared", &["shared", "master"][..], "0"),
        ("rslave", "rshared", &["shared", "master"], "0"),
        ("rshared", "rshared", &["shared"], "1"),
        ("rshared", "slave", &["shared", "master"], "0"),
        ("", "rslave", &["master"], "0"),
        ("", "private", &[], "0"),
        ("", "unbindable", &["unbindable"], "0"),
        ("", "rbind", &[], "0"),
    ] {
        let bundle = Bundle::new(&format!("shares-{root}-{option}"));
        let data = bundle.dir.join("data");
        fs::create_dir_all(data.join("sub")).unwrap();
        let mut bundle = bundle
            .mount("/x", "bind", data.to_str().unwrap(), &["rbind", option])
            .script("grep ' /x ' /proc/self/mountinfo; mount -t tmpfs t /x/sub");
        bundle.spec["linux"]["rootfsPropagation"] = json!(root);
        for set in ["bounding", "permitted", "effective"] {
            let set = &mut bundle.spec["process"]["capabilities"][set];
            set.as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        }
        bundle.write();
        let around = "\"$0\" \"$@\"; grep -c \" $DATA/sub \" /proc/self/mountinfo";
        let around = format!("DATA={}; {around}", data.display());
        let around = ["unshare", "--mount", "--propagation", "shared", "sh", "-c", &around];
        let said = bundle.tinyrun_in(&around, &["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
        let (line, seen) = said.out.split_once('\n').unwrap();
        let words = line.split(" - ").next().unwrap().split(' ').skip(6);
        let words: Vec<&str> = words.map(|word| word.split(':').next().unwrap()).collect();
        assert_eq!((words.as_slice(), seen), (shown, is_seen), "{root} {option}: {said:?}");
    }
}

/// A word about the mount alone left those below it peers of the host's.
#[test]
fn what_is_mounted_below_a_mount_of_the_hosts_is_not_its_peer() {
    for word in ["private", "slave", "unbindable", "shared", "rprivate", "rbind"] {
        let bundle = Bundle::new(&format!("shares-below-{word}"));
        let data = bundle.dir.join("data");
        fs::create_dir_all(data.join("sub")).unwrap();
        let bundle = bundle.mount("/x", "bind", data.to_str().unwrap(), &["rbind", word]).args(&[
            "grep",
            " /x/sub ",
            "/proc/self/mountinfo",
        ]);
        bundle.write();
        let around = format!("mount -t tmpfs t {}/sub && exec \"$0\" \"$@\"", data.display());
        let around = ["unshare", "--mount", "--propagation", "shared", "sh", "-c", &around];
        let said = bundle.tinyrun_in(&around, &["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
        assert_eq!((said.code, said.out.contains(" shared:")), (0, false), "{word}: {said:?}");
    }
}

/// Each word that `features` lists, on a mount of its own: of a file system, or of a directory where that is what it is about.
#[test]
fn every_option_is_taken() {
    let bundle = Bundle::new("options").script("grep -c ' /m/' /proc/self/mountinfo");
    let features: Value = serde_json::from_str(&bundle.tinyrun(&["features"]).out).unwrap();
    let words =
        features["mountOptions"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
    // Those three are about more than one mount, and have tests of their own.
    let words: Vec<String> =
        words.filter(|word| !matches!(word.as_str(), "remount" | "idmap" | "ridmap")).collect();
    assert!(words.len() > 50, "{words:?}");
    let data = bundle.dir.join("data");
    fs::create_dir(&data).unwrap();
    let count = words.len();
    let bundle = words.iter().fold(bundle, |bundle, word| match word.as_str() {
        "bind" | "rbind" => bundle.mount(&format!("/m/{word}"), "none", data.to_str().unwrap(), &[word]),
        _ => bundle.mount(&format!("/m/{word}"), "tmpfs", "tmpfs", &[word]),
    });
    bundle.run().says(&count.to_string());
}

/// Also of the flags that are the file system's.
#[test]
fn the_last_word_about_a_file_system_holds() {
    let bundle = Bundle::new("options-last")
        .mount("/m/on", "tmpfs", "tmpfs", &["async", "sync", "nolazytime", "lazytime"])
        .mount("/m/off", "tmpfs", "tmpfs", &["sync", "async", "lazytime", "nolazytime"])
        .mount("/m/later", "tmpfs", "tmpfs", &["sync", "dirsync"])
        .mount("/m/later", "", "", &["remount", "async"])
        .script("grep ' /m/' /proc/self/mountinfo");
    let said = bundle.run();
    let holds = |place: &str, word: &str| {
        let line = said.out.lines().find(|line| line.contains(&format!(" /m/{place} "))).expect(place);
        line.rsplit(' ').next().unwrap().split(',').any(|shown| shown == word)
    };
    assert!(holds("on", "sync") && holds("on", "lazytime"), "{said:?}");
    assert!(!holds("off", "sync") && !holds("off", "lazytime"), "{said:?}");
    assert!(!holds("later", "sync") && holds("later", "dirsync"), "{said:?}");
}

#[test]
fn a_mount_with_ids_of_its_own_shows_them_and_those_below_only_when_asked() {
    for (option, below) in [("idmap", 3000), ("ridmap", 0)] {
        let bundle = Bundle::new(&format!("own-{option}"));
        let source = bundle.dir.join("data");
        fs::create_dir_all(source.join("sub")).unwrap();
        std::os::unix::fs::lchown(&source, Some(3000), Some(3000)).unwrap();
        let source = source.to_str().unwrap().to_owned();
        let mut bundle =
            bundle.mount("/a", "bind", &source, &["rbind", option]).script("stat -c %u /a /a/sub");
        // The file system's 3000 is 0 here.
        let map = json!([{ "containerID": 3000, "hostID": 0, "size": 10 }]);
        let mount = bundle.spec["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        mount["uidMappings"] = map.clone();
        mount["gidMappings"] = map;
        bundle.write();
        let around = format!("mount -t tmpfs -o uid=3000 x {source}/sub && exec \"$0\" \"$@\"");
        let said = bundle.tinyrun_in(
            &["unshare", "-m", "sh", "-c", &around],
            &["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id],
        );
        assert_eq!(said.out, format!("0\n{below}"), "{option}: {said:?}");
    }
}

#[test]
fn a_read_only_dev_has_all_that_belongs_in_it() {
    let mut bundle = Bundle::new("ro-dev").script(
        "touch /dev/x; echo x >/dev/null && touch /dev/shm/x && test -c /dev/console && ls -d /dev/pts/ptmx",
    );
    assert_eq!(bundle.spec["mounts"][1]["destination"], "/dev");
    bundle.spec["mounts"][1]["options"].as_array_mut().unwrap().push(json!("ro"));
    bundle.spec["process"]["terminal"] = json!(true);
    let said = bundle.run();
    assert!(said.out.contains("/dev/x: Read-only") && said.out.ends_with("/dev/pts/ptmx"), "{said:?}");
}
