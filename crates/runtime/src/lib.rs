//! The OCI runtime and supervisor. A bundle, or a daemon's plan, becomes a container: `plan` decides, `init` acts,
//! `cgroup` limits, `tinyd_seccomp` filters, `shim` supervises. One thread; no async, no gRPC, no TLS.

pub mod caller;
pub mod cgroup;
pub mod cli;
pub mod container;
pub mod exec;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod hooks;
pub mod init;
pub mod launch;
pub mod plan;
pub mod shim;
mod stat;

pub use tinyd_seccomp as seccomp;
