//! What `run` and `create` take: the definition of a container, from typed words to the engine's words. Each part reads
//! its own flags; errors name the flag as the user spells it.

mod env;
mod health;
mod image;
mod limits;
mod mounts;
mod network;
mod process;
mod security;

pub(super) use env::{entries as env_entries, read_file as read_env_file};
pub(super) use image::{ImageArgs, Pull};
pub(super) use process::{absolute_dir, seconds};

use clap::Args;
use tinyd_core::{
    Error, Name, Result,
    config::{ContainerConfig, check_argv, check_env},
};

/// Where paths in a definition are looked up: this process's working directory, environment and files.
pub(super) trait Here {
    /// An absolute path for one that begins with `.`.
    ///
    /// # Errors
    /// The working directory is gone.
    fn absolute(&self, path: &str) -> std::io::Result<String>;
    /// A variable of the environment.
    fn env(&self, key: &str) -> Option<String>;
    /// The text of a file.
    ///
    /// # Errors
    /// It cannot be read, or is not UTF-8.
    fn text(&self, path: &str) -> std::io::Result<String>;
}

/// This process.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThisProcess;

impl Here for ThisProcess {
    fn absolute(&self, path: &str) -> std::io::Result<String> {
        let joined = std::env::current_dir()?.join(path);
        // Dots are taken away as text: the daemon looks the path up, and it may be a link there.
        let mut plain = std::path::PathBuf::new();
        for part in joined.components() {
            match part {
                std::path::Component::CurDir => {}
                std::path::Component::ParentDir => {
                    plain.pop();
                }
                std::path::Component::Prefix(_)
                | std::path::Component::RootDir
                | std::path::Component::Normal(_) => {
                    plain.push(part);
                }
            }
        }
        plain
            .into_os_string()
            .into_string()
            .map_err(|_| std::io::Error::other("the working directory is not UTF-8"))
    }

    fn env(&self, key: &str) -> Option<String> {
        std::env::var(key).ok()
    }

    fn text(&self, path: &str) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

// The definition of a container.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Definition {
    #[command(flatten)]
    pub(super) image: ImageArgs,
    /// Its name: letters, digits, '_', '.', '-'; one is made when absent
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Give it a terminal and this client's input (also -it)
    #[arg(long = "it", short = 't', visible_alias = "tty")]
    pub(super) terminal: bool,
    /// Keep standard input open and send this client's, with no terminal
    #[arg(long)]
    pub(super) interactive: bool,
    /// Remove it when it ends
    #[arg(long = "rm")]
    auto_remove: bool,
    /// A label; several may be given
    #[arg(long, short = 'l', value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// The program and its arguments, else the image's; the image before them when there is no -i
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    words: Vec<String>,
    #[command(flatten)]
    process: process::ProcessArgs,
    #[command(flatten)]
    health: health::HealthArgs,
    #[command(flatten)]
    limits: limits::LimitArgs,
    #[command(flatten)]
    network: network::NetworkArgs,
    #[command(flatten)]
    mounts: mounts::MountArgs,
    #[command(flatten)]
    security: security::SecurityArgs,
}

impl Definition {
    /// What the words mean. Nothing is asked of the daemon; it checks again.
    ///
    /// # Errors
    /// `InvalidArgument` of the flag at fault.
    pub(super) fn config(self, here: &impl Here) -> Result<ContainerConfig> {
        let (image, command) = image::image_and_command(self.image.image, self.words, here)?;
        check_argv("COMMAND", &command)?;
        let mut config = ContainerConfig {
            name: self.name.map(|name| Name::parse("--name", &name)).transpose()?,
            image,
            platform: self.image.platform,
            command,
            labels: labels("--label", &self.label)?,
            tty: self.terminal,
            stdin_open: self.terminal || self.interactive,
            auto_remove: self.auto_remove,
            healthcheck: self.health.check()?,
            resources: self.limits.resources()?,
            mounts: self.mounts.mounts(here)?,
            security: self.security.security(here)?,
            ..ContainerConfig::default()
        };
        self.network.apply(&mut config)?;
        self.process.apply(&mut config, here)?;
        check_env("-e", &config.env)?;
        Ok(config)
    }
}

/// `KEY=VALUE` words as a map; a word without `=` is a key with an empty value.
///
/// # Errors
/// `InvalidArgument` of `field`: an empty key, a control character.
pub(super) fn labels(field: &str, words: &[String]) -> Result<std::collections::BTreeMap<String, String>> {
    let pair = |word: &String| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key.is_empty() || word.chars().any(char::is_control) {
            return Err(Error::invalid(field, format!("{word:?} is not KEY=VALUE")));
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}

#[cfg(test)]
mod tests;
