//! `ps` and `inspect`: from records and views to what people are shown.

use std::{fmt::Write, time::Duration};

use tinyd_core::Result;
use tokio::time::timeout;

use crate::{
    Inner,
    api::{ContainerDetails, ContainerSummary, EndpointView},
    handle::{Handle, View},
    record::{Endpoint, Record},
    registry::USERNS_SIZE,
};

/// How long a shim may take to say what it knows.
const STATUS_MAX: Duration = Duration::from_secs(1);

/// All containers, newest first; only those alive unless `all`.
pub(crate) fn list(inner: &Inner, all: bool) -> Vec<ContainerSummary> {
    let mut list: Vec<ContainerSummary> = inner
        .registry
        .all()
        .iter()
        .map(|handle| (handle, handle.view()))
        .filter(|(_, view)| all || view.state.is_alive())
        .map(|(handle, view)| summary(handle, &view))
        .collect();
    list.sort_by(|a, b| b.created_unix_nanos.cmp(&a.created_unix_nanos).then_with(|| a.id.cmp(&b.id)));
    list
}

fn summary(handle: &Handle, view: &View) -> ContainerSummary {
    let record = &handle.record;
    ContainerSummary {
        id: record.id.clone(),
        name: record.name.to_string(),
        image: record.config.image.clone(),
        command: record.argv(),
        created_unix_nanos: record.created_unix_nanos,
        state: view.state,
        oom: view.oom,
        health: view.health.as_ref().map(|health| health.status),
        ports: record.config.ports.clone(),
        mounts: record.config.mounts.clone(),
        labels: record.config.labels.clone(),
        endpoint: endpoint(record),
    }
}

/// Everything about one.
pub(crate) async fn inspect(inner: &Inner, who: &str) -> Result<ContainerDetails> {
    let handle = inner.registry.find(who)?;
    let (record, mut view) = (&handle.record, handle.view());
    // A shim tells of a killed process when its container's state changes; who asks is told now.
    if view.state.is_alive()
        && let Ok(shim) = inner.shim(&record.id)
        && let Ok(Ok(status)) = timeout(STATUS_MAX, shim.status()).await
    {
        view.oom |= status.oom;
    }
    Ok(ContainerDetails {
        id: record.id.clone(),
        config: record.config.clone(),
        created_unix_nanos: record.created_unix_nanos,
        state: view.state,
        oom: view.oom,
        health: view.health,
        endpoint: endpoint(record),
        log_path: inner.layout.log(&record.id),
        storage_driver: record.storage.clone(),
        userns: record.userns(view.host_userns).map(|base| (base, USERNS_SIZE)),
        cgroup: inner.layout.cgroup(&record.id),
        warnings: record.warnings.iter().chain(&view.warnings).cloned().collect(),
        starts: view.starts,
    })
}

/// A container's place on a network, for people.
pub(crate) fn endpoint(record: &Record) -> EndpointView {
    let named = |network: String| EndpointView { network, ..EndpointView::default() };
    match &record.endpoint {
        Endpoint::Host => named("host".into()),
        Endpoint::None => named("none".into()),
        Endpoint::Container(other) => named(format!("container:{other}")),
        Endpoint::Bridge { network, ip, prefix_len, gateway } => EndpointView {
            network: network.to_string(),
            ip: Some(*ip),
            prefix_len: *prefix_len,
            gateway: Some(*gateway),
            mac: Some(hardware_address(tinyd_net::mac_for(*ip))),
        },
    }
}

fn hardware_address(bytes: [u8; 6]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{byte:02x}", if index > 0 { ":" } else { "" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_have_six_parts() {
        assert_eq!(hardware_address([2, 0x42, 10, 5, 0, 2]), "02:42:0a:05:00:02");
    }
}
