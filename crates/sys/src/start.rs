//! A program's `main` without what the standard library does before its own: it looks for the end of the stack in /proc/self/maps and
//! prepares a second one for the word that the first has overflowed: 17 of the 35 system calls of `tinyrun --version`. What a program
//! relies on is done here.

#![expect(unsafe_code, reason = "the three standard descriptors belong to nobody")]

use std::{io::Write, os::fd::BorrowedFd};

use rustix::{
    fs::{Mode, OFlags},
    io::{Errno, fcntl_getfd},
};

use crate::{poll::ignore_signal, process::exit_now};

/// Makes a function, which returns the exit status, the program's `main`. The program is `#![no_main]` then.
#[macro_export]
macro_rules! plain_main {
    ($main:path) => {
        #[cfg(not(target_env = "gnu"))]
        compile_error!("the standard library gets the arguments before `main` only from glibc");

        #[unsafe(no_mangle)]
        extern "C" fn main() -> i32 {
            $crate::start::run($main)
        }
    };
}

/// Runs `main` and ends the process with what it returns. Standard output is written out first.
pub fn run(main: fn() -> u8) -> ! {
    if let Err(error) = open_streams() {
        // What is opened next would be taken for a standard stream.
        let _ = writeln!(std::io::stderr(), "open(/dev/null): {error}");
        std::process::exit(1)
    }
    // A failed write says so itself.
    ignore_signal(libc::SIGPIPE);
    let status = main();
    // Who writes to it flushes it; what is left cannot be written.
    let _ = std::io::stdout().flush();
    exit_now(status)
}

/// Nothing that is opened later may be taken for one of the three standard descriptors: one that is closed is opened as /dev/null.
fn open_streams() -> rustix::io::Result<()> {
    // SAFETY: fcntl(2) says of a descriptor that is not open that it is not. Nothing else is done with them.
    let streams = [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) });
    for _ in streams.into_iter().filter(|stream| fcntl_getfd(stream) == Err(Errno::BADF)) {
        // The lowest number that is free; it stays open for good.
        std::mem::forget(rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty())?);
    }
    Ok(())
}
