//! `tinyd network create`.

use std::net::Ipv4Addr;

use clap::Args;
use tinyd_core::{Error, Name};

use crate::{
    cli::{definition::labels, failure::Result, globals::Globals, output, remote::answer, verb::Verb},
    pb,
};

/// Make a network
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd network create mynet\n  tinyd network create --subnet 192.168.10.0/24 -d bridge mynet"
)]
pub(in crate::cli) struct Create {
    /// Its addresses, IPv4; chosen to overlap no route of the host when absent
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    subnet: Option<String>,
    /// The bridge's own address; the first of the subnet when absent
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<String>,
    /// How it is made: bridge
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// A label; several may be given
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Verb for Create {
    fn run(self, globals: &Globals) -> Result<u8> {
        let request = self.request()?;
        globals.online(async move |remote| {
            let made = answer(remote.networks().create_network(request)).await?;
            output::print(&format!("{}\n", made.network.unwrap_or_default().name))?;
            Ok(0)
        })
    }
}

impl Create {
    /// What the words mean. Whether the subnet is sound and free the daemon says.
    fn request(self) -> tinyd_core::Result<pb::CreateNetworkRequest> {
        Name::parse("NAME", &self.name)?;
        if let Some(gateway) = &self.gateway
            && gateway.parse::<Ipv4Addr>().is_err()
        {
            return Err(Error::invalid("--gateway", format!("{gateway:?} is not an IPv4 address")));
        }
        Ok(pb::CreateNetworkRequest {
            labels: labels("--label", &self.label)?.into_iter().collect(),
            name: self.name,
            driver: self.driver,
            subnet: self.subnet.unwrap_or_default(),
            gateway: self.gateway.unwrap_or_default(),
        })
    }
}
