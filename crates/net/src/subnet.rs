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

/// An address range that the host reaches and that a network would hide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// The range.
    pub to: Subnet,
    /// How the host knows it.
    pub via: Via,
}

/// How the host knows an address range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a route over this interface.
    Interface(String),
    /// By a route that leads nowhere: unreachable, blackhole.
    Nowhere,
    /// As one of its DNS servers, most often behind the default route.
    Resolver,
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.via {
            Via::Interface(interface) => write!(f, "route {} on {interface}", self.to),
            Via::Nowhere => write!(f, "route {} to nowhere", self.to),
            Via::Resolver => write!(f, "DNS server {}", self.to.base),
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
        Some(route) => taken(format!("the host's {route}")),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    fn route(text: &str) -> HostRoute {
        let (ip, len) = text.split_once('/').unwrap();
        HostRoute {
            to: Subnet::around(ip.parse().unwrap(), len.parse().unwrap()),
            via: Via::Interface("eth0".into()),
        }
    }

    #[test]
    fn a_bad_subnet_says_which_rule() {
        for (bad, rule) in [
            ("300.1.1.0/24", "is not an IPv4 subnet"),
            ("10.0.0.0", "is not an IPv4 subnet"),
            ("10.0.0.0/", "is not an IPv4 subnet"),
            ("10.0.0.0/+8", "is not an IPv4 subnet"),
            ("10.0.0.0/300", "is not an IPv4 subnet"),
            ("fd00::/64", "is not an IPv4 subnet"),
            ("", "is not an IPv4 subnet"),
            ("10.0.0.0/31", "too small: /8 to /30"),
            ("10.0.0.0/32", "too small"),
            ("0.0.0.0/0", "too large"),
            ("192.168.10.1/24", "host bits set: the subnet is 192.168.10.0/24"),
            ("127.0.0.0/16", "loopback"),
            ("169.254.7.0/24", "link-local"),
            ("224.0.0.0/24", "multicast"),
            ("0.1.0.0/16", "this network"),
            ("255.0.0.0/24", "reserved"),
        ] {
            let error = Subnet::parse(bad).unwrap_err();
            assert_eq!((error.kind(), error.field()), (Kind::InvalidArgument, Some("--subnet")), "{bad}");
            assert!(error.message().contains(rule), "{bad}: {error}");
            assert!(error.message().contains(bad), "{bad}: {error}");
        }
    }

    #[test]
    fn the_ends_of_a_subnet_are_not_its_gateway() {
        let subnet = subnet("192.168.10.0/24");
        assert_eq!(subnet.first_host().to_string(), "192.168.10.1");
        assert!(subnet.check_gateway(Ipv4Addr::new(192, 168, 10, 254)).is_ok());
        for bad in ["192.168.10.0", "192.168.10.255", "192.168.11.1"] {
            let error = subnet.check_gateway(bad.parse().unwrap()).unwrap_err();
            assert_eq!(error.field(), Some("--gateway"));
            assert!(error.message().contains(bad), "{error}");
        }
    }

    #[test]
    fn an_overlap_names_what_is_in_the_way() {
        let networks = [(Name::parse("name", "mine").unwrap(), subnet("10.5.0.0/16"))];
        let routes = [route("172.16.0.0/12")];
        let refused = |text: &str| check_subnet(subnet(text), &networks, &routes).unwrap_err();
        assert!(refused("10.5.7.0/24").message().contains("10.5.7.0/24 overlaps network mine (10.5.0.0/16)"));
        assert!(refused("10.0.0.0/8").message().contains("network mine"));
        let by_route = refused("172.20.0.0/16");
        assert!(by_route.message().contains("the host's route 172.16.0.0/12 on eth0"), "{by_route}");
        assert_eq!((by_route.kind(), by_route.field()), (Kind::AlreadyExists, Some("--subnet")));
        assert!(check_subnet(subnet("10.6.0.0/16"), &networks, &routes).is_ok());
    }

    #[test]
    fn the_last_address_is_given_and_then_no_more() {
        let subnet = subnet("10.0.0.0/29");
        let mut pool = Pool::new(subnet, subnet.first_host());
        let mut used = Vec::new();
        for _ in 0..5 {
            used.push(pool.allocate(used.iter().copied()).unwrap());
        }
        let error = pool.allocate(used.iter().copied()).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        assert!(error.message().contains("10.0.0.0/29 has no address left: 5 are in use"), "{error}");
        let freed = used.remove(2);
        assert_eq!(pool.allocate(used).unwrap(), freed);
    }

    #[test]
    fn a_freed_address_rests() {
        let subnet = subnet("10.0.0.0/24");
        let mut pool = Pool::new(subnet, subnet.first_host());
        let (first, second) = (pool.allocate([]).unwrap(), pool.allocate([]).unwrap());
        assert_eq!((first.to_string(), second.to_string()), ("10.0.0.2".into(), "10.0.0.3".into()));
    }

    #[test]
    fn a_bridge_is_full_before_a_wide_subnet_is() {
        let subnet = subnet("10.0.0.0/8");
        let mut pool = Pool::new(subnet, subnet.first_host());
        let used: Vec<_> =
            (2..BRIDGE_PORTS as u32 + 2).map(|n| Ipv4Addr::from_bits(subnet.base().to_bits() + n)).collect();
        assert!(pool.allocate(used[1..].iter().copied()).is_ok());
        let error = pool.allocate(used).unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        assert!(error.message().contains("1023 ports"), "{error}");
    }

    #[test]
    fn a_host_with_every_private_route_has_no_subnet_left() {
        let routes = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].map(route);
        assert_eq!(choose_subnet(&[], &routes).unwrap_err().kind(), Kind::Exhausted);
        assert!(choose_subnet(&[], &routes[1..]).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(ip: u32, len in PREFIX_MIN..=PREFIX_MAX) {
            let subnet = Subnet::around(Ipv4Addr::from_bits(ip), len);
            if let Ok(read) = Subnet::parse(&subnet.to_string()) {
                prop_assert_eq!(read, subnet);
                prop_assert!(read.contains(read.first_host()) && read.contains(read.broadcast()));
            } else {
                prop_assert!(RESERVED.iter().any(|(reserved, _)| reserved.overlaps(subnet)));
            }
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = Subnet::parse(&text);
        }

        #[test]
        fn overlap_is_a_common_address(a: u32, b: u32, len_a in 0u8..=32, len_b in 0u8..=32) {
            let (a, b) = (Subnet::around(Ipv4Addr::from_bits(a), len_a), Subnet::around(Ipv4Addr::from_bits(b), len_b));
            let apart = a.broadcast() < b.base() || b.broadcast() < a.base();
            prop_assert_eq!(a.overlaps(b), !apart);
            prop_assert_eq!(a.overlaps(b), b.overlaps(a));
        }

        #[test]
        fn a_chosen_subnet_overlaps_nothing(taken in proptest::collection::vec((any::<u32>(), 2u8..=32), 0..40)) {
            let routes: Vec<HostRoute> = taken
                .iter()
                // Near the candidates, or the test would never meet one.
                .map(|(ip, len)| Subnet::around(Ipv4Addr::from_bits(ip & 0x000f_ffff | 0xac10_0000), *len))
                .map(|to| HostRoute { to, via: Via::Nowhere })
                .collect();
            if let Ok(chosen) = choose_subnet(&[], &routes) {
                prop_assert!(routes.iter().all(|route| !route.to.overlaps(chosen)));
                prop_assert_eq!(Subnet::parse(&chosen.to_string()).unwrap(), chosen);
            }
        }

        #[test]
        fn a_pool_gives_what_nobody_has(len in 24u8..=30, frees in proptest::collection::vec(any::<prop::sample::Index>(), 0..200)) {
            let subnet = Subnet::around(Ipv4Addr::new(10, 9, 8, 0), len);
            let mut pool = Pool::new(subnet, subnet.first_host());
            let mut used: Vec<Ipv4Addr> = Vec::new();
            for free in frees {
                match pool.allocate(used.iter().copied()) {
                    Ok(ip) => {
                        prop_assert!(!used.contains(&ip) && ip != subnet.first_host());
                        prop_assert!(subnet.contains(ip) && ip != subnet.base() && ip != subnet.broadcast());
                        used.push(ip);
                    }
                    Err(_) => {
                        prop_assert_eq!(used.len(), (1 << (32 - len)) - 3);
                        used.swap_remove(free.index(used.len()));
                    }
                }
            }
        }
    }
}
