//! Docker's seccomp profile format: what `--security-opt seccomp=FILE` reads. A profile depends on the capabilities, the machine
//! and the kernel; [`Profile::resolve`] makes of it what the OCI specification has. Also the words of both formats: [`Action`]
//! and [`Op`].

use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::{
    error::{Error, Result},
    oci,
};

/// The largest errno that the kernel returns from a filter.
pub const ERRNO_MAX: u32 = 4095;
/// Returned by `SCMP_ACT_ERRNO` when the profile names no errno: EPERM.
pub const ERRNO_DEFAULT: u32 = 1;

/// What a filter does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Kill the thread (`SCMP_ACT_KILL`, `SCMP_ACT_KILL_THREAD`).
    KillThread,
    /// Kill the process.
    KillProcess,
    /// SIGSYS.
    Trap,
    /// Fail with an errno.
    Errno,
    /// Tell the tracer.
    Trace,
    /// Allow and log.
    Log,
    /// Allow.
    Allow,
    /// Ask a supervisor in user space.
    Notify,
}

impl Action {
    /// Every action by its words.
    pub const WORDS: [(&str, Action); 9] = [
        ("SCMP_ACT_ALLOW", Action::Allow),
        ("SCMP_ACT_ERRNO", Action::Errno),
        ("SCMP_ACT_KILL", Action::KillThread),
        ("SCMP_ACT_KILL_PROCESS", Action::KillProcess),
        ("SCMP_ACT_KILL_THREAD", Action::KillThread),
        ("SCMP_ACT_LOG", Action::Log),
        ("SCMP_ACT_NOTIFY", Action::Notify),
        ("SCMP_ACT_TRACE", Action::Trace),
        ("SCMP_ACT_TRAP", Action::Trap),
    ];
}

impl FromStr for Action {
    type Err = Error;

    fn from_str(word: &str) -> Result<Action> {
        let found = Action::WORDS.iter().find(|(known, _)| *known == word).map(|(_, action)| *action);
        found.ok_or_else(|| bad("action", format!("{word:?} is not an action such as SCMP_ACT_ALLOW")))
    }
}

/// How an argument is compared with a value, as unsigned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `==`
    Equal,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
    /// `argument & value == value_two`
    MaskedEqual,
}

impl Op {
    /// Every comparison by its word.
    pub const WORDS: [(&str, Op); 7] = [
        ("SCMP_CMP_EQ", Op::Equal),
        ("SCMP_CMP_GE", Op::GreaterOrEqual),
        ("SCMP_CMP_GT", Op::Greater),
        ("SCMP_CMP_LE", Op::LessOrEqual),
        ("SCMP_CMP_LT", Op::Less),
        ("SCMP_CMP_MASKED_EQ", Op::MaskedEqual),
        ("SCMP_CMP_NE", Op::NotEqual),
    ];
}

impl FromStr for Op {
    type Err = Error;

    fn from_str(word: &str) -> Result<Op> {
        let found = Op::WORDS.iter().find(|(known, _)| *known == word).map(|(_, op)| *op);
        found.ok_or_else(|| bad("op", format!("{word:?} is not a comparison such as SCMP_CMP_EQ")))
    }
}

