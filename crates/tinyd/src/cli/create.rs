//! `tinyd create`: defines a container; nothing of it runs.

use clap::Args;

use super::{
    definition::{Definition, ThisProcess},
    failure::{Result, warn},
    globals::Globals,
    missing::Policy,
    output,
    remote::answer,
    verb::{Fails, Verb},
};
use crate::pb;

/// Define a container, to be started later
#[derive(Args, Debug)]
#[command(
    override_usage = "tinyd create [OPTIONS] -i IMAGE [COMMAND]...\n       tinyd create [OPTIONS] IMAGE [COMMAND]...",
    after_help = "Example:\n  tinyd create --name job -i /root/redis /bin/sh -c 'echo done' && tinyd start --attach job\n\nPrints the id. Takes what 'tinyd run' takes."
)]
pub(super) struct Create {
    #[command(flatten)]
    definition: Definition,
}

impl Verb for Create {
    const FAILS: Fails = Fails::Apart;
    const ENDS_FLAGS: bool = true;
    const IMAGE_FLAG: bool = true;

    fn run(self, globals: &Globals) -> Result<u8> {
        let policy = Policy::of(&self.definition.image);
        let config = self.definition.config(&ThisProcess)?;
        globals.online(async move |remote| {
            let create = async || {
                let request = pb::CreateRequest { config: Some(pb::ContainerConfig::from(&config)) };
                Ok(answer(remote.containers().create(request)).await?)
            };
            let made = policy.with_image(&remote, &config, create).await?;
            warn(&made.warnings);
            output::print(&format!("{}\n", made.id))?;
            Ok(0)
        })
    }
}
