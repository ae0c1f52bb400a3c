//! `tinyd volume create`.

use clap::Args;
use tinyd_core::Name;

use crate::{
    cli::{definition::labels, failure::Result, globals::Globals, output, remote::answer, verb::Verb},
    pb,
};

/// Make a volume; one that is there already is left as it is
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tinyd volume create data && tinyd run -v data:/data -i /root/redis redis-server --dir /data"
)]
pub(in crate::cli) struct Create {
    /// A label; several may be given
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// The name; one is made when absent
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Verb for Create {
    fn run(self, globals: &Globals) -> Result<u8> {
        let name = self
            .name
            .map(|name| Name::parse("NAME", &name))
            .transpose()?
            .map(String::from)
            .unwrap_or_default();
        let request =
            pb::CreateVolumeRequest { name, labels: labels("--label", &self.label)?.into_iter().collect() };
        globals.online(async move |remote| {
            let made = answer(remote.volumes().create_volume(request)).await?;
            output::print(&format!("{}\n", made.volume.unwrap_or_default().name))?;
            Ok(0)
        })
    }
}
