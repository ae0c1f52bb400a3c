//! Intel's resource director (resctrl): the group whose share of cache and memory bandwidth the container has, and the group in which
//! its use is counted. Groups are directories that the kernel fills.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tinyd_core::{Error, Kind, Result, oci};

use super::kernel;

const FIELD: &str = "linux.intelRdt";

/// A container's groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its directory.
    dir: PathBuf,
    /// Whether it is the container's own, made and removed with it.
    own: bool,
    /// Whether it has to be there.
    must_exist: bool,
    /// Lines of its `schemata`.
    schemata: Vec<String>,
    /// Where its use is counted.
    monitor: Option<PathBuf>,
}

/// The group that a configuration asks for.
///
/// # Errors
/// `InvalidArgument` with the field and the rule, `Unsupported` where resctrl is not mounted.
pub(crate) fn group(linux: Option<&oci::Linux>, id: &str) -> Result<Option<Group>> {
    let Some(given) = linux.and_then(|linux| linux.intel_rdt.as_ref()) else { return Ok(None) };
    group_in(&root()?, given, id).map(Some)
}

/// Where resctrl is mounted.
///
/// # Errors
/// `Unsupported` where it is not: the machine has nothing of the kind, or nobody has asked for it.
pub(crate) fn root() -> Result<PathBuf> {
    let mounted = fs::read_to_string("/proc/self/mountinfo").ok().and_then(|text| mount_of(&text));
    mounted.ok_or_else(|| {
        let message = "this host has no resctrl file system mounted";
        Error::new(Kind::Unsupported, message).of_field(FIELD)
    })
}

/// Gives a container that runs other shares, and puts them into its configuration. A group that is not there is made, and `pids`, its
/// processes, enter it.
///
/// # Errors
/// As [`Group::enter`]; the configuration is not changed then.
pub(crate) fn change(
    root: &Path,
    linux: &mut oci::Linux,
    id: &str,
    change: &oci::IntelRdt,
    pids: &[i32],
) -> Result<()> {
    let mut held = linux.intel_rdt.clone().unwrap_or_default();
    // Of what is held only the name: a line that is not changed is not written again.
    let group = group_in(root, &oci::IntelRdt { clos_id: held.clos_id.clone(), ..change.clone() }, id)?;
    if group.dir.is_dir() {
        group.limit()?;
    } else {
        group.enter_with_threads(pids)?;
    }
    held.l3_cache_schema = change.l3_cache_schema.clone().or(held.l3_cache_schema);
    held.mem_bw_schema = change.mem_bw_schema.clone().or(held.mem_bw_schema);
    linux.intel_rdt = Some(held);
    Ok(())
}

/// The mount point of a resctrl (proc_pid_mountinfo(5)).
fn mount_of(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        after.starts_with("resctrl ").then(|| PathBuf::from(point))
    })
}

pub(crate) fn group_in(root: &Path, given: &oci::IntelRdt, id: &str) -> Result<Group> {
    let named = given.clos_id.as_deref().filter(|name| !name.is_empty());
    let name = named.unwrap_or(id);
    if name.contains(['/', '\0', '\n']) || matches!(name, "." | ".." | "info" | "mon_groups" | "mon_data") {
        return Err(Error::invalid(
            format!("{FIELD}.closID"),
            format!("{name:?} is not the name of a group"),
        ));
    }
    let bandwidth = given.mem_bw_schema.as_deref();
    let cache = given.l3_cache_schema.as_deref().unwrap_or_default().lines();
    let schemata: Vec<String> = cache
        // The field for bandwidth wins over a line about it here.
        .filter(|line| bandwidth.is_none() || !line.trim_start().starts_with("MB:"))
        .chain(bandwidth.unwrap_or_default().lines())
        .chain(given.schemata.iter().map(String::as_str))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let counted = given.enable_monitoring || given.enable_cmt || given.enable_mbm;
    let dir = root.join(name);
    Ok(Group {
        own: named.is_none(),
        must_exist: named.is_some() && schemata.is_empty(),
        monitor: counted.then(|| dir.join("mon_groups").join(id)),
        schemata,
        dir,
    })
}

