//! `tinyrun`: the OCI runtime, and the supervisor as `tinyrun shim`.

#![no_main]

tinyd_sys::plain_main!(tinyd_runtime::cli::main);
