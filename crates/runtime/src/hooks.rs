//! Runs hooks: one after the other, the container's state on their standard input, nothing of the runtime's descriptors open.
//! The same for those that the caller runs and for those that the container's first process runs.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{MemfdFlags, Mode, OFlags},
    io::Errno,
    pipe::PipeFlags,
};
use tinyd_core::{Error, Kind, Result, error::chain, oci};
use tinyd_sys::process::{self, Ended, Strings};

use crate::{
    init::set_streams,
    launch::{kernel, step},
    plan::hooks::{Hook, Hooks},
};

/// How much of what a failing hook has said is told, in bytes: its last words.
const TOLD_BYTES_MAX: usize = 2 << 10;
/// How much is read at once, in bytes.
const PIECE_BYTES: usize = 4 << 10;
/// How many pieces a pipe holds.
const PIPE_PIECES: usize = (64 << 10) / PIECE_BYTES;

/// A container's state as its hooks are told it.
pub(crate) fn state(id: &str, bundle: &Path, spec: &oci::Spec) -> oci::ContainerState {
    oci::ContainerState {
        oci_version: oci::OCI_VERSION.to_owned(),
        id: id.to_owned(),
        status: oci::Status::Creating,
        pid: None,
        bundle: bundle.display().to_string(),
        annotations: spec.annotations.clone(),
    }
}

/// The hooks that are due after creation, with what they are told.
#[derive(Clone, Debug)]
pub struct Later {
    hooks: Hooks,
    state: oci::ContainerState,
    bundle: PathBuf,
}

impl Later {
    /// Those of a plan.
    pub(crate) fn new(hooks: &Hooks, state: oci::ContainerState, bundle: &Path) -> Later {
        Later { hooks: hooks.clone(), state, bundle: bundle.to_owned() }
    }

    /// Those of a container whose configuration was kept.
    ///
    /// # Errors
    /// `InvalidArgument` for hooks that are none.
    pub(crate) fn of(id: &str, bundle: &Path, spec: &oci::Spec) -> Result<Later> {
        let hooks = crate::plan::hooks::plan(spec.hooks.as_ref(), &spec.annotations)?;
        Ok(Later { hooks, state: state(id, bundle, spec), bundle: bundle.to_owned() })
    }

    /// Whether the first process runs some between the gate and its program.
    pub(crate) fn has_some_at_start(&self) -> bool {
        !self.hooks.start_container.is_empty()
    }

    /// Runs those that come after the program was executed.
    ///
    /// # Errors
    /// The first that fails. The caller ends the container then.
    pub fn poststart(&self, pid: i32) -> Result<()> {
        run_all(&self.hooks.poststart, &self.running(pid), || enter_dir(&self.bundle))
    }

    /// The state of the container that runs.
    pub(crate) fn running(&self, pid: i32) -> oci::ContainerState {
        oci::ContainerState { status: oci::Status::Running, pid: Some(pid), ..self.state.clone() }
    }

    /// Runs those that come after the container is gone, all of them; what went wrong, one line each.
    #[must_use]
    pub fn poststop(&self) -> Vec<String> {
        let state = oci::ContainerState { status: oci::Status::Stopped, ..self.state.clone() };
        let run = |hook: &Hook| run_all(std::slice::from_ref(hook), &state, || enter_dir(&self.bundle));
        self.hooks.poststop.iter().filter_map(|hook| run(hook).err()).map(|error| error.to_string()).collect()
    }
}

/// Where the caller's hooks run.
pub(crate) fn enter_dir(dir: &Path) -> Result<()> {
    rustix::process::chdir(dir).map_err(|error| kernel(&format!("chdir({dir:?})"), &error))
}

/// Runs hooks until one fails. `enter` is what each one's process does before its program.
///
/// # Errors
/// The hook, how it ended, and the end of what it said.
pub(crate) fn run_all(
    hooks: &[Hook],
    state: &oci::ContainerState,
    enter: impl Fn() -> Result<()>,
) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).map_err(|error| kernel("write the state", &error))?;
    hooks.iter().try_for_each(|hook| {
        run(hook, &state, &enter).map_err(|error| {
            let path = hook.path.to_string_lossy();
            Error::new(error.kind(), format!("{path}: {}", error.message())).of_field(hook.field.as_str())
        })
    })
}