impl Group {
    /// Makes what is missing and puts a process in.
    ///
    /// # Errors
    /// `InvalidArgument` for a group that has to be there and is not, the kernel's refusal of a schema; what was made is gone then.
    pub(crate) fn enter(&self, pid: i32) -> Result<()> {
        if self.must_exist && !self.dir.is_dir() {
            let message = format!("{} does not exist, and no schema says how to make it", self.dir.display());
            return Err(Error::invalid(format!("{FIELD}.closID"), message));
        }
        self.make_and_enter(pid).inspect_err(|_| {
            // The error that is told is the one that led here.
            let _ = self.remove();
        })
    }

    /// The same for processes that run: the kernel moves single threads, and a child is where its parent was.
    fn enter_with_threads(&self, pids: &[i32]) -> Result<()> {
        let enter = || {
            make(&self.dir)?;
            self.limit()?;
            pids.iter().flat_map(|pid| threads(*pid)).try_for_each(|thread| {
                match put(&self.dir.join("tasks"), &thread) {
                    // It has ended meanwhile.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                    written => written.map_err(|error| refused(&self.dir.join("tasks"), &thread, &error)),
                }
            })
        };
        enter().inspect_err(|_| {
            // The error that is told is the one that led here.
            let _ = self.remove();
        })
    }

    /// Writes the shares.
    fn limit(&self) -> Result<()> {
        self.schemata.iter().try_for_each(|line| write(&self.dir.join("schemata"), &format!("{line}\n")))
    }

    fn make_and_enter(&self, pid: i32) -> Result<()> {
        make(&self.dir)?;
        self.limit()?;
        write(&self.dir.join("tasks"), &pid.to_string())?;
        let Some(monitor) = &self.monitor else { return Ok(()) };
        make(monitor)?;
        write(&monitor.join("tasks"), &pid.to_string())
    }

    /// Removes what is the container's own. One that is gone is no error.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove(&self) -> Result<()> {
        let own = self.own.then_some(&self.dir);
        self.monitor.iter().chain(own).try_for_each(|dir| match fs::remove_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(kernel(&format!("{FIELD}: remove {}", dir.display()), &error))
            }
            Ok(()) | Err(_) => Ok(()),
        })
    }
}

