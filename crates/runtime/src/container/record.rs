//! What is known of a container between two commands: a directory with its record and its configuration. The record is there before
//! anything of the container is that would outlast its maker.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Kind, Result, json, oci};
use tinyd_sys::fs;

use super::{
    first::Init,
    lock::{LOCK, Lock},
    root::not_ours,
};
use crate::{
    cgroup::{Cgroup, CgroupManager, systemd::Unit},
    launch::{kernel, step},
    plan::annotations,
};

pub(super) const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";

/// A container's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its bundle, absolute.
    pub(super) bundle: PathBuf,
    /// Its cgroup; empty when it has none.
    pub(super) cgroup: String,
    /// Who made it.
    #[serde(default)]
    pub(super) manager: CgroupManager,
    /// systemd's unit for it.
    #[serde(default)]
    pub(super) unit: Option<Unit>,
    /// Its first process; none while it is being created and nobody knows it yet.
    pub(super) process: Option<Init>,
    /// Whether that was written down before the container was made: it is being created until its program is executed, and its cgroup may
    /// be another's until its configuration is kept.
    #[serde(default)]
    pub(super) ahead: bool,
    /// When it was created, in nanoseconds since the epoch.
    pub(super) created_unix_nanos: i64,
}

impl Record {
    /// The same for a container that has got none.
    pub(super) fn without_cgroup(self) -> Record {
        Record { cgroup: String::new(), manager: CgroupManager::Disabled, unit: None, ..self }
    }

    /// Its cgroup.
    ///
    /// # Errors
    /// `NotFound` when it is gone.
    pub(super) fn open_cgroup(&self) -> Result<Cgroup> {
        match self.manager {
            CgroupManager::Cgroupfs | CgroupManager::Systemd => match &self.unit {
                Some(unit) => Cgroup::open_in_unit(unit, &self.cgroup),
                None => Cgroup::open(&self.cgroup),
            },
            CgroupManager::Disabled => Ok(Cgroup::nowhere()),
        }
    }
}

/// One container's directory.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) dir: PathBuf,
}

impl Place {
    /// Takes the id, locks it, and writes the first record: from here on `delete` finds everything that may come. Without the configuration
    /// that is a process and a cgroup; [`Place::keep_config`] is due then, before the program is let go.
    ///
    /// # Errors
    /// `AlreadyExists` when it is taken.
    pub(super) fn claim(&self, record: &Record, config: Option<&[u8]>) -> Result<Lock> {
        let lock = loop {
            self.make_dir()?;
            // Without a lock there is nothing in it.
            let lock = self.make_lock().inspect_err(|_| self.remove_empty())?;
            // Where it has been deleted by force meanwhile it is made again.
            if let Some(lock) = lock {
                break lock;
            }
        };
        let kept = self.write(record).and_then(|()| config.map_or(Ok(()), |config| self.keep_config(config)));
        if kept.is_err() && lock.is_in_place() {
            // Nothing of the container is there yet. The first failure is the one to tell.
            let _ = self.remove();
        }
        kept.map(|()| lock)
    }

    /// Keeps the configuration that the container is made from, as it was read.
    ///
    /// # Errors
    /// The call that the kernel refused.
    pub(super) fn keep_config(&self, config: &[u8]) -> Result<()> {
        fs::write_atomic_volatile(&self.dir.join(CONFIG), config).map_err(step("keep the configuration"))
    }

