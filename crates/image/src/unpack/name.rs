//! Names of entries: what they mean in a layer, and which are refused. Nothing here touches a file.
//!
//! A leading `/` and `./`, doubled slashes and `.` in between are left out, as in all engines. `..` is refused wherever it is, also
//! where it would stay inside (`a/../b`): no program that makes images writes it.

use tinyd_core::Result;

use super::malformed;

/// What Linux takes: of a component, and of a whole path with its NUL.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

/// What an entry's name means in a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The root itself.
    Root,
    /// `name` in the directory `dir`, which is empty for the root.
    Entry { dir: &'a [u8], name: &'a [u8] },
    /// `.wh.NAME`: lower layers' `name` is not there.
    Whiteout { dir: &'a [u8], name: &'a [u8] },
    /// `.wh..wh..opq`: nothing of the lower layers' directory is there.
    Opaque { dir: &'a [u8] },
    /// aufs' own files.
    Ignored,
}

/// The name as `a/b/c`, the root as nothing.
pub(crate) fn clean(raw: &[u8]) -> Result<Vec<u8>> {
    if raw.is_empty() {
        return Err(malformed("it has no name"));
    }
    let mut path = Vec::with_capacity(raw.len());
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(malformed("its name leads up with \"..\"")),
            _ if part.contains(&0) => return Err(malformed("its name has a NUL")),
            _ if part.len() > NAME_MAX => {
                return Err(malformed(format!("a part of its name has more than {NAME_MAX} bytes")));
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.len() >= PATH_MAX {
        return Err(malformed(format!("its name has {} bytes or more", PATH_MAX)));
    }
    Ok(path)
}

/// The directory and the last component of a clean path that is not the root's.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// What a clean path means.
pub(super) fn place(path: &[u8]) -> Result<Place<'_>> {
    if path.is_empty() {
        return Ok(Place::Root);
    }
    let (dir, name) = split(path);
    for part in dir.split(|byte| *byte == b'/') {
        if part.starts_with(b".wh..wh.") {
            return Ok(Place::Ignored);
        }
        if part.starts_with(b".wh.") {
            return Err(malformed("a directory on its way is a whiteout"));
        }
    }
    match name.strip_prefix(b".wh.") {
        None => Ok(Place::Entry { dir, name }),
        Some(b".wh..opq") => Ok(Place::Opaque { dir }),
        Some(hidden) if hidden.starts_with(b".wh.") => Ok(Place::Ignored),
        Some(b"" | b"." | b"..") => {
            Err(malformed("it is a whiteout of nothing, of a directory itself or of the one above"))
        }
        Some(hidden) => Ok(Place::Whiteout { dir, name: hidden }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_relative_and_never_lead_up() {
        for (raw, clean_path) in [
            (&b"a/b"[..], &b"a/b"[..]),
            (b"/a//b/", b"a/b"),
            (b"./a/./b", b"a/b"),
            (b"./", b""),
            (b"/", b""),
            (b"..a/b..", b"..a/b.."),
        ] {
            assert_eq!(clean(raw).unwrap(), clean_path);
        }
        for (bad, why) in [
            (b"..".to_vec(), "leads up"),
            (b"/../a".to_vec(), "leads up"),
            (b"a/../b".to_vec(), "leads up"),
            (b"a/..".to_vec(), "leads up"),
            (b"".to_vec(), "no name"),
            (b"a\0b".to_vec(), "NUL"),
            (vec![b'a'; 256], "255"),
            (b"a/".repeat(2100), "4096"),
        ] {
            let error = clean(&bad).unwrap_err();
            assert!(error.message().contains(why), "{error}");
        }
        assert_eq!(clean(&vec![b'a'; 255]).unwrap().len(), 255);
    }

    #[test]
    fn whiteouts_are_of_a_name_and_nothing_else() {
        let whiteout = |dir, name| Some(Place::Whiteout { dir, name });
        for (path, meaning) in [
            (&b"a/.wh.b"[..], whiteout(&b"a"[..], &b"b"[..])),
            (b".wh.b", whiteout(b"", b"b")),
            (b".wh....", whiteout(b"", b"...")),
            (b"a/.wh..wh..opq", Some(Place::Opaque { dir: b"a" })),
            (b".wh..wh.plnk/7.8", Some(Place::Ignored)),
            (b".wh..wh.aufs", Some(Place::Ignored)),
            (b"", Some(Place::Root)),
            (b"a/b", Some(Place::Entry { dir: b"a", name: b"b" })),
            (b"a/.wh.", None),
            (b".wh..", None),
            (b"a/.wh...", None),
            (b".wh.a/b", None),
        ] {
            assert_eq!(place(path).ok(), meaning, "{:?}", String::from_utf8_lossy(path));
        }
    }
}
