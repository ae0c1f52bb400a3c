//! The crate against a real kernel. Each test has network and mount namespaces of its own, and looks at what was done with `ip` and `nft`,
//! which the crate itself never runs.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may end where it stands, and say what it saw"
)]

mod host;
mod links;
mod table;
mod traffic;
