//! Where things are on disk, and that nobody else is there: architecture.md §5.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock, stat, statfs},
    mount::{MountFlags, mount},
};
use tinyd_core::{ContainerId, Error, Kind, Name, Result, wire};

use crate::files::{failed, make_private_dir};

/// statfs(2)'s `f_type` of a tmpfs.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// statfs(2)'s `f_type` of an overlay.
const OVERLAY_MAGIC: u64 = 0x794c_7630;
/// The run directory of the daemon that was told no other.
const DEFAULT_RUN_DIR: &str = "/run/tinyd";

/// The paths of one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    run_dir: PathBuf,
}

impl Layout {
    /// Makes the directories, and a tmpfs for the run directory if it is on none. The lock lasts as long as the returned file.
    pub(crate) fn open(root: &Path, run_dir: &Path) -> Result<(Layout, File)> {
        for dir in [root, run_dir] {
            if !dir.is_absolute() {
                return Err(Error::invalid("--root", format!("{dir:?} is not an absolute path")));
            }
            make_private_dir(dir)?;
        }
        let lock = lock(&root.join("lock"), root)?;
        ensure_tmpfs(run_dir)?;
        let resolve = |dir: &Path| {
            dir.canonicalize().map_err(|source| failed(format_args!("realpath({dir:?})"), source))
        };
        let layout = Layout { root: resolve(root)?, run_dir: resolve(run_dir)? };
        for dir in [root, run_dir] {
            std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700))
                .map_err(|source| failed(format_args!("chmod({dir:?})"), source))?;
        }
        for dir in [
            layout.containers(),
            layout.networks(),
            layout.volumes(),
            layout.trash(),
            layout.empty(),
            layout.live(),
        ] {
            make_private_dir(&dir)?;
        }
        Ok((layout, lock))
    }

    /// The data root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the data root is on a file system that cannot hold overlay's upper directories: an overlay itself, as in a container.
    pub(crate) fn is_on_overlay(&self) -> bool {
        statfs(&self.root).is_ok_and(|stat| u64::try_from(stat.f_type).ok() == Some(OVERLAY_MAGIC))
    }

    /// Letters and digits that tell this daemon from others on the host: in the names of cgroups, bridges, tables.
    pub(crate) fn tag(&self) -> String {
        if self.is_default() {
            return "main".into();
        }
        // FNV-1a: stable between builds, which the standard library's hasher is not.
        let hash = self
            .run_dir
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
    }

    /// Whether this is the host's main daemon.
    pub(crate) fn is_default(&self) -> bool {
        self.run_dir == Path::new(DEFAULT_RUN_DIR)
    }

    /// The parent of this daemon's cgroups, below the cgroup root.
    pub(crate) fn cgroup_parent(&self) -> String {
        format!("/tinyd-{}", self.tag())
    }

    /// A container's cgroup, below the cgroup root.
    pub(crate) fn cgroup(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.cgroup_parent())
    }

    /// One directory for each container: what lasts.
    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// A container's directory.
    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// What is to be deleted. Emptied when the daemon opens.
    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// An empty directory.
    pub(crate) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    /// One directory for each shim: what a reboot may take.
    pub(crate) fn live(&self) -> PathBuf {
        self.run_dir.join("containers")
    }

    /// A shim's directory.
    pub(crate) fn live_of(&self, id: &ContainerId) -> PathBuf {
        self.live().join(id.as_str())
    }

    /// A name for as long as the run directory remembers: a reboot ends it, and so does whoever empties the directory or chooses another.
    /// What is missing there was never written, but only within one era.
    pub(crate) fn era(&self, boot_id: &str) -> Result<String> {
        let dir = self.live();
        let stat = stat(&dir).map_err(|errno| failed(format_args!("stat({dir:?})"), errno))?;
        // A tmpfs never gives an inode number twice.
        Ok(format!("{boot_id} {:x}:{:x}", stat.st_dev, stat.st_ino))
    }

    /// How a container's last run ended, as its shim wrote it.
    pub(crate) fn exit_file(&self, id: &ContainerId) -> PathBuf {
        self.live_of(id).join(wire::EXIT_FILE)
    }

    /// A container's log.
    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("log")
    }

    /// One file for each network.
    pub(crate) fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// A network's file.
    pub(crate) fn network(&self, name: &Name) -> PathBuf {
        self.networks().join(format!("{name}.json"))
    }

    /// One directory for each volume.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// A volume's directory.
    pub(crate) fn volume(&self, name: &Name) -> PathBuf {
        self.volumes().join(name.as_str())
    }

    /// A volume's files.
    pub(crate) fn volume_data(&self, name: &Name) -> PathBuf {
        self.volume(name).join("_data")
    }
}

/// One daemon for each root.
fn lock(path: &Path, root: &Path) -> Result<File> {
    let open =
        || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = open().map_err(|source| failed(format_args!("open({path:?})"), source))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        return Err(Error::new(
            Kind::AlreadyExists,
            format!(
                "another daemon (pid {}) uses the data root {root:?}: stop it, or choose another with --root and --run-dir",
                pid.trim()
            ),
        ));
    }
    let mut tell = || {
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    };
    tell().map_err(|source| failed(format_args!("write {path:?}"), source))?;
    Ok(file)
}

/// Sockets and exit files must not outlive a reboot, and must cost no disk.
fn ensure_tmpfs(dir: &Path) -> Result<()> {
    let stat = statfs(dir).map_err(|errno| failed(format_args!("statfs({dir:?})"), errno))?;
    if u64::try_from(stat.f_type).ok() == Some(TMPFS_MAGIC) {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tinyd", dir, "tmpfs", flags, Some(c"mode=0700"))
        .map_err(|errno| failed(format_args!("mount a tmpfs on {dir:?}"), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_directory_has_its_own_tag() {
        let tag = |dir: &str| Layout { root: "/r".into(), run_dir: dir.into() }.tag();
        assert_eq!(tag("/run/tinyd"), "main");
        assert_ne!(tag("/tmp/a"), tag("/tmp/b"));
        assert!(tag("/tmp/a").bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(tag("/tmp/a").len(), 8);
    }

    #[test]
    fn a_second_daemon_is_told_who_is_there() {
        let dir = std::env::temp_dir().join(format!("tinyd-lock-{}", std::process::id()));
        make_private_dir(&dir).unwrap();
        let _held = lock(&dir.join("lock"), &dir).unwrap();
        let error = lock(&dir.join("lock"), &dir).unwrap_err();
        assert!(error.message().contains(&std::process::id().to_string()), "{error}");
        tinyd_image::tree::remove(&dir).unwrap();
    }
}
