//! Networks: their records, the default one, and who is on them. The kernel's side is `tinyd_net`.

use std::{collections::BTreeMap, sync::Arc};

use tinyd_core::{
    Error, Kind, Name, Result,
    config::{NetworkConfig, NetworkDriver},
};
use tinyd_net::{BridgeConfig, DEFAULT_NETWORK, Pool, Subnet, check_subnet, choose_subnet};

use crate::{
    Inner,
    api::{NetworkDetails, NetworkView},
    blocking, check,
    container::now,
    files::{self, Durability},
    list,
    registry::{Network, Tables, no_network},
};

/// The networks that every daemon has beside the default one.
const BUILT_IN: [(&str, NetworkDriver); 2] = [("host", NetworkDriver::Host), ("none", NetworkDriver::None)];
/// How many containers a refusal names.
const USERS_TOLD: usize = 5;

/// The default network's name.
pub(crate) fn default_name() -> Name {
    Name::parse("network", DEFAULT_NETWORK)
        .unwrap_or_else(|_| unreachable!("the default network's name is a name"))
}

/// Makes a network. The record is written before anything is made.
pub(crate) async fn create(inner: &Arc<Inner>, config: NetworkConfig) -> Result<NetworkView> {
    match config.driver {
        NetworkDriver::Bridge => {}
        NetworkDriver::Host | NetworkDriver::None => {
            return Err(Error::invalid(
                "--driver",
                "networks of the drivers host and none are built in (--net host, --net none); make one of driver bridge",
            ));
        }
    }
    check::check_labels(&config.labels)?;
    let inner = Arc::clone(inner);
    blocking(move || make(&inner, config)).await
}

fn make(inner: &Inner, config: NetworkConfig) -> Result<NetworkView> {
    let name = config.name.clone();
    let config = claim(inner, config)?;
    let made = record_and_bridge(inner, &config);
    let mut tables = inner.registry.lock();
    match made {
        Ok(bridge) => {
            if let Some(network) = tables.networks.get_mut(&name) {
                network.bridge = Some(bridge.clone());
            }
            Ok(NetworkView { config, interface: Some(bridge.interface) })
        }
        Err(error) => {
            tables.networks.remove(&name);
            drop(tables);
            if let Err(error) =
                inner.net.delete_bridge(&name).and_then(|()| files::remove(&inner.layout.network(&name)))
            {
                tracing::warn!(%error, "undo: remove network {name}");
            }
            Err(error.context(format_args!("create network {name}")))
        }
    }
}

fn record_and_bridge(inner: &Inner, config: &NetworkConfig) -> Result<tinyd_net::Bridge> {
    files::write_json(&inner.layout.network(&config.name), config, Durability::Synced)?;
    inner.net.ensure_bridge(&bridge_config(config)?)
}

/// Takes name and subnet under one lock.
fn claim(inner: &Inner, mut config: NetworkConfig) -> Result<NetworkConfig> {
    let routes = inner.net.host_routes()?;
    let wanted = config.subnet.as_deref().map(Subnet::parse).transpose()?;
    let mut tables = inner.registry.lock();
    let is_taken = |name: &Name| {
        tables.networks.contains_key(name) || BUILT_IN.iter().any(|(built_in, _)| *built_in == name.as_str())
    };
    if is_taken(&config.name) {
        return Err(Error::new(Kind::AlreadyExists, format!("a network is called {} already", config.name))
            .of_field("NAME"));
    }
    let known: Vec<(Name, Subnet)> =
        tables.networks.iter().map(|(name, network)| (name.clone(), network.subnet)).collect();
    let subnet = match wanted {
        Some(subnet) => check_subnet(subnet, &known, &routes).map(|()| subnet)?,
        None => choose_subnet(&known, &routes)?,
    };
    let gateway = config.gateway.unwrap_or_else(|| subnet.first_host());
    subnet.check_gateway(gateway)?;
    config.subnet = Some(subnet.to_string());
    config.gateway = Some(gateway);
    config.created_unix_nanos = now();
    tables.networks.insert(config.name.clone(), entry(&config, subnet, gateway));
    Ok(config)
}

fn entry(config: &NetworkConfig, subnet: Subnet, gateway: std::net::Ipv4Addr) -> Network {
    Network { config: config.clone(), subnet, gateway, bridge: None, pool: Pool::new(subnet, gateway) }
}

fn bridge_config(config: &NetworkConfig) -> Result<BridgeConfig> {
    let subnet = Subnet::parse(config.subnet.as_deref().unwrap_or_default())?;
    let gateway = config.gateway.unwrap_or_else(|| subnet.first_host());
    Ok(BridgeConfig { network: config.name.clone(), subnet, gateway })
}

