//! The table as data: which sets, which chains, which rules. Nothing in here depends on networks, containers or ports: those are elements
//! of the sets, so the thousandth port costs a packet what the first did.

use super::expression::{Ct, Expression, Field, Meta, Register, Verdict};

/// A named set or map.
pub(super) struct Set {
    pub(super) name: &'static str,
    /// What a key is made of.
    pub(super) key: &'static [Type],
    /// What a key leads to; empty for a set.
    pub(super) data: &'static [Type],
    /// Whether elements are ranges.
    pub(super) interval: bool,
}

/// The types that keys and data are made of. The number is the one that `nft` knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Type {
    Ipv4 = 7,
    Protocol = 12,
    Port = 13,
    Interface = 41,
}

impl Type {
    /// How many bytes it takes in a key: each part is filled up to a register of four.
    pub(super) const fn key_bytes(self) -> u32 {
        match self {
            Type::Ipv4 | Type::Protocol | Type::Port => 4,
            Type::Interface => 16,
        }
    }
}

/// Our bridges.
pub(super) const BRIDGES: &str = "bridges";
/// Each of our bridges beside itself: what stays on one bridge.
pub(super) const WITHIN: &str = "within";
/// Our subnets.
pub(super) const SUBNETS: &str = "subnets";
/// Ports published on every address of the host.
pub(super) const PORTS: &str = "ports";
/// Ports published on one address.
pub(super) const PORTS_OF_ADDRESS: &str = "ports_of_address";

pub(super) const SETS: [Set; 5] = [
    Set { name: BRIDGES, key: &[Type::Interface], data: &[], interval: false },
    Set { name: WITHIN, key: &[Type::Interface, Type::Interface], data: &[], interval: false },
    Set { name: SUBNETS, key: &[Type::Ipv4], data: &[], interval: true },
    Set { name: PORTS, key: &[Type::Protocol, Type::Port], data: &[Type::Ipv4, Type::Port], interval: false },
    Set {
        name: PORTS_OF_ADDRESS,
        key: &[Type::Ipv4, Type::Protocol, Type::Port],
        data: &[Type::Ipv4, Type::Port],
        interval: false,
    },
];

/// A chain at one of the kernel's hooks. What no rule decides is accepted: the host's other firewalls decide.
pub(super) struct Chain {
    pub(super) name: &'static str,
    /// `filter` or `nat`.
    pub(super) kind: &'static str,
    /// `NF_INET_*`.
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) rules: Vec<Rule>,
}

/// A rule, and what it is for. The comment is seen in `nft list ruleset`.
pub(super) struct Rule {
    pub(super) comment: &'static str,
    pub(super) expressions: Vec<Expression>,
}

const PREROUTING: u32 = 0;
pub(super) const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

/// All chains.
pub(super) fn chains() -> Vec<Chain> {
    vec![
        Chain { name: "guard", kind: "filter", hook: PREROUTING, priority: -300, rules: guard() },
        Chain { name: "prerouting", kind: "nat", hook: PREROUTING, priority: -100, rules: published(false) },
        Chain { name: "output", kind: "nat", hook: OUTPUT, priority: -100, rules: published(true) },
        Chain { name: "forward", kind: "filter", hook: FORWARD, priority: 0, rules: forward() },
        Chain { name: "postrouting", kind: "nat", hook: POSTROUTING, priority: 100, rules: masquerade() },
    ]
}

/// A port published on 127.0.0.1 stays the host's own, even where `route_localnet` is on.
fn guard() -> Vec<Rule> {
    let mut expressions =
        vec![Expression::load(Meta::InputInterface, 0), Expression::differs(0, &interface("lo"))];
    expressions.extend(to_loopback(true));
    expressions.push(Expression::Verdict(Verdict::Drop));
    vec![Rule { comment: "nobody outside reaches loopback", expressions }]
}

