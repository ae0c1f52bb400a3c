//! `tinyd network delete`.

use clap::Args;

use crate::{
    cli::{each::each, failure::Result, globals::Globals, remote::answer, verb::Verb},
    pb,
};

/// Remove networks that no container is on
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd network delete mynet")]
pub(in crate::cli) struct Delete {
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Verb for Delete {
    fn run(self, globals: &Globals) -> Result<u8> {
        globals.online(async move |remote| {
            each(self.names, |name| {
                let mut networks = remote.networks();
                async move {
                    answer(networks.delete_network(pb::DeleteNetworkRequest { name: name.clone() })).await?;
                    Ok(name)
                }
            })
            .await
        })
    }
}