/// At the engine's start: the recorded networks are there again, and the default one.
pub(crate) fn restore(inner: &Inner) -> Result<()> {
    for name in files::names(&inner.layout.networks()) {
        let path = inner.layout.networks().join(&name);
        let Some(_) = name.strip_suffix(".json") else {
            // Half-written.
            files::remove(&path)?;
            continue;
        };
        match restore_one(inner, &path) {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "restore the network of {path:?}"),
        }
    }
    if !inner.registry.lock().networks.contains_key(&default_name()) {
        let config = NetworkConfig {
            name: default_name(),
            driver: NetworkDriver::Bridge,
            subnet: inner.config.default_subnet.clone(),
            gateway: None,
            labels: BTreeMap::new(),
            created_unix_nanos: 0,
        };
        make(inner, config)?;
    }
    Ok(())
}

fn restore_one(inner: &Inner, path: &std::path::Path) -> Result<()> {
    let Some(config) = files::read_json::<NetworkConfig>(path)? else { return Ok(()) };
    let bridge = bridge_config(&config)?;
    let mut network = entry(&config, bridge.subnet, bridge.gateway);
    // A bridge that cannot be made now is tried again at the next start; the network stays known, and its name taken.
    match inner.net.ensure_bridge(&bridge) {
        Ok(made) => network.bridge = Some(made),
        Err(error) => tracing::error!(%error, "restore the bridge of network {}", config.name),
    }
    inner.registry.lock().networks.insert(config.name.clone(), network);
    Ok(())
}

/// All networks, by name.
pub(crate) fn list(inner: &Inner) -> Vec<NetworkView> {
    let tables = inner.registry.lock();
    let mut all: Vec<NetworkView> = tables.networks.values().map(view).collect();
    all.extend(BUILT_IN.iter().filter_map(|(name, driver)| built_in(name, *driver)));
    all.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    all
}

fn view(network: &Network) -> NetworkView {
    let interface = network.bridge.as_ref().map(|bridge| bridge.interface.clone());
    NetworkView { config: network.config.clone(), interface }
}

fn built_in(name: &str, driver: NetworkDriver) -> Option<NetworkView> {
    let name = Name::parse("network", name).ok()?;
    let config = NetworkConfig {
        name,
        driver,
        subnet: None,
        gateway: None,
        labels: BTreeMap::new(),
        created_unix_nanos: 0,
    };
    Some(NetworkView { config, interface: None })
}

/// One network, and who is on it.
pub(crate) fn inspect(inner: &Inner, name: &str) -> Result<NetworkDetails> {
    let found = list(inner).into_iter().find(|network| network.config.name.as_str() == name);
    let Some(network) = found else {
        return Err(no_network(&check::parse_name("NETWORK", "network", name)?).of_field("NETWORK"));
    };
    let members = inner
        .registry
        .all()
        .iter()
        .map(|handle| {
            (handle.record.id.clone(), handle.record.name.to_string(), list::endpoint(&handle.record))
        })
        .filter(|(_, _, endpoint)| endpoint.network == name)
        .collect();
    Ok(NetworkDetails { network, members })
}

/// Removes a network that nobody is on.
pub(crate) async fn delete(inner: &Arc<Inner>, name: &str) -> Result<()> {
    let name = check::parse_name("NETWORK", "network", name)?;
    let built_in = BUILT_IN.iter().any(|(built_in, _)| *built_in == name.as_str());
    if built_in || name == default_name() {
        return Err(Error::invalid("NETWORK", format!("network {name} is built in and stays")));
    }
    let inner = Arc::clone(inner);
    blocking(move || {
        let network = take(&mut inner.registry.lock(), &name)?;
        let deleted =
            inner.net.delete_bridge(&name).and_then(|()| files::remove(&inner.layout.network(&name)));
        if deleted.is_err() {
            inner.registry.lock().networks.insert(name.clone(), network);
        }
        deleted.map_err(|error| error.context(format_args!("delete network {name}")))
    })
    .await
}

/// Takes a network out, so that nobody joins it any more.
fn take(tables: &mut Tables, name: &Name) -> Result<Network> {
    let users: Vec<String> = tables
        .members(name)
        .map(|handle| format!("{} ({})", handle.record.name, handle.record.id.short()))
        .collect();
    if !users.is_empty() {
        let more = users.len().saturating_sub(USERS_TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let told = users.iter().take(USERS_TOLD).cloned().collect::<Vec<_>>().join(", ");
        return Err(Error::new(Kind::WrongState, format!("network {name} is in use by {told}{more}")));
    }
    tables.networks.remove(name).ok_or_else(|| no_network(name).of_field("NETWORK"))
}
