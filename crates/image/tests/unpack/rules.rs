//! Each thing that an archive may try has a rule, and each rule is seen here on real files.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use tinyd_core::Kind;
use tinyd_image::unpack::Rules;

use crate::{
    Scratch,
    facts::xattrs,
    maker::{Head, Maker},
};

/// The error of an archive that is refused; what it says is checked by whoever asks.
fn refused(tar: &[u8]) -> String {
    let scratch = Scratch::new();
    let error = scratch.apply("into", tar).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    error.message().to_owned()
}

#[track_caller]
fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[test]
fn no_name_leads_out() {
    for name in ["../out", "/../out", "a/../../out", "..", "a/.."] {
        says(&refused(&Maker::new().dir("a").file(name, b"x").end()), &["leads up", name]);
    }
    let scratch = Scratch::new();
    scratch.apply("into", &Maker::new().file("/etc/absolute", b"x").file("./b//c", b"y").end()).unwrap();
    assert_eq!(fs::read(scratch.path("into/etc/absolute")).unwrap(), b"x");
    assert_eq!(fs::read(scratch.path("into/b/c")).unwrap(), b"y");
}

#[test]
fn no_link_of_the_archive_is_followed() {
    let scratch = Scratch::new();
    let outside = scratch.dir("outside");
    for (number, target) in [outside.to_str().unwrap(), "../outside", "inside", "."].into_iter().enumerate() {
        let into = format!("into{number}");
        let tar = Maker::new().dir("inside").symlink("way", target);
        for tar in [
            tar.clone_and(|tar| tar.file("way/x", b"x")),
            tar.clone_and(|tar| tar.dir("way/x/y")),
            tar.clone_and(|tar| tar.symlink("way/x", "y")),
            tar.clone_and(|tar| tar.file(".wh.z", b"").file("way/.wh.x", b"")),
            tar.clone_and(|tar| tar.file("way/.wh..wh..opq", b"")),
        ] {
            let error = scratch.apply(&into, &tar.end()).unwrap_err();
            says(error.message(), &["symbolic link", "way"]);
            tinyd_image::tree::remove(&scratch.path(&into)).unwrap();
        }
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(xattrs(&outside).is_empty());
}

impl Maker {
    fn clone_and(&self, more: impl Fn(Maker) -> Maker) -> Maker {
        more(Maker(self.0.clone()))
    }
}

#[test]
fn what_replaces_a_link_does_not_go_through_it() {
    let scratch = Scratch::new();
    let outside = scratch.dir("outside");
    fs::write(outside.join("victim"), b"old").unwrap();
    let victim = outside.join("victim");
    let victim = victim.to_str().unwrap();
    let tar = Maker::new().symlink("a", victim).put(Head::new("a", b'0').mode(0o4777).ids(5, 5), b"new");
    let tar = tar.symlink("b", victim).add(Head::new("b", b'6').mode(0o777).ids(5, 5));
    let tar = tar.symlink("c", outside.to_str().unwrap()).add(Head::new("c", b'5').mode(0o700).ids(5, 5));
    let tar = tar.add(Head::new("d", b'2').link(victim).ids(7, 7).mode(0o777));
    scratch.apply("into", &tar.end()).unwrap();
    let meta = fs::metadata(victim).unwrap();
    assert_eq!(
        (fs::read(victim).unwrap().as_slice(), meta.uid(), meta.mode() & 0o7777),
        (&b"old"[..], 0, 0o644)
    );
    assert!(meta.mtime() > 1_000_000_000);
    assert_eq!(fs::metadata(&outside).unwrap().uid(), 0);
    assert_eq!(fs::read(scratch.path("into/a")).unwrap(), b"new");
    assert!(fs::symlink_metadata(scratch.path("into/b")).unwrap().file_type().is_fifo());
    assert_eq!(fs::symlink_metadata(scratch.path("into/d")).unwrap().uid(), 7);
}

#[test]
fn a_file_on_the_way_is_an_error() {
    says(&refused(&Maker::new().file("a", b"x").file("a/b", b"y").end()), &["\"a\"", "not a directory"]);
}

#[test]
fn the_last_of_two_entries_counts() {
    let scratch = Scratch::new();
    let tar = Maker::new().file("f", b"one").hard_link("g", "f").file("f", b"two");
    let tar = tar
        .dir("d")
        .file("d/in", b"x")
        .dir("d/deep/er")
        .file("d", b"now a file")
        .file("h", b"")
        .symlink("h", "f");
    let tar = tar
        .put(Head::new("k", b'5').pax("SCHILY.xattr.user.old", "1"), b"")
        .file("k/in", b"")
        .add(Head::new("k", b'5').mode(0o700));
    let done = scratch.apply("into", &tar.end()).unwrap();
    let read = |name: &str| fs::read(scratch.path("into").join(name)).unwrap();
    // The first name's old file is not written through its second name.
    assert_eq!((read("f"), read("g"), read("d")), (b"two".to_vec(), b"one".to_vec(), b"now a file".to_vec()));
    assert_eq!(fs::read_link(scratch.path("into/h")).unwrap(), Path::new("f"));
    assert!(scratch.path("into/k/in").exists());
    assert_eq!(fs::metadata(scratch.path("into/k")).unwrap().mode() & 0o7777, 0o700);
    assert!(xattrs(&scratch.path("into/k")).is_empty());
    assert_eq!(done.implied, [PathBuf::new()]);
}

#[test]
fn a_hard_link_is_to_an_entry_before_it() {
    for (name, target, why) in [
        ("b", "missing", "no entry before it"),
        ("b", "no/such", "no entry before it"),
        ("b", "../../etc/passwd", "leads up"),
        ("b", "d", "is a directory"),
        ("b", "way/f", "symbolic link"),
        ("a", "a", "cannot be"),
        ("b", "hidden", "hides"),
    ] {
        let tar = Maker::new()
            .dir("d")
            .file("a", b"x")
            .file("d/f", b"")
            .symlink("way", "d")
            .file(".wh.hidden", b"");
        says(&refused(&tar.hard_link(name, target).end()), &[why, name]);
    }
    // Absolute: from the root of the layer. To a link: the link itself.
    let scratch = Scratch::new();
    let tar =
        Maker::new().file("a", b"x").hard_link("b", "/a").symlink("l", "/etc/passwd").hard_link("m", "l");
    scratch.apply("into", &tar.end()).unwrap();
    let inode = |name: &str| fs::symlink_metadata(scratch.path("into").join(name)).unwrap().ino();
    assert_eq!((inode("a"), inode("l")), (inode("b"), inode("m")));
}

#[test]
fn a_size_is_told_once() {
    // What the header calls contents would be an entry of its own if its size counted.
    let hidden = Maker::new().file("smuggled", b"x").0;
    let head = Head::new("f", b'0').pax("size", hidden.len().to_string());
    let scratch = Scratch::new();
    let tar = Maker::new().raw(&head, &hidden).file("after", b"y").end();
    scratch.apply("into", &tar).unwrap();
    assert_eq!(fs::read(scratch.path("into/f")).unwrap(), hidden);
    assert!(!scratch.path("into/smuggled").exists());
    assert!(scratch.path("into/after").exists());
    for flag in [b'1', b'2', b'3', b'5', b'6'] {
        let head = Head::new("d", flag).link("x").device(1, 3).size(5);
        says(
            &refused(&Maker::new().file("x", b"").raw(&head, b"12345").end()),
            &["no file", "5 bytes", "\"d\""],
        );
    }
    says(
        &refused(&Maker::new().raw(&Head::new("f", b'0').pax("size", "18446744073709551615"), b"").end()),
        &["size"],
    );
    says(
        &refused(&Maker::new().raw(&Head::new("f", b'0').size(1 << 62), b"abc").end()),
        &["ends in the middle"],
    );
    says(&refused(&Maker::new().raw(&Head::new("f", b'0').pax("size", "-1"), b"").end()), &["size", "-1"]);
}

#[test]
fn devices_are_made_and_never_a_whiteout() {
    let scratch = Scratch::new();
    let tar = Maker::new()
        .add(Head::new("null", b'3').device(1, 3).mode(0o666).ids(0, 5))
        .add(Head::new("disk", b'4').device(8, 300).mode(0o660).ids(0, 6))
        .add(Head::new("pipe", b'6').mode(0o1622));
    scratch.apply("into", &tar.end()).unwrap();
    let meta = |name: &str| fs::symlink_metadata(scratch.path("into").join(name)).unwrap();
    assert_eq!((meta("null").rdev(), meta("null").mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o666));
    assert_eq!((meta("disk").rdev(), meta("disk").gid()), (rustix::fs::makedev(8, 300), 6));
    assert_eq!(meta("pipe").mode() & 0o7777, 0o1622);
    says(&refused(&Maker::new().add(Head::new("x", b'3')).end()), &["0:0", "\"x\""]);
}

#[test]
fn ids_beyond_the_range_are_refused_by_name() {
    for (uid, gid) in [(65_536, 0), (0, 65_536), (4_294_967_295, 0), (4_294_967_296, 0), (0, 1 << 40)] {
        let tar = Maker::new().put(Head::new("big", b'0').ids(uid, gid), b"").end();
        says(&refused(&tar), &["\"big\"", "65535", if uid == 0 { "gid" } else { "uid" }]);
        says(
            &refused(&Maker::new().put(Head::new("big", b'0').pax("uid", "65536"), b"").end()),
            &["\"big\""],
        );
    }
    let scratch = Scratch::new();
    let tar = Maker::new().put(Head::new("f", b'0').ids(u64::from(u32::MAX), 0), b"").end();
    let rules = Rules { id_max: u32::MAX, ..Rules::default() };
    assert!(scratch.apply_by("into", &tar, &rules).is_err(), "the id that means none");
}

#[test]
fn set_id_bits_and_capabilities_survive_their_owner() {
    let scratch = Scratch::new();
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Maker::new()
        .put(Head::new("su", b'0').mode(0o6755).ids(3, 4), b"x")
        .put(
            Head::new("ping", b'0').mode(0o755).ids(3, 4).pax("SCHILY.xattr.security.capability", capability),
            b"x",
        )
        .add(Head::new("tmp", b'5').mode(0o1777))
        .add(Head::new("mail", b'5').mode(0o2775).ids(0, 8))
        .put(Head::new("mail/box", b'0'), b"")
        .add(Head::new("mail/more", b'5'));
    scratch.apply("into", &tar.end()).unwrap();
    let meta = |name: &str| fs::symlink_metadata(scratch.path("into").join(name)).unwrap();
    assert_eq!((meta("su").mode() & 0o7777, meta("su").uid()), (0o6755, 3));
    assert_eq!(xattrs(&scratch.path("into/ping"))["security.capability"], capability);
    assert_eq!((meta("tmp").mode() & 0o7777, meta("mail").mode() & 0o7777), (0o1777, 0o2775));
    // A directory's group and its set-group-id bit are not inherited by what the archive says otherwise of.
    assert_eq!(
        (meta("mail/box").gid(), meta("mail/more").gid(), meta("mail/more").mode() & 0o7777),
        (0, 0, 0o755)
    );
}

#[test]
fn a_directory_that_is_come_back_to_hands_nothing_down() {
    let scratch = Scratch::new();
    let mut list = vec![2, 0, 0, 0];
    for (tag, perm, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 42), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)]
    {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&perm.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    let tar = Maker::new()
        .add(Head::new("d", b'5').mode(0o2775).ids(0, 8).pax("SCHILY.xattr.system.posix_acl_default", &list))
        .dir("other")
        .file("d/in", b"")
        .file("other/in", b"")
        .dir("d/more");
    scratch.apply("into", &tar.end()).unwrap();
    let meta = |name: &str| fs::symlink_metadata(scratch.path("into").join(name)).unwrap();
    assert_eq!(
        (meta("d/in").gid(), meta("d/in").mode() & 0o7777, meta("d/more").mode() & 0o7777),
        (0, 0o644, 0o755)
    );
    assert!(xattrs(&scratch.path("into/d/in")).is_empty() && xattrs(&scratch.path("into/d/more")).is_empty());
    assert_eq!((meta("d").mode() & 0o7777, meta("d").mtime()), (0o2775, 1_000_000_000));
    assert_eq!(xattrs(&scratch.path("into/d"))["system.posix_acl_default"], list);
}

