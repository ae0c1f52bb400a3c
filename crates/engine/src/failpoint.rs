//! Faults on command: a step named in `Config::failpoint` fails. Empty in life.

use tinyd_core::{Error, Kind, Result};

/// The engine's steps of `run` that can be made to fail, in their order.
pub const FAILPOINTS: [&str; 9] = [
    "engine.record",
    "engine.rootfs",
    "engine.ports",
    "engine.shim",
    "engine.create",
    "engine.network",
    "engine.publish",
    "engine.start",
    "engine.running",
];

/// Fails when `step` is the chosen one.
pub(crate) fn fail(chosen: &str, step: &str) -> Result<()> {
    debug_assert!(FAILPOINTS.contains(&step), "{step} is not listed");
    if chosen == step { Err(Error::new(Kind::Internal, format!("failpoint {step}"))) } else { Ok(()) }
}
