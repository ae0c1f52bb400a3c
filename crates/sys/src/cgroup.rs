//! Control groups as files: which hierarchies are mounted, and directories of them held by descriptor.
//!
//! Detection asks statfs(2) of `/sys/fs/cgroup` and of what lies in it; it never reads `/proc/self/mountinfo`, which is slow on
//! hosts with many mounts. Nothing here knows what a limit means.

use std::{
    fmt,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{Ask, Result};

/// Where hierarchies are mounted on every distribution.
pub const ROOT: &str = "/sys/fs/cgroup";

/// statfs(2)'s word for a v2 hierarchy.
const CGROUP2_MAGIC: i64 = 0x6367_7270;
/// statfs(2)'s word for a v1 hierarchy.
const CGROUP1_MAGIC: i64 = 0x0027_e0eb;

/// The hierarchy without controllers in which systemd finds the processes of its units on v1; it is nobody's limit.
pub const NAMED: &str = "name=systemd";

/// The v1 controllers that exist.
const V1_CONTROLLERS: [&str; 13] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// The hierarchies that are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// v1 hierarchies, by path: those with controllers, and then [`NAMED`] too where it is.
    pub v1: Vec<V1Mount>,
    /// The v2 hierarchy.
    pub unified: Option<PathBuf>,
}

/// A v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Mount {
    /// Where.
    pub path: PathBuf,
    /// Its controllers: several when they are mounted together, as `cpu,cpuacct` are.
    pub controllers: Vec<String>,
}

impl Layout {
    /// Looks at what is mounted at and below `root` (see [`ROOT`]).
    ///
    /// # Errors
    /// statfs(2) of the root or reading it; a root without any hierarchy is an empty layout.
    pub fn detect(root: &Path) -> Result<Layout> {
        if magic(root)? == CGROUP2_MAGIC {
            return Ok(Layout { v1: Vec::new(), unified: Some(root.to_owned()) });
        }
        let mut layout = Layout::default();
        for name in Dir::open(root)?.children()? {
            let path = root.join(&name);
            match magic(&path)? {
                CGROUP2_MAGIC => layout.unified = Some(path),
                CGROUP1_MAGIC => layout.add_v1(path, &name),
                _ => {}
            }
        }
        if layout.v1.iter().all(|mount| mount.controllers == [NAMED]) {
            // Alone it makes no v1 host.
            layout.v1.clear();
        }
        layout.v1.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(layout)
    }

    /// Whether [`Layout::detect`] would find v1 hierarchies there, as one of those shows that every container joins. That there is none says
    /// nothing.
    #[must_use]
    pub fn is_surely_v1(root: &Path) -> bool {
        let is_hierarchy = |path: &Path| {
            rustix::fs::lstat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
                && magic(path).is_ok_and(|magic| magic == CGROUP1_MAGIC)
        };
        magic(root).is_ok_and(|magic| magic != CGROUP2_MAGIC)
            && ["memory", "pids"].iter().any(|name| is_hierarchy(&root.join(name)))
    }

    /// A v1 hierarchy carries its controllers in the name of its directory. Links such as `cpu -> cpu,cpuacct` are not
    /// directories and have been left out.
    fn add_v1(&mut self, path: PathBuf, name: &str) {
        let controllers: Vec<String> =
            name.split(',').filter(|word| V1_CONTROLLERS.contains(word)).map(String::from).collect();
        let controllers = if name == "systemd" { vec![NAMED.to_owned()] } else { controllers };
        if !controllers.is_empty() {
            self.v1.push(V1Mount { path, controllers });
        }
    }

    /// `v1`, `hybrid` (v1 with a v2 hierarchy beside it), `v2`, or `none`.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match (self.v1.is_empty(), &self.unified) {
            (true, None) => "none",
            (true, Some(_)) => "v2",
            (false, None) => "v1",
            (false, Some(_)) => "hybrid",
        }
    }

    /// The controllers that limits can use, sorted: v1's where v1 is mounted, else v2's.
    ///
    /// # Errors
    /// Reading v2's list.
    pub fn controllers(&self) -> Result<Vec<String>> {
        let mut all: Vec<String> = match (&self.unified, self.v1.is_empty()) {
            (Some(unified), true) => {
                let list = Dir::open(unified)?.read("cgroup.controllers")?;
                list.split_whitespace().map(String::from).collect()
            }
            (_, _) => self.v1.iter().flat_map(|mount| mount.controllers.iter().cloned()).collect(),
        };
        all.retain(|name| name != NAMED);
        all.sort();
        Ok(all)
    }
}

/// Whether a directory is in a hierarchy.
#[must_use]
pub fn is_hierarchy(path: &Path) -> bool {
    magic(path).is_ok_and(|magic| matches!(magic, CGROUP1_MAGIC | CGROUP2_MAGIC))
}

fn magic(path: &Path) -> Result<i64> {
    let stat = rustix::fs::statfs(path).ask(format_args!("statfs({path:?})"))?;
    Ok(stat.f_type)
}