#[test]
fn overlays_attributes_are_not_taken_from_an_archive() {
    let scratch = Scratch::new();
    let head = Head::new("d", b'5')
        .pax("SCHILY.xattr.trusted.overlay.opaque", "y")
        .pax("SCHILY.xattr.trusted.overlay.redirect", "/etc")
        .pax("SCHILY.xattr.user.overlay.opaque", "y")
        .pax("SCHILY.xattr.security.selinux", "label")
        .pax("SCHILY.xattr.user.kept", "")
        .pax("SCHILY.xattr.trusted.other", "x");
    let link = Head::new("l", b'2').link("d").pax("SCHILY.xattr.user.nowhere", "x");
    let done = scratch.apply("into", &Maker::new().add(head).add(link).end()).unwrap();
    let found: Vec<_> = xattrs(&scratch.path("into/d")).into_keys().collect();
    assert_eq!(found, ["user.kept"]);
    assert_eq!(done.notes.len(), 5, "{:?}", done.notes);
}

#[test]
fn limits_end_an_archive_that_is_too_much() {
    let scratch = Scratch::new();
    let rules = |entries_max, bytes_max| Rules { entries_max, bytes_max, ..Rules::default() };
    let tar = Maker::new().dir("a").dir("b").dir("c").end();
    assert!(scratch.apply_by("fits", &tar, &rules(3, 1 << 20)).is_ok());
    let error = scratch.apply_by("entries", &tar, &rules(2, 1 << 20)).unwrap_err();
    assert_eq!(
        (error.kind(), error.message().contains("more than 2 entries")),
        (Kind::Exhausted, true),
        "{error}"
    );
    let error = scratch.apply_by("bytes", &tar, &rules(9, 2000)).unwrap_err();
    assert_eq!((error.kind(), error.message().contains("2000 bytes")), (Kind::Exhausted, true), "{error}");
    // Directories that nobody mentions count.
    let tar = Maker::new().file("a/b/c/d", b"").end();
    assert!(scratch.apply_by("implied", &tar, &rules(3, 1 << 20)).is_err());
    // What follows the end is read, since its digest counts, and counted.
    let tar = [Maker::new().dir("a").end(), vec![0; 5000]].concat();
    assert!(scratch.apply_by("behind", &tar, &rules(9, 5000)).is_err());
}

