//! Words and rules of tinyd: what a container is called, which states it has, what sizes,
//! ports and mounts look like, which errors exist, and what daemon and shim say to each other.
//!
//! Nothing in here touches the world: no I/O, no clock, no `unsafe`. That makes every rule a
//! function that a test can call a million times.

pub mod config;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod draw;
pub mod error;
pub mod health;
pub mod id;
pub mod json;
pub mod oci;
pub mod seccomp_profile;
pub mod size;
pub mod state;
pub mod time;
pub mod wire;

pub use error::{Error, Kind, Result};
pub use id::{ContainerId, Name};
pub use state::{Event, Exit, State};
