//! The programs that run at points of a container's life, checked before anything is made.

use std::{
    ffi::CString,
    path::{Path, PathBuf},
    time::Duration,
};

use tinyd_core::{Error, Result, oci};

use super::{
    annotations::{self, Annotations},
    process::strings,
};

/// Hooks by point, each list in the configuration's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// While it is created, in the runtime's namespaces.
    pub prestart: Vec<Hook>,
    /// The same, after those.
    pub create_runtime: Vec<Hook>,
    /// Before the root is left, in the container's namespaces.
    pub create_container: Vec<Hook>,
    /// Before the program, in the container.
    pub start_container: Vec<Hook>,
    /// After the program has been executed, in the runtime's namespaces.
    pub poststart: Vec<Hook>,
    /// After the container has been deleted, in the runtime's namespaces.
    pub poststop: Vec<Hook>,
}

/// One program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where the configuration names it.
    pub field: String,
    /// Absolute.
    pub path: CString,
    /// argv; at least one.
    pub args: Vec<CString>,
    /// Its whole environment.
    pub env: Vec<CString>,
    /// When it is killed.
    pub timeout: Option<Duration>,
    /// Files that its output and its errors are appended to.
    pub output: [Option<PathBuf>; 2],
}

/// The words for the points, in the order in which they come.
pub const POINTS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

impl Hooks {
    /// Whether any runs while the container is created: somebody looks at the mounts before the root is left.
    #[must_use]
    pub fn at_creation(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.create_container.is_empty())
    }

    /// Whether the first process runs any on its way to its program.
    #[must_use]
    pub fn run_in_container(&self) -> bool {
        !(self.create_container.is_empty() && self.start_container.is_empty())
    }
}

/// Reads `hooks`, and where those that run on the host write to.
///
/// # Errors
/// `InvalidArgument` with the field and the rule.
pub fn plan(given: Option<&oci::Hooks>, annotations: &Annotations) -> Result<Hooks> {
    let Some(given) = given else { return Ok(Hooks::default()) };
    let mut hooks = Hooks {
        prestart: point("prestart", &given.prestart)?,
        create_runtime: point("createRuntime", &given.create_runtime)?,
        create_container: point("createContainer", &given.create_container)?,
        start_container: point("startContainer", &given.start_container)?,
        poststart: point("poststart", &given.poststart)?,
        poststop: point("poststop", &given.poststop)?,
    };
    // What is inside has no business with a file of the host's.
    for list in [&mut hooks.prestart, &mut hooks.create_runtime, &mut hooks.poststart, &mut hooks.poststop] {
        for hook in list {
            hook.output = annotations::hooks_output(annotations).map(|path| path.map(Path::to_owned));
        }
    }
    Ok(hooks)
}

fn point(name: &str, given: &[oci::Hook]) -> Result<Vec<Hook>> {
    given.iter().enumerate().map(|(at, hook)| one(format!("hooks.{name}[{at}]"), hook)).collect()
}

fn one(field: String, hook: &oci::Hook) -> Result<Hook> {
    if !hook.path.starts_with('/') {
        let rule = format!("{:?} is not an absolute path", hook.path);
        return Err(Error::invalid(format!("{field}.path"), rule));
    }
    let path = CString::new(hook.path.as_str())
        .map_err(|_| Error::invalid(format!("{field}.path"), "it has a NUL"))?;
    let mut args = strings(&format!("{field}.args"), &hook.args)?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let timeout = match hook.timeout {
        None => None,
        Some(seconds) => {
            let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
            let rule = || Error::invalid(format!("{field}.timeout"), "it is not above 0 seconds");
            Some(Duration::from_secs(seconds.ok_or_else(rule)?))
        }
    };
    let env = strings(&format!("{field}.env"), &hook.env)?;
    Ok(Hook { field, path, args, env, timeout, output: [None, None] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut oci::Hook)) -> String {
        let mut hook = oci::Hook { path: "/bin/true".into(), ..oci::Hook::default() };
        change(&mut hook);
        let hooks = oci::Hooks { poststart: vec![hook], ..oci::Hooks::default() };
        plan(Some(&hooks), &Annotations::new()).unwrap_err().to_string()
    }

    #[test]
    fn refusals_name_the_hook() {
        assert_eq!(
            refused(|hook| hook.path = "true".into()),
            r#"hooks.poststart[0].path: "true" is not an absolute path"#
        );
        assert!(refused(|hook| hook.timeout = Some(0)).starts_with("hooks.poststart[0].timeout: "));
        assert!(refused(|hook| hook.timeout = Some(-1)).starts_with("hooks.poststart[0].timeout: "));
        assert!(refused(|hook| hook.env.push("A\0".into())).starts_with("hooks.poststart[0].env[0]: "));
    }

    #[test]
    fn a_program_without_arguments_is_called_by_its_path() {
        let hook = oci::Hook { path: "/bin/true".into(), ..oci::Hook::default() };
        assert_eq!(one("x".into(), &hook).unwrap().args, [c"/bin/true".to_owned()]);
    }
}
