//! `tinyd daemon`: opens the engine, listens, serves until it is told to end, and lets go without touching a container.

mod accept;
mod connection;
mod gate;
mod listen;
mod log;
mod notices;
mod notify;
mod options;
mod peer;
mod serve;
#[cfg(test)]
mod tests;

pub(crate) use options::{DaemonOptions, Listen, LogFormat, LogLevel, Storage};
pub(crate) use peer::Peer;
pub(crate) use serve::serve;
