//! The network of containers: bridges, veth pairs, addresses, nftables, published ports.
//!
//! Everything goes by netlink and system calls; no program is ever run. This crate keeps no file: what it knows after a start is
//! what the engine tells it ([`Net::restore`]) and what the kernel shows. It has no container's life in it and no policy of
//! names: the engine says who is where.
//!
//! All calls block, most for well under a millisecond: call them off the async threads. A [`Net`] may be shared.

mod bridge;
mod conntrack;
mod firewall;
mod holder;
mod link;
mod ports;
mod resolv;
mod route;
mod subnet;
mod sysctl;
mod veth;

use std::{
    net::Ipv4Addr,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use firewall::Firewall;
pub use ports::{Listener, free_port, reserve};
pub use resolv::{Resolvers, usable_resolvers};
pub use subnet::{HostRoute, Pool, Subnet, Via, check_subnet, choose_subnet};
use tinyd_core::{ContainerId, Error, Name, Result, config::Port};
use tinyd_sys::netlink::{Family, Socket};

/// The default network's name, and its interface's where no other daemon has it.
pub const DEFAULT_NETWORK: &str = "Tiny-docker";

/// A bridge network as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The network.
    pub network: Name,
    /// Its addresses.
    pub subnet: Subnet,
    /// The bridge's own address, in the subnet.
    pub gateway: Ipv4Addr,
}

/// A bridge that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The network.
    pub network: Name,
    /// Its interface on the host.
    pub interface: String,
}

/// A container's place on a bridge network, and what it publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The container.
    pub container: ContainerId,
    /// The bridge's interface on the host, from [`Net::ensure_bridge`].
    pub interface: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix_len: u8,
    /// Its default route: the bridge's address.
    pub gateway: Ipv4Addr,
    /// Published ports.
    pub ports: Vec<Port>,
}

/// What a daemon with this tag owns in the kernel, as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// Its bridges.
    pub bridges: Vec<Bridge>,
    /// The containers, by short id ([`ContainerId::short`]), that have a veth on one of its bridges.
    pub containers: Vec<String>,
}

/// The host's network, as one daemon uses it.
#[derive(Debug)]
pub struct Net {
    tag: String,
    route: Mutex<Socket>,
    firewall: Mutex<Firewall>,
}

impl Net {
    /// Opens the kernel's doors for the daemon called `tag` (letters and digits, one per run directory). The default daemon's
    /// nftables table is `inet tinyd`; any other's is `inet tinyd-TAG`. Changes nothing yet.
    ///
    /// # Errors
    /// When there is no `NETLINK_ROUTE`. Anything else that the host lacks is in [`Net::warnings`].
    pub fn open(tag: &str, default_daemon: bool) -> Result<Net> {
        let table = if default_daemon { "tinyd".to_owned() } else { format!("tinyd-{tag}") };
        let route = Socket::open(Family::Route).map_err(internal)?;
        Ok(Net { tag: tag.to_owned(), route: Mutex::new(route), firewall: Mutex::new(Firewall::open(table)) })
    }

