//! `tinyd run`: makes and starts a container; in the background, or attached until it ends.

use clap::Args;
use tinyd_core::config::ContainerConfig;

use super::{
    definition::{Definition, ThisProcess},
    failure::{Result, warn},
    globals::Globals,
    missing::Policy,
    output,
    remote::{Remote, answer},
    session::{self, Attaching},
    terminal,
    verb::{Fails, Verb},
};
use crate::pb::{self, attach_open::Target};

/// Run a program in a new container
#[derive(Args, Debug)]
#[command(
    override_usage = "tinyd run [OPTIONS] -i IMAGE [COMMAND]...\n       tinyd run [OPTIONS] IMAGE [COMMAND]...",
    after_help = "Examples:
  tinyd run -i /root/redis --cpu 10000 --mem 500m --name c1 -p 8080:80 /bin/sleep 3000
  tinyd run --it -v /root/vol:/root/vol -i /root/redis --net mynet /bin/sh
  tinyd run --rm --attach -i /root/redis redis-server --version

Without -a or --it it runs in the background. Ctrl-P Ctrl-Q leaves a terminal.
Exit codes: the program's own when attached; 125 when tinyd cannot run it, 126 when it cannot be
executed, 127 when it is not there, 128+N when signal N ended it."
)]
pub(super) struct Run {
    /// Print only the id, for scripts
    #[arg(short, long, conflicts_with = "attach")]
    detach: bool,
    /// Stay: show its output, and exit with its status
    #[arg(short, long)]
    attach: bool,
    #[command(flatten)]
    definition: Definition,
}

impl Verb for Run {
    const FAILS: Fails = Fails::Apart;
    const ENDS_FLAGS: bool = true;
    const IMAGE_FLAG: bool = true;

    fn run(self, globals: &Globals) -> Result<u8> {
        let stdin = self.definition.terminal || self.definition.interactive;
        let attached = !self.detach && (self.attach || stdin);
        if attached && self.definition.terminal {
            terminal::require_input("--it")?;
        }
        let policy = Policy::of(&self.definition.image);
        let config = self.definition.config(&ThisProcess)?;
        globals.online(async move |remote| {
            let run = async || {
                if attached {
                    let target = Target::Run(pb::ContainerConfig::from(&config));
                    return session::run(&remote, Attaching { target, stdin }, stdin).await;
                }
                in_the_background(&remote, &config, self.detach).await
            };
            policy.with_image(&remote, &config, run).await
        })
    }
}

async fn in_the_background(remote: &Remote, config: &ContainerConfig, id_only: bool) -> Result<u8> {
    let request = pb::RunRequest { config: Some(pb::ContainerConfig::from(config)) };
    let made = answer(remote.containers().run(request)).await?;
    warn(&made.warnings);
    output::print(&match id_only {
        true => format!("{}\n", made.id),
        false => format!("Create ContainerId {} Successfully\n", made.id),
    })?;
    Ok(0)
}