fn make(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(kernel(&format!("{FIELD}: make {}", dir.display()), &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The threads of a process; none when it has ended.
fn threads(pid: i32) -> Vec<String> {
    let listed = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    listed.filter_map(|thread| thread.file_name().into_string().ok()).collect()
}

fn write(file: &Path, text: &str) -> Result<()> {
    put(file, text).map_err(|error| refused(file, text, &error))
}

fn put(file: &Path, text: &str) -> io::Result<()> {
    // Not made where it is missing: these files are the kernel's.
    let mut opened = fs::OpenOptions::new().write(true).open(file)?;
    io::Write::write_all(&mut opened, text.as_bytes())
}

fn refused(file: &Path, text: &str, error: &io::Error) -> Error {
    kernel(&format!("{FIELD}: write({}, {text:?})", file.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like a resctrl with groups already made, since nobody fills new ones.
    fn fake(name: &str, groups: &[&str]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("tinyrun-rdt-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for group in groups {
            fs::create_dir_all(root.join(group).join("mon_groups")).unwrap();
            for file in ["tasks", "schemata"] {
                fs::write(root.join(group).join(file), "").unwrap();
            }
        }
        root
    }

    #[test]
    fn the_mount_point_is_found_by_the_file_systems_type() {
        let lines = "25 1 0:22 / /proc rw - proc proc rw\n40 25 0:35 / /mnt/resctrl rw shared:9 - resctrl resctrl rw\n";
        assert_eq!(mount_of(lines), Some(PathBuf::from("/mnt/resctrl")));
        assert_eq!(mount_of("25 1 0:22 / /resctrl rw - proc proc rw\n"), None);
    }

    #[test]
    fn a_process_is_put_into_the_group_that_is_named() {
        let root = fake("named", &["gold", "gold/mon_groups/web"]);
        let given = oci::IntelRdt {
            clos_id: Some("gold".into()),
            l3_cache_schema: Some("MB:0=10\nL3:0=ff;1=c0".into()),
            mem_bw_schema: Some("MB:0=70".into()),
            enable_monitoring: true,
            ..oci::IntelRdt::default()
        };
        let group = group_in(&root, &given, "web").unwrap();
        group.enter(42).unwrap();
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        assert_eq!((read("gold/tasks"), read("gold/mon_groups/web/tasks")), ("42".into(), "42".into()));
        // One write for each line: the file shows the last one here, the kernel takes each.
        assert_eq!(read("gold/schemata"), "MB:0=70\n1=c0\n");
        assert_eq!(group.schemata, ["L3:0=ff;1=c0", "MB:0=70"]);
        assert!(!group.own, "a group with a name stays");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn shares_change_while_the_container_runs() {
        let root = fake("change", &["web"]);
        let asked = |l3: Option<&str>, bandwidth: Option<&str>| oci::IntelRdt {
            l3_cache_schema: l3.map(str::to_owned),
            mem_bw_schema: bandwidth.map(str::to_owned),
            ..oci::IntelRdt::default()
        };
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        let mut linux = oci::Linux { intel_rdt: Some(asked(Some("L3:0=f"), None)), ..oci::Linux::default() };
        // What is named is written, and nobody moves.
        change(&root, &mut linux, "web", &asked(None, Some("MB:0=20")), &[1]).unwrap();
        assert_eq!((read("web/schemata"), read("web/tasks")), ("MB:0=20\n".into(), String::new()));
        assert_eq!(linux.intel_rdt, Some(asked(Some("L3:0=f"), Some("MB:0=20"))));
        // A group that is not there is made. Nobody fills it here: that is refused, nothing of it is left, and nothing is kept.
        let error = change(&root, &mut linux, "other", &asked(Some("L3:0=1"), None), &[1]).unwrap_err();
        assert!(error.to_string().contains("other/schemata"), "{error}");
        assert!(!root.join("other").exists());
        assert_eq!(linux.intel_rdt, Some(asked(Some("L3:0=f"), Some("MB:0=20"))));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn every_thread_of_a_process_that_runs_is_moved() {
        let root = fake("threads", &["web"]);
        let group = group_in(&root, &oci::IntelRdt::default(), "web").unwrap();
        let own = std::process::id().cast_signed();
        // One write for each thread: the file shows the last one here.
        group.enter_with_threads(&[own]).unwrap();
        let tasks = fs::read_to_string(root.join("web/tasks")).unwrap();
        assert!(!tasks.is_empty() && tasks.bytes().all(|byte| byte.is_ascii_digit()), "{tasks}");
        assert!(threads(own).len() > 1, "this test is a second thread");
        assert!(threads(i32::MAX).is_empty());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_group_of_its_own_goes_with_the_container() {
        let root = fake("own", &[]);
        fs::create_dir_all(&root).unwrap();
        let group = group_in(&root, &oci::IntelRdt::default(), "web").unwrap();
        // Nobody fills it here: entering is refused, and what was made is gone.
        assert!(group.enter(42).unwrap_err().to_string().contains("web/tasks"));
        assert!(!root.join("web").exists());
        group.remove().unwrap();
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_group_that_is_named_without_a_schema_has_to_be_there() {
        let root = fake("missing", &["other"]);
        let given = oci::IntelRdt { clos_id: Some("gold".into()), ..oci::IntelRdt::default() };
        let error = group_in(&root, &given, "web").unwrap().enter(1).unwrap_err();
        assert_eq!(error.field(), Some("linux.intelRdt.closID"));
        for bad in ["a/b", "..", "info"] {
            let given = oci::IntelRdt { clos_id: Some(bad.into()), ..oci::IntelRdt::default() };
            assert!(group_in(&root, &given, "web").is_err(), "{bad}");
        }
        fs::remove_dir_all(root).unwrap();
    }
}
