//! Starting supervisors, and talking to them in whole questions. The only file of the daemon that starts a program.
//!
//! A shim is executed from a sealed copy of `tinyrun` in memory: no container can write to it through `/proc/PID/exe`, and an upgrade
//! of the file on disk changes nothing for this daemon. Its listening socket is made here and is its standard input, so that a
//! connection made at once waits in the backlog.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};
use tinyd_core::{
    ContainerId, Error, Kind, Result,
    wire::{self, Message, Plan, Request, ShimRecord, Status},
};

use crate::{
    conn::{Conn, open_dir, out_of_turn, short_path},
    files::{self, Durability, failed},
};

/// What a shim says beside its protocol goes here, in its directory.
const SHIM_LOG: &str = "shim.log";
/// How much of it is told when a shim dies early, in bytes.
const SHIM_LOG_TOLD: usize = 2000;

/// Starts shims.
#[derive(Debug)]
pub(crate) struct Launcher {
    program: OwnedFd,
}

impl Launcher {
    /// Makes the sealed copy.
    pub(crate) fn open(tinyrun: &Path) -> Result<Launcher> {
        let seal = || {
            let mut source = File::open(tinyrun)?;
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let program = match memfd_create("tinyrun", flags | MemfdFlags::EXEC) {
                // Before Linux 6.3 memory files are always executable.
                Err(Errno::INVAL) => memfd_create("tinyrun", flags)?,
                other => other?,
            };
            let mut copy = File::from(program);
            io::copy(&mut source, &mut copy)?;
            let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
            fcntl_add_seals(&copy, seals)?;
            Ok(OwnedFd::from(copy))
        };
        let program =
            seal().map_err(|source: io::Error| failed(format_args!("copy {tinyrun:?} to memory"), source))?;
        Ok(Launcher { program })
    }

    /// Starts the shim of a container in its directory, and writes down who it is. Blocks for about a millisecond; called within
    /// the runtime, which reaps it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts a program: the shim")]
    pub(crate) fn spawn(&self, id: &ContainerId, dir: &Path) -> Result<Shim> {
        files::make_private_dir(dir)?;
        let listener =
            listen(dir).map_err(|source| failed(format_args!("bind a socket in {dir:?}"), source))?;
        let log = files::write(&dir.join(SHIM_LOG), b"")?;
        let mut command = tokio::process::Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.arg0("tinyrun").args(["shim", id.as_str()]).env_clear();
        // glibc keeps small freed pieces for each thread; in a shim, which allocates at its start and then waits, they only hold pages.
        command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
        command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).stderr(Stdio::from(log));
        let mut child = command.spawn().map_err(|source| failed("start the supervisor tinyrun", source))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        // Not reaped yet, so the pid is this shim's and no other's.
        let start_time = start_time(pid).unwrap_or(0);
        tokio::spawn(async move {
            // Only so that no zombie stays: how the container ended is told over the socket.
            let _ = child.wait().await;
        });
        let shim = Shim { dir: dir.to_owned(), record: ShimRecord { pid, start_time } };
        files::write_json(&dir.join(wire::SHIM_FILE), &shim.record, Durability::Cached)?;
        Ok(shim)
    }
}

