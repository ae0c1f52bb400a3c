//! Who a process runs as: names become numbers by the container's own `/etc/passwd` and `/etc/group`, read safely from outside.
//!
//! The files are the container's: they are opened beneath the root, links included, only when they are regular files, without blocking,
//! and at most 1 MiB of them. The layers are asked one by one, the container's own first; a link from one layer into another is not
//! followed, and then the name counts as unknown.

use std::{
    io::Read,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, openat},
    io::Errno,
};
use tinyd_core::{Error, Kind, Result, config::User, wire::Rootfs};
use tinyd_sys::path::open_in_root;

/// The most of a file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// The option under which a user is named.
const FIELD: &str = "-u";

/// Who a process runs as, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User id inside.
    pub(crate) uid: u32,
    /// Group id inside.
    pub(crate) gid: u32,
    /// Supplementary groups inside.
    pub(crate) groups: Vec<u32>,
    /// The home directory.
    pub(crate) home: String,
}

/// Finds who `user` (root when absent) is in this root. `ids` is how many ids there are inside, from 0 on; `None` is all of them.
pub(crate) fn identify(user: Option<&User>, roots: &[PathBuf], ids: Option<u32>) -> Result<Identity> {
    let passwd = read(roots, "etc/passwd")?;
    let group = read(roots, "etc/group")?;
    let identity = look_up(user, &passwd, &group)?;
    ids.map_or(Ok(()), |ids| within(&identity, ids))?;
    Ok(identity)
}

/// Whether every id is one that the container has.
fn within(identity: &Identity, ids: u32) -> Result<()> {
    let beyond =
        [identity.uid, identity.gid].into_iter().chain(identity.groups.iter().copied()).find(|id| *id >= ids);
    match beyond {
        Some(id) => {
            let most = ids.saturating_sub(1);
            Err(unknown(format!(
                "{id} is out of range: this container has the ids 0 to {most} (--userns host: all)"
            )))
        }
        None => Ok(()),
    }
}

/// The directories that a root is made of, the uppermost first.
pub(crate) fn roots(rootfs: &Rootfs) -> Vec<PathBuf> {
    match rootfs {
        Rootfs::Overlay { lower, upper, .. } => std::iter::once(upper).chain(lower).cloned().collect(),
        Rootfs::Directory { path } => vec![path.clone()],
        Rootfs::Aufs { branches } => {
            branches.split(':').filter_map(|branch| branch.split('=').next()).map(PathBuf::from).collect()
        }
    }
}

/// The text of a file, from the uppermost root that has it; nothing when none has.
fn read(roots: &[PathBuf], name: &str) -> Result<String> {
    for root in roots {
        match read_one(root, name) {
            Ok(Some(text)) => return Ok(text),
            // A circle of links is a trap like any other.
            Ok(None) | Err(Errno::LOOP) => return Ok(String::new()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(crate::files::failed(format_args!("read /{name} of {root:?}"), errno)),
        }
    }
    Ok(String::new())
}

/// `None` is a file that is there and is no regular file: a whiteout, or a trap.
fn read_one(root: &Path, name: &str) -> rustix::io::Result<Option<String>> {
    let dir = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let open = |flags| {
        let opened = open_in_root(dir.as_fd(), Path::new(name), flags);
        opened.map_err(|error| error.errno().map_or(Errno::IO, Errno::from_raw_os_error))
    };
    // Looked at before it is opened: opening a device or a pipe can already do something.
    let path = open(OFlags::PATH)?;
    if FileType::from_raw_mode(fstat(&path)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file).take(FILE_MAX_BYTES).read_to_end(&mut bytes);
    read.map_err(|source| Errno::from_io_error(&source).unwrap_or(Errno::IO))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let (name, _, uid, gid) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let home = parts.nth(1).unwrap_or("");
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

/// The lines of `/etc/group`: name, id, members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let (name, _, gid) = (parts.next()?, parts.next()?, parts.next()?);
        Some((name, gid.parse().ok()?, parts.next().unwrap_or("")))
    })
}

fn look_up(user: Option<&User>, passwd: &str, group: &str) -> Result<Identity> {
    use tinyd_core::config::NameOrId;
    let wanted = user.map_or(&NameOrId::Id(0), |user| &user.user);
    let account = match wanted {
        NameOrId::Id(id) => accounts(passwd).find(|account| account.uid == *id),
        NameOrId::Name(name) => Some(
            accounts(passwd)
                .find(|account| account.name == name)
                .ok_or_else(|| unknown(format!("user {name:?} is not in the container's /etc/passwd")))?,
        ),
    };
    let uid = match (wanted, &account) {
        (_, Some(account)) => account.uid,
        (NameOrId::Id(id), None) => *id,
        (NameOrId::Name(_), None) => 0,
    };
    let home =
        account.as_ref().map(|account| account.home).filter(|home| home.starts_with('/')).unwrap_or("/");
    let home = home.to_owned();
    match user.and_then(|user| user.group.as_ref()) {
        // With a group of its own choice a user has that group alone, as in Docker.
        Some(NameOrId::Id(gid)) => Ok(Identity { uid, gid: *gid, groups: Vec::new(), home }),
        Some(NameOrId::Name(name)) => {
            let found = groups(group).find(|(known, ..)| known == name);
            let (_, gid, _) = found
                .ok_or_else(|| unknown(format!("group {name:?} is not in the container's /etc/group")))?;
            Ok(Identity { uid, gid, groups: Vec::new(), home })
        }
        None => {
            let gid = account.as_ref().map_or(0, |account| account.gid);
            let member = |members: &str| {
                account
                    .as_ref()
                    .is_some_and(|account| members.split(',').any(|name| name.trim() == account.name))
            };
            let groups =
                groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid).collect();
            Ok(Identity { uid, gid, groups, home })
        }
    }
}

