//! What is written of a tree is, applied again, that tree.

use std::{
    fs,
    os::{fd::AsFd, unix::fs::chown, unix::net::UnixListener},
    path::{Path, PathBuf},
};

use tinyd_core::{Error, Kind};
use tinyd_image::pack::{Form, Packed, Rules, pack};

use crate::{
    Scratch,
    compare::everything,
    facts::{differences, facts},
    maker::{Head, Maker},
    open,
};

fn packed(tree: &Path, form: Form, ids: (u32, u32)) -> Result<(Vec<u8>, Packed), Error> {
    let mut tar = Vec::new();
    let done = pack(open(tree).as_fd(), &mut tar, &Rules { form, ids })?;
    Ok((tar, done))
}

#[test]
fn what_is_packed_and_applied_is_what_it_was() {
    let scratch = Scratch::new();
    scratch.apply("from", &everything()).unwrap();
    for (number, form) in [Form::Upper, Form::Plain].into_iter().enumerate() {
        let (tar, done) = packed(&scratch.path("from"), form, (0, 65_536)).unwrap();
        let into = format!("into{number}");
        let again = scratch.apply(&into, &tar).unwrap();
        assert_eq!((done.entries, done.bytes), (again.entries, again.bytes));
        assert!(again.implied.is_empty() && done.skipped == 0, "{again:?}");
        let lines = differences(&facts(&scratch.path("from")), &facts(&scratch.path(&into)));
        assert!(lines.is_empty(), "{}", lines.join("\n"));
        assert_eq!(
            packed(&scratch.path(&into), form, (0, 65_536)).unwrap().0,
            tar,
            "the same tree is the same bytes"
        );
    }
}

#[test]
fn whiteouts_and_opaque_directories_come_back() {
    let scratch = Scratch::new();
    let tar = Maker::new()
        .dir("./")
        .dir("a")
        .file("a/.wh..wh..opq", b"")
        .file("a/.wh.b", b"")
        .file(".wh.c", b"")
        .file("d", b"x");
    scratch.apply("from", &tar.end()).unwrap();
    let (tar, _) = packed(&scratch.path("from"), Form::Upper, (0, 65_536)).unwrap();
    for name in [&b"a/.wh..wh..opq"[..], b"a/.wh.b", b".wh.c"] {
        assert!(tar.chunks(512).any(|block| block.starts_with(name)), "{}", String::from_utf8_lossy(name));
    }
    scratch.apply("into", &tar).unwrap();
    // Of a whiteout only that it is there counts.
    let seen = |name: &str| {
        let mut all = facts(&scratch.path(name));
        all.values_mut().filter(|fact| fact.kind == "character").for_each(|fact| fact.mtime = 0);
        all
    };
    let lines = differences(&seen("from"), &seen("into"));
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn ids_are_mapped_back_or_refused_by_name() {
    let scratch = Scratch::new();
    let base = 0x4000_0000;
    let dir = scratch.dir("from");
    fs::write(dir.join("mine"), b"x").unwrap();
    for (path, id) in [(dir.clone(), base), (dir.join("mine"), base + 1000)] {
        chown(&path, Some(id), Some(id)).unwrap();
    }
    let (tar, _) = packed(&dir, Form::Upper, (base, 65_536)).unwrap();
    scratch.apply("into", &tar).unwrap();
    assert_eq!(facts(&scratch.path("into"))[&PathBuf::from("mine")].ids, (1000, 1000));
    for id in [0, base - 1, base + 65_536] {
        chown(dir.join("mine"), None, Some(id)).unwrap();
        let error = packed(&dir, Form::Upper, (base, 65_536)).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.message().contains("\"mine\"") && error.message().contains(&id.to_string()), "{error}");
    }
}

#[test]
fn links_are_not_followed_and_sockets_are_left_out() {
    let scratch = Scratch::new();
    let dir = scratch.dir("from");
    fs::write(scratch.path("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink(scratch.path("secret"), dir.join("link")).unwrap();
    std::os::unix::fs::symlink(scratch.path(""), dir.join("up")).unwrap();
    let _socket = UnixListener::bind(dir.join("socket")).unwrap();
    let (_, done) = packed(&dir, Form::Plain, (0, 65_536)).unwrap();
    assert_eq!((done.entries, done.skipped, done.bytes), (3, 1, 0));
}

#[test]
fn an_upper_directory_that_refers_to_others_is_not_whole() {
    let scratch = Scratch::new();
    scratch.apply("from", &Maker::new().add(Head::new("a", b'5')).end()).unwrap();
    let dir = open(&scratch.path("from/a"));
    rustix::fs::fsetxattr(&dir, c"trusted.overlay.redirect", b"/b", rustix::fs::XattrFlags::empty()).unwrap();
    let error = packed(&scratch.path("from"), Form::Upper, (0, 65_536)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}
