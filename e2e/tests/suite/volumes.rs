//! What is mounted into a container, and whose files they are on the other side.

use std::{fs, os::unix::fs::MetadataExt};

use tinyd_e2e::{Sandbox, busybox};

#[test]
fn a_missing_host_directory_is_made_and_shared() {
    let sandbox = Sandbox::new();
    let host = sandbox.dir().join("new/deep");
    let volume = format!("{}:/vol", host.display());
    sandbox.out(&["-v", &volume], &["sh", "-c", "echo data > /vol/file; mkdir /vol/dir"]);
    assert_eq!(fs::read_to_string(host.join("file")).unwrap(), "data\n");
    fs::write(host.join("back"), "from the host\n").unwrap();
    assert_eq!(sandbox.out(&["-v", &volume], &["cat", "/vol/back"]), "from the host");
}

#[test]
fn what_containers_root_writes_belongs_to_the_hosts_root() {
    let sandbox = Sandbox::new();
    let host = sandbox.make_dir("vol");
    let script = "touch /vol/root; touch /vol/alice; chown alice:staff /vol/alice; stat -c '%u:%g' /vol /vol/root /vol/alice";
    let inside = sandbox.out(&["-v", &format!("{host}:/vol")], &["sh", "-c", script]);
    assert_eq!(inside, "0:0\n0:0\n1000:50");
    let owner =
        |name: &str| fs::metadata(format!("{host}/{name}")).map(|file| (file.uid(), file.gid())).unwrap();
    assert_eq!((owner("root"), owner("alice")), ((0, 0), (1000, 50)));
}

#[test]
fn owners_of_the_image_are_as_in_the_image() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.out(&[], &["stat", "-c", "%u:%g", "/bin/busybox"]), "0:0");
    assert_eq!(sandbox.out(&[], &["sh", "-c", "touch /new; stat -c %u:%g /new /etc /"]), "0:0\n0:0\n0:0");
}

#[test]
fn ro_is_read_only_all_the_way_down() {
    let sandbox = Sandbox::new();
    let host = sandbox.make_dir("vol/below");
    let volume = host.trim_end_matches("/below").to_owned();
    let _ = sandbox.host().sh(&format!("mount -t tmpfs below {host}")).expect_ok();
    let option = format!("{volume}:/vol:ro");
    let said = sandbox.out(
        &["-v", &option],
        &["sh", "-c", "/bin/probe create /vol/file; /bin/probe create /vol/below/file; grep -c ' /vol/below ' /proc/mounts"],
    );
    assert_eq!(said, "EROFS 30\nEROFS 30\n1");
    let option = format!("{volume}:/vol");
    assert_eq!(sandbox.out(&["-v", &option], &["/bin/probe", "create", "/vol/below/file"]), "OK");
    let _ = sandbox.host().sh(&format!("umount {host}")).expect_ok();
}

#[test]
fn a_file_can_be_mounted() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("conf", "configured\n");
    let said = sandbox.out(&["-v", &format!("{file}:/etc/app/conf:ro")], &["cat", "/etc/app/conf"]);
    assert_eq!(said, "configured");
    assert_eq!(
        sandbox.out(&["-v", &format!("{file}:/etc/image-mark")], &["cat", "/etc/image-mark"]),
        "configured"
    );
}

#[test]
fn several_at_once_also_inside_each_other() {
    let sandbox = Sandbox::new();
    let (a, b, c) = (sandbox.make_dir("a"), sandbox.make_dir("b"), sandbox.file("c", "c\n"));
    let (inner, outer, file) = (format!("{b}:/a/b"), format!("{a}:/a"), format!("{c}:/a/b/c:ro"));
    let options = ["-v", &file, "-v", &inner, "-v", &outer];
    let said = sandbox.out(&options, &["sh", "-c", "touch /a/1 /a/b/2; cat /a/b/c"]);
    assert_eq!(said, "c");
    assert!(fs::exists(format!("{a}/1")).unwrap() && fs::exists(format!("{b}/2")).unwrap());
}

#[test]
fn volumes_are_nosuid_and_nodev() {
    let sandbox = Sandbox::new();
    let host = sandbox.make_dir("vol");
    let table = sandbox.out(&["-v", &format!("{host}:/vol")], &["grep", " /vol ", "/proc/mounts"]);
    assert!(table.contains("nosuid") && table.contains("nodev"), "{table}");
}

#[test]
fn a_named_volume_outlives_its_containers() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["volume", "create", "data"]);
    let id = sandbox
        .run(&["--name", "c", "-v", "data:/data"], &["sh", "-c", "echo kept > /data/file; sleep 1000"]);
    tinyd_e2e::wait_for("the file", 5, || {
        sandbox.tinyd(&["exec", "c", "cat", "/data/file"]).ok().then_some(())
    });
    assert!(sandbox.ok(&["volume", "ls"]).contains("data"));
    assert!(sandbox.ok(&["volume", "inspect", "data"]).contains("data"));
    let _ = sandbox.error(1, &["volume", "rm", "data"], &["data", &id[..12]]);
    sandbox.ok(&["rm", "-f", "c"]);
    assert_eq!(sandbox.out(&["-v", "data:/data"], &["cat", "/data/file"]), "kept");
    sandbox.ok(&["volume", "rm", "data"]);
    assert!(!sandbox.ok(&["volume", "ls", "-q"]).contains("data"));
}

#[test]
fn volumes_are_made_and_pruned_by_name() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["volume", "create", "one"]);
    sandbox.ok(&["volume", "create", "two"]);
    sandbox.run(&["-v", "two:/x"], &["sleep", "1000"]);
    let said = sandbox.ok(&["volume", "prune", "-f"]);
    assert!(said.contains("one") && !said.contains("two"), "{said}");
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]), "two");
    let _ = sandbox.error(1, &["volume", "rm", "ghost"], &["ghost"]);
    let _ = sandbox.error(1, &["volume", "create", "a/b"], &["a/b"]);
}

#[test]
fn a_target_through_a_link_of_the_container_stays_inside() {
    let sandbox = Sandbox::new();
    let image = sandbox.make_dir("image");
    let outside = sandbox.make_dir("outside");
    let line = format!("cp -a {}/. {image}/ && ln -s {outside} {image}/data", busybox());
    let _ = sandbox.host().sh(&line).expect_ok();
    let volume = format!("{}:/data/deep", sandbox.make_dir("vol"));
    let out =
        sandbox.tinyd(&["run", "--rm", "--attach", "-v", &volume, "-i", &image, "touch", "/data/deep/file"]);
    assert!(fs::read_dir(&outside).unwrap().next().is_none(), "something was made outside: {out:?}");
}
