//! What is known of a container between two commands: a directory per container with its record, its configuration, and the socket
//! at which it waits. The record is there before anything of the container is.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Kind, Result, error::chain, oci};
use tinyd_sys::{fs, process};

use super::lock::{LOCK, Lock};
use crate::{
    caller::Caller,
    cgroup::{Cgroup, CgroupManager, systemd::Unit},
    launch::{kernel, step},
    plan::annotations,
};

pub(super) const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
const GATE: &str = "gate";

/// Where the records are.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

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
    /// Its first process; none while it is being created.
    pub(super) process: Option<Init>,
    /// When it was created, in nanoseconds since the epoch.
    pub(super) created_unix_nanos: i64,
}

/// A first process, recognisable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Init {
    /// As the host counts.
    pub(super) pid: i32,
    /// Field 22 of /proc/PID/stat: the pid is believed only with it.
    pub(super) start_time: u64,
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

impl Root {
    /// The records' directory: `given`, or the usual one. It is made when a container is.
    #[must_use]
    pub fn new(given: Option<PathBuf>) -> Root {
        let usual = || {
            let private = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty() && !is_root());
            private.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("tinyrun")
        };
        Root(given.unwrap_or_else(usual))
    }

    /// The ids of all records.
    ///
    /// # Errors
    /// When the directory cannot be read; one that is missing has none.
    pub(super) fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(kernel(&format!("read {}", self.0.display()), &error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| kernel(&format!("read {}", self.0.display()), &error))?;
            ids.extend(entry.file_name().into_string().ok().filter(|id| check_id(id).is_ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The place of one container, which may not exist.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no id.
    pub(super) fn place(&self, id: &str) -> Result<Place> {
        check_id(id)?;
        Ok(Place { id: id.to_owned(), dir: self.0.join(id) })
    }
}

/// Whether this process is root as the machine's users know it: not somebody who is root of a user namespace alone, and has kept the
/// user's name.
fn is_root() -> bool {
    let keeps_name = std::env::var_os("USER").is_none_or(|user| user != "root");
    let in_namespace =
        || Caller::of_this_process().is_ok_and(|caller| matches!(caller, Caller::Namespace { .. }));
    rustix::process::geteuid().is_root() && !(keeps_name && in_namespace())
}

/// Who is not root has its own place for records.
fn not_ours(root: &Path, error: &io::Error) -> Error {
    let made = kernel(&format!("make {}", root.display()), error);
    if error.kind() != io::ErrorKind::PermissionDenied {
        return made;
    }
    let hint = "who is not root sets XDG_RUNTIME_DIR or gives --root";
    Error::new(Kind::PermissionDenied, format!("{}; {hint}", made.message()))
}

/// The specification leaves ids open; these are safe as a file name and in a cgroup path.
fn check_id(id: &str) -> Result<()> {
    const BYTES_MAX: usize = 1024;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
    if !id.is_empty() && id.len() <= BYTES_MAX && id != "." && id != ".." && id.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::invalid("id", format!("{id:?} is not a container id: letters, digits, '_', '+', '-' and '.'")))
}

/// One container's directory.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) dir: PathBuf,
}

impl Place {
    /// Takes the id, locks it, and writes the first record: from here on `delete` finds everything that may come.
    ///
    /// # Errors
    /// `AlreadyExists` when it is taken.
    pub(super) fn claim(&self, record: &Record, config: &[u8]) -> Result<Lock> {
        let root = self.dir.parent().unwrap_or(Path::new("/"));
        match rustix::fs::mkdir(&self.dir, Mode::RWXU) {
            Err(rustix::io::Errno::NOENT) => {
                std::fs::create_dir_all(root).map_err(|error| not_ours(root, &error))?;
                rustix::fs::chmod(root, self.mode_of_records())
                    .map_err(|error| kernel("chmod(records)", &error))?;
                rustix::fs::mkdir(&self.dir, Mode::RWXU).map_err(|error| self.taken(error))?;
            }
            made => made.map_err(|error| self.taken(error))?,
        }
        let locked = self.make_lock().and_then(|lock| {
            self.write(record)?;
            fs::write_atomic_volatile(&self.dir.join(CONFIG), config)
                .map_err(step("keep the configuration"))?;
            Ok(lock)
        });
        locked.inspect_err(|_| {
            // Nothing of the container is there yet. The first failure is the one to tell.
            let _ = self.remove();
        })
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
        serde_json::from_slice(&bytes)
            .map_err(|error| kernel(&format!("read the record of {}", self.id), &error))
    }

