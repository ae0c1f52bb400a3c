//! `tinyd rm`: removes containers with what they wrote.

use clap::Args;

use super::{each::each, failure::Result, globals::Globals, remote::answer, verb::Verb};
use crate::pb;

/// Remove containers, with everything they wrote outside of volumes
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd rm c1 c2\n  tinyd rm -f $(tinyd ps -aq)")]
pub(super) struct Rm {
    /// Kill those that run first
    #[arg(short, long)]
    force: bool,
    /// With the volumes without a name that they made
    #[arg(short, long)]
    volumes: bool,
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Verb for Rm {
    fn run(self, globals: &Globals) -> Result<u8> {
        let (force, volumes) = (self.force, self.volumes);
        globals.online(async move |remote| {
            each(self.containers, |container| {
                let mut containers = remote.containers();
                async move {
                    let request = pb::RemoveRequest { container: container.clone(), force, volumes };
                    answer(containers.remove(request)).await?;
                    Ok(container)
                }
            })
            .await
        })
    }
}
