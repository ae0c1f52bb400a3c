//! What a process of the container is: argv, environment, identity, capabilities, limits. The same for the first and for every
//! `exec`.

use std::{
    collections::BTreeSet,
    ffi::CString,
    path::{Path, PathBuf},
};

use tinyd_core::{Error, Result, oci};
use tinyd_sys::{creds::CapSet, resources::SchedAttr};

use super::{
    annotations::{self, Annotations},
    numa,
};

/// A process as the child is told to become it.
#[derive(Clone, Debug)]
pub struct ProcessPlan {
    /// argv; at least one.
    pub args: Vec<CString>,
    /// The environment.
    pub env: Vec<CString>,
    /// The directories of PATH in the environment.
    pub search: Vec<PathBuf>,
    /// The working directory, absolute in the container.
    pub cwd: PathBuf,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups; none keeps the caller's.
    pub groups: Option<Vec<u32>>,
    /// umask(2).
    pub umask: u32,
    /// The five sets.
    pub capabilities: Capabilities,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Limits, by resource number.
    pub rlimits: Vec<Rlimit>,
    /// /proc/self/oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// The terminal's first size.
    pub console_size: Option<oci::ConsoleSize>,
    /// sched_setattr(2).
    pub scheduler: Option<SchedAttr>,
    /// ioprio_set(2): class and level.
    pub io_priority: Option<(u32, u32)>,
    /// The AppArmor profile that the program gets.
    pub apparmor: Option<String>,
    /// The SELinux label that the program gets.
    pub selinux: Option<String>,
    /// The CPUs of a process that is added: while it enters the cgroup, and afterwards.
    pub affinity: [Option<Vec<usize>>; 2],
    /// personality(2).
    pub personality: Option<u64>,
    /// set_mempolicy(2): the mode with its flags, and a bit for each node.
    pub memory_policy: Option<(u32, Vec<u64>)>,
}