    /// What this host lacks and what is done instead, one line each. Ask after [`Net::restore`]: a kernel may have nftables in part.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = self.firewall().lack() {
            warnings.push(format!(
                "no nftables ({why}): published ports are forwarded by the shim alone, containers have no way out through \
                 the host's address, networks are not kept apart"
            ));
        }
        for chain in self.firewall().dropping_chains() {
            warnings.push(format!(
                "the firewall chain \"{chain}\" of another program drops forwarded packets by default: allow the bridges there, or \
                 containers have no way out (docs/networks.md)"
            ));
        }
        if !sysctl::has_ipv6() {
            warnings.push("no IPv6: published ports answer on IPv4 only".to_owned());
        }
        warnings
    }

    /// Turns on IPv4 forwarding for the host; says whether it was off.
    ///
    /// # Errors
    /// When it is off and cannot be turned on.
    pub fn enable_forwarding(&self) -> Result<bool> {
        sysctl::enable_forwarding()
    }

    /// Makes the network's bridge, or finds it and sets right what differs; adds it to the firewall. Idempotent.
    ///
    /// The default network's interface is called [`DEFAULT_NETWORK`] unless somebody else has that name; the others, and a
    /// second daemon's default, get `td-` and twelve digits of a hash. A bridge found by its mark keeps its name.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is that of an interface that is not ours; `Internal` with the kernel's words.
    pub fn ensure_bridge(&self, config: &BridgeConfig) -> Result<Bridge> {
        let bridge = bridge::ensure(&mut self.route(), &self.tag, config)?;
        self.firewall().add_network(&bridge.interface, config.subnet)?;
        Ok(bridge)
    }

    /// Takes the network's bridge away and out of the firewall. No bridge is no error.
    ///
    /// # Errors
    /// `Internal` with the kernel's words.
    pub fn delete_bridge(&self, network: &Name) -> Result<()> {
        let interface = bridge::delete(&mut self.route(), &self.tag, network)?;
        match interface {
            Some(interface) => self.firewall().remove_network(&interface),
            None => Ok(()),
        }
    }

    /// What this daemon has in the kernel, records or not.
    ///
    /// # Errors
    /// `Internal` with the kernel's words.
    pub fn list_owned(&self) -> Result<Owned> {
        bridge::list(&mut self.route(), &self.tag)
    }

    /// What a new subnet must not overlap: the host's routes, less those of this daemon's own bridges, and its DNS servers.
    ///
    /// # Errors
    /// `Internal` with the kernel's words.
    pub fn host_routes(&self) -> Result<Vec<HostRoute>> {
        let ours: Vec<String> =
            self.list_owned()?.bridges.into_iter().map(|bridge| bridge.interface).collect();
        let mut routes = route::host_routes(&mut self.route(), &ours).map_err(internal)?;
        // A host without the file has no servers to hide.
        let resolvers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        routes.extend(route::resolvers(&resolvers));
        Ok(routes)
    }

    /// Joins a container to its network and publishes its ports: a veth pair with the peer born in `netns` as `eth0`, address,
    /// default route, loopback up, port mappings. `route` is a `NETLINK_ROUTE` socket that was made inside `netns`.
    ///
    /// # Errors
    /// `Internal` with the step and the kernel's words; `Exhausted` when the bridge has no port left. Nothing of the attempt is left.
    pub fn attach(&self, endpoint: &Endpoint, netns: BorrowedFd<'_>, route: OwnedFd) -> Result<()> {
        veth::attach(&mut self.route(), endpoint, netns, route)?;
        let published = self.firewall().publish(endpoint);
        published.inspect_err(|_| {
            // The first failure is what matters; a link that stays is found by its name.
            let _ = self.delete_link(endpoint.container.short());
        })
    }

    /// Sets loopback up in a network namespace that gets nothing else (`--net none`).
    ///
    /// # Errors
    /// `Internal` with the kernel's words.
    pub fn loopback_up(&self, route: OwnedFd) -> Result<()> {
        veth::loopback_up(route)
    }

    /// Unpublishes a container's ports and forgets its UDP conversations. Idempotent, well under a millisecond. The veth pair is not
    /// touched: it ends with the container's network namespace (see [`Net::delete_link`]).
    ///
    /// # Errors
    /// `Internal` with the kernel's words.
    pub fn detach(&self, container: &ContainerId) -> Result<()> {
        self.firewall().unpublish(container)
    }

    /// Deletes a container's veth pair, for one whose namespace somebody keeps alive. No link is no error. Takes about 15 ms: call
    /// it off the critical path.
    ///
    /// # Errors
    /// `Internal` with the kernel's words.
    pub fn delete_link(&self, short_id: &str) -> Result<()> {
        // On a socket of its own: nobody should wait for this one.
        let mut socket = Socket::open(Family::Route).map_err(internal)?;
        link::delete(&mut socket, &veth::name(short_id)).map_err(internal)
    }

    /// At the daemon's start: the firewall is rebuilt for these networks and live endpoints, as one transaction, whatever was there.
    ///
    /// # Errors
    /// `Internal` with the kernel's words.
    pub fn restore(&self, networks: &[(Bridge, Subnet)], endpoints: &[Endpoint]) -> Result<()> {
        self.firewall().restore(networks, endpoints)
    }

    /// Looks whether the firewall is as this daemon made it, and rebuilds it if somebody changed or flushed it. Says whether it had to.
    /// Costs microseconds when no table of the host has changed: call it every few seconds.
    ///
    /// # Errors
    /// `Internal` with the kernel's words.
    pub fn repair(&self) -> Result<bool> {
        self.firewall().repair()
    }

    /// Takes away everything that this daemon owns: the table, the bridges, the links on them.
    ///
    /// # Errors
    /// The first failure, after everything has been tried.
    pub fn remove_all(&self) -> Result<()> {
        let mut first = self.firewall().remove();
        let owned = self.list_owned()?;
        for short_id in &owned.containers {
            first = first.and(self.delete_link(short_id));
        }
        for bridge in &owned.bridges {
            let deleted = link::delete(&mut self.route(), &bridge.interface).map_err(internal);
            first = first.and(deleted);
        }
        first
    }

    // A panic while one of these was held leaves a socket whose late answers are told apart by their numbers, and a table that
    // the next repair compares with the kernel's: both can be used on.

    // Never both at once: each statement gives back what it holds.

    fn route(&self) -> MutexGuard<'_, Socket> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn firewall(&self) -> MutexGuard<'_, Firewall> {
        self.firewall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hardware address of a container: `02:42:` and the four bytes of its address.
#[must_use]
pub fn mac_for(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x42, a, b, c, d]
}

/// A refusal of the kernel that the caller cannot mend.
fn internal(error: tinyd_sys::Error) -> Error {
    Error::internal(&error)
}
