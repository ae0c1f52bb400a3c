//! `tinyd stop`: ends containers: the stop signal, a grace period, SIGKILL.

use clap::Args;

use super::{definition::seconds, each::each, failure::Result, globals::Globals, remote::answer, verb::Verb};
use crate::pb;

/// Stop containers: their stop signal, a grace period, then SIGKILL
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd stop c1 c2\n  tinyd stop -t 0 c1")]
pub(super) struct Stop {
    /// Seconds until SIGKILL; the container's own --stop-timeout when absent
    #[arg(
        short = 't',
        long = "time",
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    timeout: Option<String>,
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Verb for Stop {
    fn run(self, globals: &Globals) -> Result<u8> {
        let timeout_secs = self.timeout.map(|text| seconds("-t", &text)).transpose()?;
        globals.online(async move |remote| {
            each(self.containers, |container| {
                let mut containers = remote.containers();
                async move {
                    let request = pb::StopRequest { container: container.clone(), timeout_secs };
                    answer(containers.stop(request)).await?;
                    Ok(container)
                }
            })
            .await
        })
    }
}
