//! `--init`: a process 1 that starts the program as its child, hands signals on, reaps orphans, and ends with the program's
//! status. It stays in the runtime's own image and holds nothing: no descriptor, no capability beyond the program's.

use std::convert::Infallible;

use tinyd_core::Result;
use tinyd_sys::process;

use crate::launch::step;

/// Starts the program as a child and stays as process 1. Comes back only in the child, with its failure.
pub(super) fn stay(program: impl FnOnce() -> Result<Infallible>) -> Result<Infallible> {
    process::set_not_dumpable().map_err(step("stay as process 1"))?;
    process::block_signals();
    match process::fork().map_err(step("start the program"))? {
        None => {
            process::reset_signals();
            program()
        }
        Some(pid) => {
            // The conversation with the caller is the program's alone now, and so are its streams.
            let _ = process::close_from(0);
            process::exit_now(supervise(pid))
        }
    }
}

/// Hands signals on and reaps until the program ends.
fn supervise(program: i32) -> u8 {
    loop {
        let number = process::next_signal();
        if number != libc::SIGCHLD {
            // It can have ended a moment ago; its end is then the next signal.
            let _ = process::kill(program, number);
            continue;
        }
        while let Some((pid, ended)) = process::take_ended() {
            if pid == program {
                return ended.code();
            }
        }
    }
}
