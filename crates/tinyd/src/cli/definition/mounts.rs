//! Which files it sees.

use clap::Args;
use tinyd_core::{Result, config::Mount};

use super::{Here, image::absolute_if_dotted};

// Which files it sees.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Files")]
pub(super) struct MountArgs {
    /// A file or directory of the host, made if it is missing, or a named volume; several may be given
    #[arg(short = 'v', long, value_name = "HOST|NAME:CONTAINER[:ro]")]
    volume: Vec<String>,
    /// A file system in memory: /tmp, /run:size=64m,mode=1777,exec; several may be given
    #[arg(long, value_name = "CONTAINER[:OPTIONS]")]
    tmpfs: Vec<String>,
}

impl MountArgs {
    /// The mounts, volumes first.
    pub(super) fn mounts(self, here: &impl Here) -> Result<Vec<Mount>> {
        let volumes = self.volume.iter().map(|text| volume(text, here));
        let memory = self.tmpfs.iter().map(|text| Mount::parse_tmpfs("--tmpfs", text));
        volumes.chain(memory).collect()
    }
}

/// One `-v`. `./data` is a directory here; any other word is a path of the daemon's host, or the name of a volume.
fn volume(text: &str, here: &impl Here) -> Result<Mount> {
    match text.split_once(':') {
        Some((source, rest)) => {
            let source = absolute_if_dotted("-v", source.to_owned(), here)?;
            Mount::parse_volume("-v", &format!("{source}:{rest}"))
        }
        None => Mount::parse_volume("-v", text),
    }
}
