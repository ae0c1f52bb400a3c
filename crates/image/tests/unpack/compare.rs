//! The same archive by tinyd, GNU tar and umoci: the same tree.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tinyd_image::unpack::Rules;

use crate::{
    Scratch,
    facts::{differences, facts},
    maker::{Head, Maker},
};

#[expect(clippy::disallowed_methods, reason = "a peer to compare with")]
fn run(program: &str, words: &[&str]) {
    let done =
        Command::new(program).args(words).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    assert!(done.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Unpacks by GNU tar.
fn by_tar(archive: &Path, into: &Path) {
    fs::create_dir(into).unwrap();
    let (archive, into) = (archive.to_str().unwrap(), into.to_str().unwrap());
    run("tar", &["-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f", archive, "-C", into]);
}

/// Unpacks by umoci, of an image with the one layer.
fn by_umoci(archive: &Path, scratch: &Scratch) -> PathBuf {
    let layout = scratch.path("layout");
    let image = format!("{}:latest", layout.display());
    let into = scratch.path("umoci");
    run("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["raw", "add-layer", "--image", &image, archive.to_str().unwrap()]);
    run("umoci", &["raw", "unpack", "--image", &image, into.to_str().unwrap()]);
    into
}

/// Every kind of entry that all three take.
pub(crate) fn everything() -> Vec<u8> {
    let long = format!("{}/{}", "directory".repeat(15), "name".repeat(30));
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let large: Vec<u8> = (0..1_000_003_u32).map(|number| (number * 7 % 251) as u8).collect();
    let stamped = |head: Head| head.pax("mtime", "1234567890.123456789");
    let (long_dir, _) = long.split_once('/').unwrap();
    Maker::new()
        .add(stamped(Head::new("./", b'5').mode(0o750).ids(1, 2)))
        .add(stamped(Head::new("usr/", b'5').mode(0o2755).ids(0, 7)))
        .put(stamped(Head::new("usr/su", b'0').mode(0o6755).ids(8, 9)), b"set id")
        // Not later: GNU tar does not come back to the times of a directory for a link.
        .hard_link("usr/sudo", "usr/su")
        .put(Head::new("usr/empty", b'0').mode(0).ids(65_534, 65_534), b"")
        .put(Head::new("usr/large", b'0'), &large)
        .put(
            Head::new("usr/ping", b'0')
                .mode(0o755)
                .ids(3, 3)
                .pax("SCHILY.xattr.security.capability", capability),
            b"p",
        )
        .put(
            Head::new("usr/noted", b'0')
                .pax("SCHILY.xattr.user.note", "n\0\n=")
                .pax("SCHILY.xattr.user.more", [7; 900]),
            b"n",
        )
        .add(Head::new("tmp", b'5').mode(0o1777).pax("SCHILY.xattr.user.dir", "d"))
        .add(stamped(Head::new("lib", b'2').link("usr/lib").mode(0o777).ids(4, 5)))
        .add(Head::new("dangling", b'2').link("/no/where/../at all"))
        .hard_link("second", "./usr/large")
        .hard_link("lib2", "lib")
        .add(stamped(Head::new("null", b'3').device(1, 3).mode(0o666).ids(0, 5)))
        .add(Head::new("disk", b'4').device(259, 70_000).mode(0o660))
        .add(stamped(Head::new("pipe", b'6').mode(0o620).ids(6, 6)))
        .add(Head::new("long", b'5').pax("path", long_dir))
        .put(Head::new("long", b'0').pax("path", &long), b"long")
        .put(Head::new("before 1970", b'0').pax("mtime", "-3.25"), b"old")
        .put(Head::new("\u{e4}\u{f6}\u{fc} \\ \n", b'0'), b"odd")
        .put(Head::new("twice", b'0').mode(0o600), b"first")
        .put(Head::new("twice", b'0').mode(0o640), b"second")
        .end()
}

#[test]
fn every_kind_of_entry_is_as_gnu_tar_and_umoci_make_it() {
    let scratch = Scratch::new();
    let archive = scratch.path("archive.tar");
    let tar = everything();
    fs::write(&archive, &tar).unwrap();
    scratch.apply("ours", &tar).unwrap();
    by_tar(&archive, &scratch.path("tar"));
    let umoci = by_umoci(&archive, &scratch);
    let ours = facts(&scratch.path("ours"));
    assert!(ours.len() > 20);
    let mut umocis = facts(&umoci);
    // Of the root umoci keeps the time at which it made the last entry in it.
    umocis.get_mut(Path::new("")).unwrap().mtime = ours[Path::new("")].mtime;
    let mut lines = differences(&ours, &facts(&scratch.path("tar")));
    lines.extend(differences(&ours, &umocis));
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn sparse_files_of_all_forms_are_as_gnu_tar_makes_them() {
    let scratch = Scratch::new();
    let from = scratch.dir("from");
    let file = fs::File::create(from.join("sparse")).unwrap();
    file.set_len(40 << 20).unwrap();
    // More parts than a header has room for, and than one block behind it.
    for part in 0..60_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, b"data in between", part * (512 << 10) + 4096)
            .unwrap();
    }
    fs::File::create(from.join("hole")).unwrap().set_len(1 << 20).unwrap();
    let origin = facts(&from);
    for (number, form) in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ]
    .into_iter()
    .enumerate()
    {
        let archive = scratch.path(&format!("{number}.tar"));
        let words = ["-c", "-S", "-f", archive.to_str().unwrap(), "-C", from.to_str().unwrap(), "."];
        run("tar", &[form, &words].concat());
        let tar = fs::read(&archive).unwrap();
        assert!(tar.len() < 2 << 20);
        let into = format!("into{number}");
        scratch.apply(&into, &tar).unwrap();
        let made = facts(&scratch.path(&into));
        for name in ["sparse", "hole"].map(PathBuf::from) {
            assert_eq!(
                (origin[&name].size, origin[&name].hash),
                (made[&name].size, made[&name].hash),
                "{form:?}"
            );
        }
        let blocks = std::os::unix::fs::MetadataExt::blocks(
            &fs::metadata(scratch.path(&into).join("sparse")).unwrap(),
        );
        assert!(blocks * 512 < 1 << 20, "{form:?}: {blocks} blocks");
    }
}

/// A file system with real software in it, when the end-to-end tests have made one on this machine.
#[test]
fn debian_is_as_gnu_tar_and_umoci_unpack_it() {
    let cache = std::env::var("TINYD_E2E_CACHE").unwrap_or_else(|_| "/var/tmp/tinyd-e2e-cache".to_owned());
    let debian = Path::new(&cache).join("debian-bookworm-1");
    let debian = std::env::var_os("TINYD_E2E_DEBIAN").map_or(debian, PathBuf::from);
    if !debian.join("usr").is_dir() {
        return;
    }
    let scratch = Scratch::new();
    let archive = scratch.path("debian.tar");
    let words = ["-c", "--xattrs", "--numeric-owner", "--format=pax", "-f", archive.to_str().unwrap()];
    run("tar", &[&words[..], &["-C", debian.to_str().unwrap(), "--exclude=./dev/*", "."]].concat());
    let rules = Rules { id_max: 65_535, ..Rules::default() };
    let into = crate::open(&scratch.dir("ours"));
    let mut file = fs::File::open(&archive).unwrap();
    tinyd_image::unpack::apply(&mut file, std::os::fd::AsFd::as_fd(&into), &rules).unwrap();
    let ours = facts(&scratch.path("ours"));
    assert!(ours.len() > 5000, "{}", ours.len());
    by_tar(&archive, &scratch.path("tar"));
    let mut lines = differences(&ours, &facts(&scratch.path("tar")));
    lines.extend(differences(&ours, &facts(&by_umoci(&archive, &scratch))));
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
