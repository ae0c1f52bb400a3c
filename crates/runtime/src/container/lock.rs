//! One at a time: who changes a container holds a lock on a file of its directory meanwhile.
//!
//! It is a record lock of POSIX. The kernel takes it back with the process, however that ends, and no child has it. Who only looks
//! (`state`, `list`, `ps`, `events`) takes none, so that hooks may; nor does `kill`, which has the process itself in its hand.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, fcntl_lock},
    io::Errno,
    process::{Flock, FlockType, fcntl_getlk},
};
use tinyd_core::{Error, Kind, Result};

use super::record::{Place, RECORD};
use crate::launch::kernel;

/// The file's name.
pub(super) const LOCK: &str = "lock";
/// How long it is waited for: longer than any step of those who hold it, but for hooks.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A container that nobody else changes, until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Place {
    /// Makes the lock of a directory that was just made, and takes it; none when the directory is gone, or has somebody else's. Who comes
    /// upon it before it is taken finds no container, and is waited for.
    ///
    /// # Errors
    /// The kernel's refusal; `Unavailable` when it does not become free.
    pub(super) fn make_lock(&self) -> Result<Option<Lock>> {
        let path = self.dir.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => file.into(),
            // It was removed, or that and made again by somebody else.
            Err(Errno::NOENT | Errno::EXIST) => return Ok(None),
            Err(error) => return Err(kernel(&format!("open {}", path.display()), &error)),
        };
        let lock = Lock { file, path };
        if let Err(error) = lock.take_until(Instant::now() + WAIT_MAX) {
            if lock.is_in_place() {
                // The failure is the one to tell.
                let _ = std::fs::remove_file(&lock.path);
            }
            return Err(self.busy(error, WAIT_MAX));
        }
        Ok(Some(lock).filter(Lock::is_in_place))
    }

    /// Takes the lock, and waits until it is free.
    ///
    /// # Errors
    /// `NotFound` when there is no such container, or none any more; `Unavailable` when it does not become free.
    pub(super) fn lock(&self) -> Result<Lock> {
        self.lock_within(WAIT_MAX)
    }

    /// The same, with the patience of the caller's.
    ///
    /// # Errors
    /// As [`Place::lock`].
    pub(super) fn lock_within(&self, patience: Duration) -> Result<Lock> {
        let path = self.dir.join(LOCK);
        let until = Instant::now() + patience;
        loop {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = match rustix::fs::open(&path, flags, Mode::empty()) {
                // What has a record and no lock was not made by this version; nothing removes the lock before the record.
                Err(Errno::NOENT) if self.dir.join(RECORD).exists() => {
                    let flags = flags | OFlags::CREATE;
                    rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
                }
                opened => opened,
            };
            let file = match file {
                Ok(file) => file.into(),
                Err(Errno::NOENT) => return Err(self.not_there()),
                Err(error) => return Err(kernel(&format!("open {}", path.display()), &error)),
            };
            let lock = Lock { file, path: path.clone() };
            lock.take_until(until).map_err(|error| self.busy(error, patience))?;
            // It may have been waited for at a file that went meanwhile, with its container.
            if lock.is_in_place() {
                return Ok(lock);
            }
        }
    }

    fn busy(&self, holder: Holder, patience: Duration) -> Error {
        match holder {
            Holder::Failed(error) => kernel("lock the container: fcntl", &error),
            Holder::Is(pid) => {
                let who = pid.map_or_else(|| "somebody".to_owned(), |pid| format!("process {pid}"));
                let message = format!(
                    "container {:?} is busy: {who} has been changing it for {} seconds",
                    self.id,
                    patience.as_secs()
                );
                Error::new(Kind::Unavailable, message)
            }
        }
    }
}

enum Holder {
    Is(Option<i32>),
    Failed(Errno),
}

impl Lock {
    /// Whether the container is still there, and not another one of the same id. What cannot be looked at is taken to be.
    pub(super) fn is_in_place(&self) -> bool {
        match (self.file.metadata(), self.path.symlink_metadata()) {
            (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
            (_, Err(error)) => error.kind() != std::io::ErrorKind::NotFound,
            (Err(_), Ok(_)) => true,
        }
    }

    /// Lets others change the container for a while.
    pub(super) fn release(&self) {
        // Nothing that is held can be held against its holder's will.
        let _ = fcntl_lock(&self.file, FlockOperation::NonBlockingUnlock);
    }

    /// Takes it again after [`Lock::release`]; whether the container is still there. Who does not let go of it is not waited for any
    /// longer.
    pub(super) fn take_again(&self) -> bool {
        let _ = self.take_until(Instant::now() + WAIT_MAX);
        self.is_in_place()
    }

    fn take_until(&self, until: Instant) -> Result<(), Holder> {
        let mut pause = Duration::from_micros(200);
        loop {
            match fcntl_lock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) => {}
                Err(error) => return Err(Holder::Failed(error)),
            }
            if Instant::now() >= until {
                return Err(Holder::Is(self.holder()));
            }
            // The kernel's own waiting has no limit.
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    fn holder(&self) -> Option<i32> {
        let held = fcntl_getlk(self.file.as_fd(), &Flock::from(FlockType::WriteLock)).ok()??;
        held.pid.map(|pid| pid.as_raw_nonzero().get())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        process::{Command, Stdio},
    };

    use super::*;

    /// Says to the child of the test which directory's lock it is to hold: the kernel keeps no process from a lock of its own.
    const HOLDER_OF: &str = "TINYRUN_TEST_HOLDER_OF";

    #[test]
    fn who_waits_in_vain_is_told_who_holds_the_lock() {
        if let Some(dir) = std::env::var_os(HOLDER_OF) {
            let _lock = Place { id: "held".into(), dir: dir.into() }.lock().unwrap();
            std::io::stdout().write_all(b"\nlocked\n").unwrap();
            // Until the parent has closed its end, or has ended.
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            return;
        }
        let dir = std::env::temp_dir().join(format!("tinyrun-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let place = Place { id: "held".into(), dir: dir.clone() };
        drop(place.make_lock().unwrap().unwrap());
        let mut holder = Command::new(std::env::current_exe().unwrap());
        holder.args(["--nocapture", "who_waits_in_vain"]).env(HOLDER_OF, &dir);
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "locked"));
        let error = place.lock_within(Duration::from_millis(20)).unwrap_err();
        let busy = format!("container \"held\" is busy: process {} has been", holder.id());
        assert!(error.kind() == Kind::Unavailable && error.message().starts_with(&busy), "{error:?}");
        // The kernel takes it back however its holder ends.
        holder.kill().unwrap();
        place.lock_within(Duration::from_secs(10)).unwrap();
        holder.wait().unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
