//! `tinyd volume rm`.

use clap::Args;

use crate::{
    cli::{each::each, failure::Result, globals::Globals, remote::answer, verb::Verb},
    pb,
};

/// Remove volumes that no container has, with their files
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd volume rm data")]
pub(in crate::cli) struct Rm {
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Verb for Rm {
    fn run(self, globals: &Globals) -> Result<u8> {
        globals.online(async move |remote| {
            each(self.names, |name| {
                let mut volumes = remote.volumes();
                async move {
                    answer(volumes.remove_volume(pb::RemoveVolumeRequest { name: name.clone() })).await?;
                    Ok(name)
                }
            })
            .await
        })
    }
}
