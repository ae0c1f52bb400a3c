//! One hierarchy's directories: the path as it may be, making it, walking it, killing what is in it, removing it.
//!
//! Everything goes through the descriptor of the hierarchy's root; no step can lead out of it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tinyd_core::{Error, Kind, Result};
use tinyd_sys::cgroup::Dir;

/// How long a cgroup may stay busy after its last process.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// How often a parent may vanish while a cgroup is made in it.
const VANISHED_MAX: u32 = 10;
/// How deep a tree is followed.
const CGROUPS_MAX: usize = 10_000;

/// The path of a cgroup below a hierarchy's root, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CgroupPath {
    parts: Vec<String>,
    /// Whether somebody else makes it, and a process of theirs may be in it already.
    given: bool,
}

impl CgroupPath {
    /// Reads `/tinyd-1234/ID`; a leading slash more or less means nothing.
    ///
    /// # Errors
    /// `InvalidArgument`: empty, too long, with `.`, `..`, a control character, or a name that is a kernel file's.
    pub(super) fn parse(path: &str) -> Result<CgroupPath> {
        let bad = |rule: &str| Err(Error::invalid("linux.cgroupsPath", format!("{path:?} {rule}")));
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(String::from).collect();
        if parts.is_empty() {
            return bad("names no cgroup below the root");
        }
        if path.len() > 2048 || parts.iter().any(|part| part.len() > 255) {
            return bad("is too long");
        }
        if parts.iter().any(|part| part == "." || part == "..") {
            return bad("leads through . or ..");
        }
        if path.chars().any(char::is_control) {
            return bad("has a control character");
        }
        if parts.iter().any(|part| part.starts_with("cgroup.") || part == "tasks") {
            return bad("has the name of a kernel file");
        }
        Ok(CgroupPath { parts, given: false })
    }

    /// The same, of a cgroup that somebody else makes, and in which a process of theirs may be.
    pub(super) fn given(self) -> CgroupPath {
        CgroupPath { given: true, ..self }
    }

    /// Whether somebody else makes it.
    pub(super) fn is_given(&self) -> bool {
        self.given
    }

    /// The path relative to the root.
    pub(super) fn relative(&self) -> String {
        self.parts.join("/")
    }
}

/// Whether the caller may make a cgroup: it may write to the last directory on the way there.
pub(super) fn may_make(root: &Dir, path: &CgroupPath) -> bool {
    let Some((_, parents)) = path.parts.split_last() else { return false };
    let Ok(mut last) = root.open_beneath(".") else { return false };
    for name in parents {
        match last.open_beneath(name) {
            Ok(next) => last = next,
            Err(error) if error.errno() == Some(libc::ENOENT) => break,
            Err(_) => return false,
        }
    }
    last.is_writable()
}

/// A directory that has not been removed.
///
/// # Errors
/// `NotFound` when it has.
pub(super) fn still_there(dir: &Dir) -> Result<()> {
    if dir.has("cgroup.procs") {
        return Ok(());
    }
    Err(Error::new(Kind::NotFound, format!("cgroup {} has been removed", dir.path().display())))
}

/// Directories that [`make`] has made.
#[derive(Debug)]
pub(super) struct Made {
    /// The cgroup itself.
    pub leaf: Dir,
    /// What is new, relative to the root, outermost first.
    pub fresh: Vec<String>,
}

/// Whether [`make`] has made a directory, or found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is new.
    Made,
    /// It was there. Who made it, for a container that starts beside this one, may not have set anything in it yet.
    Found,
}