/// A directory of a hierarchy, held open.
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dir({:?})", self.path)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a directory.
    ///
    /// # Errors
    /// openat(2).
    pub fn open(path: &Path) -> Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).ask(format_args!("open({path:?})"))?;
        Ok(Dir { fd, path: path.to_owned() })
    }

    /// Opens a directory below this one: no step leads up, through a link or onto another mount.
    ///
    /// # Errors
    /// openat2(2); `EXDEV` or `ELOOP` when a step leads out.
    pub fn open_beneath(&self, relative: &str) -> Result<Dir> {
        let path = self.path.join(relative);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let fd = rustix::fs::openat2(&self.fd, relative, flags, Mode::empty(), resolve)
            .ask(format_args!("openat2({path:?})"))?;
        Ok(Dir { fd, path })
    }

    /// Makes a directory in this one.
    ///
    /// # Errors
    /// mkdirat(2).
    pub fn make(&self, name: &str) -> Result<()> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))
            .ask(format_args!("mkdir({:?})", self.path.join(name)))
    }

    /// Removes an empty directory of this one.
    ///
    /// # Errors
    /// unlinkat(2).
    pub fn remove(&self, name: &str) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
            .ask(format_args!("rmdir({:?})", self.path.join(name)))
    }

    /// The names of the directories in this one, links left out.
    ///
    /// # Errors
    /// Reading the directory.
    pub fn children(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let entries = rustix::fs::Dir::read_from(&self.fd).ask(format_args!("open({:?})", self.path))?;
        for entry in entries {
            let entry = entry.ask(format_args!("getdents64({:?})", self.path))?;
            if entry.file_type() != FileType::Directory {
                continue;
            }
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }

    /// Whether the caller may make directories in it.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::accessat(&self.fd, ".", access, AtFlags::EACCESS).is_ok()
    }

    /// Whether a file is in it.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.fd, file, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// A file's text.
    ///
    /// # Errors
    /// Opening or reading it.
    pub fn read(&self, file: &str) -> Result<String> {
        // The kernel's files do not say how long they are; nearly all are shorter than this.
        const USUAL: usize = 1024;
        let open = self.open_read(file)?;
        let (mut bytes, mut length) = (vec![0; USUAL], 0);
        loop {
            let read = rustix::io::retry_on_intr(|| rustix::io::read(&open, &mut bytes[length..]))
                .ask(format_args!("read({:?})", self.path.join(file)))?;
            if read == 0 {
                bytes.truncate(length);
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            length += read;
            if length == bytes.len() {
                bytes.resize(length * 2, 0);
            }
        }
    }

    /// A file, open for reading.
    ///
    /// # Errors
    /// openat(2).
    pub fn open_read(&self, file: &str) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, file, flags, Mode::empty())
            .ask(format_args!("open({:?})", self.path.join(file)))?;
        Ok(File::from(fd))
    }

    /// Writes a file in one write(2), as the kernel wants it.
    ///
    /// # Errors
    /// Opening or writing it.
    pub fn write(&self, file: &str, value: &str) -> Result<()> {
        self.write_each(file, [value])
    }

    /// Writes several values to a file that takes them one by one, each in one write(2).
    ///
    /// # Errors
    /// Opening or writing it; those before the one that is refused are written.
    pub fn write_each<'a>(&self, file: &str, values: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let target = self.open_write(file)?;
        for value in values {
            let call = || format!("write({:?}, {value:?})", self.path.join(file));
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&target, value.as_bytes()));
            match written {
                Ok(written) if written < value.len() => return Err(crate::Error::new(call(), Errno::NOSPC)),
                Ok(_) => {}
                Err(error) => return Err(crate::Error::new(call(), error)),
            }
        }
        Ok(())
    }

    /// A file, open for writing. It is never made.
    ///
    /// # Errors
    /// openat(2).
    pub fn open_write(&self, file: &str) -> Result<File> {
        // O_TRUNC means nothing to the kernel's files, and makes a test's plain file hold just what was written last.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::TRUNC;
        let fd = rustix::fs::openat(&self.fd, file, flags, Mode::empty())
            .ask(format_args!("open({:?})", self.path.join(file)))?;
        Ok(File::from(fd))
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_below_a_directory_leads_out_of_it() {
        let base = std::env::temp_dir().join(format!("tinyrun-beneath-{}", std::process::id()));
        std::fs::create_dir_all(base.join("in/sub")).unwrap();
        std::os::unix::fs::symlink("sub", base.join("in/link")).unwrap();
        std::os::unix::fs::symlink("/", base.join("in/away")).unwrap();
        let dir = Dir::open(&base.join("in")).unwrap();
        let refused = |path: &str| dir.open_beneath(path).unwrap_err().errno();
        assert!(dir.open_beneath("sub").is_ok());
        for (path, errno) in [
            ("link", libc::ELOOP),
            ("away/proc", libc::ELOOP),
            ("sub/../..", libc::EXDEV),
            ("/proc", libc::EXDEV),
        ] {
            assert_eq!(refused(path), Some(errno), "{path}");
        }
        // Another file system below: /proc is one everywhere.
        let root = Dir::open(Path::new("/")).unwrap();
        assert_eq!(root.open_beneath("proc").unwrap_err().errno(), Some(libc::EXDEV));
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn what_is_surely_v1_is_found_to_be() {
        let root = Path::new(ROOT);
        assert!(!Layout::is_surely_v1(root) || !Layout::detect(root).unwrap().v1.is_empty());
        // As `Layout::detect`, it follows no link.
        let dir = std::env::temp_dir().join(format!("tinyrun-hierarchies-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["memory", "pids"] {
            std::os::unix::fs::symlink(root.join(name), dir.join(name)).unwrap();
        }
        assert!(!Layout::is_surely_v1(&dir));
        assert!(Layout::detect(&dir).unwrap().v1.is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
