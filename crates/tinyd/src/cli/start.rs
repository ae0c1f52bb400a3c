//! `tinyd start`: runs containers that are created or stopped.

use clap::Args;
use tinyd_core::{Error, Kind};

use super::{
    each::each,
    failure::{Failure, Result, warn},
    globals::Globals,
    remote::answer,
    session::{self, Attaching},
    verb::{Fails, Verb},
};
use crate::pb::{self, attach_open::Target};

/// Start containers that are created or stopped
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd start c1 c2\n  tinyd start --attach job\n\nWith --attach the exit code is the program's own, 125 to 127 as for 'tinyd run'."
)]
pub(super) struct Start {
    /// Stay: show its output, and exit with its status
    #[arg(short, long)]
    attach: bool,
    /// Send this client's standard input too; implies --attach
    #[arg(short, long)]
    interactive: bool,
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Verb for Start {
    fn run(self, globals: &Globals) -> Result<u8> {
        if self.attach || self.interactive {
            let code = attached(self, globals).unwrap_or_else(|failure| failure.tell(Fails::Apart));
            return Ok(code);
        }
        globals.online(async move |remote| {
            each(self.containers, |container| {
                let mut containers = remote.containers();
                async move {
                    let started =
                        answer(containers.start(pb::StartRequest { container: container.clone() })).await?;
                    warn(&started.warnings);
                    Ok(container)
                }
            })
            .await
        })
    }
}

fn attached(start: Start, globals: &Globals) -> Result<u8> {
    let stdin = start.interactive;
    let [container] = <[String; 1]>::try_from(start.containers).map_err(|several| {
        let rule = format!("--attach takes one container, and {} were given", several.len());
        Failure::Told(Error::new(Kind::InvalidArgument, rule))
    })?;
    globals.online(async move |remote| {
        session::run(&remote, Attaching { target: Target::Start(container), stdin }, stdin).await
    })
}
