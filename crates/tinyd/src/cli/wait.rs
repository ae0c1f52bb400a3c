//! `tinyd wait`: waits for containers to end.

use clap::Args;

use super::{each::each, failure::Result, globals::Globals, remote::answer, verb::Verb};
use crate::pb;

/// Wait for containers to end, and print their exit codes
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  code=$(tinyd wait job)\n\nA line for each, in the order given. One that has ended already is told at once."
)]
pub(super) struct Wait {
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Verb for Wait {
    fn run(self, globals: &Globals) -> Result<u8> {
        globals.online(async move |remote| {
            each(self.containers, |container| {
                let mut containers = remote.containers();
                async move {
                    let ended = answer(containers.wait(pb::WaitRequest { container })).await?;
                    Ok(ended.exit.unwrap_or_default().code.to_string())
                }
            })
            .await
        })
    }
}
