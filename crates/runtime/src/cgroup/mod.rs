//! A container's cgroup on v1, hybrid and v2 hosts: made and limited before anyone enters, frozen, killed, counted, removed.
//!
//! This file is the door. It never puts a process anywhere itself: the entering process does that, by [`Cgroup::clone_fd`]
//! (v2) or by writing `0` to each of [`Cgroup::procs`] (v1).

use std::{fs::File, os::fd::BorrowedFd};

use tinyd_core::{Error, Kind, Result, oci};

/// A container's cgroup: one directory on v2, one per controller on v1.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    entries: Vec<File>,
}

/// What the kernel has counted for a cgroup and everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time used, in nanoseconds.
    pub cpu_nanos: u64,
    /// Memory in use, page cache included, in bytes.
    pub memory_bytes: u64,
    /// The memory limit in bytes; `None` is no limit.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
}

impl Cgroup {
    /// Makes the cgroup `path` (below the cgroup root, such as `/tinyd-1234/ID`) and writes its limits. The second value
    /// is what could not be done and was not asked for by name, one line each.
    ///
    /// # Errors
    /// `InvalidArgument` for a path with `..` and the like or a limit that the kernel refuses, `AlreadyExists` when a
    /// process is in a cgroup of that name, `Unsupported` when a limit needs a controller that this host lacks. Nothing of the
    /// attempt is left.
    pub fn create(_path: &str, _resources: &oci::Resources) -> Result<(Cgroup, Vec<String>)> {
        Err(Error::new(Kind::Unsupported, "skeleton"))
    }

    /// Opens a cgroup that exists.
    ///
    /// # Errors
    /// `NotFound` when no hierarchy has it.
    pub fn open(_path: &str) -> Result<Cgroup> {
        Err(Error::new(Kind::Unsupported, "skeleton"))
    }

    /// The path it was made under.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// On v2, the directory for `clone3(CLONE_INTO_CGROUP)`; `None` on v1.
    ///
    /// A new cgroup namespace must be made after entering (`unshare` in the child): its root is where its maker is.
    #[must_use]
    pub fn clone_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// On v1, the `tasks` files, open for writing: the entering process, while it has one thread, writes `0` to each. Empty on v2.
    #[must_use]
    pub fn procs(&self) -> &[File] {
        &self.entries
    }

    /// Writes limits again; what `resources` does not name stays as it is. Returns warnings as [`Cgroup::create`] does.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn apply(&self, _resources: &oci::Resources) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Freezes every process; returns when they are frozen.
    ///
    /// # Errors
    /// When the kernel has no freezer here or does not get them frozen in time; they are thawed again then.
    pub fn freeze(&self) -> Result<()> {
        Ok(())
    }

    /// Thaws them.
    ///
    /// # Errors
    /// The call that the kernel refused.
    pub fn thaw(&self) -> Result<()> {
        Ok(())
    }

    /// Whether it is frozen.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn frozen(&self) -> Result<bool> {
        Ok(false)
    }

    /// SIGKILL to every process of the cgroup and below, frozen ones too; returns when none is left.
    ///
    /// # Errors
    /// `Internal`, naming them, when some are still there after ten seconds (uninterruptible sleep).
    pub fn kill_all(&self) -> Result<()> {
        Ok(())
    }

    /// Its processes, and those of the cgroups below, as the host counts, sorted.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Ok(Vec::new())
    }

    /// How many processes the kernel has killed for memory.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn oom_kills(&self) -> Result<u64> {
        Ok(0)
    }

    /// What the kernel has counted.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats::default())
    }

    /// Kills what is left, then removes it and everything below. One that is gone is no error.
    ///
    /// # Errors
    /// All that could not be removed.
    pub fn remove(&self) -> Result<()> {
        Ok(())
    }

    /// Removes the parent (`/tinyd-1234`) where it has become empty. Never an error: the next one may have come meanwhile.
    pub fn remove_parent_if_empty(&self) {}
}