/// A profile as Docker writes it. Fields that Docker does not know are left alone, as Docker does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "null_is_default")]
    architectures: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    arch_map: Vec<ArchFamily>,
    #[serde(deserialize_with = "null_is_default")]
    flags: Vec<String>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    syscalls: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArchFamily {
    architecture: String,
    #[serde(deserialize_with = "null_is_default")]
    sub_architectures: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(deserialize_with = "null_is_default")]
    args: Vec<oci::SyscallArg>,
    #[serde(deserialize_with = "null_is_default")]
    includes: Condition,
    #[serde(deserialize_with = "null_is_default")]
    excludes: Condition,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(deserialize_with = "null_is_default")]
    caps: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Go programs write `null` for an empty list.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// `InvalidArgument`: not JSON, a field of another type, a word that is none. The message names the field by its path in the file.
    pub fn parse(text: &str) -> Result<Profile> {
        let profile: Profile =
            serde_json::from_str(text).map_err(|error| bad("profile", format!("not a profile: {error}")))?;
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<()> {
        self.default_action.parse::<Action>().map_err(|error| at("defaultAction", &error))?;
        check_errno("defaultErrnoRet", self.default_errno_ret)?;
        if !self.architectures.is_empty() && !self.arch_map.is_empty() {
            return Err(bad("architectures", "cannot stand beside archMap"));
        }
        let families = self
            .arch_map
            .iter()
            .flat_map(|family| family.sub_architectures.iter().chain([&family.architecture]));
        for arch in self.architectures.iter().chain(families) {
            check_arch(arch)?;
        }
        for (index, rule) in self.syscalls.iter().enumerate() {
            rule.check(&format!("syscalls[{index}]"))?;
        }
        Ok(())
    }

    /// The profile for a process with these capabilities in its bounding set (`CAP_…`), on a machine (`amd64`, `arm64`: Go's words, as
    /// in the format) with this kernel.
    ///
    /// # Errors
    /// `InvalidArgument` for a `minKernel` that is no version.
    pub fn resolve(&self, caps: &[String], arch: &str, kernel: (u32, u32)) -> Result<oci::Seccomp> {
        let mut syscalls = Vec::new();
        for (index, rule) in self.syscalls.iter().enumerate() {
            let field = format!("syscalls[{index}]");
            let included = rule.includes.included(&format!("{field}.includes"), caps, arch, kernel)?;
            let excluded = rule.excludes.excluded(&format!("{field}.excludes"), caps, arch, kernel)?;
            if included && !excluded {
                syscalls.push(rule.to_oci());
            }
        }
        Ok(oci::Seccomp {
            default_action: self.default_action.clone(),
            default_errno_ret: self.default_errno_ret,
            architectures: self.architectures_on(arch),
            flags: self.flags.clone(),
            listener_path: self.listener_path.clone(),
            listener_metadata: self.listener_metadata.clone(),
            syscalls,
        })
    }

    fn architectures_on(&self, arch: &str) -> Vec<String> {
        let native = scmp_arch(arch);
        match self.arch_map.iter().find(|family| Some(family.architecture.as_str()) == native) {
            Some(family) => {
                let mut all = vec![family.architecture.clone()];
                all.extend(family.sub_architectures.iter().cloned());
                all
            }
            None => self.architectures.clone(),
        }
    }
}

impl Rule {
    fn check(&self, field: &str) -> Result<()> {
        self.action.parse::<Action>().map_err(|error| at(&format!("{field}.action"), &error))?;
        check_errno(&format!("{field}.errnoRet"), self.errno_ret)?;
        match (self.name.is_empty(), self.names.is_empty()) {
            (false, false) => return Err(bad(&format!("{field}.name"), "cannot stand beside names")),
            (true, true) => return Err(bad(&format!("{field}.names"), "names no system call")),
            (_, _) => {}
        }
        if self.names.iter().chain([&self.name]).any(|name| name.contains(char::is_whitespace)) {
            return Err(bad(&format!("{field}.names"), "has a name with a space in it"));
        }
        for (index, arg) in self.args.iter().enumerate() {
            let field = format!("{field}.args[{index}]");
            arg.op.parse::<Op>().map_err(|error| at(&format!("{field}.op"), &error))?;
            if arg.index > 5 {
                return Err(bad(
                    &format!("{field}.index"),
                    format!("{} is not an argument: 0 to 5", arg.index),
                ));
            }
        }
        self.includes.check(&format!("{field}.includes"))?;
        self.excludes.check(&format!("{field}.excludes"))
    }

    fn to_oci(&self) -> oci::SyscallRule {
        let one = Some(&self.name).filter(|name| !name.is_empty());
        oci::SyscallRule {
            names: one.into_iter().chain(&self.names).collect(),
            action: self.action.clone(),
            errno_ret: self.errno_ret,
            args: self.args.clone(),
        }
    }
}

impl Condition {
    fn check(&self, field: &str) -> Result<()> {
        self.kernel(field).map(drop)
    }

    /// All that is named must hold.
    fn included(&self, field: &str, caps: &[String], arch: &str, kernel: (u32, u32)) -> Result<bool> {
        let arch = self.arches.is_empty() || self.arches.iter().any(|name| name == arch);
        let caps = self.caps.iter().all(|cap| caps.contains(cap));
        let kernel = self.kernel(field)?.is_none_or(|least| kernel >= least);
        Ok(arch && caps && kernel)
    }

    /// Any that holds is enough.
    fn excluded(&self, field: &str, caps: &[String], arch: &str, kernel: (u32, u32)) -> Result<bool> {
        let arch = self.arches.iter().any(|name| name == arch);
        let caps = self.caps.iter().any(|cap| caps.contains(cap));
        let kernel = self.kernel(field)?.is_some_and(|least| kernel >= least);
        Ok(arch || caps || kernel)
    }

