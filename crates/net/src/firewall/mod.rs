//! The daemon's nftables table. What should be in it is kept here, as the engine said it; the kernel's copy follows in small transactions, and
//! is rebuilt as a whole when somebody has meddled with it.

mod element;
mod expression;
mod rules;
mod transaction;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use element::Element;
use tinyd_core::{
    ContainerId, Result,
    config::{Port, Protocol},
};
use tinyd_sys::netlink::{Family, Socket};
use transaction::Transaction;

use crate::{Bridge, Endpoint, Subnet, conntrack, internal};

/// The table, and what should be in it.
#[derive(Debug)]
pub(crate) struct Firewall {
    table: String,
    kernel: Kernel,
    /// By interface.
    networks: BTreeMap<String, Subnet>,
    containers: BTreeMap<ContainerId, Published>,
    /// The host's ruleset number after our last change, when nobody else changed it in between.
    generation: Option<u32>,
}

/// Whether this kernel does nftables.
#[derive(Debug)]
enum Kernel {
    Has(Socket),
    Lacks(String),
}

#[derive(Debug)]
struct Published {
    ip: Ipv4Addr,
    ports: Vec<Port>,
}

impl Firewall {
    /// Looks whether the kernel does nftables; changes nothing.
    pub(crate) fn open(table: String) -> Firewall {
        let probe = Socket::open(Family::Netfilter)
            .and_then(|mut socket| transaction::generation(&mut socket).map(|_| socket));
        let kernel = match probe {
            Ok(socket) => Kernel::Has(socket),
            Err(error) => Kernel::Lacks(tinyd_core::error::chain(&error)),
        };
        Firewall { table, kernel, networks: BTreeMap::new(), containers: BTreeMap::new(), generation: None }
    }

    /// Why there is no firewall, when there is none.
    pub(crate) fn lack(&self) -> Option<&str> {
        match &self.kernel {
            Kernel::Has(_) => None,
            Kernel::Lacks(why) => Some(why),
        }
    }

    /// Chains of others that drop forwarded packets by default; none that can be seen, when the kernel does not say.
    pub(crate) fn dropping_chains(&mut self) -> Vec<String> {
        match &mut self.kernel {
            Kernel::Has(socket) => transaction::dropping_chains(socket).unwrap_or_default(),
            Kernel::Lacks(_) => Vec::new(),
        }
    }

    /// Everything anew, for these networks and containers.
    pub(crate) fn restore(&mut self, networks: &[(Bridge, Subnet)], endpoints: &[Endpoint]) -> Result<()> {
        self.networks = networks.iter().map(|(bridge, subnet)| (bridge.interface.clone(), *subnet)).collect();
        self.containers =
            endpoints.iter().map(|endpoint| (endpoint.container.clone(), published(endpoint))).collect();
        self.rebuild()
    }

    /// A network comes.
    pub(crate) fn add_network(&mut self, interface: &str, subnet: Subnet) -> Result<()> {
        if self.networks.get(interface) == Some(&subnet) {
            return Ok(());
        }
        let changed = self.networks.insert(interface.to_owned(), subnet).is_some();
        if changed {
            return self.rebuild();
        }
        let elements = element::of_network(interface, subnet).into_iter().collect();
        self.change(|transaction| transaction.add_elements(&elements))
    }

    /// A network goes.
    pub(crate) fn remove_network(&mut self, interface: &str) -> Result<()> {
        let Some(subnet) = self.networks.remove(interface) else { return Ok(()) };
        let elements = element::of_network(interface, subnet).into_iter().collect();
        self.change(|transaction| transaction.delete_elements(&elements))
    }

    /// A container's ports lead to it.
    pub(crate) fn publish(&mut self, endpoint: &Endpoint) -> Result<()> {
        let elements = element::of_ports(endpoint.ip, &endpoint.ports);
        self.containers.insert(endpoint.container.clone(), published(endpoint));
        if elements.is_empty() {
            return Ok(());
        }
        self.change(|transaction| transaction.add_elements(&elements)).inspect_err(|_| {
            self.containers.remove(&endpoint.container);
        })
    }

    /// They lead to it no more, and datagrams that are on their way there forget it.
    pub(crate) fn unpublish(&mut self, container: &ContainerId) -> Result<()> {
        let Some(Published { ip, ports }) = self.containers.remove(container) else { return Ok(()) };
        let elements = element::of_ports(ip, &ports);
        if elements.is_empty() {
            return Ok(());
        }
        self.change(|transaction| transaction.delete_elements(&elements))?;
        match &mut self.kernel {
            Kernel::Has(socket) if ports.iter().any(|port| port.protocol == Protocol::Udp) => {
                conntrack::forget(socket, ip).map_err(internal)
            }
            Kernel::Has(_) | Kernel::Lacks(_) => Ok(()),
        }
    }

