//! `exec`: one more process in a container that runs.

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use tinyd_core::{Error, Kind, Result, json, oci, oci::Status};
use tinyd_sys::{heap, process, tty};

use super::{
    console::{self, Proxy},
    create::{take_seccomp, write_pid_file},
    root::Root,
    run::{Foreground, supervise},
    seal,
    state::observe,
};
use crate::{
    caller::Caller,
    exec::{self, PATIENCE, Target},
    hooks,
    launch::{Fds, Stdio, kernel, step},
};

/// How a process is added.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// A file with the whole process as JSON: what describes the process is taken from it then.
    pub process: Option<PathBuf>,
    /// argv, when there is no such file.
    pub args: Vec<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Working directory.
    pub cwd: Option<String>,
    /// KEY=VALUE, after the container's own.
    pub env: Vec<String>,
    /// `uid[:gid]`.
    pub user: Option<String>,
    /// Groups beside the container's own, or the user's.
    pub additional_gids: Vec<String>,
    /// `CAP_…` beside the container's own.
    pub caps: Vec<String>,
    /// `PR_SET_NO_NEW_PRIVS`, where it is not the container's.
    pub no_new_privs: Option<bool>,
    /// An AppArmor profile.
    pub apparmor: Option<String>,
    /// An SELinux label.
    pub process_label: Option<String>,
    /// Cgroups below the container's that it enters, each `[CONTROLLER[,CONTROLLER]:]PATH`.
    pub cgroups: Vec<String>,
    /// Whether a paused container is fine: the process waits until it is resumed.
    pub ignore_paused: bool,
    /// Whether to come back at once.
    pub detach: bool,
    /// Where the process's number is written.
    pub pid_file: Option<PathBuf>,
    /// A unix socket that the terminal's master side is sent to.
    pub console_socket: Option<PathBuf>,
    /// Descriptors that it keeps.
    pub fds: Fds,
}

/// Runs a process in a container; its exit status, or 0 when detached. `warn` is told what could not be done.
///
/// # Errors
/// `WrongState` unless the container runs; what kept the program from being executed.
pub fn exec(root: &Root, id: &str, options: &ExecOptions, warn: impl Fn(&[String])) -> Result<u8> {
    heap::begin();
    let place = root.place(id)?;
    // In a paused container it waits for `resume`, which has to get through.
    let lock = if options.ignore_paused { None } else { Some(place.lock()?) };
    let seen = observe(&place)?;
    let Some((pidfd, first)) = seen.first() else {
        let words = match seen.status {
            Status::Stopped => "cannot exec in a stopped container",
            Status::Creating | Status::Created | Status::Running | Status::Paused => "container not running",
        };
        return Err(seen.refused(id, words));
    };
    if seen.status == Status::Paused && !options.ignore_paused {
        return Err(seen.refused(id, "cannot exec in a paused container (use --ignore-paused to override)"));
    }
    let caller = Caller::of_this_process()?;
    if (caller, seen.status) == (Caller::User, Status::Created) {
        // What waits there is this runtime, which nobody who is not root may look into.
        let message = format!(
            "cannot exec in container {id:?}: it is created, and whoever is not root has to start it first"
        );
        return Err(Error::new(Kind::WrongState, message));
    }
    // Before the configuration is read: that is for the next life.
    seal::require_unwritable_image(caller)?;
    let mut spec = place.spec()?;
    let seccomp = take_seccomp(&mut spec);
    let added = added(&spec, options)?;
    if added.terminal && options.detach && options.console_socket.is_none() {
        return Err(Error::invalid("--console-socket", "a terminal without a foreground needs one"));
    }
    let signals =
        if options.detach { None } else { Some(process::signal_fd().map_err(step("take signals"))?) };
    let cgroup =
        seen.record.open_cgroup()?.below(&options.cgroups).map_err(|error| error.of_field("--cgroup"))?;
    let state = hooks::state(id, &seen.record.bundle, &spec);
    let state = oci::ContainerState { status: seen.status, pid: Some(first.pid), ..state };
    let target = Target {
        pid: first.pid,
        pidfd,
        cgroup: &cgroup,
        spec: &spec,
        state: &state,
        fds: options.fds,
        patience: (seen.status != Status::Paused).then_some(PATIENCE),
        caller,
    };
    let stdio = if added.terminal { Stdio::Terminal } else { console::inherited()? };
    let running = exec::exec(target, &added, &seccomp, stdio);
    let running = running.map_err(|error| seen.told(id, error))?;
    drop(lock);
    warn(&running.warnings);
    if let (Some(socket), Some(master)) = (&options.console_socket, &running.terminal) {
        console::send_master(socket, master.as_fd())?;
    }
    write_pid_file(options.pid_file.as_deref(), running.pid)?;
    let Some(signals) = signals else { return Ok(0) };
    // It may run for years.
    heap::end();
    let stdin = std::io::stdin();
    let master = running.terminal.filter(|_| options.console_socket.is_none());
    let _raw = master.as_ref().and_then(|_| tty::Raw::enter(&stdin).ok());
    supervise(Foreground {
        pid: running.pid,
        pidfd: running.pidfd.as_fd(),
        signals: &signals,
        proxy: master.map(Proxy::new),
        notify: None,
    })
}