    /// Whether the container of this record has come so far that its cgroup was made for it, and is no other's of the same name.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(super) fn has_made_cgroup(&self, record: &Record) -> Result<bool> {
        if !record.ahead {
            return Ok(record.process.is_some());
        }
        let kept = self.dir.join(CONFIG);
        kept.try_exists().map_err(|error| kernel(&format!("stat {}", kept.display()), &error))
    }

    /// Looks whether the id is taken. Only [`Place::claim`] takes it.
    ///
    /// # Errors
    /// `AlreadyExists` when it is.
    pub(super) fn require_free(&self) -> Result<()> {
        if self.dir.exists() { Err(self.taken(rustix::io::Errno::EXIST)) } else { Ok(()) }
    }

    fn make_dir(&self) -> Result<()> {
        match rustix::fs::mkdir(&self.dir, Mode::RWXU) {
            Err(rustix::io::Errno::NOENT) => {
                let root = self.dir.parent().unwrap_or(Path::new("/"));
                std::fs::create_dir_all(root).map_err(|error| not_ours(root, &error))?;
                rustix::fs::chmod(root, self.mode_of_records())
                    .map_err(|error| kernel("chmod(records)", &error))?;
                rustix::fs::mkdir(&self.dir, Mode::RWXU).map_err(|error| self.taken(error))
            }
            made => made.map_err(|error| self.taken(error)),
        }
    }

    /// In a user's own directory what is old may be swept away, unless it is marked as in use.
    fn mode_of_records(&self) -> Mode {
        let swept = std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| self.dir.starts_with(dir));
        if swept { Mode::RWXU | Mode::SVTX } else { Mode::RWXU }
    }

    fn taken(&self, error: rustix::io::Errno) -> Error {
        match error {
            rustix::io::Errno::EXIST => Error::new(
                Kind::AlreadyExists,
                format!("container with given ID already exists: {}", self.id),
            ),
            error => not_ours(&self.dir, &error.into()),
        }
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// The call that the kernel refused.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|error| kernel("write the record", &error))?;
        fs::write_atomic_volatile(&self.dir.join(RECORD), &bytes).map_err(step("write the record"))
    }

    /// Reads the record.
    ///
    /// # Errors
    /// `NotFound` when there is no such container.
    pub(super) fn read(&self) -> Result<Record> {
        let bytes = self.read_file(RECORD)?;
        json::read(&bytes).map_err(|error| kernel(&format!("read the record of {}", self.id), &error))
    }

    /// Reads the configuration that the container was made from.
    ///
    /// # Errors
    /// `NotFound` when there is no such container.
    pub(super) fn spec(&self) -> Result<oci::Spec> {
        let bytes = self.read_file(CONFIG)?;
        let mut spec = json::read(&bytes)
            .map_err(|error| kernel(&format!("read the configuration of {}", self.id), &error))?;
        annotations::apply(&mut spec)?;
        Ok(spec)
    }

    /// Replaces the configuration, when limits have changed.
    ///
    /// # Errors
    /// The call that the kernel refused.
    pub(super) fn write_spec(&self, spec: &oci::Spec) -> Result<()> {
        self.keep_config(&written(spec)?)
    }

    fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        std::fs::read(self.dir.join(name)).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                return self.not_there();
            }
            kernel(&format!("read {name} of {}", self.id), &error)
        })
    }

    pub(super) fn not_there(&self) -> Error {
        Error::new(Kind::NotFound, format!("container does not exist: {}", self.id))
    }

    /// Takes the directory away, the record first, without which there is no container, and the lock last: who waits for it finds one or none,
    /// and nothing in between.
    ///
    /// # Errors
    /// The call that the kernel refused; one that is gone is no error.
    pub(super) fn remove(&self) -> Result<()> {
        let failed = |error: io::Error| kernel(&format!("remove {}", self.dir.display()), &error);
        let gone = |done: io::Result<()>| match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            Ok(()) | Err(_) => Ok(()),
        };
        gone(std::fs::remove_file(self.dir.join(RECORD)))?;
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let (path, is_dir) = (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
            if entry.file_name() != LOCK {
                gone(if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) })?;
            }
        }
        gone(std::fs::remove_file(self.dir.join(LOCK)))?;
        gone(std::fs::remove_dir(&self.dir))
    }

    /// Takes a directory away that has nothing in it: of a container that was about to be made, or is all but gone.
    pub(super) fn remove_empty(&self) {
        // One with something in it is somebody's.
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// A configuration as text, as `spec` writes it: another way of writing every type would be 44 KB of program.
pub(super) fn written(spec: &oci::Spec) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(spec).map_err(|error| kernel("write the configuration", &error))
}

#[cfg(test)]
mod tests {
    use super::{super::root::Root, *};

    #[test]
    fn an_id_is_claimed_once_and_removed_whole() {
        let root = Root(std::env::temp_dir().join(format!("tinyrun-record-{}", std::process::id())));
        let place = root.place("a").unwrap();
        let record = Record {
            bundle: "/b".into(),
            cgroup: "/c".into(),
            manager: CgroupManager::Cgroupfs,
            unit: None,
            process: None,
            ahead: false,
            created_unix_nanos: 1,
        };
        place.claim(&record, Some(b"{}")).unwrap();
        assert_eq!(place.claim(&record, Some(b"{}")).unwrap_err().kind(), Kind::AlreadyExists);
        assert_eq!(place.read().unwrap(), record);
        let gate = place.make_gate().unwrap();
        assert!(place.has_gate().unwrap());
        place.open_gate().unwrap();
        place.remove_gate();
        assert!(!place.has_gate().unwrap());
        assert_eq!(place.open_gate().unwrap_err().kind(), Kind::WrongState);
        drop(gate);
        place.remove().unwrap();
        place.remove().unwrap();
        assert!(root.ids().unwrap().is_empty());
        std::fs::remove_dir(&root.0).unwrap();
    }
}
