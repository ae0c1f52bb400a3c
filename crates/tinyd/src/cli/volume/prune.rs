//! `tinyd volume prune`.

use std::io::{self, BufRead, Write};

use clap::Args;
use tinyd_core::{Error, size::human_bytes};

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
        if !self.force {
            match ask(&mut io::stdin().lock(), &mut io::stderr().lock()) {
                Some(true) => {}
                Some(false) => return Err(Failure::Quiet(1)),
                None => {
                    return Err(
                        Error::invalid("--force", "nobody answers, so nothing is removed: say it").into()
                    );
                }
            }
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

/// Asks, and takes anything but a yes for a no; `None` when there is no answer.
fn ask(answer: &mut impl BufRead, question: &mut impl Write) -> Option<bool> {
    write!(question, "This removes every volume that no container has, with its files. Go on? [y/N] ")
        .and_then(|()| question.flush())
        .ok()?;
    let mut line = String::new();
    if answer.read_line(&mut line).ok()? == 0 {
        // The question stands alone on its line.
        let _ = writeln!(question);
        return None;
    }
    Some(matches!(line.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        let ask = |mut line: &[u8]| ask(&mut line, &mut io::sink());
        assert!(ask(b"y\n") == Some(true) && ask(b" yes \n") == Some(true));
        assert!(ask(b"\n") == Some(false) && ask(b"no\n") == Some(false));
        assert!(ask(b"").is_none() && ask(b"\xff\n").is_none());
    }
}
