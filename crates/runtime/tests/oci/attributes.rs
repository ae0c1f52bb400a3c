//! What the words of a mount come to in the kernel's own list, on the mount and on the one below it.

use std::{collections::BTreeMap, fs};

use serde_json::json;

use crate::driver::{Bundle, Said};

/// What the host's two mounts have, one below the other; words of a bind mount of both; what the kernel then shows of either.
#[rustfmt::skip]
const TABLE: [(&str, &[&str], &str, &str); 44] = [
    ("", &[], "rw,relatime", "rw,relatime"),
    // A word is about the mount itself.
    ("", &["ro"], "ro,relatime", "rw,relatime"),
    ("", &["nosuid"], "rw,nosuid,relatime", "rw,relatime"),
    ("", &["nodev"], "rw,nodev,relatime", "rw,relatime"),
    ("", &["noexec"], "rw,noexec,relatime", "rw,relatime"),
    ("", &["noatime"], "rw,noatime", "rw,relatime"),
    ("", &["nodiratime"], "rw,nodiratime,relatime", "rw,relatime"),
    ("", &["nosymfollow"], "rw,relatime,nosymfollow", "rw,relatime"),
    ("", &["strictatime"], "rw", "rw,relatime"),
    ("", &["norelatime"], "rw", "rw,relatime"),
    ("", &["ro", "nosuid", "nodev", "noexec", "noatime"], "ro,nosuid,nodev,noexec,noatime", "rw,relatime"),
    // It takes away what the host's has.
    ("ro", &["rw"], "rw,relatime", "ro,relatime"),
    ("nosuid", &["suid"], "rw,relatime", "rw,nosuid,relatime"),
    ("nodev", &["dev"], "rw,relatime", "rw,nodev,relatime"),
    ("noexec", &["exec"], "rw,relatime", "rw,noexec,relatime"),
    ("noatime", &["atime"], "rw,relatime", "rw,noatime"),
    ("noatime", &["relatime"], "rw,relatime", "rw,noatime"),
    ("nodiratime", &["diratime"], "rw,relatime", "rw,nodiratime,relatime"),
    ("nosymfollow", &["symfollow"], "rw,relatime", "rw,relatime,nosymfollow"),
    ("strictatime", &["nostrictatime"], "rw,relatime", "rw"),
    // What it is not about stays.
    ("nosuid,nodev,noatime", &["suid", "noexec"], "rw,nodev,noexec,noatime", "rw,nosuid,nodev,noatime"),
    // A recursive one is about the mount below, too.
    ("", &["rro"], "ro,relatime", "ro,relatime"),
    ("", &["rnosuid"], "rw,nosuid,relatime", "rw,nosuid,relatime"),
    ("", &["rnodev"], "rw,nodev,relatime", "rw,nodev,relatime"),
    ("", &["rnoexec"], "rw,noexec,relatime", "rw,noexec,relatime"),
    ("", &["rnoatime"], "rw,noatime", "rw,noatime"),
    ("", &["rnodiratime"], "rw,nodiratime,relatime", "rw,nodiratime,relatime"),
    ("", &["rnosymfollow"], "rw,relatime,nosymfollow", "rw,relatime,nosymfollow"),
    ("", &["rstrictatime"], "rw", "rw"),
    ("", &["rnorelatime"], "rw", "rw"),
    ("ro", &["rrw"], "rw,relatime", "rw,relatime"),
    ("nosuid", &["rsuid"], "rw,relatime", "rw,relatime"),
    ("nodev", &["rdev"], "rw,relatime", "rw,relatime"),
    ("noexec", &["rexec"], "rw,relatime", "rw,relatime"),
    ("noatime", &["ratime"], "rw,relatime", "rw,relatime"),
    ("noatime", &["rrelatime"], "rw,relatime", "rw,relatime"),
    ("nodiratime", &["rdiratime"], "rw,relatime", "rw,relatime"),
    ("nosymfollow", &["rsymfollow"], "rw,relatime", "rw,relatime"),
    ("strictatime", &["rnostrictatime"], "rw,relatime", "rw,relatime"),
    ("nosuid,nodev,noatime", &["rsuid", "rnoexec"], "rw,nodev,noexec,noatime", "rw,nodev,noexec,noatime"),
    // The last word about the mount itself holds there.
    ("", &["rro", "rw"], "rw,relatime", "ro,relatime"),
    ("ro", &["rrw", "ro"], "ro,relatime", "rw,relatime"),
    ("", &["rnoexec", "exec", "noatime"], "rw,noatime", "rw,noexec,relatime"),
    ("noatime", &["rstrictatime", "relatime"], "rw,relatime", "rw"),
];

/// The attributes of each mount that is seen, by its place.
fn attributes(said: &Said) -> BTreeMap<&str, &str> {
    assert_eq!(said.code, 0, "{said:?}");
    let fields = said.out.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.map(|fields| (fields[4], fields[5])).collect()
}

