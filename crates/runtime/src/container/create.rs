//! `create`: everything but the program.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use serde_json::Value;
use tinyd_core::{Error, Kind, Result, json, oci, time::unix_nanos, wire};
use tinyd_sys::{fs, heap};

use super::{
    console,
    first::Init,
    lock::Lock,
    notify,
    record::{Place, Record, written},
    root::Root,
    seal,
};
use crate::{
    caller::Caller,
    cgroup::{self, CgroupManager, systemd},
    launch::{self, Extra, Fds, Gate, Launch, Prepared, Refused, Stdio, kernel, step},
    plan::annotations,
};

/// How a container is created.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The bundle; the working directory when absent.
    pub bundle: Option<PathBuf>,
    /// Its configuration, relative to the bundle; `config.json` when absent.
    pub config: Option<PathBuf>,
    /// Where the first process's number is written.
    pub pid_file: Option<PathBuf>,
    /// A unix socket that the terminal's master side is sent to.
    pub console_socket: Option<PathBuf>,
    /// Who makes its cgroup.
    pub manager: CgroupManager,
    /// Whether that is made where the caller may, if anywhere; for everybody but root of the machine when it is not said.
    pub rootless: Option<bool>,
    /// Rarer wishes.
    pub extra: Extra,
    /// The step that fails, for tests.
    pub failpoint: String,
}

impl CreateOptions {
    /// Whether its cgroup is made where the caller may, if anywhere.
    pub(super) fn takes_what_it_gets(&self, bundle: &Bundle) -> bool {
        self.rootless.unwrap_or(bundle.caller.is_rootless())
    }
}

/// The descriptors that a process keeps: those of socket activation (sd_listen_fds(3)), when they are this process's and it may have
/// them, and `more` after them.
///
/// # Errors
/// `InvalidArgument` for one that is not open.
pub fn kept_fds(more: u32, activated: bool) -> Result<Fds> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let is_ours = number("LISTEN_PID") == Some(std::process::id());
    let listen = number("LISTEN_FDS").filter(|_| activated && is_ours).unwrap_or(0);
    let fds = Fds { count: listen.saturating_add(more), listen };
    for number in 3..fds.count.saturating_add(3) {
        if !Path::new(&format!("/proc/self/fd/{number}")).is_symlink() {
            let field = if number < 3 + listen { "LISTEN_FDS" } else { "--preserve-fds" };
            return Err(Error::invalid(field, format!("descriptor {number} is not open")));
        }
    }
    Ok(fds)
}

/// A bundle that was read.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) dir: PathBuf,
    /// Its configuration, without the filter.
    pub(super) spec: oci::Spec,
    pub(super) seccomp: wire::Seccomp,
    pub(super) bytes: Vec<u8>,
    /// Who this process is.
    pub(super) caller: Caller,
}

/// Creates a container that waits for `start`. Returns warnings.
///
/// # Errors
/// What is wrong with bundle or host; nothing of the container is left.
pub fn create(root: &Root, id: &str, options: &CreateOptions) -> Result<Vec<String>> {
    heap::begin();
    let place = root.place(id)?;
    let mut bundle = Bundle::read(options)?;
    let wants_terminal = bundle.wants_terminal();
    if wants_terminal && options.console_socket.is_none() {
        return Err(Error::invalid("--console-socket", "a terminal without a foreground needs one"));
    }
    let claimed = first_record(&place, &bundle, options)?;
    let lock = place.claim(&claimed, Some(&bundle.bytes))?;
    let gate = place.make_gate().map(Gate::Listener);
    let stdio = if wants_terminal { Ok(Stdio::Terminal) } else { console::inherited() };
    let notify = notify::prepare(&place.dir, &mut bundle.spec);
    let ready = notify.and(gate).and_then(|gate| Ok((gate, stdio?)));
    let made = ready
        .map_err(Refused::from)
        .and_then(|(gate, stdio)| prepare(&place, (&bundle, &claimed), stdio, gate, options));
    let mut prepared = made.map_err(|refused| undo_claim(&place, &lock, refused))?;
    let finished = finish(&place, (claimed, &bundle.spec), &mut prepared, options);
    let finished = finished.map_err(|error| prepared.cause(error));
    match finished {
        Ok(()) => Ok(prepared.warnings),
        Err(error) => {
            // The error that is told is the one that led here.
            let later = prepared.later.clone();
            prepared.take_back_devices();
            let left = prepared.destroy().err();
            let undone = undo_claim(&place, &lock, Refused { error, left });
            let _ = later.poststop();
            Err(undone)
        }
    }
}

