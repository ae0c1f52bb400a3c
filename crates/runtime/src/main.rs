//! `tinyrun`: the OCI runtime, and the supervisor as `tinyrun shim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tinyd_runtime::cli::main()
}
