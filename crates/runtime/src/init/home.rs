//! Where the user of a process is at home, when its environment does not say: the container's own `/etc/passwd` does. That file is the
//! container's: it is read only when it is a regular one, without waiting, and at most 1 MiB of it. Anything else has no users in it.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags};
use tinyd_core::Result;
use tinyd_sys::{fs, path::open_in_root};

use crate::launch::{kernel, step};

/// The most of the file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// The home of whoever is not in the file, as under runc.
const NOWHERE: &str = "/";

/// The home directory of `uid` in this process's root.
///
/// # Errors
/// The machine is short of something, and what the file says is not known.
pub(super) fn of(uid: u32) -> Result<String> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| kernel("HOME: open(/)", &error))?;
    let passwd = match read(root.as_fd()) {
        Err(error) if is_shortage(&error) => return Err(step("HOME: read /etc/passwd")(error)),
        Err(_) => Vec::new(),
        Ok(passwd) => passwd.unwrap_or_default(),
    };
    Ok(home(&String::from_utf8_lossy(&passwd), uid).unwrap_or(NOWHERE).to_owned())
}

/// The file; none when it is no regular one.
fn read(root: BorrowedFd<'_>) -> tinyd_sys::Result<Option<Vec<u8>>> {
    let open = |flags| {
        let file = open_in_root(root, Path::new("etc/passwd"), flags)?;
        let is_regular = fs::file_type(file.as_fd())? == FileType::RegularFile;
        Ok(is_regular.then_some(file))
    };
    // Looked at before it is opened, which may have a consequence, and again afterwards.
    if open(OFlags::PATH)?.is_none() {
        return Ok(None);
    }
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    file.map(|file| fs::read_limited(file, FILE_MAX_BYTES)).transpose()
}

/// Whether it is the machine's failure and not how the container has made its file.
fn is_shortage(error: &tinyd_sys::Error) -> bool {
    matches!(error.errno(), Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE))
}

/// The sixth word of the first line whose third is `uid` (passwd(5)).
fn home(passwd: &str, uid: u32) -> Option<&str> {
    let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let is_asked = |words: &Vec<&str>| {
        words
            .get(2)
            .is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse() == Ok(uid))
    };
    let home = line.filter(|words| words.len() >= 6).find(is_asked)?[5];
    (home.starts_with('/') && !home.contains('\0')).then_some(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_the_user_says() {
        let passwd = "# comment\nroot:x:0:0:root:/root:/bin/sh\njoe:x:1000:1000::/home/joe:\nagain:x:1000:1000::/other:\n\
                      short:x:7:7\nrelative:x:8:8::home:\nsigned:x:+9:9::/signed:\nempty:x:10:10:::\n";
        for (uid, wanted) in [
            (0, Some("/root")),
            (1000, Some("/home/joe")),
            (7, None),
            (8, None),
            (9, None),
            (10, None),
            (77, None),
        ] {
            assert_eq!(home(passwd, uid), wanted, "{uid}");
        }
    }
}
