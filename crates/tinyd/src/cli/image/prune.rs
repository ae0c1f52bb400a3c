//! `tinyd image prune`.

use clap::Args;
use tinyd_core::size::human_bytes;

use crate::{
    cli::{ask::consent, failure::Result, globals::Globals, output, remote::answer, verb::Verb},
    pb,
};

/// Remove images without a name that no container has
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd image prune\n  tinyd image prune -a -f\n\nAsks first, unless told not to."
)]
pub(in crate::cli) struct Prune {
    /// Also those with a name, when no container has them
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Verb for Prune {
    fn run(self, globals: &Globals) -> Result<u8> {
        let what = match self.all {
            true => "This removes every image that no container has.",
            false => "This removes every image that has no name and that no container has.",
        };
        if !self.force {
            consent(what)?;
        }
        globals.online(async move |remote| {
            let request = pb::PruneImagesRequest { all: self.all };
            let gone = answer(remote.images().prune_images(request)).await?;
            let untagged = gone.untagged.iter().map(|name| format!("untagged: {name}\n"));
            let deleted = gone.removed.iter().map(|id| format!("deleted: {id}\n"));
            let lines: String = untagged.chain(deleted).collect();
            let lines = if lines.is_empty() { lines } else { format!("Deleted Images:\n{lines}\n") };
            output::print(&format!("{lines}Total reclaimed space: {}\n", human_bytes(gone.freed_bytes)))?;
            Ok(0)
        })
    }
}
