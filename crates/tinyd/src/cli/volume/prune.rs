//! `tinyd volume prune`.

use std::io::{self, BufRead, Write};

use clap::Args;
use tinyd_core::size::human_bytes;

use crate::{
    cli::{
        failure::{Failure, Result},
        globals::Globals,
        output,
        remote::answer,
        verb::Verb,
    },
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
        if !self.force && !agreed(&mut io::stdin().lock(), &mut io::stderr().lock()) {
            return Err(Failure::Quiet(1));
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

/// Asks, and takes anything but a yes for a no.
fn agreed(answer: &mut impl BufRead, question: &mut impl Write) -> bool {
    let asked =
        write!(question, "This removes every volume that no container has, with its files. Go on? [y/N] ")
            .and_then(|()| question.flush());
    let mut line = String::new();
    asked.is_ok()
        && answer.read_line(&mut line).is_ok()
        && matches!(line.trim(), "y" | "Y" | "yes" | "Yes" | "YES")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        let agreed = |mut line: &[u8]| agreed(&mut line, &mut io::sink());
        assert!(agreed(b"y\n") && agreed(b" yes \n"));
        assert!(!agreed(b"\n") && !agreed(b"no\n") && !agreed(b"") && !agreed(b"\xff\n"));
    }
}
