//! `tinyd network ls`.

use clap::Args;

use crate::{
    cli::{
        failure::Result, format::Format, globals::Globals, output, remote::answer, table::Table, verb::Verb,
        views::NetworkView,
    },
    pb,
};

/// List networks
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd network ls\n  tinyd network ls --format '{{.Name}} {{.Subnet}}'")]
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
            let networks =
                answer(remote.networks().list_networks(pb::ListNetworksRequest {})).await?.networks;
            let text = if self.quiet {
                networks.iter().map(|network| format!("{}\n", network.name)).collect()
            } else {
                let views: Vec<NetworkView> = networks.iter().map(NetworkView::from).collect();
                format.list(&views, || table(networks))?
            };
            output::print(&text)?;
            Ok(0)
        })
    }
}

fn table(networks: Vec<pb::Network>) -> String {
    let mut table = Table::new(&["NAME", "DRIVER", "SUBNET", "GATEWAY", "INTERFACE"]);
    for network in networks {
        table.row([network.name, network.driver, network.subnet, network.gateway, network.interface]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_without_addresses() {
        let none = pb::Network { name: "none".into(), driver: "none".into(), ..Default::default() };
        assert_eq!(
            table(vec![none]),
            "NAME  DRIVER  SUBNET  GATEWAY  INTERFACE\nnone  none    -       -        -\n"
        );
    }
}
