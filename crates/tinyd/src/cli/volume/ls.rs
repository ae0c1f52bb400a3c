//! `tinyd volume ls`.

use clap::Args;

use crate::{
    cli::{
        failure::Result, format::Format, globals::Globals, output, remote::answer, table::Table,
        text::short_id, verb::Verb, views::VolumeView,
    },
    pb,
};

/// List volumes
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd volume ls\n  tinyd volume ls -q")]
pub(in crate::cli) struct Ls {
    /// Names only
    #[arg(short, long)]
    quiet: bool,
    /// json, or a template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for Ls {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        globals.online(async move |remote| {
            let volumes = answer(remote.volumes().list_volumes(pb::ListVolumesRequest {})).await?.volumes;
            let text = if self.quiet {
                volumes.iter().map(|volume| format!("{}\n", volume.name)).collect()
            } else {
                let views: Vec<VolumeView> = volumes.iter().map(VolumeView::from).collect();
                format.list(&views, || table(volumes))?
            };
            output::print(&text)?;
            Ok(0)
        })
    }
}

fn table(volumes: Vec<pb::Volume>) -> String {
    let mut table = Table::new(&["NAME", "MOUNTPOINT", "USED BY"]);
    for volume in volumes {
        let users: Vec<&str> = volume.used_by.iter().map(|id| short_id(id)).collect();
        table.row([volume.name, volume.mountpoint, users.join(",")]);
    }
    table.render()
}
