//! Cgroups as the daemon sees them: what kind this host has, and taking away one whose shim is gone. Limits are the runtime's business.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tinyd_core::{Error, Kind, Result};

use crate::files::{self, failed};

/// How often a cgroup whose processes were killed is tried again, and how long is waited between.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// The cgroup hierarchies of this host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cgroups {
    /// v1 hierarchies: where, and their controllers.
    v1: Vec<(PathBuf, Vec<String>)>,
    /// The v2 hierarchy.
    v2: Option<PathBuf>,
}

impl Cgroups {
    /// Reads `/proc/self/mountinfo`.
    pub(crate) fn read() -> Cgroups {
        Cgroups::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(mountinfo: &str) -> Cgroups {
        let mut found = Cgroups::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(place) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") => found.v2 = found.v2.or(Some(place)),
                Some("cgroup") => {
                    let options = right.nth(1).unwrap_or("").split(',');
                    let controllers =
                        options.filter(|option| !matches!(*option, "rw" | "ro")).map(str::to_owned);
                    let controllers: Vec<String> = controllers.collect();
                    if found.v1.iter().all(|(_, known)| *known != controllers) {
                        found.v1.push((place, controllers));
                    }
                }
                Some(_) | None => {}
            }
        }
        found
    }

    /// `v1`, `hybrid` or `v2`.
    pub(crate) fn version(&self) -> &'static str {
        match (self.v1.is_empty(), &self.v2) {
            (true, _) => "v2",
            (false, Some(_)) => "hybrid",
            (false, None) => "v1",
        }
    }

    /// The controllers that are in use.
    pub(crate) fn controllers(&self) -> Vec<String> {
        let unified = self
            .v2
            .as_ref()
            .map(|place| fs::read_to_string(place.join("cgroup.controllers")).unwrap_or_default());
        let mut all: Vec<String> = self.v1.iter().flat_map(|(_, controllers)| controllers.clone()).collect();
        all.extend(unified.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned));
        all.retain(|controller| {
            !controller.starts_with("name=") && controller != "xattr" && controller != "clone_children"
        });
        all
    }

    /// The names of the cgroups below `parent`, in any hierarchy.
    pub(crate) fn below(&self, parent: &str) -> BTreeSet<String> {
        self.places(parent).flat_map(|place| children(&place)).collect()
    }

    /// Kills what is in a cgroup and removes it, in every hierarchy. Nothing there is no error.
    pub(crate) fn reap(&self, cgroup: &str) -> Result<()> {
        let places: Vec<PathBuf> = self.places(cgroup).collect();
        for _ in 0..ATTEMPTS {
            let left: Vec<&PathBuf> = places.iter().filter(|place| place.exists()).collect();
            if left.is_empty() {
                return Ok(());
            }
            for place in &left {
                thaw(place);
                kill(place);
            }
            if left.iter().all(|place| remove(place).is_ok()) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::new(Kind::Internal, format!("remove the cgroup {cgroup}: its processes do not end")))
    }

    /// Removes a cgroup that is empty.
    pub(crate) fn remove_empty(&self, cgroup: &str) {
        for place in self.places(cgroup) {
            // Not empty: somebody is there, and it stays.
            let _ = fs::remove_dir(place);
        }
    }

    fn places(&self, cgroup: &str) -> impl Iterator<Item = PathBuf> {
        let below = cgroup.trim_start_matches('/').to_owned();
        let roots = self.v1.iter().map(|(place, _)| place).chain(&self.v2);
        roots.map(move |root| root.join(&below))
    }
}

fn children(place: &Path) -> Vec<String> {
    files::names(place).into_iter().filter(|name| place.join(name).is_dir()).collect()
}

fn set(path: &Path, value: &str) -> bool {
    use std::io::Write;
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .is_ok_and(|mut file| file.write_all(value.as_bytes()).is_ok())
}

/// A frozen process does not die.
fn thaw(place: &Path) {
    if !set(&place.join("freezer.state"), "THAWED") {
        set(&place.join("cgroup.freeze"), "0");
    }
}

fn kill(place: &Path) {
    if set(&place.join("cgroup.kill"), "1") {
        return;
    }
    for child in children(place) {
        kill(&place.join(child));
    }
    for pid in pids(place) {
        let Some(process) = Pid::from_raw(pid) else { continue };
        // The descriptor first, then a second look: what it names is in this cgroup.
        if let Ok(process) = pidfd_open(process, PidfdFlags::empty())
            && pids(place).contains(&pid)
        {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

fn pids(place: &Path) -> Vec<i32> {
    let text = fs::read_to_string(place.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Removes a cgroup and those below it; they have no files of their own.
fn remove(place: &Path) -> Result<()> {
    for child in children(place) {
        remove(&place.join(child))?;
    }
    match fs::remove_dir(place) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(failed(format_args!("rmdir({place:?})"), source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:28 / /somewhere/else rw - cgroup cgroup rw,memory
";

    #[test]
    fn the_kinds_of_host() {
        let hybrid = Cgroups::parse(HYBRID);
        assert_eq!(hybrid.version(), "hybrid");
        assert_eq!(hybrid.v1.len(), 2);
        assert_eq!(hybrid.v1[1].1, ["cpu", "cpuacct"]);
        assert_eq!(Cgroups::parse("31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw").version(), "v2");
    }
}
