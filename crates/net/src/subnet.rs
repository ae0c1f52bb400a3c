//! Subnets and the addresses in them: pure rules, no kernel.

use std::{collections::HashSet, fmt, net::Ipv4Addr, str::FromStr};

use tinyd_core::{Error, Kind, Name, Result};

/// The option under which a user writes a subnet.
const FIELD: &str = "--subnet";
/// The largest subnet.
const PREFIX_MIN: u8 = 8;
/// The smallest subnet: its own address, a bridge, a container, the broadcast address.
const PREFIX_MAX: u8 = 30;
/// How many ports a Linux bridge has.
pub(crate) const BRIDGE_PORTS: usize = 1023;

/// An IPv4 subnet that a network may have: /8 to /30, no host bits, addresses that can be routed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet {
    base: Ipv4Addr,
    prefix_len: u8,
}

impl Subnet {
    /// Reads `192.168.10.0/24`.
    ///
    /// # Errors
    /// `InvalidArgument` of `--subnet` with value and rule.
    pub fn parse(text: &str) -> Result<Subnet> {
        let shape =
            || Error::invalid(FIELD, format!("{text:?} is not an IPv4 subnet such as 192.168.10.0/24"));
        let (ip, prefix) = text.split_once('/').ok_or_else(shape)?;
        let ip = Ipv4Addr::from_str(ip).map_err(|_| shape())?;
        let digits = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix_len = prefix.parse::<u8>().ok().filter(|_| digits).ok_or_else(shape)?;
        if !(PREFIX_MIN..=PREFIX_MAX).contains(&prefix_len) {
            let rule = if prefix_len > PREFIX_MAX { "too small" } else { "too large" };
            return Err(Error::invalid(FIELD, format!("{text:?} is {rule}: /{PREFIX_MIN} to /{PREFIX_MAX}")));
        }
        let subnet = Subnet::around(ip, prefix_len);
        if subnet.base != ip {
            return Err(Error::invalid(FIELD, format!("{text:?} has host bits set: the subnet is {subnet}")));
        }
        for (reserved, what) in RESERVED {
            if subnet.overlaps(reserved) {
                return Err(Error::invalid(FIELD, format!("{text:?} overlaps {reserved}, which is {what}")));
            }
        }
        Ok(subnet)
    }

    /// The subnet of this length that holds `ip`; for routes, any length from 0 to 32.
    pub(crate) const fn around(ip: Ipv4Addr, prefix_len: u8) -> Subnet {
        Subnet { base: Ipv4Addr::from_bits(ip.to_bits() & mask(prefix_len)), prefix_len }
    }

    /// Its first address.
    #[must_use]
    pub const fn base(self) -> Ipv4Addr {
        self.base
    }

    /// Its prefix length.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Its last address, the broadcast address.
    #[must_use]
    pub const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() | !mask(self.prefix_len))
    }

    /// The address that the bridge gets unless another is asked for: the first.
    #[must_use]
    pub const fn first_host(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    /// Whether `ip` is in it.
    #[must_use]
    pub const fn contains(self, ip: Ipv4Addr) -> bool {
        ip.to_bits() & mask(self.prefix_len) == self.base.to_bits()
    }

    /// Whether any address is in both.
    #[must_use]
    pub const fn overlaps(self, other: Subnet) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }

    /// Checks that `gateway` can be the bridge's own address.
    ///
    /// # Errors
    /// `InvalidArgument` of `--gateway` with value and rule.
    pub fn check_gateway(self, gateway: Ipv4Addr) -> Result<()> {
        let rule = if !self.contains(gateway) {
            "is not in"
        } else if gateway == self.base || gateway == self.broadcast() {
            "is the network or broadcast address of"
        } else {
            return Ok(());
        };
        Err(Error::invalid("--gateway", format!("{gateway} {rule} {self}")))
    }
}

const fn mask(prefix_len: u8) -> u32 {
    match prefix_len {
        0 => 0,
        len => u32::MAX << (32 - len),
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_len)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subnet({self})")
    }
}

const fn reserved(a: u8, b: u8, prefix_len: u8) -> Subnet {
    Subnet { base: Ipv4Addr::new(a, b, 0, 0), prefix_len }
}

