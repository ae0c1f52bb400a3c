//! Mounts, and images that try to lead them astray.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::json;

use crate::driver::Bundle;

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
fn a_source_that_is_missing_and_an_option_that_is_wrong_are_named() {
    let bundle = Bundle::new("wrong").script("true").mount("/x", "bind", "/nonexistent", &["bind"]);
    bundle.run().fails(1, "mounts[7] (/x): its source /nonexistent does not exist");
    let bundle = Bundle::new("wrong2").script("true").mount("/x", "tmpfs", "tmpfs", &["size=lots"]);
    bundle.run().fails(1, "mounts[7] (/x): fsconfig(\"tmpfs\", size=lots) (tmpfs: Bad value for 'size')");
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