    /// Reads the configuration that the container was made from.
    ///
    /// # Errors
    /// `NotFound` when there is no such container.
    pub(super) fn spec(&self) -> Result<oci::Spec> {
        let bytes = self.read_file(CONFIG)?;
        let mut spec = serde_json::from_slice(&bytes)
            .map_err(|error| kernel(&format!("read the configuration of {}", self.id), &error))?;
        annotations::apply(&mut spec, std::env::var(annotations::RECEIVER_VARIABLE).ok())?;
        Ok(spec)
    }

    /// Replaces the configuration, when limits have changed.
    ///
    /// # Errors
    /// The call that the kernel refused.
    pub(super) fn write_spec(&self, spec: &oci::Spec) -> Result<()> {
        // As `spec` writes it: another way of writing every type would be 44 KB of program.
        let bytes =
            serde_json::to_vec_pretty(spec).map_err(|error| kernel("write the configuration", &error))?;
        fs::write_atomic_volatile(&self.dir.join(CONFIG), &bytes).map_err(step("keep the configuration"))
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

    /// Takes the directory away, the lock last: who waits for it finds a container or none, and nothing in between.
    ///
    /// # Errors
    /// The call that the kernel refused; one that is gone is no error.
    pub(super) fn remove(&self) -> Result<()> {
        let failed = |error: io::Error| kernel(&format!("remove {}", self.dir.display()), &error);
        let gone = |done: io::Result<()>| match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            Ok(()) | Err(_) => Ok(()),
        };
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

    /// Makes the socket at which the first process waits for `start`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn make_gate(&self) -> Result<OwnedFd> {
        let socket = gate_socket()?;
        let near = Near::open(&self.dir).map_err(|error| kernel("open(directory of the gate)", &error))?;
        let address = near.address().map_err(|error| kernel("make the gate's address", &error))?;
        rustix::net::bind(&socket, &address).map_err(|error| kernel("bind(gate)", &error))?;
        rustix::net::listen(&socket, 1).map_err(|error| kernel("listen(gate)", &error))?;
        Ok(socket)
    }

    /// Whether the first process still waits.
    ///
    /// # Errors
    /// When the container's directory cannot be looked at.
    pub(super) fn waits(&self) -> Result<bool> {
        let gate = self.dir.join(GATE);
        gate.try_exists().map_err(|error| kernel(&format!("stat {}", gate.display()), &error))
    }

    /// Connects to the gate and takes it away: a container is started once.
    ///
    /// # Errors
    /// `WrongState` when nobody waits there.
    pub(super) fn open_gate(&self) -> Result<OwnedFd> {
        let socket = gate_socket()?;
        let near =
            Near::open(&self.dir).map_err(|error| self.no_gate("open(directory of the gate)", &error))?;
        let address = near.address().map_err(|error| self.no_gate("make the gate's address", &error))?;
        rustix::net::connect(&socket, &address).map_err(|error| self.no_gate("connect(gate)", &error))?;
        std::fs::remove_file(self.dir.join(GATE)).map_err(|error| self.no_gate("unlink(gate)", &error))?;
        Ok(socket)
    }

    fn no_gate(&self, call: &str, error: &dyn std::error::Error) -> Error {
        let message =
            format!("container {:?} is not waiting to be started: {call}: {}", self.id, chain(error));
        Error::new(Kind::WrongState, message)
    }
}

/// A directory reached by descriptor: a socket's address holds no more than 107 bytes, and a path may be longer.
struct Near(OwnedFd);