/// What no network may have.
const RESERVED: [(Subnet, &str); 5] = [
    (reserved(0, 0, 8), "\"this network\""),
    (reserved(127, 0, 8), "loopback"),
    (reserved(169, 254, 16), "link-local"),
    (reserved(224, 0, 4), "multicast"),
    (reserved(240, 0, 4), "reserved"),
];

/// A route of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// Where it leads.
    pub to: Subnet,
    /// The interface, when it has one.
    pub interface: Option<String>,
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{} on {interface}", self.to),
            None => write!(f, "{}", self.to),
        }
    }
}

/// Checks that a subnet that a user asked for is free.
///
/// # Errors
/// `AlreadyExists` of `--subnet`, naming the network or route in the way.
pub fn check_subnet(subnet: Subnet, networks: &[(Name, Subnet)], routes: &[HostRoute]) -> Result<()> {
    let taken =
        |by: String| Err(Error::new(Kind::AlreadyExists, format!("{subnet} overlaps {by}")).of_field(FIELD));
    if let Some((name, other)) = networks.iter().find(|(_, other)| other.overlaps(subnet)) {
        return taken(format!("network {name} ({other})"));
    }
    match routes.iter().find(|route| route.to.overlaps(subnet)) {
        Some(route) => taken(format!("the host's route {route}")),
        None => Ok(()),
    }
}

/// Chooses a subnet that overlaps nothing: a /16 of 172.18 to 172.31, then of 10.64 to 10.127, then a /20 of 192.168.
///
/// # Errors
/// `Exhausted` when all are taken.
pub fn choose_subnet(networks: &[(Name, Subnet)], routes: &[HostRoute]) -> Result<Subnet> {
    candidates().find(|subnet| check_subnet(*subnet, networks, routes).is_ok()).ok_or_else(|| {
        Error::new(Kind::Exhausted, "no private subnet is left that overlaps no network and no route of the host; choose one with --subnet")
    })
}

fn candidates() -> impl Iterator<Item = Subnet> {
    let wide = |a: u8, b: u8| Subnet::around(Ipv4Addr::new(a, b, 0, 0), 16);
    let narrow = |c: u8| Subnet::around(Ipv4Addr::new(192, 168, c, 0), 20);
    (18..=31)
        .map(move |b| wide(172, b))
        .chain((64..=127).map(move |b| wide(10, b)))
        .chain((0..=15).map(move |c| narrow(c * 16)))
}

/// Hands out the addresses of a subnet, the next one after the last, so that a freed address rests before it is used again.
#[derive(Clone, Debug)]
pub struct Pool {
    subnet: Subnet,
    gateway: Ipv4Addr,
    last: Ipv4Addr,
}

impl Pool {
    /// The addresses of `subnet` but its own, the broadcast address and `gateway`.
    #[must_use]
    pub const fn new(subnet: Subnet, gateway: Ipv4Addr) -> Pool {
        Pool { subnet, gateway, last: subnet.base }
    }

    /// An address that is not in `used`.
    ///
    /// # Errors
    /// `Exhausted` when every address, or every port of the bridge, is in use.
    pub fn allocate(&mut self, used: impl IntoIterator<Item = Ipv4Addr>) -> Result<Ipv4Addr> {
        let used: HashSet<Ipv4Addr> = used.into_iter().collect();
        if used.len() >= BRIDGE_PORTS {
            let rule = format!("network {} is full: a bridge has {BRIDGE_PORTS} ports", self.subnet);
            return Err(Error::new(Kind::Exhausted, rule));
        }
        let (first, end) = (self.subnet.base.to_bits() + 1, self.subnet.broadcast().to_bits());
        let start = (self.last.to_bits() + 1).clamp(first, end);
        let free = (start..end)
            .chain(first..start)
            .map(Ipv4Addr::from_bits)
            .find(|ip| *ip != self.gateway && !used.contains(ip))
            .ok_or_else(|| {
                let count = end - first - 1;
                Error::new(
                    Kind::Exhausted,
                    format!("network {} has no address left: {count} are in use", self.subnet),
                )
            })?;
        self.last = free;
        Ok(free)
    }
}
