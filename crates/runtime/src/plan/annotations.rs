//! What crun's and podman's users ask for by annotation, read from a configuration: what the specification has a property for becomes
//! that one.

use std::{collections::BTreeMap, path::Path};

use tinyd_core::{Error, Kind, Result, oci};

use crate::seccomp;

/// All annotations of a configuration.
pub type Annotations = BTreeMap<String, String>;

/// What the names of annotations begin with that change what a container is.
pub const PREFIXES: [&str; 2] = ["org.systemd.property.", "run.oci."];
/// The variable with a default for [`RECEIVER`], as crun has it.
pub const RECEIVER_VARIABLE: &str = "RUN_OCI_SECCOMP_RECEIVER";
const RECEIVER: &str = "run.oci.seccomp.receiver";
const TIME_OFFSETS: &str = "run.oci.timens_offset";
const UNKNOWN_CALLS: &str = "run.oci.seccomp_fail_unknown_syscall";
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
const CONTEXT: &str = "run.oci.mount_context_type";
const HOOKS_OUTPUT: [&str; 2] = ["run.oci.hooks.stdout", "run.oci.hooks.stderr"];
/// A unix socket that is sent a pidfd of the first process.
pub const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";

/// Names who gets the descriptor of a filter where the configuration names nobody: an annotation more, by which whoever reads the configuration
/// later, without the variable, knows it too. Whether there is one more.
pub fn name_receiver(spec: &mut oci::Spec, receiver: Option<String>) -> bool {
    let Some(path) = receiver.filter(|path| !path.is_empty()) else { return false };
    let profile = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let is_named = spec.annotations.contains_key(RECEIVER)
        || profile.is_none_or(|profile| profile.listener_path.as_ref().is_some_and(|path| !path.is_empty()));
    !is_named && spec.annotations.insert(RECEIVER.to_owned(), path).is_none()
}

/// What asks for an isolation that there is not here. Who passes it over runs the container with another one than was asked for.
const ISOLATION: [(&str, &str); 3] = [
    ("run.oci.handler", "what runs is a process of this kernel, and never a virtual machine"),
    (
        "run.oci.seccomp.plugins",
        "no code is loaded into the runtime: an agent at linux.seccomp.listenerPath does the same",
    ),
    ("run.oci.seccomp_bpf_data", "a filter is made from linux.seccomp, and never taken as it is"),
];

/// Refuses what asks for another isolation, where a container is made.
///
/// # Errors
/// `Unsupported` with the annotation.
pub fn require_own_isolation(spec: &oci::Spec) -> Result<()> {
    for (name, why) in ISOLATION {
        if let Some(value) = spec.annotations.get(name).filter(|value| !value.is_empty()) {
            let message = format!("{value:?} is not to be had: {why}");
            return Err(Error::new(Kind::Unsupported, message).of_field(name));
        }
    }
    Ok(())
}

/// Puts what annotations ask for where the specification has it.
///
/// # Errors
/// `InvalidArgument` with the annotation.
pub fn apply(spec: &mut oci::Spec) -> Result<()> {
    let Some(linux) = &mut spec.linux else { return Ok(()) };
    if let Some(profile) = &mut linux.seccomp {
        let given = spec.annotations.get(RECEIVER).cloned().filter(|path| !path.is_empty());
        if let Some(path) = given.as_ref().filter(|path| !path.starts_with('/')) {
            return Err(Error::invalid(RECEIVER, format!("{path:?} is not an absolute path")));
        }
        let named = profile.listener_path.take().filter(|path| !path.is_empty());
        profile.listener_path = named.or(given);
        if is_on(&spec.annotations, UNKNOWN_CALLS)
            && let Some(name) = seccomp::unknown(profile)
        {
            return Err(Error::invalid("linux.seccomp.syscalls", format!("{name:?} is no system call")));
        }
    }
    let Some(text) = spec.annotations.get(TIME_OFFSETS) else { return Ok(()) };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (clock, offset) = time_offset(line).ok_or_else(|| {
            Error::invalid(TIME_OFFSETS, format!("{line:?} is not a clock, seconds and nanoseconds"))
        })?;
        linux.time_offsets.entry(clock).or_insert(offset);
    }
    Ok(())
}

/// `monotonic 7 0`; clocks by number are those of clock_gettime(2).
fn time_offset(line: &str) -> Option<(String, oci::TimeOffset)> {
    let mut words = line.split_whitespace();
    let clock = match words.next()? {
        "1" => "monotonic",
        "7" => "boottime",
        name => name,
    };
    let offset = oci::TimeOffset { secs: words.next()?.parse().ok()?, nanosecs: words.next()?.parse().ok()? };
    words.next().is_none().then(|| (clock.to_owned(), offset))
}