/// The five capability sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What can ever be had.
    pub bounding: CapSet,
    /// In force.
    pub effective: CapSet,
    /// What executed files may keep.
    pub inheritable: CapSet,
    /// What may be put in force.
    pub permitted: CapSet,
    /// What a program without set-id or file capabilities keeps.
    pub ambient: CapSet,
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_…` as the kernel numbers it.
    pub resource: u32,
    /// Its name.
    pub name: &'static str,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The kernel's names of limits; the index is the number (x86-64, AArch64).
const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// Reads a process, and what is said of all of a container's processes in `linux`. Names that this runtime does not know and the specification wants warned about go to `warnings`.
///
/// # Errors
/// `InvalidArgument` with the field and the rule.
pub fn plan(process: &oci::Process, linux: &oci::Linux, warnings: &mut Vec<String>) -> Result<ProcessPlan> {
    if process.args.is_empty() {
        return Err(Error::invalid("process.args", "a command is needed"));
    }
    let mut env = strings("process.env", &process.env)?;
    check_names(&process.env)?;
    keep_last(&mut env);
    Ok(ProcessPlan {
        args: strings("process.args", &process.args)?,
        env,
        search: search(&process.env),
        cwd: cwd(&process.cwd)?,
        uid: id("process.user.uid", process.user.uid)?,
        gid: id("process.user.gid", process.user.gid)?,
        groups: Some(groups(&process.user.additional_gids)?),
        umask: process.user.umask.unwrap_or(0o022) & 0o777,
        capabilities: capabilities(process.capabilities.as_ref(), warnings),
        no_new_privileges: process.no_new_privileges,
        rlimits: rlimits(&process.rlimits)?,
        oom_score_adj: oom_score_adj(process.oom_score_adj)?,
        console_size: process.console_size.filter(|size| size.height > 0 && size.width > 0),
        scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        apparmor: label("process.apparmorProfile", process.apparmor_profile.as_ref())?,
        selinux: label("process.selinuxLabel", process.selinux_label.as_ref())?,
        affinity: affinity(process.exec_cpu_affinity.as_ref())?,
        personality: linux.personality.as_ref().map(numa::personality).transpose()?,
        memory_policy: linux.memory_policy.as_ref().map(numa::memory_policy).transpose()?,
    })
}

impl ProcessPlan {
    /// Keeps the caller's supplementary groups where annotations ask for that.
    pub(crate) fn keep_groups(&mut self, annotations: &Annotations) {
        if annotations::keep_groups(annotations) {
            self.groups = None;
        }
    }
}

fn label(field: &str, label: Option<&String>) -> Result<Option<String>> {
    match label.filter(|label| !label.is_empty()) {
        Some(label) if label.chars().any(char::is_control) => {
            Err(Error::invalid(field, format!("{label:?} has a control character")))
        }
        other => Ok(other.cloned()),
    }
}

fn affinity(given: Option<&oci::ExecCpuAffinity>) -> Result<[Option<Vec<usize>>; 2]> {
    let Some(given) = given else { return Ok([None, None]) };
    let list = |name: &str, list: Option<&String>| {
        let field = format!("process.execCPUAffinity.{name}");
        list.filter(|list| !list.is_empty()).map(|list| numa::numbers(&field, list)).transpose()
    };
    Ok([list("initial", given.initial.as_ref())?, list("final", given.last.as_ref())?])
}

pub(super) fn strings(field: &str, texts: &[String]) -> Result<Vec<CString>> {
    texts
        .iter()
        .enumerate()
        .map(|(at, text)| {
            CString::new(text.as_str()).map_err(|nul| {
                Error::invalid(format!("{field}[{at}]"), format!("a NUL at byte {}", nul.nul_position()))
            })
        })
        .collect()
}

/// Every entry is a name and a value; what is wrong is told by its place, for values are secret.
fn check_names(env: &[String]) -> Result<()> {
    for (at, entry) in env.iter().enumerate() {
        let rule = match entry.find('=') {
            None => "missing '='",
            Some(0) => "the name before '=' is empty",
            Some(_) => continue,
        };
        return Err(Error::invalid(format!("process.env[{at}]"), rule));
    }
    Ok(())
}

/// Of several entries of one name only the last is left: getenv(3) would find the first, and who adds an entry means another value.
fn keep_last(env: &mut Vec<CString>) {
    let mut seen = BTreeSet::new();
    let mut is_last: Vec<bool> = env.iter().rev().map(|entry| seen.insert(name(entry))).collect();
    // From the last to the first, as `pop` gives them back.
    env.retain(|_| is_last.pop().unwrap_or(true));
}

/// What is before the `=` of an entry.
fn name(entry: &CString) -> &[u8] {
    let bytes = entry.as_bytes();
    &bytes[..bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len())]
}

/// The directories of PATH; the last PATH wins, as in the C library's environment. An empty entry is the working directory. Without
/// PATH there are none: which directories are meant is the configuration's to say.
fn search(env: &[String]) -> Vec<PathBuf> {
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    let dirs = path.filter(|path| !path.is_empty()).into_iter().flat_map(|path| path.split(':'));
    dirs.map(|dir| PathBuf::from(if dir.is_empty() { "." } else { dir })).collect()
}

fn cwd(text: &str) -> Result<PathBuf> {
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    let rule =
        if text.is_empty() { "it is empty".to_owned() } else { format!("{text:?} is not an absolute path") };
    Err(Error::invalid("process.cwd", rule))
}

fn id(field: &str, id: u32) -> Result<u32> {
    if i32::try_from(id).is_ok() {
        return Ok(id);
    }
    Err(Error::invalid(field, format!("{id} is out of range: 0 to 2147483647")))
}

fn groups(gids: &[u32]) -> Result<Vec<u32>> {
    gids.iter().map(|gid| id("process.user.additionalGids", *gid)).collect()
}

fn oom_score_adj(value: Option<i32>) -> Result<Option<i32>> {
    match value {
        Some(value) if !(-1000..=1000).contains(&value) => {
            Err(Error::invalid("process.oomScoreAdj", format!("{value} is out of range: -1000 to 1000")))
        }
        other => Ok(other),
    }
}

fn capabilities(given: Option<&oci::Capabilities>, warnings: &mut Vec<String>) -> Capabilities {
    let Some(given) = given else { return Capabilities::default() };
    let mut unknown: Vec<String> = Vec::new();
    let mut set = |names: &[String]| {
        let mut set = CapSet::default();
        for name in names {
            match CapSet::number(name) {
                Some(number) => set = set.with(number),
                None => unknown.push(name.clone()),
            }
        }
        set
    };
    let sets = Capabilities {
        bounding: set(&given.bounding),
        effective: set(&given.effective),
        inheritable: set(&given.inheritable),
        permitted: set(&given.permitted),
        ambient: set(&given.ambient),
    };
    unknown.sort_unstable();
    unknown.dedup();
    warnings.extend(unknown.into_iter().map(|name| format!("process.capabilities: {name:?} is not known")));
    sets
}

fn rlimits(given: &[oci::Rlimit]) -> Result<Vec<Rlimit>> {
    let mut limits: Vec<Rlimit> = Vec::with_capacity(given.len());
    for (at, limit) in given.iter().enumerate() {
        let field = || format!("process.rlimits[{at}]");
        let number = RLIMITS.iter().position(|name| *name == limit.kind);
        let Some(number) = number else {
            return Err(Error::invalid(field(), format!("{:?} is not a resource limit", limit.kind)));
        };
        if limit.soft > limit.hard {
            let rule = format!(
                "{}: the soft limit {} is above the hard limit {}",
                limit.kind, limit.soft, limit.hard
            );
            return Err(Error::invalid(field(), rule));
        }
        let name = RLIMITS[number];
        if limits.iter().any(|seen| seen.name == name) {
            return Err(Error::invalid(field(), format!("{name} is given twice")));
        }
        let resource = u32::try_from(number).unwrap_or(u32::MAX);
        limits.push(Rlimit { resource, name, soft: limit.soft, hard: limit.hard });
    }
    Ok(limits)
}

fn scheduler(given: &oci::Scheduler) -> Result<SchedAttr> {
    const POLICIES: [(&str, u32); 7] = [
        ("SCHED_OTHER", 0),
        ("SCHED_FIFO", 1),
        ("SCHED_RR", 2),
        ("SCHED_BATCH", 3),
        ("SCHED_ISO", 4),
        ("SCHED_IDLE", 5),
        ("SCHED_DEADLINE", 6),
    ];
    const FLAGS: [(&str, u64); 7] = [
        ("SCHED_FLAG_RESET_ON_FORK", 0x01),
        ("SCHED_FLAG_RECLAIM", 0x02),
        ("SCHED_FLAG_DL_OVERRUN", 0x04),
        ("SCHED_FLAG_KEEP_POLICY", 0x08),
        ("SCHED_FLAG_KEEP_PARAMS", 0x10),
        ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
        ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
    ];
    let policy = number_of("process.scheduler.policy", &POLICIES, &given.policy)?;
    let mut flags = 0;
    for flag in &given.flags {
        flags |= number_of("process.scheduler.flags", &FLAGS, flag)?;
    }
    let priority = u32::try_from(given.priority).map_err(|_| {
        Error::invalid("process.scheduler.priority", format!("{} is below 0", given.priority))
    })?;
    Ok(SchedAttr {
        size: 0,
        policy,
        flags,
        nice: given.nice,
        priority,
        runtime: given.runtime,
        deadline: given.deadline,
        period: given.period,
    })
}

fn io_priority(given: &oci::IoPriority) -> Result<(u32, u32)> {
    const CLASSES: [(&str, u32); 3] =
        [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
    let class = number_of("process.ioPriority.class", &CLASSES, &given.class)?;
    let level = u32::try_from(given.priority).ok().filter(|level| *level <= 7);
    let level = level.ok_or_else(|| {
        Error::invalid("process.ioPriority.priority", format!("{} is out of range: 0 to 7", given.priority))
    })?;
    Ok((class, level))
}

pub(super) fn number_of<T: Copy>(field: &str, table: &[(&str, T)], word: &str) -> Result<T> {
    let found = table.iter().find(|(known, _)| *known == word);
    found.map(|(_, number)| *number).ok_or_else(|| Error::invalid(field, format!("{word:?} is not known")))
}

/// Whether a program named like this is looked up in PATH.
#[must_use]
pub fn needs_search(command: &Path) -> bool {
    !command.as_os_str().as_encoded_bytes().contains(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> oci::Process {
        oci::Process { args: vec!["sh".into()], cwd: "/".into(), ..oci::Process::default() }
    }

    fn refused(change: impl FnOnce(&mut oci::Process)) -> String {
        let mut process = process();
        change(&mut process);
        plan(&process, &oci::Linux::default(), &mut Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn of_several_entries_of_one_name_the_last_is_left() {
        let env = ["A=1", "B=2", "A=3", "PATH=/a", "AB=4", "PATH=/b"].map(str::to_owned).to_vec();
        let planned =
            plan(&oci::Process { env, ..process() }, &oci::Linux::default(), &mut Vec::new()).unwrap();
        let env: Vec<&str> = planned.env.iter().map(|entry| entry.to_str().unwrap()).collect();
        assert_eq!(env, ["B=2", "A=3", "AB=4", "PATH=/b"]);
        assert_eq!(planned.search, [Path::new("/b")]);
    }

    #[test]
    fn refusals_name_field_and_rule() {
        assert_eq!(refused(|p| p.args.clear()), "process.args: a command is needed");
        assert_eq!(refused(|p| p.args.push("a\0b".into())), "process.args[1]: a NUL at byte 1");
        assert_eq!(refused(|p| p.cwd = "rel".into()), r#"process.cwd: "rel" is not an absolute path"#);
        assert_eq!(refused(|p| p.env = vec!["A=".into(), "secret".into()]), "process.env[1]: missing '='");
        assert_eq!(
            refused(|p| p.env = vec!["=secret".into()]),
            "process.env[0]: the name before '=' is empty"
        );
        assert!(refused(|p| p.user.uid = 4_294_967_295).contains("0 to 2147483647"));
        assert!(
            refused(|p| p.user.additional_gids = vec![5, 2_147_483_648])
                .contains("process.user.additionalGids")
        );
        assert!(refused(|p| p.oom_score_adj = Some(1001)).contains("-1000 to 1000"));
        assert!(refused(|p| p.apparmor_profile = Some("x\ny".into())).contains("process.apparmorProfile"));
        let limit = |soft, hard| oci::Rlimit { kind: "RLIMIT_NOFILE".into(), soft, hard };
        assert!(refused(|p| p.rlimits = vec![limit(2, 1)]).contains("above the hard limit"));
        assert!(refused(|p| p.rlimits = vec![limit(1, 1), limit(1, 1)]).contains("given twice"));
    }

    #[test]
    fn path_is_taken_from_the_environment() {
        assert_eq!(search(&["PATH=/a".into(), "PATH=/b::/c".into()]), ["/b", ".", "/c"].map(PathBuf::from));
        assert!(search(&[]).is_empty() && search(&["PATH=".into()]).is_empty());
    }

    #[test]
    fn unknown_capabilities_are_warned_about_once() {
        let given = oci::Capabilities {
            bounding: vec!["CAP_KILL".into(), "CAP_NEW".into()],
            effective: vec!["CAP_NEW".into()],
            ..oci::Capabilities::default()
        };
        let mut warnings = Vec::new();
        let sets = capabilities(Some(&given), &mut warnings);
        assert_eq!(sets.bounding, CapSet::default().with(5));
        assert_eq!(warnings, [r#"process.capabilities: "CAP_NEW" is not known"#]);
    }

    #[test]
    fn limits_have_the_kernels_numbers() {
        let number = |name: &str| RLIMITS.iter().position(|known| *known == name).unwrap();
        assert_eq!(number("RLIMIT_NOFILE"), libc::RLIMIT_NOFILE as usize);
        assert_eq!(number("RLIMIT_MEMLOCK"), libc::RLIMIT_MEMLOCK as usize);
        assert_eq!(number("RLIMIT_RTTIME"), libc::RLIMIT_RTTIME as usize);
    }
}