/// The record of a container that is about to be made.
pub(super) fn first_record(place: &Place, bundle: &Bundle, options: &CreateOptions) -> Result<Record> {
    let manager = options.manager;
    let (cgroup, unit) = match manager {
        CgroupManager::Cgroupfs if options.takes_what_it_gets(bundle) => (near(bundle, &place.id)?, None),
        CgroupManager::Cgroupfs => (launch::cgroup_of(&bundle.spec, &place.id), None),
        CgroupManager::Systemd => {
            let decided = systemd::decide(&bundle.spec, &place.id, bundle.caller.has_own_systemd())?;
            (decided.path, Some(decided.unit))
        }
        CgroupManager::Disabled => (String::new(), None),
    };
    Ok(Record {
        bundle: bundle.dir.clone(),
        cgroup,
        manager,
        unit,
        process: None,
        ahead: false,
        created_unix_nanos: unix_nanos(std::time::SystemTime::now()),
    })
}

/// The cgroup of somebody who is not root: one whose path is not absolute is near the caller's own.
fn near(bundle: &Bundle, id: &str) -> Result<String> {
    let given = bundle.spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref());
    match given.filter(|path| !path.is_empty()) {
        Some(path) if path.starts_with('/') => Ok(path.to_owned()),
        Some(path) => cgroup::own::near(path),
        None => cgroup::own::near(&launch::default_cgroup(id)),
    }
}

/// Makes the container; relative paths are the bundle's.
pub(super) fn prepare(
    place: &Place,
    (bundle, claimed): (&Bundle, &Record),
    stdio: Stdio,
    gate: Gate<'_>,
    options: &CreateOptions,
) -> Result<Prepared, Refused> {
    let root = bundle.spec.root.as_ref().ok_or_else(|| Error::invalid("root", "a root is needed"))?;
    let rootfs = wire::Rootfs::Directory { path: PathBuf::from(&root.path) };
    launch::prepare(Launch {
        id: &place.id,
        spec: &bundle.spec,
        bundle: &bundle.dir,
        rootfs: &rootfs,
        seccomp: &bundle.seccomp,
        stdio,
        idmap_root: false,
        die_with_parent: false,
        gate,
        init: false,
        manager: options.manager,
        cgroup: &claimed.cgroup,
        unit: claimed.unit.as_ref(),
        takes_what_it_gets: options.takes_what_it_gets(bundle),
        caller: bundle.caller,
        extra: options.extra,
        failpoint: &options.failpoint,
    })
}

/// Takes the filter that a configuration asks for out of it; none when it does not.
pub(super) fn take_seccomp(spec: &mut oci::Spec) -> wire::Seccomp {
    let given = spec.linux.as_mut().and_then(|linux| linux.seccomp.take());
    given.map_or(wire::Seccomp::Unconfined, wire::Seccomp::Profile)
}

/// Gives the id back when what it was claimed for did not come about, unless somebody has done so by force and it is another's by now.
/// While something of it is left the record stays, by which `delete` finds it. What to tell.
pub(super) fn undo_claim(place: &Place, lock: &Lock, Refused { error, left }: Refused) -> Error {
    let left = left.or_else(|| if lock.is_in_place() { place.remove().err() } else { None });
    Refused { error, left }.told()
}

/// Tells whoever has to know of the new container.
pub(super) fn finish(
    place: &Place,
    (record, spec): (Record, &oci::Spec),
    prepared: &mut Prepared,
    options: &CreateOptions,
) -> Result<()> {
    let record = if prepared.cgroup.is_somewhere() { record } else { record.without_cgroup() };
    place.write(&Record { process: Some(Init::of(prepared.pid)?), ..record })?;
    if let (Some(socket), Some(master)) = (&options.console_socket, &prepared.terminal) {
        console::send_master(socket, master.as_fd())?;
    }
    if let Some(socket) = spec.annotations.get(annotations::PIDFD_RECEIVER) {
        console::send(annotations::PIDFD_RECEIVER, Path::new(socket), b"pidfd", prepared.pidfd.as_fd())?;
    }
    write_pid_file(options.pid_file.as_deref(), prepared.pid)
}

