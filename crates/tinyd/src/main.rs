//! `tinyd`: the command line, and as `tinyd daemon` the daemon. This file only finds the way in.

mod api;
mod cli;
mod client;
mod daemon;
mod pb;
mod tls;

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    cli::main(args)
}
