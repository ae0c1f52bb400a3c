//! How the shim's own process is set up: descriptors, session, signals, memory pressure.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
};

use tinyd_sys::{Ask, Result, poll, process, socket};

/// SIGHUP: the terminal that the daemon was started from has gone; that is nothing to the shim.
const SIGHUP: i32 = 1;
/// SIGPIPE: a failed write says so itself.
const SIGPIPE: i32 = 13;
/// Higher scores are killed first when memory runs out: the container's processes are to go before their supervisor.
const OOM_SCORE_ADJ: i32 = -500;
const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// What the process had before it became a supervisor.
#[derive(Debug)]
pub(super) struct Before {
    /// The listening socket that was standard input.
    pub(super) listener: OwnedFd,
    /// The OOM score that the container's processes get unless their configuration names one; `None` when the supervisor
    /// has that too.
    pub(super) oom_score_adj: Option<i32>,
}

/// Makes this process a supervisor.
///
/// # Errors
/// Standard input is no descriptor, `/dev/null` is missing.
pub(super) fn become_supervisor() -> Result<Before> {
    // Whatever the daemon's own starter has left open is not to stay so for as long as the container lives.
    process::close_from(3)?;
    let _ = process::set_name(c"tinyrun-shim");
    let listener = socket::duplicate(std::io::stdin().as_fd())?;
    poll::set_nonblocking(listener.as_fd())?;
    let null = tinyd_sys::fs::open_char_device_rw("/dev/null".as_ref(), 1, 3)?;
    // Standard error stays: it is the daemon's log, or nothing.
    poll::put_at(null.as_fd(), 0)?;
    poll::put_at(null.as_fd(), 1)?;
    poll::ignore_signal(SIGHUP);
    poll::ignore_signal(SIGPIPE);
    // The daemon's directory is not to be held; every path of a plan is absolute.
    rustix::process::chdir(c"/").ask("chdir(/)")?;
    // EPERM: this process leads a session already.
    let _ = rustix::process::setsid();
    let this = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(this)).ask("prctl(PR_SET_CHILD_SUBREAPER)")?;
    Ok(Before { listener, oom_score_adj: lower_oom_score() })
}

/// Lowers the score; what it was. Lowering needs CAP_SYS_RESOURCE: without it the shim is as others are.
fn lower_oom_score() -> Option<i32> {
    let before = fs::read_to_string(OOM_SCORE_FILE).ok()?.trim().parse().ok()?;
    let lowered = before > OOM_SCORE_ADJ && fs::write(OOM_SCORE_FILE, OOM_SCORE_ADJ.to_string()).is_ok();
    lowered.then_some(before)
}