/// Runs one, with a text on its standard input.
///
/// # Errors
/// How it ended, and the end of what it said.
pub(crate) fn run(hook: &Hook, state: &[u8], enter: &impl Fn() -> Result<()>) -> Result<()> {
    let stdin = told(state)?;
    let (said, say) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| kernel("pipe", &error))?;
    let Some(pid) = process::fork().map_err(step("start it"))? else {
        let Err(error) = become_hook(hook, stdin, say, enter);
        let _ = rustix::io::write(std::io::stderr(), error.to_string().as_bytes());
        process::exit_now(127)
    };
    drop((stdin, say));
    let child = process::pidfd_open(pid).map_err(step("watch it"))?;
    let mut last_words = LastWords(Vec::new());
    let ended = wait(child.as_fd(), said, hook.timeout, &mut last_words)?;
    let how = match ended {
        Some(Ended::Exited(0)) => return Ok(()),
        Some(Ended::Exited(code)) => format!("exit status {code}"),
        Some(Ended::Signalled(number)) => format!("killed by signal {number}"),
        None => format!("killed: it took longer than {} seconds", hook.timeout.unwrap_or_default().as_secs()),
    };
    Err(Error::new(Kind::Internal, format!("{how}{}", last_words.told())))
}

/// The state as a file to read: however long it is, nobody waits for a hook that does not read.
fn told(state: &[u8]) -> Result<OwnedFd> {
    let failed = |error: Errno| kernel("write the state", &error);
    let file = rustix::fs::memfd_create(c"state", MemfdFlags::CLOEXEC).map_err(failed)?;
    let mut rest = state;
    while !rest.is_empty() {
        let done = rustix::io::write(&file, rest).map_err(failed)?;
        rest = rest.get(done..).unwrap_or_default();
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).map_err(failed)?;
    Ok(file)
}

fn become_hook(
    hook: &Hook,
    stdin: OwnedFd,
    say: OwnedFd,
    enter: &impl Fn() -> Result<()>,
) -> Result<std::convert::Infallible> {
    let again = rustix::io::fcntl_dupfd_cloexec(&say, 3).map_err(|error| kernel("dup(pipe)", &error))?;
    let [output, errors] = &hook.output;
    set_streams([stdin, said_to(output.as_deref(), again)?, said_to(errors.as_deref(), say)?])?;
    process::cloexec_from(3).map_err(step("close descriptors"))?;
    process::reset_signals();
    enter()?;
    let error =
        process::execve(&hook.path, &Strings::new(hook.args.clone()), &Strings::new(hook.env.clone()));
    Err(Error::new(Kind::Internal, chain(&error)))
}

/// The file that is asked for, or what there is.
fn said_to(file: Option<&Path>, otherwise: OwnedFd) -> Result<OwnedFd> {
    let Some(path) = file else { return Ok(otherwise) };
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| kernel(&format!("open({})", path.display()), &error))
}

/// Waits for a hook to end and listens to it meanwhile. `None` when its time was over.
fn wait(
    child: BorrowedFd<'_>,
    said: OwnedFd,
    timeout: Option<Duration>,
    last_words: &mut LastWords,
) -> Result<Option<Ended>> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut said = Some(said);
    let mut after_the_end = 0;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            process::kill_and_reap(child);
            return Ok(None);
        }
        let (ended, spoke) = poll(child, said.as_ref(), left)?;
        if spoke && !said.as_ref().is_some_and(|said| last_words.hear(said)) {
            said = None;
        }
        // What is still in the pipe comes first. A child of the hook's that holds the other end, and may never be silent, is not
        // waited for.
        after_the_end += usize::from(ended);
        if ended && (!spoke || after_the_end > PIPE_PIECES) {
            return process::wait(child).map(Some).map_err(step("wait for it"));
        }
    }
}

fn poll(child: BorrowedFd<'_>, said: Option<&OwnedFd>, left: Option<Duration>) -> Result<(bool, bool)> {
    let mut fds = vec![PollFd::from_borrowed_fd(child, PollFlags::IN)];
    fds.extend(said.map(|said| PollFd::new(said, PollFlags::IN)));
    let left = left.and_then(|left| rustix::time::Timespec::try_from(left).ok());
    match rustix::event::poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(kernel("poll(hook)", &error)),
    }
    let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
    Ok((is_ready(0), is_ready(1)))
}

/// The end of what a hook has said.
struct LastWords(Vec<u8>);

impl LastWords {
    /// Reads a piece; false when nothing more can come.
    fn hear(&mut self, said: &OwnedFd) -> bool {
        let mut piece = [0; PIECE_BYTES];
        match rustix::io::read(said, &mut piece) {
            Ok(0) => return false,
            Ok(len) => self.0.extend(piece.iter().take(len)),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
        let extra = self.0.len().saturating_sub(TOLD_BYTES_MAX);
        self.0.drain(..extra);
        true
    }

    fn told(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let text = text.trim();
        if text.is_empty() { String::new() } else { format!(": {text}") }
    }
}