impl Near {
    fn open(dir: &Path) -> rustix::io::Result<Near> {
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map(Near)
    }

    fn address(&self) -> rustix::io::Result<SocketAddrUnix> {
        use std::os::fd::AsRawFd;
        SocketAddrUnix::new(format!("/proc/self/fd/{}/{GATE}", self.0.as_fd().as_raw_fd()))
    }
}

fn gate_socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| kernel("socket(gate)", &error))
}

impl Init {
    /// A process that exists and has not ended.
    ///
    /// # Errors
    /// When it has, or /proc cannot be read.
    pub(super) fn of(pid: i32) -> Result<Init> {
        let start_time = alive_since(pid)?
            .ok_or_else(|| Error::new(Kind::Internal, format!("process {pid} has ended")))?;
        Ok(Init { pid, start_time })
    }

    /// Its descriptor, if it is still the one that was recorded and has not ended.
    ///
    /// # Errors
    /// When that cannot be told: then it may well be alive.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>> {
        // The descriptor first: from then on the number cannot be given to another process unnoticed.
        let pidfd = match process::pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.errno() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(step("look for the first process")(error)),
        };
        Ok((alive_since(self.pid)? == Some(self.start_time)).then_some(pidfd))
    }
}

/// The start time of a process that has not ended.
fn alive_since(pid: i32) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    let stat = match std::fs::read(&path) {
        Ok(stat) => stat,
        // It ends while it is looked at: ESRCH.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(kernel(&format!("read {path}"), &error)),
    };
    let unclear = || Error::new(Kind::Internal, format!("{path} is not what proc(5) says"));
    started(&String::from_utf8_lossy(&stat)).ok_or_else(unclear)
}

/// A flag of field 9 of `/proc/PID/stat`: the process is ending (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;

/// What `/proc/PID/stat` says; `None` within when the process has ended, `None` when it says nothing.
fn started(stat: &str) -> Option<Option<u64>> {
    // The command name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    let start_time = fields.nth(12)?.parse().ok()?;
    // The first process of a PID namespace is a while on its way out: the others end before it.
    let ended = matches!(state, "Z" | "X") || flags & PF_EXITING != 0;
    Some((!ended).then_some(start_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_names() {
        for good in ["a", "web.1", "A_b+c-d", "..a"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a\n", "é", &"x".repeat(1025)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pid_is_believed_with_its_start_time_only() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let this = Init::of(pid).unwrap();
        assert!(this.open().unwrap().is_some());
        assert!(Init { start_time: this.start_time + 1, ..this }.open().unwrap().is_none());
    }

    #[test]
    fn a_first_process_on_its_way_out_has_ended() {
        let stat = |state: &str, flags: u32| {
            format!("7 (a) b) {state} 1 2 3 0 -1 {flags} 10 11 12 13 14 15 16 17 18 19 20 0 4711 23 24\n")
        };
        assert_eq!(started(&stat("S", 0x40_0000)), Some(Some(4711)));
        assert_eq!(started(&stat("Z", 0x40_0004)), Some(None));
        // Exec into it says "the other side ended", and that is why.
        assert_eq!(started(&stat("S", 0x40_0004)), Some(None));
        assert_eq!(started("7 (a) S 1"), None);
    }

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
            created_unix_nanos: 1,
        };
        place.claim(&record, b"{}").unwrap();
        assert_eq!(place.claim(&record, b"{}").unwrap_err().kind(), Kind::AlreadyExists);
        assert_eq!(place.read().unwrap(), record);
        let gate = place.make_gate().unwrap();
        assert!(place.waits().unwrap());
        place.open_gate().unwrap();
        assert_eq!(place.open_gate().unwrap_err().kind(), Kind::WrongState);
        drop(gate);
        place.remove().unwrap();
        place.remove().unwrap();
        assert!(root.ids().unwrap().is_empty());
        std::fs::remove_dir(&root.0).unwrap();
    }
}
