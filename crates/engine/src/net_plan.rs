//! From a record to what the network is asked for: pure.

use std::net::SocketAddr;

use tinyd_core::{Name, Result, wire::Forward};
use tinyd_net::Listener;

use crate::{
    record::{Endpoint, Record},
    registry::{Tables, no_network},
};

/// The container's place on its bridge.
pub(crate) fn endpoint(tables: &Tables, record: &Record, network: &Name) -> Result<tinyd_net::Endpoint> {
    let bridge = tables.networks.get(network).and_then(|network| network.bridge.as_ref());
    let bridge = bridge.ok_or_else(|| no_network(network))?;
    on(record, &bridge.interface).ok_or_else(|| no_network(network))
}

/// The container's place on the bridge with this interface; `None` when it is on no bridge.
pub(crate) fn on(record: &Record, interface: &str) -> Option<tinyd_net::Endpoint> {
    match &record.endpoint {
        Endpoint::Bridge { ip, prefix_len, gateway, .. } => Some(tinyd_net::Endpoint {
            container: record.id.clone(),
            interface: interface.to_owned(),
            ip: *ip,
            prefix_len: *prefix_len,
            gateway: *gateway,
            ports: record.config.ports.clone(),
        }),
        Endpoint::Host | Endpoint::None | Endpoint::Container(_) => None,
    }
}

/// Where the shim forwards what reaches the listening sockets, in their order.
pub(crate) fn forwards(record: &Record, listeners: &[Listener]) -> Vec<Forward> {
    let Some(ip) = record.ip() else { return Vec::new() };
    let forward = |listener: &Listener| Forward {
        protocol: listener.port.protocol,
        target: SocketAddr::from((ip, listener.port.container)),
    };
    listeners.iter().map(forward).collect()
}