#[test]
fn each_word_is_seen_on_the_mount_and_below_it_where_it_should_be() {
    const SOURCES: &str = "make() { mkdir $1 && mount -t tmpfs x $1; }
        while read dir flags; do
            make $dir && make $dir/sub || exit
            [ -z \"$flags\" ] && continue
            mount -o remount,bind,$flags $dir/sub && mount -o remount,bind,$flags $dir || exit
        done <\"$0\"; exec \"$@\"";
    let bundle = Bundle::new("attributes").script("grep ' /m/' /proc/self/mountinfo");
    let source = |at: usize| format!("{}/data-{at}", bundle.dir.display());
    let sources = TABLE.iter().enumerate().map(|(at, (host, ..))| format!("{} {host}\n", source(at)));
    let list = bundle.dir.join("list");
    fs::write(&list, sources.collect::<String>()).unwrap();
    let sources: Vec<_> = (0..TABLE.len()).map(source).collect();
    let bundle = sources.iter().enumerate().fold(bundle, |bundle, (at, source)| {
        bundle.mount(&format!("/m/{at}"), "bind", source, &[&["rbind"], TABLE[at].1].concat())
    });
    bundle.write();
    // The host's mounts exist in a mount namespace of the test's own.
    let around = ["unshare", "-m", "sh", "-c", SOURCES, list.to_str().unwrap()];
    let said = bundle.tinyrun_in(&around, &["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
    let seen = attributes(&said);
    assert_eq!(seen.len(), 2 * TABLE.len(), "{said:?}");
    for (at, (host, words, own, below)) in TABLE.iter().enumerate() {
        let found = (seen[&*format!("/m/{at}")], seen[&*format!("/m/{at}/sub")]);
        assert_eq!(found, (*own, *below), "{words:?} over {host:?}");
    }
}

/// Nothing is below it and nobody has said anything of it before.
#[test]
fn each_word_is_seen_on_a_new_file_system() {
    let rows = || TABLE.iter().enumerate().filter(|(_, (host, ..))| host.is_empty());
    let bundle = Bundle::new("attributes-new").script("grep ' /m/' /proc/self/mountinfo");
    let bundle = rows().fold(bundle, |bundle, (at, (_, words, ..))| {
        bundle.mount(&format!("/m/{at}"), "tmpfs", "tmpfs", words)
    });
    let said = bundle.run();
    let seen = attributes(&said);
    for (at, (_, words, own, _)) in rows() {
        assert_eq!(seen[&*format!("/m/{at}")], *own, "{words:?}");
    }
}

/// What its options hide, and from whom; with users of its own, too.
#[test]
fn a_procfs_hides_what_its_options_say() {
    for users in [false, true] {
        let bundle = Bundle::new(&format!("attributes-proc-{users}")).args(&["sleep", "1000"]);
        let mut bundle = if users { bundle.with_users() } else { bundle };
        assert_eq!(bundle.spec["mounts"][0]["destination"], "/proc");
        bundle.spec["mounts"][0]["options"] = json!(["nosuid", "nodev", "noexec", "hidepid=2", "gid=7"]);
        let bundle = bundle.mount("/pids", "proc", "proc", &["ro", "subset=pid"]);
        bundle.write();
        bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
        let exec = |user: &str, script: &str| {
            bundle.tinyrun(&["exec", "--user", user, &bundle.id, "sh", "-c", script])
        };
        // In the kernel's words: the host's number of the group, and 2 is `invisible`.
        let shown = exec("0:0", "grep -E ' /(proc|pids) ' /proc/self/mountinfo").out;
        let line = |place: &str| shown.lines().find(|line| line.contains(&format!(" {place} "))).unwrap();
        assert!(line("/proc").contains(" rw,nosuid,nodev,noexec,relatime - proc proc rw,"), "{shown}");
        let group = if users { 100_007 } else { 7 };
        assert!(line("/proc").ends_with(&format!("gid={group},hidepid=invisible")), "{shown}");
        assert!(line("/pids").contains(" ro,") && line("/pids").ends_with(",subset=pid"), "{shown}");
        let looks = "ls -d /proc/1 /proc/cpuinfo /pids/1 /pids/cpuinfo 2>/dev/null; true";
        exec("0:0", looks).says("/pids/1\n/proc/1\n/proc/cpuinfo");
        exec("5:5", looks).says("/pids/1\n/proc/cpuinfo");
        exec("5:7", looks).says("/pids/1\n/proc/1\n/proc/cpuinfo");
    }
}

/// Nothing is there then to be masked or read-only.
#[test]
fn a_container_may_have_a_proc_of_processes_alone() {
    let mut bundle =
        Bundle::new("attributes-pids").script("ls /proc | grep -v '^[1-9]'; readlink /proc/1/exe");
    bundle.spec["mounts"][0]["options"] = json!(["hidepid=invisible", "subset=pid"]);
    bundle.run().says("self\nthread-self\n/bin/busybox");
}
