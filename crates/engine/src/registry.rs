//! Who there is: containers by id and name, networks by name, and what of names, addresses, id ranges and ports is taken. All of it is
//! derived from records; one short lock makes a claim and its check one thing.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tinyd_core::{
    ContainerId, Error, Kind, Name, Result,
    config::{NetworkConfig, Port},
};
use tinyd_net::{Bridge, Pool, Subnet};

use crate::{
    handle::{Handle, View},
    record::{Endpoint, Record},
};

/// The first and the last host id that user namespaces are made of, and how many each has.
const USERNS_FIRST: u32 = 0x4000_0000;
const USERNS_END: u32 = 0x7000_0000;
/// How many ids a user namespace has.
pub(crate) const USERNS_SIZE: u32 = 0x1_0000;
/// How many candidates a message about an ambiguous prefix names.
const CANDIDATES_MAX: usize = 5;

/// Everything that is claimed under one lock.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// All containers.
    pub(crate) containers: BTreeMap<ContainerId, Handle>,
    /// All bridge networks.
    pub(crate) networks: BTreeMap<Name, Network>,
}

/// A bridge network.
#[derive(Debug)]
pub(crate) struct Network {
    /// Its definition, subnet and gateway filled in.
    pub(crate) config: NetworkConfig,
    /// Its addresses.
    pub(crate) subnet: Subnet,
    /// The bridge's address.
    pub(crate) gateway: Ipv4Addr,
    /// The bridge; `None` while it is being made.
    pub(crate) bridge: Option<Bridge>,
    /// Where the next address comes from.
    pub(crate) pool: Pool,
}

/// The tables behind their lock. Never held across an await.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    tables: Mutex<Tables>,
}

impl Registry {
    /// Takes the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic under the lock leaves claims that are at worst too many.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container that is called this: its name, its id, or a unique prefix of its id.
    pub(crate) fn find(&self, who: &str) -> Result<Handle> {
        self.lock().find(who).cloned()
    }

    /// All containers, oldest id first.
    pub(crate) fn all(&self) -> Vec<Handle> {
        self.lock().containers.values().cloned().collect()
    }
}

impl Tables {
    /// The container that is called this.
    pub(crate) fn find(&self, who: &str) -> Result<&Handle> {
        let by_name =
            |handle: &&Handle| handle.record.name.as_str() == who || handle.record.id.as_str() == who;
        if let Some(handle) = self.containers.values().find(by_name) {
            return Ok(handle);
        }
        let is_prefix = !who.is_empty() && who.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let matching: Vec<&Handle> = match is_prefix {
            true => {
                self.containers.values().filter(|handle| handle.record.id.as_str().starts_with(who)).collect()
            }
            false => Vec::new(),
        };
        match matching.as_slice() {
            [handle] => Ok(handle),
            [] => Err(Error::new(Kind::NotFound, format!("no container is called {who:?}"))),
            several => Err(Error::new(Kind::InvalidArgument, ambiguous(who, several))),
        }
    }

    /// Checks that a container name is free.
    pub(crate) fn check_name(&self, name: &Name) -> Result<()> {
        match self.containers.values().find(|handle| handle.record.name == *name) {
            Some(handle) => Err(Error::new(
                Kind::AlreadyExists,
                format!("the name {name} is taken by container {}", handle.record.id.short()),
            )
            .of_field("--name")),
            None => Ok(()),
        }
    }

    /// A range of host ids that no container has.
    pub(crate) fn free_userns(&self) -> Result<u32> {
        let mut taken: Vec<u32> =
            self.containers.values().filter_map(|handle| handle.record.userns_base).collect();
        taken.sort_unstable();
        first_gap(&taken).ok_or_else(|| {
            Error::new(
                Kind::Exhausted,
                format!("no range of {USERNS_SIZE} user ids is left for a user namespace"),
            )
        })
    }

    /// The next free address of a network.
    pub(crate) fn free_address(&mut self, network: &Name) -> Result<Endpoint> {
        let used: Vec<Ipv4Addr> = self.members(network).filter_map(|handle| handle.record.ip()).collect();
        let found = self
            .networks
            .get_mut(network)
            .filter(|found| found.bridge.is_some())
            .ok_or_else(|| no_network(network))?;
        let ip = found.pool.allocate(used).map_err(|error| error.of_field("--net"))?;
        Ok(Endpoint::Bridge {
            network: network.clone(),
            ip,
            prefix_len: found.subnet.prefix_len(),
            gateway: found.gateway,
        })
    }

    /// The containers on a network.
    pub(crate) fn members(&self, network: &Name) -> impl Iterator<Item = &Handle> {
        self.containers.values().filter(move |handle| match &handle.record.endpoint {
            Endpoint::Bridge { network: on, .. } => on == network,
            Endpoint::Host | Endpoint::None | Endpoint::Container(_) => false,
        })
    }

    /// Whether a container that is alive shares this one's network.
    pub(crate) fn shares_network(&self, id: &ContainerId) -> bool {
        self.containers.values().any(|other| {
            matches!(&other.record.endpoint, Endpoint::Container(of) if of == id)
                && other.view().state.is_alive()
        })
    }

