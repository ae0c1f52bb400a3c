//! `tinyd volume prune`.

use std::io::{self, Write};

use clap::Args;
use tinyd_core::size::human_bytes;

use crate::{
    cli::{ask::consent, failure::Result, globals::Globals, output, remote::answer, verb::Verb},
    pb,
};

/// Remove every volume that no container has, with its files
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tinyd volume prune -f\n\nPrints the names of those that went. Asks first, unless told not to."
)]
pub(in crate::cli) struct Prune {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Verb for Prune {
    fn run(self, globals: &Globals) -> Result<u8> {
        if !self.force {
            consent("This removes every volume that no container has, with its files.")?;
        }
        globals.online(async move |remote| {
            let pruned = answer(remote.volumes().prune_volumes(pb::PruneVolumesRequest {})).await?;
            let names: String = pruned.removed.iter().map(|name| format!("{name}\n")).collect();
            output::print(&names)?;
            // Talk, not data: the names above are for programs.
            let _ = writeln!(io::stderr(), "{} freed", human_bytes(pruned.freed_bytes));
            Ok(0)
        })
    }
}