/// The process to add: a file's, or the container's own with other words.
fn added(spec: &oci::Spec, options: &ExecOptions) -> Result<oci::Process> {
    if let Some(path) = &options.process {
        let process = read_process(path, options)?;
        return Ok(confined_as(spec.process.as_ref(), process));
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args.clone_from(&options.args);
    process.terminal = options.tty;
    process.console_size = None;
    process.no_new_privileges = options.no_new_privs.unwrap_or(process.no_new_privileges);
    process.env.extend(options.env.iter().cloned());
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &options.user {
        process.user = parse_user(user, &process.user)?;
    }
    for gid in &options.additional_gids {
        process.user.additional_gids.push(id("--additional-gids", gid)?);
    }
    process.apparmor_profile = options.apparmor.clone().or(process.apparmor_profile);
    process.selinux_label = options.process_label.clone().or(process.selinux_label);
    if !options.caps.is_empty() {
        let caps = process.capabilities.get_or_insert_default();
        for set in [&mut caps.bounding, &mut caps.effective, &mut caps.permitted] {
            set.extend(options.caps.iter().cloned());
        }
    }
    Ok(process)
}

fn read_process(path: &Path, options: &ExecOptions) -> Result<oci::Process> {
    let bytes = std::fs::read(path)
        .map_err(|error| kernel(&format!("--process: read {}", path.display()), &error))?;
    let mut process: oci::Process =
        json::read(&bytes).map_err(|error| Error::invalid("--process", error.to_string()))?;
    process.terminal |= options.tty;
    Ok(process)
}

/// What a file does not say of a process's confinement is as for the container's own, as runc and crun have it: who leaves its profile out
/// does not ask to be free of it.
fn confined_as(own: Option<&oci::Process>, mut process: oci::Process) -> oci::Process {
    let Some(own) = own else { return process };
    process.capabilities = process.capabilities.or_else(|| own.capabilities.clone());
    process.apparmor_profile = given(process.apparmor_profile).or_else(|| own.apparmor_profile.clone());
    process.selinux_label = given(process.selinux_label).or_else(|| own.selinux_label.clone());
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&own.rlimits);
    }
    process
}

/// A text that says something.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// `uid[:gid]`: numbers only, as the specification has no names.
fn parse_user(text: &str, current: &oci::User) -> Result<oci::User> {
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let uid = id("--user", uid)?;
    let gid = gid.map_or(Ok(current.gid), |gid| id("--user", gid))?;
    Ok(oci::User { uid, gid, umask: current.umask, additional_gids: Vec::new() })
}

/// A user or a group: a number that does not wrap.
fn id(field: &str, text: &str) -> Result<u32> {
    // parse() would take a sign.
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    let number = number.filter(|id| i32::try_from(*id).is_ok());
    number.ok_or_else(|| Error::invalid(field, format!("{text:?} is not a number from 0 to 2147483647")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_numbers_that_do_not_wrap() {
        let current = oci::User { gid: 7, ..oci::User::default() };
        let user = parse_user("1000:50", &current).unwrap();
        assert_eq!((user.uid, user.gid), (1000, 50));
        assert_eq!(parse_user("5", &current).unwrap().gid, 7);
        for bad in ["4294967296", "2147483648", "-1", "+5", "0x0", "root", "1:", ":1", ""] {
            assert_eq!(parse_user(bad, &current).unwrap_err().field(), Some("--user"), "{bad}");
        }
    }

    #[test]
    fn the_containers_process_is_the_pattern() {
        let own = oci::Process {
            cwd: "/srv".into(),
            env: vec!["A=1".into()],
            terminal: true,
            ..oci::Process::default()
        };
        let spec = oci::Spec { process: Some(own), ..oci::Spec::default() };
        let options =
            ExecOptions { args: vec!["ls".into()], env: vec!["B=2".into()], ..ExecOptions::default() };
        let process = added(&spec, &options).unwrap();
        assert_eq!((process.cwd.as_str(), process.terminal), ("/srv", false));
        assert_eq!(process.env, ["A=1", "B=2"]);
    }
}
