//! `tinyd kill`: sends a signal to the first process of containers.

use clap::Args;
use tinyd_core::config::Signal;

use super::{each::each, failure::Result, globals::Globals, remote::answer, verb::Verb};
use crate::pb;

/// Send a signal to the first process of containers
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd kill c1\n  tinyd kill -s HUP c1 c2")]
pub(super) struct Kill {
    /// By name or number: TERM, SIGHUP, 9, RTMIN+3
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Verb for Kill {
    fn run(self, globals: &Globals) -> Result<u8> {
        let signal = Signal::parse("--signal", &self.signal)?.number();
        globals.online(async move |remote| {
            each(self.containers, |container| {
                let mut containers = remote.containers();
                async move {
                    answer(containers.kill(pb::KillRequest { container: container.clone(), signal })).await?;
                    Ok(container)
                }
            })
            .await
        })
    }
}