pub(super) fn write_pid_file(path: Option<&Path>, pid: i32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write_atomic_volatile(path, pid.to_string().as_bytes()).map_err(step("--pid-file"))
}

/// Reads a configuration. To the readers of other runtimes `null` is what is not there.
pub(super) fn parse(bytes: Vec<u8>) -> serde_json::Result<(oci::Spec, Vec<u8>)> {
    let error = match json::read(&bytes) {
        Ok(spec) => return Ok((spec, bytes)),
        Err(error) => error,
    };
    let mut value: Value = json::read(&bytes)?;
    if !drop_nulls(&mut value) {
        return Err(error);
    }
    let bytes = serde_json::to_vec(&value)?;
    // From the bytes and not from the value: that would be a second reader of every type, a twentieth of the program.
    Ok((json::read(&bytes)?, bytes))
}

/// Takes members away that are `null`; whether there were any.
fn drop_nulls(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let before = members.len();
            members.retain(|_, member| !member.is_null());
            let gone = members.len() != before;
            members.values_mut().fold(gone, |gone, member| drop_nulls(member) | gone)
        }
        Value::Array(items) => items.iter_mut().fold(false, |gone, item| drop_nulls(item) | gone),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

impl Bundle {
    /// Reads the configuration of a bundle. Where the container could write this program's file, the process begins again first: see
    /// [`seal::require_unwritable_image`].
    ///
    /// # Errors
    /// `NotFound`, or `InvalidArgument` with the place in the file.
    pub(super) fn read(options: &CreateOptions) -> Result<Bundle> {
        const BYTES_MAX: u64 = 16 << 20;
        let dir = options.bundle.as_deref().unwrap_or(Path::new("."));
        let dir = std::path::absolute(dir).map_err(|error| kernel("--bundle", &error))?;
        let path = dir.join(options.config.as_deref().unwrap_or(Path::new("config.json")));
        let field = if options.config.is_some() { "--config" } else { "--bundle" };
        let file = std::fs::File::open(&path).map_err(|error| {
            let kind =
                if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Internal };
            Error::new(kind, format!("open {}: {error}", path.display())).of_field(field)
        })?;
        let bytes = fs::read_limited(OwnedFd::from(file), BYTES_MAX).map_err(step("read config.json"))?;
        let caller = Caller::of_this_process()?;
        // Before the whole of it is read: it is read again in the next life.
        seal::require_unwritable_image(caller)?;
        let (mut spec, mut bytes) =
            parse(bytes).map_err(|error| Error::invalid("config.json", error.to_string()))?;
        annotations::require_own_isolation(&spec)?;
        if annotations::name_receiver(&mut spec, std::env::var(annotations::RECEIVER_VARIABLE).ok()) {
            bytes = written(&spec)?;
        }
        annotations::apply(&mut spec)?;
        let seccomp = take_seccomp(&mut spec);
        Ok(Bundle { dir, spec, seccomp, bytes, caller })
    }

    pub(super) fn wants_terminal(&self) -> bool {
        self.spec.process.as_ref().is_some_and(|process| process.terminal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_what_is_not_there() {
        let text = r#"{"ociVersion":"1.2.0","mounts":null,"process":{"env":null,"args":["a"],"user":null,"cwd":"/"},
            "linux":{"namespaces":[{"type":"pid","path":null}],"resources":{"devices":null}}}"#;
        let (spec, bytes) = parse(text.into()).unwrap();
        let process = spec.process.as_ref().unwrap();
        assert_eq!((process.args.len(), process.env.len(), spec.mounts.len()), (1, 0, 0));
        // What is kept is read by everybody.
        assert_eq!(json::read::<oci::Spec>(&bytes).unwrap(), spec);
        let error = parse(r#"{"mounts":7}"#.into()).unwrap_err();
        assert!(error.to_string().contains("line 1 column"), "{error}");
    }
}
