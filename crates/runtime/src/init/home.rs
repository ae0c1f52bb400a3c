//! Where the user of a process is at home, when its environment does not say: the container's own `/etc/passwd` does. That file is the
//! container's: it is read only when it is a regular one, without waiting, and at most 1 MiB of it. Anything else has no users in it.

use std::{os::fd::AsFd, path::Path};

use rustix::fs::{FileType, Mode, OFlags};
use tinyd_sys::{fs, path::open_in_root};

/// The most of the file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// The home of whoever is not in the file, as under runc.
const NOWHERE: &str = "/";

/// The home directory of `uid` in this process's root.
pub(super) fn of(uid: u32) -> String {
    let passwd = read().unwrap_or_default();
    home(&String::from_utf8_lossy(&passwd), uid).unwrap_or(NOWHERE).to_owned()
}

fn read() -> Option<Vec<u8>> {
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let open = |flags| {
        let file = open_in_root(root.as_fd(), Path::new("etc/passwd"), flags).ok()?;
        matches!(fs::file_type(file.as_fd()), Ok(FileType::RegularFile)).then_some(file)
    };
    // Looked at before it is opened, which may have a consequence, and again afterwards.
    open(OFlags::PATH)?;
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    fs::read_limited(file, FILE_MAX_BYTES).ok()
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
