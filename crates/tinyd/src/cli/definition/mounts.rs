//! Which files it sees.

use clap::Args;
use tinyd_core::{Result, config::Mount};

use super::{Here, absolute_if_dotted};

// Which files it sees.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Files")]
pub(super) struct MountArgs {
    /// A file or directory of the host, or a named volume; what is missing is made; several may be given
    #[arg(short = 'v', long, value_name = "HOST|NAME:CONTAINER[:ro]")]
    volume: Vec<String>,
    /// A file system in memory: /tmp, /run:size=64m,mode=1777,exec; several may be given
    #[arg(long, value_name = "CONTAINER[:OPTIONS]")]
    tmpfs: Vec<String>,
}

impl MountArgs {
    /// The mounts, volumes first.
    pub(super) fn mounts(self, here: &impl Here) -> Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for text in self.volume {
            mounts.push(Mount::parse_volume("-v", &with_absolute_source(text, here)?)?);
        }
        for text in &self.tmpfs {
            mounts.push(Mount::parse_tmpfs("--tmpfs", text)?);
        }
        Ok(mounts)
    }
}

/// `./data:/data` with the directory that is meant.
fn with_absolute_source(text: String, here: &impl Here) -> Result<String> {
    match text.split_once(':') {
        Some((source, rest)) if source.starts_with('.') => {
            Ok(format!("{}:{rest}", absolute_if_dotted("-v", source.to_owned(), here)?))
        }
        Some(_) | None => Ok(text),
    }
}
