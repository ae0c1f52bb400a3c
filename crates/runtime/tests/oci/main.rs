//! The OCI command line through its real binary, as root, with a busybox root file system. Every test ends by proving that
//! nothing is left: no record, no cgroup, no mount.

#![expect(clippy::unwrap_used, reason = "a test")]

mod actions;
mod annotations;
mod attributes;
mod calls;
mod descriptors;
mod devices;
mod driver;
mod environment;
mod exec;
mod flags;
mod hooks;
mod identity;
mod isolation;
mod joined;
mod killed;
mod lifecycle;
mod limits;
mod line;
mod meanwhile;
mod mounts;
mod network;
mod planted;
mod process;
mod refused;
mod resources;
mod rootless;
mod seccomp;
mod shares;
mod spellings;
mod swap;
mod sweep;
mod together;
mod users;
mod words;
