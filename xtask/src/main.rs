//! Chores of the repository. `cargo xtask proto` writes the Rust of the gRPC contract, which is committed, so that nobody who
//! builds tinyd needs a protobuf compiler. `cargo xtask order` writes the order in which the functions of tinyrun are linked. Neither touches
//! hand-written code.

#[cfg(target_arch = "x86_64")]
mod order;
mod proto;

use std::{path::Path, process::ExitCode};

const USAGE: &str = "usage: cargo xtask proto    writes crates/tinyd/src/pb from proto/
       cargo xtask order    writes crates/runtime/order.ld from what a container's way executes (as root, on x86_64)\n";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["proto"] => proto::write(&repository(), &repository().join(proto::OUTPUT)),
        #[cfg(target_arch = "x86_64")]
        ["order"] => order::write(&repository(), &repository().join(order::OUTPUT)),
        _ => Err(anyhow::Error::msg(USAGE)),
    };
    outcome.map_or_else(complain, |()| ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "a chore talks to the person at the terminal")]
fn complain(error: anyhow::Error) -> ExitCode {
    eprintln!("xtask: {error:#}");
    ExitCode::FAILURE
}

/// The root of the working tree that this program was built from.
fn repository() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