    /// Checks that no other container that holds its ports holds one of these.
    pub(crate) fn check_ports(&self, id: &ContainerId, ports: &[Port]) -> Result<()> {
        let holders =
            self.containers.values().filter(|other| other.record.id != *id && other.view().holds_ports);
        for holder in holders {
            for port in ports {
                if holder.record.config.ports.iter().any(|held| same_port(held, port)) {
                    return Err(Error::new(
                        Kind::AlreadyExists,
                        format!(
                            "{port}: host port {}/{} is published by container {} ({})",
                            port.host,
                            port.protocol.word(),
                            holder.record.name,
                            holder.record.id.short()
                        ),
                    )
                    .of_field("-p"));
                }
            }
        }
        Ok(())
    }
}

/// There is no such network.
pub(crate) fn no_network(name: &Name) -> Error {
    Error::new(Kind::NotFound, format!("no network is called {name:?}", name = name.as_str()))
        .of_field("--net")
}

/// Whether two published ports want the same socket.
pub(crate) fn same_port(a: &Port, b: &Port) -> bool {
    let same_address = match (a.host_ip, b.host_ip) {
        (Some(a), Some(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        (None, _) | (_, None) => true,
    };
    a.protocol == b.protocol && a.host == b.host && same_address
}

fn ambiguous(who: &str, several: &[&Handle]) -> String {
    let told: Vec<String> = several
        .iter()
        .take(CANDIDATES_MAX)
        .map(|handle| format!("{} ({})", handle.record.id.short(), handle.record.name))
        .collect();
    let more = several.len().saturating_sub(CANDIDATES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{who:?} is the beginning of {} container ids: {}{more}", several.len(), told.join(", "))
}

/// The first range that is not in the sorted list.
fn first_gap(taken: &[u32]) -> Option<u32> {
    let mut candidate = USERNS_FIRST;
    for base in taken {
        if *base == candidate {
            candidate += USERNS_SIZE;
        } else if *base > candidate {
            break;
        }
    }
    (candidate < USERNS_END).then_some(candidate)
}

impl Record {
    /// Its address, when it has one of its own.
    pub(crate) fn ip(&self) -> Option<Ipv4Addr> {
        match &self.endpoint {
            Endpoint::Bridge { ip, .. } => Some(*ip),
            Endpoint::Host | Endpoint::None | Endpoint::Container(_) => None,
        }
    }
}

impl Handle {
    /// Where the container is now.
    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// The record, shared.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};
    use tinyd_core::config::{ContainerConfig, Protocol};

    use super::*;

    fn handle(first: u8, name: &str, ports: &[&str], holds_ports: bool) -> Handle {
        let record = Record {
            id: ContainerId::from_bytes([first; 32]),
            name: Name::parse("", name).unwrap(),
            created_unix_nanos: 0,
            config: ContainerConfig {
                ports: ports.iter().map(|port| Port::parse("-p", port).unwrap()).collect(),
                ..ContainerConfig::default()
            },
            image: None,
            own_volumes: Vec::new(),
            storage: "overlay".into(),
            userns_base: None,
            endpoint: Endpoint::None,
            run: false,
            era: String::new(),
            warnings: Vec::new(),
        };
        Handle::for_test(record, View { holds_ports, ..View::default() })
    }

    fn tables(handles: impl IntoIterator<Item = Handle>) -> Tables {
        let containers = handles.into_iter().map(|handle| (handle.record.id.clone(), handle)).collect();
        Tables { containers, networks: BTreeMap::new() }
    }

    #[test]
    fn a_name_beats_a_prefix_and_a_prefix_must_be_unique() {
        let tables = tables([
            handle(0xab, "web", &[], false),
            handle(0xac, "db", &[], false),
            handle(0xcd, "ab", &[], false),
        ]);
        assert_eq!(tables.find("ab").unwrap().record.name.as_str(), "ab");
        assert_eq!(tables.find("aba").unwrap().record.name.as_str(), "web");
        assert_eq!(
            tables.find(ContainerId::from_bytes([0xcd; 32]).as_str()).unwrap().record.name.as_str(),
            "ab"
        );
        let error = tables.find("a").unwrap_err();
        assert!(error.message().contains("web") && error.message().contains("db"), "{error}");
        assert_eq!(tables.find("").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(tables.find("nobody").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(
            tables.check_name(&Name::parse("", "web").unwrap()).unwrap_err().kind(),
            Kind::AlreadyExists
        );
    }

    #[test]
    fn a_port_is_held_by_those_that_run() {
        let tables = tables([handle(1, "web", &["8080:80"], true), handle(2, "old", &["9090:80"], false)]);
        let me = ContainerId::from_bytes([9; 32]);
        let check = |port: &str| tables.check_ports(&me, &[Port::parse("-p", port).unwrap()]);
        assert!(check("8080:81").unwrap_err().message().contains("web"));
        assert!(check("127.0.0.1:8080:81").is_err());
        assert!(check("8080:80/udp").is_ok());
        assert!(check("9090:80").is_ok());
        assert_eq!(Port::parse("-p", "1:1/udp").unwrap().protocol, Protocol::Udp);
    }

    proptest! {
        #[test]
        fn a_range_is_never_given_twice(taken in btree_set(0u32..40, 0..40)) {
            let taken: Vec<u32> = taken.into_iter().map(|n| USERNS_FIRST + n * USERNS_SIZE).collect();
            let base = first_gap(&taken).unwrap();
            prop_assert!(!taken.contains(&base));
            prop_assert!(base.is_multiple_of(USERNS_SIZE) && (USERNS_FIRST..USERNS_END).contains(&base));
        }
    }

    #[test]
    fn the_last_range_is_the_last() {
        let all: Vec<u32> = (USERNS_FIRST..USERNS_END).step_by(USERNS_SIZE as usize).collect();
        assert_eq!(first_gap(&all), None);
    }
}