#[test]
fn depth_costs_no_descriptors() {
    let scratch = Scratch::new();
    let deep = "d/".repeat(2000);
    let head = |name: &str| Head::new("long", b'0').pax("path", name);
    let tar = Maker::new()
        .add(Head::new("d", b'5').mode(0o700))
        .put(head(&format!("{deep}f")), b"x")
        .put(head(&format!("{}g", "d/".repeat(3))), b"y")
        .put(head(&format!("{deep}h")), b"z");
    let done = scratch.apply("into", &tar.end()).unwrap();
    assert_eq!(done.implied.len(), 2000);
    let top = fs::metadata(scratch.path("into/d")).unwrap();
    assert_eq!((top.mode() & 0o7777, top.mtime()), (0o700, 1_000_000_000));
    assert_eq!(fs::read(scratch.path("into/d/d/d/g")).unwrap(), b"y");
}

#[test]
fn names_that_linux_has_not_are_refused() {
    let named = |name: &[u8]| Maker::new().put(Head::new("x", b'0').pax("path", name), b"").end();
    says(&refused(&named(&[b'n'; 256])), &["255"]);
    says(&refused(&named(&b"n/".repeat(2048))), &["ends with a slash"]);
    says(&refused(&named(&[&b"n/".repeat(2048)[..], b"n"].concat())), &["4096"]);
    says(&refused(&named(b"a\0b")), &["path"]);
    says(&refused(&Maker::new().file("./", b"").end()), &["slash"]);
    says(&refused(&Maker::new().symlink("./", "x").end()), &["root"]);
    says(&refused(&Maker::new().add(Head::new("", b'5')).end()), &["no name"]);
}

