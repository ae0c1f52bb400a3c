//! `tinyd daemon`: opens the engine, listens, serves until it is told to end, and lets go without touching a container.

mod options;

pub(crate) use options::{DaemonOptions, Listen, LogFormat, LogLevel, Storage};

/// Runs a daemon until SIGTERM or SIGINT.
///
/// # Errors
/// What stands in its way, before it has said that it is ready.
pub(crate) fn serve(options: DaemonOptions) -> anyhow::Result<()> {
    anyhow::bail!("the daemon is not built yet: {options:?}")
}
