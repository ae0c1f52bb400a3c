//! `tinyd pull`, `tinyd image pull`.

use std::io::{self, Write};

use clap::Args;
use tinyd_engine::api::Reference;

use super::{
    progress::{Progress, Way},
    transfer::{self, Told, Wanted},
};
use crate::cli::{failure::Result, globals::Globals, verb::Verb};

/// Bring an image in from its registry
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd pull redis:7\n  tinyd pull --platform linux/arm64 registry.example:5000/team/app@sha256:…\n\n'redis' is docker.io/library/redis:latest. Ctrl-C ends it; the next pull goes on where it was.\nPrints the digest and the whole name. See docs/registries.md for mirrors, authorities and passwords."
)]
pub(in crate::cli) struct Pull {
    /// Every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The image for this platform: linux/arm64 [default: the daemon's own]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Print only the whole name
    #[arg(short, long)]
    quiet: bool,
    /// json: a line for everything that happens
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The image, with a tag or a digest
    #[arg(value_name = "NAME")]
    image: String,
}

impl Verb for Pull {
    fn run(self, globals: &Globals) -> Result<u8> {
        let progress = Progress::new(Way::Pull, self.format.as_deref(), self.quiet)?;
        let is_bare = Reference::parse_repository("NAME", &self.image).is_ok();
        if is_bare && !self.all_tags && !progress.is_quiet() && !progress.is_json() {
            // Docker says so, too; it is talk.
            let _ = writeln!(io::stderr().lock(), "Using default tag: latest");
        }
        let platform = self.platform.unwrap_or_default();
        let wanted = Wanted { image: self.image, platform, all_tags: self.all_tags };
        globals.online(async move |remote| {
            transfer::pull(&remote, wanted, progress, Told::Data).await?;
            Ok(0)
        })
    }
}