fn unknown(message: String) -> Error {
    Error::new(Kind::InvalidArgument, message).of_field(FIELD)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nwww-data:x:33:34:www:/var/www:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:34:\nadm:x:4:syslog,www-data\nops:x:900:www-data\n";

    fn find(text: &str) -> Result<Identity> {
        look_up(Some(&User::parse("-u", text).unwrap()), PASSWD, GROUP)
    }

    #[test]
    fn names_and_numbers() {
        let www = Identity { uid: 33, gid: 34, groups: vec![4, 900], home: "/var/www".into() };
        assert_eq!(find("www-data").unwrap(), www);
        assert_eq!(find("33").unwrap(), www);
        assert_eq!(find("1234").unwrap(), Identity { uid: 1234, home: "/".into(), ..Identity::default() });
        assert_eq!(find("www-data:ops").unwrap(), Identity { gid: 900, groups: vec![], ..www.clone() });
        assert_eq!(find("33:7").unwrap().gid, 7);
        assert_eq!(look_up(None, PASSWD, GROUP).unwrap().home, "/root");
        assert_eq!(look_up(None, "", "").unwrap(), Identity { home: "/".into(), ..Identity::default() });
    }

    /// openat2 says EAGAIN of a path with `..` while anything at all is renamed.
    #[test]
    fn renames_elsewhere_do_not_keep_passwd_from_being_read() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let work = std::env::temp_dir().join(format!("tinyd-users-renames-{}", std::process::id()));
        let root = work.join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../real", root.join("etc/passwd")).unwrap();
        crate::files::write(&root.join("real"), PASSWD.as_bytes()).unwrap();
        let (one, other) = (work.join("one"), work.join("other"));
        std::fs::create_dir(&one).unwrap();
        let done = AtomicBool::new(false);
        let wrong = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::fs::rename(&other, &one).unwrap();
                }
            });
            let wrong = (0..20_000).find_map(|_| read_one(&root, "etc/passwd").err());
            done.store(true, Ordering::Relaxed);
            wrong
        });
        tinyd_image::tree::remove(&work).unwrap();
        assert_eq!(wrong, None);
    }

    #[test]
    fn the_unknown_are_named() {
        assert!(find("nobody").unwrap_err().message().contains("\"nobody\""));
        assert!(find("33:nogroup").unwrap_err().message().contains("\"nogroup\""));
    }

    #[test]
    fn an_id_that_the_container_has_not_is_told() {
        for (user, id) in [("70000", "70000"), ("0:65536", "65536")] {
            let error = within(&find(user).unwrap(), 65_536).unwrap_err();
            assert_eq!(error.field(), Some("-u"));
            assert!(error.message().contains(id) && error.message().contains("0 to 65535"), "{error}");
        }
        within(&find("65535:65535").unwrap(), 65_536).unwrap();
    }

    #[test]
    fn files_are_read_beneath_the_root_and_the_upper_wins() {
        let dir = std::env::temp_dir().join(format!("tinyd-users-{}", std::process::id()));
        let (upper, image) = (dir.join("upper"), dir.join("image"));
        for root in [&upper, &image] {
            std::fs::create_dir_all(root.join("etc")).unwrap();
        }
        let write = |path: PathBuf, text: &str| {
            std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap()
        };
        write(image.join("etc/passwd"), PASSWD);
        let roots = [upper.clone(), image.clone()];
        assert_eq!(identify(Some(&User::parse("-u", "www-data").unwrap()), &roots, None).unwrap().uid, 33);
        // A link that means to lead out leads back into the root.
        write(dir.join("outside"), "evil:x:0:0::/:\n");
        symlink(dir.join("outside"), upper.join("etc/passwd")).unwrap();
        assert!(identify(Some(&User::parse("-u", "evil").unwrap()), &roots, None).is_err());
        std::fs::remove_file(upper.join("etc/passwd")).unwrap();
        symlink("passwd", upper.join("etc/passwd")).unwrap();
        assert!(identify(Some(&User::parse("-u", "www-data").unwrap()), &roots, None).is_err());
        assert_eq!(identify(Some(&User::parse("-u", "5").unwrap()), &roots, None).unwrap().uid, 5);
        std::fs::remove_file(upper.join("etc/passwd")).unwrap();
        // A pipe blocks nobody.
        rustix::fs::mknodat(CWD, upper.join("etc/passwd"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(identify(Some(&User::parse("-u", "www-data").unwrap()), &roots, None).is_err());
        tinyd_image::tree::remove(&dir).unwrap();
    }

    proptest! {
        #[test]
        fn no_text_panics(passwd in ".{0,200}", group in ".{0,200}") {
            let _ = look_up(Some(&User::parse("-u", "a:b").unwrap()), &passwd, &group);
            let _ = look_up(None, &passwd, &group);
        }
    }
}
