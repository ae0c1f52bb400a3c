//! `tinyd unpause`: lets paused containers go on.

use clap::Args;

use super::{each::each, failure::Result, globals::Globals, remote::answer, verb::Verb};
use crate::pb;

/// Let paused containers go on
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd unpause c1")]
pub(super) struct Unpause {
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Verb for Unpause {
    fn run(self, globals: &Globals) -> Result<u8> {
        globals.online(async move |remote| {
            each(self.containers, |container| {
                let mut containers = remote.containers();
                async move {
                    let request = pb::UnpauseRequest { container: container.clone() };
                    answer(containers.unpause(request)).await?;
                    Ok(container)
                }
            })
            .await
        })
    }
}
