//! How the shim's own process is set up: descriptors, session, signals, memory pressure.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
};

use tinyd_sys::{Ask, Result, poll, socket};

/// SIGHUP: the terminal that the daemon was started from has gone; that is nothing to the shim.
const SIGHUP: i32 = 1;
/// SIGPIPE: a failed write says so itself.
const SIGPIPE: i32 = 13;
/// `/proc/self/oom_score_adj`: the container's processes go first. Higher scores go first.
const OOM_SCORE_ADJ: &str = "-500";

/// Makes this process a supervisor; the listening socket that was standard input.
///
/// # Errors
/// Standard input is no descriptor, `/dev/null` is missing.
pub(super) fn become_supervisor() -> Result<OwnedFd> {
    let listener = socket::duplicate(std::io::stdin().as_fd())?;
    poll::set_nonblocking(listener.as_fd())?;
    let null = tinyd_sys::fs::open_char_device("/dev/null".as_ref(), 1, 3)?;
    // Standard error stays: it is the daemon's log, or nothing.
    poll::put_at(null.as_fd(), 0)?;
    poll::put_at(null.as_fd(), 1)?;
    poll::ignore_signal(SIGHUP);
    poll::ignore_signal(SIGPIPE);
    // EPERM: this process leads a session already.
    let _ = rustix::process::setsid();
    let this = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(this)).ask("prctl(PR_SET_CHILD_SUBREAPER)")?;
    // Lowering it needs CAP_SYS_RESOURCE; without it the shim is as others are.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    Ok(listener)
}