fn listen(dir: &Path) -> io::Result<UnixListener> {
    files::remove(&dir.join(wire::SOCKET_FILE)).map_err(io::Error::other)?;
    let dir = open_dir(dir)?;
    let path = short_path(dir.as_fd());
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// A shim that was started, by this daemon or an earlier one.
#[derive(Clone, Debug)]
pub(crate) struct Shim {
    dir: PathBuf,
    record: ShimRecord,
}

/// A container whose first process waits before its program.
#[derive(Debug)]
pub(crate) struct Created {
    /// The first process, as the host counts.
    pub(crate) pid: i32,
    /// What could not be done and was not asked for by name.
    pub(crate) warnings: Vec<String>,
    /// Its network namespace and a `NETLINK_ROUTE` socket made inside, when the namespace is new.
    pub(crate) network: Option<(OwnedFd, OwnedFd)>,
    /// The conversation in which it was made.
    pub(crate) conn: Conn,
}

impl Shim {
    /// The shim of this directory, as an earlier daemon wrote it down, if that process is still the same one.
    pub(crate) fn find(dir: &Path) -> Option<Shim> {
        let record: ShimRecord = files::read_json(&dir.join(wire::SHIM_FILE)).ok().flatten()?;
        (start_time(record.pid) == Some(record.start_time)).then(|| Shim { dir: dir.to_owned(), record })
    }

    /// A shim whose record was not written: the daemon died between its start and that.
    pub(crate) fn unrecorded(dir: &Path) -> Shim {
        Shim { dir: dir.to_owned(), record: ShimRecord { pid: 0, start_time: 0 } }
    }

    /// Kills it, if it is still there: what runs in its container goes with it.
    pub(crate) fn kill(&self) {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        let Some(pid) = Pid::from_raw(self.record.pid) else { return };
        // The descriptor first, then the look at the start time: what it names cannot change any more.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && start_time(self.record.pid) == Some(self.record.start_time)
        {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }

    /// A new conversation.
    pub(crate) async fn connect(&self) -> Result<Conn> {
        Conn::connect(&self.dir).await
    }

    /// Asks for something that is answered with [`Message::Done`], in a conversation of its own.
    pub(crate) async fn ask_done(&self, request: &Request) -> Result<()> {
        self.connect().await?.ask_done(request).await
    }

    /// Where the container is.
    pub(crate) async fn status(&self) -> Result<Status> {
        match self.connect().await?.ask(&Request::Status, &[]).await? {
            (Message::Status(status), _) => Ok(status),
            (other, _) => Err(out_of_turn(&other)),
        }
    }

    /// The container's processes, as the host counts.
    pub(crate) async fn processes(&self) -> Result<Vec<i32>> {
        match self.connect().await?.ask(&Request::Processes, &[]).await? {
            (Message::Processes { pids }, _) => Ok(pids),
            (other, _) => Err(out_of_turn(&other)),
        }
    }

    /// Makes the container up to, but not including, its program.
    pub(crate) async fn create(&self, plan: Plan, forwards: &[BorrowedFd<'_>]) -> Result<Created> {
        let answer = async {
            let mut conn = self.connect().await?;
            let answer = conn.ask(&Request::Create(Box::new(plan)), forwards).await?;
            Ok((answer, conn))
        };
        let ((message, fds), conn) = answer.await.map_err(|error| self.with_last_words(error))?;
        let Message::Created { pid, warnings } = message else { return Err(out_of_turn(&message)) };
        let mut fds = fds.into_iter();
        let network = fds.next().zip(fds.next());
        Ok(Created { pid, warnings, network, conn })
    }

    /// A lost connection says little; what the shim wrote before says more.
    fn with_last_words(&self, error: Error) -> Error {
        if error.kind() != Kind::Unavailable {
            return error;
        }
        let log = std::fs::read(self.dir.join(SHIM_LOG)).unwrap_or_default();
        let told = String::from_utf8_lossy(&log[log.len().saturating_sub(SHIM_LOG_TOLD)..]);
        match told.trim() {
            "" => error,
            told => Error::new(
                Kind::Internal,
                format!("{}; it said: {}", error.message(), told.replace('\n', "; ")),
            ),
        }
    }
}

/// Lets the program of a created container go. The time is the program's start, in nanoseconds since the epoch.
pub(crate) async fn start(conn: &mut Conn) -> Result<i64> {
    match conn.ask(&Request::Start, &[]).await? {
        (Message::Started { at_unix_nanos }, _) => Ok(at_unix_nanos),
        (other, _) => Err(out_of_turn(&other)),
    }
}

/// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(me).is_some());
        assert_eq!(start_time(me), start_time(me));
        assert_eq!(start_time(i32::MAX), None);
    }

    #[test]
    fn a_long_directory_is_no_obstacle_for_a_socket() {
        let dir = std::env::temp_dir().join(format!("tinyd-{}-{}", "long".repeat(30), std::process::id()));
        files::make_private_dir(&dir).unwrap();
        listen(&dir).unwrap();
        listen(&dir).unwrap();
        assert!(dir.join(wire::SOCKET_FILE).exists());
        tinyd_image::tree::remove(&dir).unwrap();
    }
}
