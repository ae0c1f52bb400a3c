//! The form of a layer: what is hidden, what is opaque, and directories that only lower layers know.

use std::{
    fs,
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use tinyd_image::unpack::settle;

use crate::{
    Scratch,
    facts::xattrs,
    maker::{Head, Maker},
    open,
};

fn is_opaque(path: &Path) -> bool {
    xattrs(path).get("trusted.overlay.opaque").is_some_and(|value| value == b"y")
}

fn is_hidden(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

#[test]
fn whiteouts_are_as_overlayfs_has_them() {
    let scratch = Scratch::new();
    let tar = Maker::new()
        .file("a/.wh.gone", b"")
        .file("a/.wh..wh..opq", b"")
        .file("a/stays", b"x")
        .file("b/.wh..wh.plnk", b"")
        .file(".wh..wh.aufs", b"")
        .dir(".wh..wh.orph")
        .file(".wh..wh.orph/x", b"");
    let done = scratch.apply("into", &tar.end()).unwrap();
    let into = scratch.path("into");
    assert!(is_hidden(&into.join("a/gone")) && is_opaque(&into.join("a")) && into.join("a/stays").exists());
    let mut names: Vec<_> = fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a"]);
    assert!(!done.hides_all);
    for bad in [".wh.", ".wh..", ".wh...", "a/.wh..", ".wh.a/b"] {
        let error = Scratch::new().apply("into", &Maker::new().file(bad, b"").end()).unwrap_err();
        assert!(error.message().contains("whiteout") && error.message().contains(bad), "{bad}: {error}");
    }
}

#[test]
fn what_is_hidden_and_there_is_there_in_any_order() {
    let scratch = Scratch::new();
    let there = |tar: Maker| tar.file("f", b"x").dir("d").file("d/in", b"").file("implied/in", b"");
    let hide = |tar: Maker| tar.file(".wh.f", b"").file(".wh.d", b"").file(".wh.implied", b"");
    for (name, tar) in [("first", there(hide(Maker::new()))), ("last", hide(there(Maker::new())))] {
        scratch.apply(name, &tar.end()).unwrap();
        let into = scratch.path(name);
        assert_eq!(fs::read(into.join("f")).unwrap(), b"x");
        for dir in ["d", "implied"] {
            assert!(is_opaque(&into.join(dir)) && into.join(dir).join("in").exists(), "{name} {dir}");
        }
    }
}

#[test]
fn a_directory_in_place_of_something_else_hides_what_is_below() {
    let scratch = Scratch::new();
    scratch.apply("into", &Maker::new().file("a", b"").dir("a").dir("b").dir("b").end()).unwrap();
    assert!(is_opaque(&scratch.path("into/a")) && !is_opaque(&scratch.path("into/b")));
}

#[test]
fn an_opaque_root_is_told() {
    let scratch = Scratch::new();
    assert!(scratch.apply("into", &Maker::new().file(".wh..wh..opq", b"").end()).unwrap().hides_all);
}

#[test]
fn times_of_directories_are_the_archives() {
    let scratch = Scratch::new();
    let stamped = |name: &str, time: &str| Head::new(name, b'5').pax("mtime", time);
    let tar = Maker::new()
        .add(stamped("./", "5.000000005"))
        .add(stamped("a", "6.25"))
        .add(stamped("a/b", "-1.5"))
        .file("a/b/c", b"")
        .dir("z")
        .file("a/later", b"")
        .file(".wh.gone", b"")
        .symlink("a/b/link", "x");
    let done = scratch.apply("into", &tar.end()).unwrap();
    let time = |name: &str| {
        let meta = fs::metadata(scratch.path("into").join(name)).unwrap();
        (meta.mtime(), meta.mtime_nsec())
    };
    assert_eq!((time(""), time("a"), time("a/b")), ((5, 5), (6, 250_000_000), (-2, 500_000_000)));
    assert_eq!(done.implied, [] as [PathBuf; 0]);
}

#[test]
fn directories_that_are_not_mentioned_look_like_the_nearest_lower_layers() {
    let scratch = Scratch::new();
    let lower =
        |mode| Head::new("a", b'5').mode(mode).ids(7, 8).pax("SCHILY.xattr.user.k", "v").pax("mtime", "77.5");
    scratch
        .apply(
            "far",
            &Maker::new()
                .add(Head::new("./", b'5').mode(0o700))
                .add(lower(0o2700))
                .add(Head::new("a/b", b'5').mode(0o711))
                .end(),
        )
        .unwrap();
    scratch.apply("near", &Maker::new().add(lower(0o1751)).file("a/x", b"").end()).unwrap();
    let done = scratch.apply("top", &Maker::new().file("a/b/c", b"").file("new/f", b"").end()).unwrap();
    assert_eq!(done.implied, ["", "a", "a/b", "new"].map(PathBuf::from));
    let layers = [open(&scratch.path("near")), open(&scratch.path("far"))];
    let layers = [layers[0].as_fd(), layers[1].as_fd()];
    settle(open(&scratch.path("top")).as_fd(), &layers, &done.implied).unwrap();
    let meta = |name: &str| fs::metadata(scratch.path("top").join(name)).unwrap();
    let a = meta("a");
    assert_eq!(
        (a.mode() & 0o7777, a.uid(), a.gid(), a.mtime(), a.mtime_nsec()),
        (0o1751, 7, 8, 77, 500_000_000)
    );
    assert_eq!(xattrs(&scratch.path("top/a"))["user.k"], b"v");
    assert_eq!((meta("a/b").mode() & 0o7777, meta("new").mode() & 0o7777), (0o711, 0o755));
    // The root of the nearest layer was itself not mentioned.
    assert_eq!(meta("").mode() & 0o7777, 0o755);
}

#[test]
fn what_is_hidden_in_between_is_no_model() {
    let scratch = Scratch::new();
    let far =
        Maker::new().dir("a").add(Head::new("a/b", b'5').mode(0o711)).add(Head::new("c", b'5').mode(0o711));
    scratch.apply("far", &far.end()).unwrap();
    for (number, near) in [
        Maker::new().file(".wh.a", b"").file(".wh.c", b""),
        Maker::new().file("a/.wh..wh..opq", b"").file("c", b""),
        Maker::new().file("a", b"").symlink("c", "a"),
    ]
    .into_iter()
    .enumerate()
    {
        let (near_name, top) = (format!("near{number}"), format!("top{number}"));
        scratch.apply(&near_name, &near.end()).unwrap();
        let done = scratch.apply(&top, &Maker::new().file("a/b/x", b"").file("c/x", b"").end()).unwrap();
        let (near, far) = (open(&scratch.path(&near_name)), open(&scratch.path("far")));
        settle(open(&scratch.path(&top)).as_fd(), &[near.as_fd(), far.as_fd()], &done.implied).unwrap();
        for dir in ["a/b", "c"] {
            let mode = fs::metadata(scratch.path(&top).join(dir)).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o755, "{number} {dir}");
        }
    }
    // Hidden by the layer itself.
    let done =
        scratch.apply("own", &Maker::new().file("a/.wh..wh..opq", b"").file("a/b/x", b"").end()).unwrap();
    settle(open(&scratch.path("own")).as_fd(), &[open(&scratch.path("far")).as_fd()], &done.implied).unwrap();
    assert_eq!(fs::metadata(scratch.path("own/a/b")).unwrap().mode() & 0o7777, 0o755);
}
