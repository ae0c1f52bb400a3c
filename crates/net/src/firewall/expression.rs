//! What rules are made of, and how the kernel wants it written (linux/netfilter/nf_tables.h).

use tinyd_sys::netlink::Body;

/// An item of a list.
pub(super) const LIST_ELEM: u16 = 1;
/// Bytes of data.
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
/// `NFT_REG32_00`, the first of sixteen registers of four bytes.
const REG32: u32 = 8;

/// One of sixteen registers of four bytes. Longer values take the ones that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(pub(super) u32);

impl Register {
    const fn number(self) -> u32 {
        REG32 + self.0
    }
}

/// A fact about a packet (`NFT_META_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Meta {
    InputInterface = 6,
    OutputInterface = 7,
    Family = 15,
    Protocol = 16,
}

/// A field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Source,
    Destination,
    DestinationPort,
}

impl Field {
    /// Header (1 network, 2 transport), offset, length.
    const fn place(self) -> (u32, u32, u32) {
        match self {
            Field::Source => (1, 12, 4),
            Field::Destination => (1, 16, 4),
            Field::DestinationPort => (2, 2, 2),
        }
    }
}

/// A fact about a connection (`NFT_CT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Ct {
    State = 0,
    Status = 2,
}

impl Ct {
    pub(super) const ESTABLISHED: u32 = 1 << 1;
    pub(super) const RELATED: u32 = 1 << 2;
    /// `IPS_DST_NAT`.
    pub(super) const DST_NAT: u32 = 1 << 5;
}

/// How a packet's way through a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// One step of a rule. A comparison or look-up that does not hold ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    Meta(Meta, Register),
    Load(Field, Register),
    Ct(Ct, Register),
    /// What the destination is to this host (`RTN_*`).
    AddressType(Register),
    Mask {
        register: Register,
        mask: [u8; 4],
    },
    Compare {
        register: Register,
        equal: bool,
        value: Vec<u8>,
    },
    Contains {
        set: &'static str,
        key: Register,
        inside: bool,
    },
    Map {
        map: &'static str,
        key: Register,
        data: Register,
    },
    Dnat {
        address: Register,
        port: Register,
    },
    Masquerade,
    Counter,
    Verdict(Verdict),
}

impl Expression {
    pub(super) const fn load(meta: Meta, register: u32) -> Expression {
        Expression::Meta(meta, Register(register))
    }

    pub(super) fn equals(register: u32, value: &[u8]) -> Expression {
        Expression::Compare { register: Register(register), equal: true, value: value.to_vec() }
    }

    pub(super) fn differs(register: u32, value: &[u8]) -> Expression {
        Expression::Compare { register: Register(register), equal: false, value: value.to_vec() }
    }

    pub(super) const fn any_bit(register: u32, bits: u32) -> Expression {
        Expression::Mask { register: Register(register), mask: bits.to_ne_bytes() }
    }

    pub(super) const fn is_in(set: &'static str, key: u32) -> Expression {
        Expression::Contains { set, key: Register(key), inside: true }
    }

    pub(super) const fn is_not_in(set: &'static str, key: u32) -> Expression {
        Expression::Contains { set, key: Register(key), inside: false }
    }

    /// Writes it as an item of a rule's list.
    pub(super) fn write(&self, body: &mut Body<'_>) {
        match self {
            Expression::Meta(meta, register) => item(body, "meta", |body| {
                body.be32(1, register.number());
                body.be32(2, *meta as u32);
            }),
            Expression::Load(field, register) => item(body, "payload", |body| {
                let (header, offset, len) = field.place();
                body.be32(1, register.number());
                body.be32(2, header);
                body.be32(3, offset);
                body.be32(4, len);
            }),
            Expression::Ct(ct, register) => item(body, "ct", |body| {
                body.be32(1, register.number());
                body.be32(2, *ct as u32);
            }),
            Expression::AddressType(register) => item(body, "fib", |body| {
                const RESULT_ADDRTYPE: u32 = 3;
                const FLAG_DADDR: u32 = 1 << 1;
                body.be32(1, register.number());
                body.be32(2, RESULT_ADDRTYPE);
                body.be32(3, FLAG_DADDR);
            }),
            Expression::Mask { register, mask } => item(body, "bitwise", |body| {
                body.be32(1, register.number());
                body.be32(2, register.number());
                body.be32(3, 4);
                data(body, 4, mask);
                data(body, 5, &[0; 4]);
            }),
            Expression::Compare { register, equal, value } => item(body, "cmp", |body| {
                body.be32(1, register.number());
                body.be32(2, u32::from(!equal));
                data(body, 3, value);
            }),
            Expression::Contains { set, key, inside } => item(body, "lookup", |body| {
                const FLAG_INVERTED: u32 = 1;
                body.text(1, set);
                body.be32(2, key.number());
                body.be32(5, if *inside { 0 } else { FLAG_INVERTED });
            }),
            Expression::Map { map, key, data } => item(body, "lookup", |body| {
                body.text(1, map);
                body.be32(2, key.number());
                body.be32(3, data.number());
            }),
            Expression::Dnat { address, port } => item(body, "nat", |body| {
                const DNAT: u32 = 1;
                body.be32(1, DNAT);
                body.be32(2, libc::NFPROTO_IPV4 as u32);
                body.be32(3, address.number());
                body.be32(5, port.number());
            }),
            Expression::Masquerade => item(body, "masq", |_| ()),
            Expression::Counter => item(body, "counter", |_| ()),
            Expression::Verdict(verdict) => item(body, "immediate", |body| {
                const VERDICT_REGISTER: u32 = 0;
                body.be32(1, VERDICT_REGISTER);
                body.nest(2, |body| body.nest(DATA_VERDICT, |body| body.be32(VERDICT_CODE, *verdict as u32)));
            }),
        }
    }
}

fn item(body: &mut Body<'_>, name: &str, fill: impl FnOnce(&mut Body<'_>)) {
    body.nest(LIST_ELEM, |body| {
        body.text(EXPR_NAME, name);
        body.nest(EXPR_DATA, fill);
    });
}

/// Bytes as the kernel wants data.
pub(super) fn data(body: &mut Body<'_>, kind: u16, value: &[u8]) {
    body.nest(kind, |body| body.bytes(DATA_VALUE, value));
}