#[test]
fn an_archive_that_is_not_one_is_refused() {
    says(&refused(&[7; 2048]), &["byte 0", "checksum"]);
    let good = Maker::new().dir("a").file("a/f", &[1; 600]).0;
    says(&refused(&good[..good.len() - 512]), &["ends in the middle"]);
    says(&refused(&good[..good.len() - 100]), &["ends in the middle"]);
    says(&refused(&[&good[..], &[0; 512], &good].concat()), &["empty block"]);
    let twice = Maker::new().raw(&Head::new("x", b'x').size(10), b"10 path=a\n");
    says(&refused(&twice.clone_and(|tar| tar.file("f", b"")).end()[512..]), &["checksum"]);
    says(
        &refused(
            &twice
                .clone_and(|tar| tar.raw(&Head::new("x", b'x').size(10), b"10 path=b\n").file("f", b""))
                .end(),
        ),
        &["more than one"],
    );
    says(&refused(&twice.clone_and(|tar| tar).end()), &["about nothing"]);
    says(
        &refused(&Maker::new().raw(&Head::new("x", b'x').size(10), b"11 path=a\n").file("f", b"").end()),
        &["PAX record"],
    );
    let both = twice.raw(&Head::new("x", b'L').size(2), b"b\0").file("f", b"");
    says(&refused(&both.end()), &["both"]);
    let error = Scratch::new().apply("into", &Maker::new().add(Head::new("s", b'M')).end()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    // No end marker, and nothing at all: whole by their digest.
    let scratch = Scratch::new();
    scratch.apply("unmarked", &good).unwrap();
    scratch.apply("empty", b"").unwrap();
    // What git writes in front of its archives.
    let global =
        Maker::new().raw(&Head::new("pax_global_header", b'g').size(14), b"14 comment=ab\n").file("f", b"");
    scratch.apply("global", &global.end()).unwrap();
}
