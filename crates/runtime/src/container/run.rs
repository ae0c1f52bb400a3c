//! `run`: create, start, wait, delete. In the foreground signals are handed on and the exit status is the container's.

use std::{
    cell::{Cell, OnceCell},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{PollFd, PollFlags};
use tinyd_core::{Error, Kind, Result, oci, wire::Seccomp};
use tinyd_sys::{heap, process, tty};

use super::{
    console::{self, Proxy},
    create::{Bundle, CreateOptions, finish, first_record, prepare, undo_claim},
    first::Init,
    lock::Lock,
    notify::{self, Notify},
    record::{Place, Record},
    root::Root,
};
use crate::{
    cgroup::CgroupManager,
    launch::{Gate, Prepared, Refused, Stdio, Witness, kernel, step},
    plan::annotations,
};

/// How a container is run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// How it is created.
    pub create: CreateOptions,
    /// Whether to come back once it runs.
    pub detach: bool,
    /// Whether its record stays when it has ended.
    pub keep: bool,
    /// Whether processes that lose their parent are somebody else's.
    pub no_subreaper: bool,
}

/// Runs a container; its exit status, or 0 when it was started to run alone. `warn` is told what could not be done.
///
/// # Errors
/// What kept it from running; nothing of it is left then.
pub fn run(root: &Root, id: &str, run: &RunOptions, warn: impl Fn(&[String])) -> Result<u8> {
    heap::begin();
    let (place, options, detach) = (root.place(id)?, &run.create, run.detach);
    let mut bundle = Bundle::read(options)?;
    let terminal = bundle.wants_terminal();
    if terminal && detach && options.console_socket.is_none() {
        return Err(Error::invalid("--console-socket", "a terminal without a foreground needs one"));
    }
    // Before the clone: a signal that comes meanwhile waits to be handed on.
    let signals = if detach { None } else { Some(process::signal_fd().map_err(step("take signals"))?) };
    if !detach && !run.no_subreaper {
        // Without a PID namespace of its own they would be the host's.
        let this = Some(rustix::process::getpid());
        rustix::process::set_child_subreaper(this)
            .map_err(|error| kernel("prctl(PR_SET_CHILD_SUBREAPER)", &error))?;
    }
    let claimed = first_record(&place, &bundle, options)?;
    let is_open = only_records(&bundle, options);
    let recorder = Recorder {
        place: &place,
        claimed: &claimed,
        config: &bundle.bytes,
        lock: OnceCell::new(),
        has_seen: Cell::new(false),
    };
    if is_open {
        // Whether it is free is known when it is taken; one that is not is no reason to try.
        place.require_free()?;
    } else {
        recorder.claim(recorder.claimed, Some(&bundle.bytes))?;
    }
    let stdio = if terminal { Ok(Stdio::Terminal) } else { console::inherited() };
    let notify = notify::prepare(&place.dir, &mut bundle.spec);
    let gate = if is_open { Gate::Open(&recorder) } else { Gate::Caller };
    let made = notify
        .and(stdio)
        .map_err(Refused::from)
        .and_then(|stdio| prepare(&place, (&bundle, &claimed), stdio, gate, options));
    let mut prepared = match made {
        Ok(prepared) => prepared,
        Err(refused) => return Err(recorder.undo(refused)),
    };
    let lock = recorder.into_lock()?;
    let finished =
        if is_open { Ok(()) } else { finish(&place, (claimed, &bundle.spec), &mut prepared, options) };
    let started = finished
        .map_err(|error| prepared.cause(error))
        .and_then(|()| Notify::open(&place.dir))
        .and_then(|notify| prepared.execute().map(|()| notify));
    // It may run for years.
    heap::end();
    // Before the hooks that come now: what they ask of the container would wait for them.
    lock.release();
    let started = started.and_then(|notify| prepared.poststart().map(|()| notify));
    warn(&prepared.warnings);
    let ended = match (started, signals) {
        (Ok(None), None) => return Ok(0),
        (Ok(Some(notify)), None) => {
            return notify.wait(prepared.pid, prepared.pidfd.as_fd()).map(|()| 0);
        }
        (Ok(notify), Some(signals)) => {
            attend(&mut prepared, &signals, notify, options.console_socket.is_some())
        }
        (Err(error), _) => Err(error),
    };
    if run.keep && ended.is_ok() {
        return ended;
    }
    if ended.is_err() {
        prepared.take_back_devices();
    }
    if !lock.take_again() {
        // Somebody has deleted it meanwhile.
        process::kill_and_reap(prepared.pidfd.as_fd());
        return ended;
    }
    let later = prepared.later.clone();
    // With something left the record stays: `delete` finds it.
    let removed = prepared.destroy().and_then(|()| place.remove());
    warn(&later.poststop());
    match (ended, removed) {
        (Ok(code), removed) => removed.map(|()| code),
        (Err(error), removed) => Err(Refused { error, left: removed.err() }.told()),
    }
}

/// Whether all that is to be done before the program is executed is to write down who will: the container need not wait for that.
fn only_records(bundle: &Bundle, options: &CreateOptions) -> bool {
    let (spec, linux) = (&bundle.spec, bundle.spec.linux.as_ref());
    let is_told_of = options.console_socket.is_some()
        || options.pid_file.is_some()
        || spec.annotations.contains_key(annotations::PIDFD_RECEIVER)
        || notify::manager().is_some()
        // Its supervisor may ask for the container before it lets the process go.
        || matches!(&bundle.seccomp, Seccomp::Profile(profile) if profile.listener_path.is_some());
    let is_plain = spec.hooks.as_ref().is_none_or(|hooks| *hooks == oci::Hooks::default())
        && linux.is_none_or(|linux| linux.net_devices.is_empty() && linux.time_offsets.is_empty());
    let has_cgroup = options.manager == CgroupManager::Cgroupfs && !options.takes_what_it_gets(bundle);
    is_plain && has_cgroup && !is_told_of
}