/// Makes a cgroup and the parents that are missing. `before` sees each parent before a child is made in it or found, `after` sees
/// each parent and its child: what it sets must be fine to set twice.
///
/// # Errors
/// `AlreadyExists` when the cgroup has processes; what was made is removed again.
pub(super) fn make(
    root: &Dir,
    path: &CgroupPath,
    before: impl Fn(&Dir) -> Result<()>,
    after: impl Fn(&Dir, &Dir, Origin) -> Result<()>,
) -> Result<Made> {
    let mut round = 1;
    loop {
        let mut fresh = Vec::new();
        let unmade = match make_parts(root, path, &mut fresh, &before, &after) {
            Ok(leaf) => return Ok(Made { leaf, fresh }),
            Err(unmade) => unmade,
        };
        unmake(root, &fresh);
        match unmade {
            // Whoever made the parent has taken it away with the last container beside this one.
            Unmade::Vanished(_) if round < VANISHED_MAX => round += 1,
            Unmade::Vanished(error) | Unmade::Refused(error) => return Err(error),
        }
    }
}

/// Why a directory was not made.
enum Unmade {
    /// One on the way there was removed at that moment.
    Vanished(Error),
    /// Something else.
    Refused(Error),
}

impl Unmade {
    fn of(error: tinyd_sys::Error) -> Unmade {
        let is_gone = matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV));
        if is_gone { Unmade::Vanished(told(error)) } else { Unmade::Refused(told(error)) }
    }

    /// Something that was to be done with a directory has failed.
    fn at(dir: &Dir, error: Error) -> Unmade {
        if still_there(dir).is_err() { Unmade::Vanished(error) } else { Unmade::Refused(error) }
    }
}

/// Takes back what [`make`] made. A parent in which somebody else's cgroup has appeared stays.
pub(super) fn unmake(root: &Dir, fresh: &[String]) {
    for relative in fresh.iter().rev() {
        // The error that brought us here is the one to tell.
        let _ = root.remove(relative);
    }
}

fn make_parts(
    root: &Dir,
    path: &CgroupPath,
    fresh: &mut Vec<String>,
    before: &impl Fn(&Dir) -> Result<()>,
    after: &impl Fn(&Dir, &Dir, Origin) -> Result<()>,
) -> Result<Dir, Unmade> {
    let mut last: Option<Dir> = None;
    let mut relative = String::new();
    for (depth, name) in path.parts.iter().enumerate() {
        let parent = last.as_ref().unwrap_or(root);
        before(parent).map_err(|error| Unmade::at(parent, error))?;
        let is_leaf = depth + 1 == path.parts.len() && !path.given;
        if !relative.is_empty() {
            relative.push('/');
        }
        relative.push_str(name);
        let origin = match parent.make(name) {
            Ok(()) => Origin::Made,
            Err(error) if error.io_kind() == std::io::ErrorKind::AlreadyExists && is_leaf => {
                reuse(parent, name, path).map_err(Unmade::Refused)?;
                Origin::Made
            }
            Err(error) if error.io_kind() == std::io::ErrorKind::AlreadyExists => Origin::Found,
            Err(error) => return Err(Unmade::of(error)),
        };
        if origin == Origin::Made {
            fresh.push(relative.clone());
        }
        let child = parent.open_beneath(name).map_err(Unmade::of)?;
        after(parent, &child, origin).map_err(|error| Unmade::at(&child, error))?;
        last = Some(child);
    }
    let nothing = || Error::invalid("linux.cgroupsPath", "it names no cgroup below the root");
    last.ok_or_else(|| Unmade::Refused(nothing()))
}

/// Something of an earlier life is there. Without processes it goes, so that the new one starts with fresh counters.
fn reuse(parent: &Dir, name: &str, path: &CgroupPath) -> Result<()> {
    let old = parent.open_beneath(name).map_err(told)?;
    let inside = pids(&old)?;
    if !inside.is_empty() {
        let message = format!("cgroup /{} exists and has {} processes", path.relative(), inside.len());
        return Err(Error::new(Kind::AlreadyExists, message));
    }
    drop(old);
    remove(parent, name, busy_until())?;
    parent.make(name).map_err(told)
}

