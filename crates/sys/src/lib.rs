//! The kernel boundary: system calls, their arguments and their failures. The only `unsafe` of the workspace.
//!
//! Mechanism without opinion: no OCI word, no policy, no path of tinyd's. Every failure says which call was made with what
//! (see [`Error`]). Descriptors go in borrowed and come out owned, with `O_CLOEXEC` always.

#[cfg(target_arch = "x86_64")]
mod entry;
mod error;

pub mod bpf;
pub mod cgroup;
pub mod creds;
pub mod datagram;
pub mod fs;
pub mod heap;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod ns;
pub mod path;
pub mod poll;
pub mod process;
pub mod resources;
pub mod seccomp;
pub mod socket;
pub mod start;
pub mod tty;

pub use error::{Ask, Error, Result};