/// Whether processes keep the caller's supplementary groups.
#[must_use]
pub fn keep_groups(annotations: &Annotations) -> bool {
    is_on(annotations, KEEP_GROUPS)
}

/// Which option a mount's label is: `context`, or another one of SELinux's.
///
/// # Errors
/// `InvalidArgument` for another word.
pub fn context(annotations: &Annotations) -> Result<&str> {
    match annotations.get(CONTEXT).map(String::as_str) {
        None => Ok("context"),
        Some(word @ ("context" | "fscontext" | "defcontext" | "rootcontext")) => Ok(word),
        Some(other) => Err(Error::invalid(
            CONTEXT,
            format!("{other:?} is none of context, fscontext, defcontext, rootcontext"),
        )),
    }
}

/// Files that hooks on the host write their output and their errors to.
#[must_use]
pub fn hooks_output(annotations: &Annotations) -> [Option<&Path>; 2] {
    HOOKS_OUTPUT.map(|name| annotations.get(name).map(Path::new))
}

fn is_on(annotations: &Annotations, name: &str) -> bool {
    annotations.get(name).is_some_and(|value| value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(linux: &str, annotations: &[(&str, &str)], receiver: Option<&str>) -> Result<oci::Linux> {
        let linux = serde_json::from_str(linux).unwrap();
        let annotations = annotations.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let mut spec = oci::Spec { linux: Some(linux), annotations, ..oci::Spec::default() };
        name_receiver(&mut spec, receiver.map(str::to_owned));
        apply(&mut spec).map(|()| spec.linux.unwrap())
    }

    #[test]
    fn whoever_is_named_last_gets_no_filter() {
        let listener = |json: &str, annotations: &[(&str, &str)], receiver: Option<&str>| {
            applied(json, annotations, receiver).unwrap().seccomp.unwrap().listener_path
        };
        let (named, plain) = (
            r#"{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/n"}}"#,
            r#"{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}"#,
        );
        let annotation = [(RECEIVER, "/a")];
        assert_eq!(listener(named, &annotation, Some("/e")).as_deref(), Some("/n"));
        assert_eq!(listener(plain, &annotation, Some("/e")).as_deref(), Some("/a"));
        assert_eq!(listener(plain, &[], Some("/e")).as_deref(), Some("/e"));
        assert_eq!(listener(plain, &[], None), None);
        assert!(applied(plain, &[(RECEIVER, "a")], None).is_err());
    }

    #[test]
    fn another_isolation_than_there_is_is_refused() {
        for (name, _) in ISOLATION {
            let asked = |value: &str| {
                let annotations = [(name.to_owned(), value.to_owned())].into();
                require_own_isolation(&oci::Spec { annotations, ..oci::Spec::default() })
            };
            let error = asked("x").unwrap_err();
            assert_eq!((error.kind(), error.field()), (Kind::Unsupported, Some(name)));
            assert!(asked("").is_ok());
        }
    }

    #[test]
    fn calls_that_no_architecture_has_are_told_when_asked_for() {
        let profile = |name: &str| {
            format!(
                r#"{{"seccomp":{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["read","{name}"],"action":"SCMP_ACT_ERRNO"}}]}}}}"#
            )
        };
        assert!(applied(&profile("reed"), &[], None).is_ok());
        assert!(applied(&profile("reed"), &[(UNKNOWN_CALLS, "0")], None).is_ok());
        let error = applied(&profile("reed"), &[(UNKNOWN_CALLS, "1")], None).unwrap_err();
        assert_eq!(error.to_string(), r#"linux.seccomp.syscalls: "reed" is no system call"#);
        // One that only ARM has is one.
        assert!(applied(&profile("breakpoint"), &[(UNKNOWN_CALLS, "1")], None).is_ok());
    }

    #[test]
    fn clocks_are_set_by_name_and_number() {
        let offsets =
            applied("{}", &[(TIME_OFFSETS, "7 100 5\nmonotonic 200 0\n")], None).unwrap().time_offsets;
        assert_eq!(offsets["boottime"], oci::TimeOffset { secs: 100, nanosecs: 5 });
        assert_eq!(offsets["monotonic"].secs, 200);
        for bad in ["7 1", "7 x 1", "7 1 1 1"] {
            assert!(applied("{}", &[(TIME_OFFSETS, bad)], None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_labels_option_is_one_of_four() {
        let one = |word: &str| [(CONTEXT.to_owned(), word.to_owned())].into();
        assert_eq!(context(&Annotations::new()).unwrap(), "context");
        assert_eq!(context(&one("rootcontext")).unwrap(), "rootcontext");
        assert!(context(&one("seclabel")).is_err());
    }
}
