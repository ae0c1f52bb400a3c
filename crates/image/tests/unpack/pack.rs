//! What is written of a tree is, applied again, that tree.

use std::{
    fs,
    os::{fd::AsFd, unix::fs::chown, unix::net::UnixListener},
    path::{Path, PathBuf},
};

use tinyd_core::{Error, Kind};
use tinyd_image::pack::{Form, Packed, Part, Rules, pack, pack_stack};

use crate::{
    Scratch,
    compare::everything,
    facts::{differences, facts},
    maker::{Head, Maker},
    open,
};

fn packed(tree: &Path, form: Form, ids: (u32, u32)) -> Result<(Vec<u8>, Packed), Error> {
    let mut tar = Vec::new();
    let done = pack(open(tree).as_fd(), &mut tar, &Rules { form, ids, is_live: false })?;
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

#[test]
fn parts_on_each_other_are_what_overlayfs_shows() {
    let scratch = Scratch::new();
    let lower = Maker::new()
        .dir("./")
        .dir("both")
        .file("both/low", b"low")
        .file("both/same", b"low")
        .file("both/gone", b"x")
        .dir("opaque")
        .file("opaque/hidden", b"x")
        .dir("becomes-file")
        .file("becomes-file/hidden", b"x")
        .file("becomes-dir", b"x")
        .file("gone", b"x")
        .file("one", b"linked")
        .hard_link("two", "one");
    let upper = Maker::new()
        .dir("./")
        .dir("both")
        .file("both/high", b"high")
        .file("both/same", b"high")
        .file("both/.wh.gone", b"")
        .dir("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/own", b"x")
        .file("becomes-file", b"x")
        .dir("becomes-dir")
        .file(".wh.gone", b"");
    scratch.apply("lower", &lower.end()).unwrap();
    scratch.apply("upper", &upper.end()).unwrap();
    let base = 0x4000_0000;
    for path in ["", "both", "both/high", "both/same", "opaque", "opaque/own", "becomes-file", "becomes-dir"]
    {
        chown(scratch.path("upper").join(path), Some(base + 7), Some(base + 7)).unwrap();
    }
    let (upper, lower) = (open(&scratch.path("upper")), open(&scratch.path("lower")));
    let parts =
        [Part { dir: upper.as_fd(), ids: (base, 65_536) }, Part { dir: lower.as_fd(), ids: (0, u32::MAX) }];
    let mut tar = Vec::new();
    pack_stack(&parts, &mut tar, false).unwrap();
    scratch.apply("into", &tar).unwrap();
    let seen = facts(&scratch.path("into"));
    let names: Vec<&str> = seen.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "",
            "becomes-dir",
            "becomes-file",
            "both",
            "both/high",
            "both/low",
            "both/same",
            "one",
            "opaque",
            "opaque/own",
            "two"
        ]
    );
    let ids = |name: &str| seen[&PathBuf::from(name)].ids;
    assert_eq!((ids(""), ids("both"), ids("both/same"), ids("both/low")), ((7, 7), (7, 7), (7, 7), (0, 0)));
    assert_eq!(fs::read(scratch.path("into/both/same")).unwrap(), b"high");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(scratch.path("into/one")).unwrap().nlink(), 2);
}

/// A writer that changes the tree when its first file comes.
struct Meddler<'a>(&'a Path, Vec<u8>);

impl std::io::Write for Meddler<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.starts_with(b"short") {
            fs::remove_file(self.0.join("d/gone"))?;
            fs::remove_dir(self.0.join("d"))?;
            fs::File::options().write(true).open(self.0.join("short"))?.set_len(1)?;
        }
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_changes_meanwhile_is_an_error_unless_that_is_expected() {
    for is_live in [false, true] {
        let scratch = Scratch::new();
        let dir = scratch.dir("from");
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/gone"), b"x").unwrap();
        fs::write(dir.join("short"), b"0123456789").unwrap();
        let mut out = Meddler(&dir, Vec::new());
        let rules = Rules { form: Form::Plain, ids: (0, 65_536), is_live };
        let done = pack(open(&dir).as_fd(), &mut out, &rules);
        let tar = out.1;
        if !is_live {
            let error = done.unwrap_err();
            assert!(error.message().contains("\"short\": it became shorter"), "{error}");
            continue;
        }
        assert_eq!(done.unwrap().skipped, 1);
        scratch.apply("into", &tar).unwrap();
        assert_eq!(fs::read(scratch.path("into/short")).unwrap(), b"0\0\0\0\0\0\0\0\0\0");
        assert!(!scratch.path("into/d").exists());
    }
}