/// Every cgroup at and below `dir`, relative to it, parents first. One that vanishes meanwhile is left out.
fn walk(dir: &Dir) -> Result<Vec<String>> {
    let mut found = vec![".".to_owned()];
    let mut next = 0;
    while let Some(relative) = found.get(next).cloned() {
        next += 1;
        let Some(names) = gone_is_none(dir.open_beneath(&relative).and_then(|dir| dir.children()))? else {
            continue;
        };
        for name in names {
            found.push(if relative == "." { name } else { format!("{relative}/{name}") });
        }
        if found.len() > CGROUPS_MAX {
            return Err(Error::new(
                Kind::Exhausted,
                format!("more than {CGROUPS_MAX} cgroups below {:?}", dir.path()),
            ));
        }
    }
    Ok(found)
}

/// Calls `read` for every cgroup at and below `dir`.
pub(super) fn each<T>(dir: &Dir, read: impl Fn(&Dir) -> tinyd_sys::Result<T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    for relative in walk(dir)? {
        all.extend(gone_is_none(dir.open_beneath(&relative).and_then(|dir| read(&dir)))?);
    }
    Ok(all)
}

/// The processes at and below `dir`, sorted.
pub(super) fn pids(dir: &Dir) -> Result<Vec<i32>> {
    let lists = each(dir, |dir| dir.read("cgroup.procs"))?;
    let mut pids: Vec<i32> =
        lists.iter().flat_map(|list| list.lines()).filter_map(|pid| pid.parse().ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// SIGKILL to what is in `dir` now. A pid is believed only when it is still listed after its pidfd was opened: then the pidfd
/// is that process and no later one of the same number. Returns how many were signalled.
pub(super) fn kill_once(dir: &Dir) -> Result<usize> {
    let listed = pids(dir)?;
    let mut opened = Vec::with_capacity(listed.len());
    for pid in listed {
        // 0 is a process of another pid namespace: nothing that can be signalled from here.
        if let Some(raw) = Pid::from_raw(pid).filter(|_| pid > 0)
            && let Ok(pidfd) = pidfd_open(raw, PidfdFlags::empty())
        {
            opened.push((pid, pidfd));
        }
    }
    if opened.is_empty() {
        return Ok(0);
    }
    let still = pids(dir)?;
    opened.retain(|(pid, _)| still.binary_search(pid).is_ok());
    for (_, pidfd) in &opened {
        // One that has just ended is what we want.
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
    Ok(opened.len())
}

/// Removes `name` in `parent` if nobody and nothing is in it; whether it is gone.
pub(super) fn remove_empty(parent: &Dir, name: &str) -> bool {
    gone_is_none(parent.remove(name)).is_ok()
}

/// Until when a cgroup that is removed now may stay busy.
pub(super) fn busy_until() -> Instant {
    Instant::now() + BUSY_MAX
}

/// Removes `name` in `parent` and everything below it, deepest first. It must have no live process; one that is just ending is
/// waited for. One that is gone is no error.
pub(super) fn remove(parent: &Dir, name: &str, deadline: Instant) -> Result<()> {
    let mut pause = Duration::from_micros(50);
    loop {
        match remove_once(parent, name) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn remove_once(parent: &Dir, name: &str) -> Result<()> {
    let Some(dir) = gone_is_none(parent.open_beneath(name))? else { return Ok(()) };
    for relative in walk(&dir)?.iter().rev() {
        let path = if relative == "." { name.to_owned() } else { format!("{name}/{relative}") };
        gone_is_none(parent.remove(&path))?;
    }
    Ok(())
}

/// A kernel failure as a [`tinyd_core::Error`].
pub(super) fn told(error: tinyd_sys::Error) -> Error {
    Error::internal(&error)
}

/// What has vanished meanwhile is not there: `ENOENT`, or `ENODEV` from a file that was open.
pub(super) fn gone_is_none<T>(result: tinyd_sys::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(error) => Err(told(error)),
    }
}
