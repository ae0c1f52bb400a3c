//! The program: its environment, user, directory, init, end.

use clap::Args;
use tinyd_core::{
    Error, Result,
    config::{ContainerConfig, Signal, User},
};

use super::{Here, env};

// The program.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Program")]
pub(super) struct ProcessArgs {
    /// A variable; KEY alone takes its value from here
    #[arg(short = 'e', long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// A file of variables, KEY=VALUE or KEY on each line, # for comments
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// The working directory, absolute in the container; made if missing
    #[arg(short = 'w', long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who it runs as, by the container's own passwd file or by number
    #[arg(short = 'u', long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The host name; the first 12 digits of the id when absent
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// The program that COMMAND is given to as arguments, in place of the image's; "" is none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Make a small init process 1: it passes signals on and reaps orphans
    #[arg(long)]
    init: bool,
    /// What 'stop' sends first, by name or number [default: the image's, or SIGTERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How many seconds 'stop' waits before SIGKILL [default: 10]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    stop_timeout: Option<String>,
}

impl ProcessArgs {
    /// Writes what was said into the definition.
    pub(super) fn apply(self, config: &mut ContainerConfig, here: &impl Here) -> Result<()> {
        for path in &self.env_file {
            config.env.extend(env::read_file(path, here)?);
        }
        config.env.extend(env::entries("-e", &self.env, here)?);
        config.workdir = self.workdir.map(|dir| absolute_dir("-w", dir)).transpose()?;
        config.user = self.user.map(|user| User::parse("-u", &user)).transpose()?;
        config.hostname = self.hostname;
        config.entrypoint = self
            .entrypoint
            .map(|program| Some(program).filter(|program| !program.is_empty()).into_iter().collect());
        config.init = self.init;
        config.stop_signal =
            self.stop_signal.map(|signal| Signal::parse("--stop-signal", &signal)).transpose()?;
        config.stop_timeout_secs =
            self.stop_timeout.map(|text| seconds("--stop-timeout", &text)).transpose()?;
        Ok(())
    }
}

/// A directory in the container.
///
/// # Errors
/// `InvalidArgument` of `field` unless it begins with `/` and has no control character.
pub(in crate::cli) fn absolute_dir(field: &str, dir: String) -> Result<String> {
    if dir.starts_with('/') && !dir.chars().any(char::is_control) {
        return Ok(dir);
    }
    Err(Error::invalid(field, format!("{dir:?} is not an absolute path in the container: it begins with /")))
}

/// A grace period in seconds.
///
/// # Errors
/// `InvalidArgument` of `field`.
pub(in crate::cli) fn seconds(field: &str, text: &str) -> Result<u32> {
    text.parse()
        .map_err(|_| Error::invalid(field, format!("{text:?} is not a number of seconds: 0 to {}", u32::MAX)))
}