/// Writes down what is about to be made, and who is about to execute the program.
#[derive(Debug)]
struct Recorder<'a> {
    place: &'a Place,
    claimed: &'a Record,
    config: &'a [u8],
    /// Once it is claimed.
    lock: OnceCell<Lock>,
    /// Whether it was claimed with who executes the program.
    has_seen: Cell<bool>,
}

impl Recorder<'_> {
    fn claim(&self, record: &Record, config: Option<&[u8]>) -> Result<()> {
        let lock = self.place.claim(record, config)?;
        // It is claimed once.
        let _ = self.lock.set(lock);
        Ok(())
    }

    /// The record with who executes the program.
    fn seen(&self, pid: i32) -> Result<Record> {
        Ok(Record { process: Some(Init::of(pid)?), ahead: true, ..self.claimed.clone() })
    }

    /// Gives the id back, if it was had. What to tell.
    fn undo(self, refused: Refused) -> Error {
        match self.lock.into_inner() {
            Some(lock) => undo_claim(self.place, &lock, refused),
            None => refused.told(),
        }
    }

    fn into_lock(self) -> Result<Lock> {
        let none = || Error::new(Kind::Internal, "a container was made that was not written down");
        self.lock.into_inner().ok_or_else(none)
    }
}

impl Witness for Recorder<'_> {
    fn begin(&self, first: Option<i32>) -> Result<()> {
        // Of one that has ended it is told why when it is heard, and not that it has.
        match first.and_then(|pid| self.seen(pid).ok()) {
            Some(seen) => self.claim(&seen, None).map(|()| self.has_seen.set(true)),
            None => self.claim(self.claimed, None),
        }
    }

    fn go_on(&self) -> Result<()> {
        self.place.keep_config(self.config)
    }

    fn see(&self, pid: i32) -> Result<()> {
        if self.has_seen.get() { Ok(()) } else { self.place.write(&self.seen(pid)?) }
    }
}

fn attend(
    prepared: &mut Prepared,
    signals: &OwnedFd,
    notify: Option<Notify>,
    terminal_is_elsewhere: bool,
) -> Result<u8> {
    let stdin = std::io::stdin();
    let master = prepared.terminal.take().filter(|_| !terminal_is_elsewhere);
    let _raw = master.as_ref().and_then(|_| tty::Raw::enter(&stdin).ok());
    supervise(Foreground {
        pid: prepared.pid,
        pidfd: prepared.pidfd.as_fd(),
        signals,
        proxy: master.map(Proxy::new),
        notify,
    })
}

/// A process in the foreground.
pub(super) struct Foreground<'a> {
    pub(super) pid: i32,
    pub(super) pidfd: BorrowedFd<'a>,
    pub(super) signals: &'a OwnedFd,
    /// The terminal's other side, when this process holds it.
    pub(super) proxy: Option<Proxy>,
    /// Where it says that it is ready.
    pub(super) notify: Option<Notify>,
}

/// Waits for a process to end, handing signals and a terminal's bytes on. Its exit status.
pub(super) fn supervise(mut foreground: Foreground<'_>) -> Result<u8> {
    loop {
        let ready = foreground.wait()?;
        if ready.signal {
            foreground.forward();
        }
        if let Some(notify) = foreground.notify.as_ref().filter(|_| ready.notify) {
            // A manager that has gone is no reason to end.
            let _ = notify.forward(None);
        }
        if ready.output && !foreground.proxy.as_ref().is_some_and(Proxy::output) {
            foreground.proxy = None;
        }
        if let Some(proxy) = foreground.proxy.as_mut().filter(|_| ready.input) {
            proxy.input();
        }
        // Output is drained before the end is told.
        if ready.ended && !ready.output {
            return process::wait(foreground.pidfd).map(process::Ended::code).map_err(step("wait"));
        }
    }
}

/// What there is to do.
struct Ready {
    signal: bool,
    ended: bool,
    output: bool,
    input: bool,
    notify: bool,
}

impl Foreground<'_> {
    fn wait(&self) -> Result<Ready> {
        let stdin = std::io::stdin();
        let mut fds = vec![
            PollFd::new(self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(self.pidfd, PollFlags::IN),
        ];
        fds.extend(
            self.notify.as_ref().map(|notify| PollFd::from_borrowed_fd(notify.socket(), PollFlags::IN)),
        );
        let terminal = fds.len();
        if let Some(proxy) = &self.proxy {
            fds.push(PollFd::from_borrowed_fd(proxy.master(), PollFlags::IN));
            if proxy.stdin_open() {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(kernel("poll", &error)),
        }
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            signal: is_ready(0),
            ended: is_ready(1),
            notify: self.notify.is_some() && is_ready(2),
            output: is_ready(terminal),
            input: is_ready(terminal + 1),
        })
    }

    /// Hands a signal on; those that are about this process are not.
    fn forward(&self) {
        let Some(number) = process::read_signal(self.signals.as_fd()) else { return };
        match number {
            libc::SIGCHLD => process::reap_all_but(self.pid),
            libc::SIGPIPE | libc::SIGURG => {}
            libc::SIGWINCH => {
                if let Some(proxy) = &self.proxy {
                    proxy.copy_size();
                }
            }
            number => {
                // It can have ended a moment ago.
                let _ = process::pidfd_signal(self.pidfd, number);
            }
        }
    }
}
