//! For tests and fuzzers: one function for each part that reads what a stranger wrote. Each takes any bytes and panics when a promise
//! is broken; none makes anything that lasts.
//!
//! `cargo test` runs them on the corpus in `/fuzz/corpus` and on mutations of it, `cargo fuzz` with its coverage: both call the same.
//! The product has none of this: it is compiled for tests and with the feature `fuzz`.

#[cfg(test)]
mod tests;

pub(crate) use tinyd_core::draw::Draw;
pub use tinyd_seccomp::fuzz::seccomp;

pub use crate::{
    cgroup::fuzz::{cgroup_path, devices},
    plan::fuzz::{config, mounts},
};

/// Reads bytes in one way.
pub type Target = fn(&[u8]);

/// Every target, and the directory of its corpus.
pub const TARGETS: [(&str, Target); 5] = [
    ("cgroup_path", cgroup_path),
    ("config", config),
    ("devices", devices),
    ("mounts", mounts),
    ("seccomp", seccomp),
];