/// From a port of the host to the container. For what the host sends itself, loopback is left out: the shim's sockets answer there.
fn published(from_host: bool) -> Vec<Rule> {
    let local = || {
        let mut expressions = if from_host { to_loopback(false) } else { ipv4() };
        expressions.extend(to_this_host());
        expressions
    };
    let rule = |comment, key: &[Expression], map| {
        let mut expressions = local();
        expressions.extend_from_slice(key);
        expressions.push(Expression::Map { map, key: Register(0), data: Register(0) });
        expressions.push(Expression::Dnat { address: Register(0), port: Register(1) });
        Rule { comment, expressions }
    };
    vec![
        rule(
            "ports published on one address",
            &[
                Expression::Load(Field::Destination, Register(0)),
                Expression::load(Meta::Protocol, 1),
                Expression::Load(Field::DestinationPort, Register(2)),
            ],
            PORTS_OF_ADDRESS,
        ),
        rule(
            "ports published on every address",
            &[Expression::load(Meta::Protocol, 0), Expression::Load(Field::DestinationPort, Register(1))],
            PORTS,
        ),
    ]
}

/// Who may reach a container: answers, published ports, its own network.
fn forward() -> Vec<Rule> {
    let accept = Expression::Verdict(Verdict::Accept);
    let output = Expression::load(Meta::OutputInterface, 0);
    vec![
        Rule {
            comment: "not to a container",
            expressions: vec![output.clone(), Expression::is_not_in(BRIDGES, 0), accept.clone()],
        },
        Rule {
            comment: "answers",
            expressions: vec![
                Expression::Ct(Ct::State, Register(0)),
                Expression::any_bit(0, Ct::ESTABLISHED | Ct::RELATED),
                Expression::differs(0, &[0; 4]),
                accept.clone(),
            ],
        },
        Rule {
            comment: "published ports",
            expressions: vec![
                Expression::Ct(Ct::Status, Register(0)),
                Expression::any_bit(0, Ct::DST_NAT),
                Expression::differs(0, &[0; 4]),
                accept.clone(),
            ],
        },
        Rule {
            comment: "within one network",
            expressions: vec![
                Expression::load(Meta::InputInterface, 0),
                Expression::load(Meta::OutputInterface, 4),
                Expression::is_in(WITHIN, 0),
                accept,
            ],
        },
        Rule {
            comment: "other networks and other hosts",
            expressions: vec![Expression::Counter, Expression::Verdict(Verdict::Drop)],
        },
    ]
}

/// Containers go out with the host's address, and come back in through a published port with the bridge's.
fn masquerade() -> Vec<Rule> {
    let from_ours = || {
        let mut expressions = ipv4();
        expressions.push(Expression::Load(Field::Source, Register(0)));
        expressions.push(Expression::is_in(SUBNETS, 0));
        expressions.push(Expression::load(Meta::OutputInterface, 0));
        expressions
    };
    let mut outside = from_ours();
    outside.extend([Expression::is_not_in(BRIDGES, 0), Expression::Masquerade]);
    let mut hairpin = from_ours();
    hairpin.extend([
        Expression::is_in(BRIDGES, 0),
        Expression::Ct(Ct::Status, Register(0)),
        Expression::any_bit(0, Ct::DST_NAT),
        Expression::differs(0, &[0; 4]),
        Expression::Masquerade,
    ]);
    vec![
        Rule { comment: "from containers to the outside", expressions: outside },
        Rule { comment: "from containers through published ports", expressions: hairpin },
    ]
}

/// `meta nfproto ipv4`: in an `inet` table the headers' places depend on it.
fn ipv4() -> Vec<Expression> {
    vec![Expression::load(Meta::Family, 0), Expression::equals(0, &[libc::NFPROTO_IPV4 as u8])]
}

/// `ip daddr 127.0.0.0/8`, or not.
fn to_loopback(yes: bool) -> Vec<Expression> {
    let mut expressions = ipv4();
    expressions.push(Expression::Load(Field::Destination, Register(0)));
    expressions.push(Expression::Mask { register: Register(0), mask: [255, 0, 0, 0] });
    let loopback = [127, 0, 0, 0];
    expressions.push(if yes { Expression::equals(0, &loopback) } else { Expression::differs(0, &loopback) });
    expressions
}

/// `fib daddr type local`: an address of this host, whichever it has by now.
fn to_this_host() -> [Expression; 2] {
    let local = u32::from(libc::RTN_LOCAL).to_ne_bytes();
    [Expression::AddressType(Register(0)), Expression::equals(0, &local)]
}

/// An interface's name as a key holds it.
pub(super) fn interface(name: &str) -> [u8; libc::IFNAMSIZ] {
    let mut key = [0; libc::IFNAMSIZ];
    for (to, from) in key.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    key
}
