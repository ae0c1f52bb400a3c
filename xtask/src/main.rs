//! Chores of the repository. `cargo xtask proto` writes the Rust of the gRPC contract, which is committed, so that nobody who
//! builds tinyd needs a protobuf compiler. It never touches hand-written code.

mod proto;

use std::{path::Path, process::ExitCode};

const USAGE: &str = "usage: cargo xtask proto    writes crates/tinyd/src/pb from proto/\n";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["proto"] => proto::write(&repository(), &repository().join(proto::OUTPUT)),
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