    fn kernel(&self, field: &str) -> Result<Option<(u32, u32)>> {
        let Some(text) = &self.min_kernel else { return Ok(None) };
        let parsed =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        match parsed {
            Some(version) => Ok(Some(version)),
            None => Err(bad(&format!("{field}.minKernel"), format!("{text:?} is not a version such as 4.8"))),
        }
    }
}

/// libseccomp's word for a machine that Go calls `arch`.
fn scmp_arch(arch: &str) -> Option<&'static str> {
    Some(match arch {
        "amd64" => "SCMP_ARCH_X86_64",
        "386" => "SCMP_ARCH_X86",
        "arm64" => "SCMP_ARCH_AARCH64",
        "arm" => "SCMP_ARCH_ARM",
        "riscv64" => "SCMP_ARCH_RISCV64",
        "ppc64le" => "SCMP_ARCH_PPC64LE",
        "s390x" => "SCMP_ARCH_S390X",
        "loong64" => "SCMP_ARCH_LOONGARCH64",
        _ => return None,
    })
}

fn check_arch(arch: &str) -> Result<()> {
    let word = arch.strip_prefix("SCMP_ARCH_").unwrap_or_default();
    if word.is_empty()
        || !word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    {
        return Err(bad(
            "architectures",
            format!("{arch:?} is not an architecture such as SCMP_ARCH_X86_64"),
        ));
    }
    Ok(())
}

fn check_errno(field: &str, errno: Option<u32>) -> Result<()> {
    match errno {
        Some(errno) if errno > ERRNO_MAX => {
            Err(bad(field, format!("{errno} is not an errno: 0 to {ERRNO_MAX}")))
        }
        _ => Ok(()),
    }
}

fn bad(field: &str, message: impl Into<String>) -> Error {
    Error::invalid(field, message)
}

fn at(field: &str, error: &Error) -> Error {
    bad(field, error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                    {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {}, "excludes": null},
            {"name": "mount", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_MORE"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_X", "CAP_SYS_ADMIN"], "arches": ["s390x"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}}
        ]}"#;

    fn names(profile: &oci::Seccomp) -> Vec<&str> {
        profile.syscalls.iter().flat_map(|rule| rule.names.iter()).collect()
    }

    fn resolve(caps: &[&str], arch: &str, kernel: (u32, u32)) -> oci::Seccomp {
        let caps: Vec<String> = caps.iter().map(|cap| (*cap).to_owned()).collect();
        Profile::parse(PROFILE).unwrap().resolve(&caps, arch, kernel).unwrap()
    }

    #[test]
    fn conditions_choose_rules() {
        let none = resolve(&[], "amd64", (6, 1));
        assert_eq!(names(&none), ["read", "clone", "ptrace"]);
        assert_eq!(none.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        assert_eq!(none.default_errno_ret, Some(38));
        // All caps that are included must be there; one that is excluded is enough.
        assert_eq!(names(&resolve(&["CAP_SYS_ADMIN"], "amd64", (4, 7))), ["read"]);
        assert_eq!(
            names(&resolve(&["CAP_SYS_ADMIN", "CAP_MORE"], "amd64", (4, 8))),
            ["read", "mount", "ptrace"]
        );
        assert_eq!(names(&resolve(&[], "s390x", (4, 10))), ["read", "ptrace"]);
        assert_eq!(resolve(&[], "riscv64", (6, 1)).architectures, ["SCMP_ARCH_RISCV64"]);
    }

    #[test]
    fn a_bad_profile_names_the_field() {
        for (text, field) in [
            ("{", "profile"),
            (r#"{"syscalls": 5}"#, "profile"),
            ("{}", "defaultAction"),
            (r#"{"defaultAction":"ALLOW"}"#, "defaultAction"),
            (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#, "defaultErrnoRet"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["x86"]}"#, "architectures"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ALLOW"}]}"#,
                "syscalls[0].names",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"no"}]}"#,
                "syscalls[0].action",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"name":"b","action":"SCMP_ACT_LOG"}]}"#,
                "syscalls[0].name",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_LOG","args":[{"index":0,"op":"=="}]}]}"#,
                "syscalls[0].args[0].op",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_LOG","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}"#,
                "syscalls[0].args[0].index",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_LOG","includes":{"minKernel":"new"}}]}"#,
                "syscalls[0].includes.minKernel",
            ),
        ] {
            let error = Profile::parse(text).unwrap_err();
            assert_eq!(error.field(), Some(field), "{text}: {error}");
        }
    }
}