    /// Rebuilds the table if it is not what it should be; says whether it had to.
    pub(crate) fn repair(&mut self) -> Result<bool> {
        let Kernel::Has(socket) = &mut self.kernel else { return Ok(false) };
        let now = transaction::generation(socket).map_err(internal)?;
        if self.generation == Some(now) {
            return Ok(false);
        }
        let elements = self.elements();
        let Kernel::Has(socket) = &mut self.kernel else { return Ok(false) };
        if transaction::is_intact(socket, &self.table, &elements).map_err(internal)? {
            self.generation = Some(now);
            return Ok(false);
        }
        self.rebuild().map(|()| true)
    }

    /// No table.
    pub(crate) fn remove(&mut self) -> Result<()> {
        self.networks.clear();
        self.containers.clear();
        self.generation = None;
        let Kernel::Has(socket) = &mut self.kernel else { return Ok(()) };
        let mut transaction = Transaction::new(&self.table);
        transaction.delete_table();
        transaction.commit(socket).map_err(internal)
    }

    /// All that should be in the sets.
    fn elements(&self) -> BTreeSet<Element> {
        let networks =
            self.networks.iter().flat_map(|(interface, subnet)| element::of_network(interface, *subnet));
        let ports =
            self.containers.values().flat_map(|published| element::of_ports(published.ip, &published.ports));
        networks.chain(ports).collect()
    }

    /// A small change. What is to be changed may be gone with the whole table, when somebody flushed it: then all is made anew, and
    /// that has the change in it.
    fn change(&mut self, fill: impl FnOnce(&mut Transaction<'_>)) -> Result<()> {
        let Kernel::Has(socket) = &mut self.kernel else { return Ok(()) };
        let mut transaction = Transaction::new(&self.table);
        fill(&mut transaction);
        match transaction.commit(socket) {
            Ok(()) => self.note_generation(1),
            Err(error) if error.errno() == Some(libc::ENOENT) => self.rebuild(),
            Err(error) => Err(internal(error)),
        }
    }

    fn rebuild(&mut self) -> Result<()> {
        let elements = self.elements();
        self.generation = None;
        let Kernel::Has(socket) = &mut self.kernel else { return Ok(()) };
        let mut transaction = Transaction::new(&self.table);
        transaction.rebuild(&elements);
        let before = transaction::generation(socket).map_err(internal)?;
        match transaction.commit(socket) {
            Ok(()) => {
                self.generation = Some(before);
                self.note_generation(1)
            }
            // A part of nftables that this kernel was built without.
            Err(error)
                if matches!(error.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) =>
            {
                self.kernel = Kernel::Lacks(tinyd_core::error::chain(&error));
                Ok(())
            }
            Err(error) => Err(internal(error)),
        }
    }

    /// After our own change the number is one more, unless somebody else came between.
    fn note_generation(&mut self, ours: u32) -> Result<()> {
        let Kernel::Has(socket) = &mut self.kernel else { return Ok(()) };
        let now = transaction::generation(socket).map_err(internal)?;
        self.generation = self.generation.filter(|before| before.wrapping_add(ours) == now).map(|_| now);
        Ok(())
    }
}

fn published(endpoint: &Endpoint) -> Published {
    Published { ip: endpoint.ip, ports: endpoint.ports.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_nftables_refuses_nothing() {
        let mut firewall = Firewall::open("tinyd-test".into());
        firewall.kernel = Kernel::Lacks("no such protocol".into());
        let subnet = Subnet::parse("10.5.0.0/16").unwrap();
        let endpoint = Endpoint {
            container: ContainerId::from_bytes([1; 32]),
            interface: "Tiny-docker".into(),
            ip: Ipv4Addr::new(10, 5, 0, 2),
            prefix_len: 16,
            gateway: subnet.first_host(),
            ports: vec![Port::parse("-p", "53:53/udp").unwrap()],
        };
        firewall.restore(&[], &[]).unwrap();
        firewall.add_network("Tiny-docker", subnet).unwrap();
        firewall.publish(&endpoint).unwrap();
        assert!(!firewall.repair().unwrap());
        firewall.unpublish(&endpoint.container).unwrap();
        firewall.remove_network("Tiny-docker").unwrap();
        firewall.remove().unwrap();
        assert_eq!(firewall.lack(), Some("no such protocol"));
    }
}
