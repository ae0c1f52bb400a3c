//! Extended attributes: which of an archive's are kept, and setting them.
//!
//! Kept: `security.capability`, `user.*`, `system.posix_acl_*`. Left out with a note, as containerd and umoci do: everything else, above
//! all `trusted.overlay.*` and `user.overlay.*`, with which an image could point the kernel at files of its choice.

use std::{collections::BTreeMap, os::fd::BorrowedFd};

use rustix::{
    fs::{XattrFlags, fsetxattr, lsetxattr},
    io::Errno,
};
use tinyd_core::Result;

use super::malformed;
use crate::failed;

/// Attributes by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Overlayfs' own: where directories come from, what is hidden.
pub(crate) fn is_overlays(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Whether an attribute is part of an image.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    let is_ours =
        matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default");
    is_ours || (name.starts_with(b"user.") && !is_overlays(name))
}

/// What was left out, and why: each reason with an example and a count.
#[derive(Debug, Default)]
pub(super) struct Notes(BTreeMap<(&'static str, Vec<u8>), u64>);

/// Different attributes that are told of; an archive may have any number.
const NOTES_MAX: usize = 16;

impl Notes {
    fn add(&mut self, why: &'static str, name: &[u8]) {
        if let Some(count) = self.0.get_mut(&(why, name.to_vec())) {
            *count += 1;
        } else if self.0.len() < NOTES_MAX {
            self.0.insert((why, name.to_vec()), 1);
        }
    }

    /// One line each.
    pub(super) fn lines(self) -> Vec<String> {
        let line = |((why, name), count): ((&str, Vec<u8>), u64)| {
            format!("the attribute {:?} of {count} entries {why}", String::from_utf8_lossy(&name))
        };
        self.0.into_iter().map(line).collect()
    }
}

/// Leaves out what is not kept, and refuses ids beyond the range inside of values.
pub(super) fn choose(xattrs: Xattrs, id_max: u32, notes: &mut Notes) -> Result<Xattrs> {
    let mut kept = Vec::with_capacity(xattrs.len());
    for (name, value) in xattrs {
        if !is_kept(&name) {
            // A label is the host's matter and set when the container starts.
            if name != b"security.selinux" {
                notes.add("is not taken from images", &name);
            }
            continue;
        }
        if let Some(id) = ids_in(&name, &value).find(|id| *id > id_max) {
            let name = String::from_utf8_lossy(&name);
            return Err(malformed(format!("the attribute {name:?} has the id {id}, above {id_max}")));
        }
        kept.push((name, value));
    }
    Ok(kept)
}

/// User and group ids in a value: named ones of an access control list, the root of a capability of revision 3.
fn ids_in<'a>(name: &[u8], value: &'a [u8]) -> Box<dyn Iterator<Item = u32> + 'a> {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    if name == b"security.capability" {
        return Box::new(value.get(20..24).map(word).into_iter());
    }
    if !name.starts_with(b"system.posix_acl_") {
        return Box::new(std::iter::empty());
    }
    let entries = value.get(4..).unwrap_or_default().chunks_exact(8);
    // ACL_USER and ACL_GROUP of linux/posix_acl.h; the ids of the others mean nothing.
    Box::new(entries.filter(|entry| matches!(entry[0], 0x02 | 0x08)).map(move |entry| word(&entry[4..8])))
}

/// Sets attributes of an open file or directory.
pub(super) fn set(file: BorrowedFd<'_>, xattrs: &Xattrs, notes: &mut Notes) -> Result<()> {
    for (name, value) in xattrs {
        told(fsetxattr(file, name.as_slice(), value, XattrFlags::empty()), name, notes)?;
    }
    Ok(())
}

/// Sets attributes of something that cannot be opened: a link, a device, a pipe. `dir` is ours, `name` one component, and the last of a
/// path is not followed here.
pub(super) fn set_at(dir: BorrowedFd<'_>, name: &[u8], xattrs: &Xattrs, notes: &mut Notes) -> Result<()> {
    use std::os::fd::AsRawFd;
    if xattrs.is_empty() {
        return Ok(());
    }
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    for (name, value) in xattrs {
        match lsetxattr(path.as_slice(), name.as_slice(), value, XattrFlags::empty()) {
            // `user.*` is for files and directories only.
            Err(Errno::PERM) if name.starts_with(b"user.") => notes.add("cannot be on such entries", name),
            done => told(done, name, notes)?,
        }
    }
    Ok(())
}

fn told(done: rustix::io::Result<()>, name: &[u8], notes: &mut Notes) -> Result<()> {
    match done {
        Ok(()) => Ok(()),
        Err(Errno::NOTSUP) if name != b"security.capability" => {
            notes.add("cannot be on this file system", name);
            Ok(())
        }
        Err(errno) => Err(failed(format_args!("setxattr({:?})", String::from_utf8_lossy(name)), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (name.into(), value.into())
    }

    #[test]
    fn the_kernels_own_attributes_are_not_taken_from_an_image() {
        let mut notes = Notes::default();
        let names = [
            "trusted.overlay.opaque",
            "trusted.overlay.redirect",
            "user.overlay.metacopy",
            "trusted.other",
            "security.selinux",
            "security.ima",
            "user.mime",
            "security.capability",
            "system.posix_acl_access",
        ];
        let all = names.iter().map(|name| pair(name, b"y")).collect();
        let kept: Vec<_> = choose(all, 9, &mut notes).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, names[6..].iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>());
        let lines = notes.lines();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("trusted.overlay.redirect")), "{lines:?}");
    }

    #[test]
    fn ids_in_values_are_within_the_range_too() {
        let mut list = vec![2, 0, 0, 0, 0x02, 0, 6, 0];
        list.extend_from_slice(&70_000_u32.to_le_bytes());
        let mut capability = vec![0; 20];
        capability.extend_from_slice(&70_000_u32.to_le_bytes());
        for (name, value) in [("system.posix_acl_default", &list), ("security.capability", &capability)] {
            assert!(choose(vec![pair(name, value)], 70_000, &mut Notes::default()).is_ok());
            let error = choose(vec![pair(name, value)], 65_535, &mut Notes::default()).unwrap_err();
            assert!(error.message().contains("70000"), "{error}");
        }
    }
}
