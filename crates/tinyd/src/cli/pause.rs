//! `tinyd pause`: freezes every process of containers.

use clap::Args;

use super::{each::each, failure::Result, globals::Globals, remote::answer, verb::Verb};
use crate::pb;

/// Freeze every process of containers
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd pause c1")]
pub(super) struct Pause {
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Verb for Pause {
    fn run(self, globals: &Globals) -> Result<u8> {
        globals.online(async move |remote| {
            each(self.containers, |container| {
                let mut containers = remote.containers();
                async move {
                    let request = pb::PauseRequest { container: container.clone() };
                    answer(containers.pause(request)).await?;
                    Ok(container)
                }
            })
            .await
        })
    }
}
