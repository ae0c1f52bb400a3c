//! Messages to nftables: a transaction that comes true as a whole, and the questions about what is there.

use std::collections::BTreeSet;

use tinyd_sys::{
    Result,
    netlink::{Body, Messages, Reply, Socket},
};

use super::{
    element::{Element, Role},
    expression::{LIST_ELEM, data},
    rules::{Chain, FORWARD, Rule, SETS, Set, chains},
};

/// Length of `struct nfgenmsg`.
const NFGEN_BYTES: usize = 4;
/// How many elements go into one message: an attribute's length has 16 bits.
const ELEMENTS_AT_ONCE: usize = 500;

const SET_MAP: u32 = 8;
const SET_INTERVAL: u32 = 4;
/// Of no interest to the kernel: `nft` wants to know how to print a key.
const KEY_BYTE_ORDER: u8 = 0;
const HOST_ORDER: u32 = 1;
const NETWORK_ORDER: u32 = 2;
const ELEM_INTERVAL_END: u32 = 1;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const ELEM_FLAGS: u16 = 3;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const RULE_CHAIN: u16 = 2;
const RULE_USERDATA: u16 = 7;
/// In every nftables message the first attribute names the table.
const TABLE: u16 = 1;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = (libc::NLM_F_CREATE | libc::NLM_F_APPEND) as u16;

/// A transaction on one table.
pub(super) struct Transaction<'a> {
    table: &'a str,
    messages: Messages,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(table: &'a str) -> Transaction<'a> {
        let mut messages = Messages::new();
        bound(&mut messages, libc::NFNL_MSG_BATCH_BEGIN);
        Transaction { table, messages }
    }

    /// The whole table anew, whatever is there.
    pub(super) fn rebuild(&mut self, elements: &BTreeSet<Element>) {
        self.delete_table();
        self.add(libc::NFT_MSG_NEWTABLE, CREATE, "", |_| ());
        for set in &SETS {
            self.add(libc::NFT_MSG_NEWSET, CREATE, set.name, |body| write_set(body, set));
        }
        for chain in &chains() {
            self.add(libc::NFT_MSG_NEWCHAIN, CREATE, chain.name, |body| write_chain(body, chain));
            for rule in &chain.rules {
                self.add(libc::NFT_MSG_NEWRULE, APPEND, rule.comment, |body| write_rule(body, chain, rule));
            }
        }
        self.add_elements(elements);
    }

    /// No table, whether there is one or not: making it first saves the question.
    pub(super) fn delete_table(&mut self) {
        self.add(libc::NFT_MSG_NEWTABLE, CREATE, "", |_| ());
        self.add(libc::NFT_MSG_DELTABLE, 0, "", |_| ());
    }

    pub(super) fn add_elements(&mut self, elements: &BTreeSet<Element>) {
        self.elements(libc::NFT_MSG_NEWSETELEM, CREATE, elements);
    }

    pub(super) fn delete_elements(&mut self, elements: &BTreeSet<Element>) {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, elements);
    }

    fn elements(&mut self, kind: i32, flags: u16, elements: &BTreeSet<Element>) {
        for set in &SETS {
            let of_set: Vec<&Element> = elements.iter().filter(|element| element.set == set.name).collect();
            for some in of_set.chunks(ELEMENTS_AT_ONCE) {
                self.add(kind, flags, set.name, |body| {
                    body.text(2, set.name);
                    body.nest(3, |body| some.iter().for_each(|element| write_element(body, element)));
                });
            }
        }
    }

    /// Sends it. All of it comes true, or none.
    pub(super) fn commit(mut self, socket: &mut Socket) -> Result<()> {
        bound(&mut self.messages, libc::NFNL_MSG_BATCH_END);
        socket.transaction(self.messages)
    }

    fn add(&mut self, kind: i32, flags: u16, what: &str, fill: impl FnOnce(&mut Body<'_>)) {
        let (table, call) = (self.table, format!("{}({} {what})", name_of(kind), self.table));
        self.messages.add(call, message_type(kind), flags, |body| {
            header(body);
            body.text(TABLE, table);
            fill(body);
        });
    }
}

fn name_of(kind: i32) -> &'static str {
    match kind {
        libc::NFT_MSG_NEWTABLE => "NFT_MSG_NEWTABLE",
        libc::NFT_MSG_DELTABLE => "NFT_MSG_DELTABLE",
        libc::NFT_MSG_NEWSET => "NFT_MSG_NEWSET",
        libc::NFT_MSG_NEWCHAIN => "NFT_MSG_NEWCHAIN",
        libc::NFT_MSG_NEWRULE => "NFT_MSG_NEWRULE",
        libc::NFT_MSG_NEWSETELEM => "NFT_MSG_NEWSETELEM",
        libc::NFT_MSG_DELSETELEM => "NFT_MSG_DELSETELEM",
        _ => "NFT_MSG",
    }
}

const fn message_type(kind: i32) -> u16 {
    ((libc::NFNL_SUBSYS_NFTABLES << 8) | kind) as u16
}

/// `struct nfgenmsg` of an `inet` table.
fn header(body: &mut Body<'_>) {
    body.fixed(&[libc::NFPROTO_INET as u8, 0, 0, 0]);
}

/// The beginning or the end of a batch for nftables.
fn bound(messages: &mut Messages, kind: i32) {
    let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    messages.add("nftables transaction", kind as u16, 0, |body| body.fixed(&[0, 0, high, low]));
}

fn write_set(body: &mut Body<'_>, set: &Set) {
    let kinds = |types: &[super::rules::Type]| types.iter().fold(0, |sum, kind| sum << 6 | *kind as u32);
    let bytes = |types: &[super::rules::Type]| types.iter().map(|kind| kind.key_bytes()).sum();
    let is_map = !set.data.is_empty();
    body.text(2, set.name);
    body.be32(3, if is_map { SET_MAP } else { 0 } | if set.interval { SET_INTERVAL } else { 0 });
    body.be32(4, kinds(set.key));
    body.be32(5, bytes(set.key));
    if is_map {
        body.be32(6, kinds(set.data));
        body.be32(7, bytes(set.data));
    }
    let first_order =
        if set.key.first() == Some(&super::rules::Type::Interface) { HOST_ORDER } else { NETWORK_ORDER };
    let [a, b, c, d] = first_order.to_ne_bytes();
    body.bytes(13, &[KEY_BYTE_ORDER, 4, a, b, c, d]);
    // Sets are found by name, but the kernel wants a number that is theirs in the transaction.
    body.be32(10, SETS.iter().position(|other| other.name == set.name).map_or(0, |at| at as u32 + 1));
}

fn write_chain(body: &mut Body<'_>, chain: &Chain) {
    const ACCEPT: u32 = 1;
    body.text(CHAIN_NAME, chain.name);
    body.nest(CHAIN_HOOK, |body| {
        body.be32(1, chain.hook);
        body.be32(2, chain.priority.cast_unsigned());
    });
    body.be32(CHAIN_POLICY, ACCEPT);
    body.text(7, chain.kind);
}

fn write_rule(body: &mut Body<'_>, chain: &Chain, rule: &Rule) {
    body.text(RULE_CHAIN, chain.name);
    body.nest(4, |body| rule.expressions.iter().for_each(|expression| expression.write(body)));
    body.bytes(RULE_USERDATA, &comment(rule.comment));
}

/// A comment as `nft` keeps it: type 0, length, text, NUL.
fn comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

fn write_element(body: &mut Body<'_>, element: &Element) {
    body.nest(LIST_ELEM, |body| {
        data(body, ELEM_KEY, &element.key);
        if !element.data.is_empty() {
            data(body, ELEM_DATA, &element.data);
        }
        if element.role == Role::RangeEnd {
            body.be32(ELEM_FLAGS, ELEM_INTERVAL_END);
        }
    });
}

/// The number of the host's ruleset: every change of any table makes it another.
pub(super) fn generation(socket: &mut Socket) -> Result<u32> {
    let reply = socket.get("NFT_MSG_GETGEN", message_type(libc::NFT_MSG_GETGEN), header)?;
    let id = reply.attributes(NFGEN_BYTES).find(|attr| attr.kind == 1).and_then(|attr| attr.be32());
    Ok(id.unwrap_or_default())
}

/// Chains of others that drop what is forwarded unless a rule of theirs says otherwise, as `ip filter FORWARD`. No table can overrule them.
pub(super) fn dropping_chains(socket: &mut Socket) -> Result<Vec<String>> {
    let any_family = |body: &mut Body<'_>| body.fixed(&[0; NFGEN_BYTES]);
    let replies = socket.dump("NFT_MSG_GETCHAIN", message_type(libc::NFT_MSG_GETCHAIN), any_family)?;
    Ok(replies.iter().filter_map(dropping_chain).collect())
}

fn dropping_chain(reply: &Reply) -> Option<String> {
    const DROP: u32 = 0;
    let family = match i32::from(*reply.payload.first()?) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        _ => return None,
    };
    let find = |kind| reply.attributes(NFGEN_BYTES).find(|attr| attr.kind == kind);
    let hook = find(CHAIN_HOOK)?.inner().find(|attr| attr.kind == 1)?.be32()?;
    let drops = hook == FORWARD && find(CHAIN_POLICY)?.be32()? == DROP;
    drops.then(|| Some(format!("{family} {} {}", find(TABLE)?.text()?, find(CHAIN_NAME)?.text()?))).flatten()
}

/// Whether the table in the kernel has these elements, and the rules that [`Transaction::rebuild`] writes, in their order.
pub(super) fn is_intact(socket: &mut Socket, table: &str, elements: &BTreeSet<Element>) -> Result<bool> {
    Ok(rules_are_there(socket, table)? && elements_of(socket, table)?.is_some_and(|there| there == *elements))
}

fn rules_are_there(socket: &mut Socket, table: &str) -> Result<bool> {
    let replies = socket.dump("NFT_MSG_GETRULE", message_type(libc::NFT_MSG_GETRULE), |body| {
        header(body);
        body.text(TABLE, table);
    })?;
    let there: Vec<(String, Vec<u8>)> = replies
        .iter()
        .filter(|reply| {
            reply.attributes(NFGEN_BYTES).any(|attr| attr.kind == TABLE && attr.text() == Some(table))
        })
        .map(|reply| {
            let find = |kind| reply.attributes(NFGEN_BYTES).find(|attr| attr.kind == kind);
            let chain = find(RULE_CHAIN).and_then(|attr| attr.text()).unwrap_or_default();
            (chain.to_owned(), find(RULE_USERDATA).map(|attr| attr.value.to_vec()).unwrap_or_default())
        })
        .collect();
    let mut wanted: Vec<(String, Vec<u8>)> = Vec::new();
    for chain in chains() {
        wanted.extend(chain.rules.iter().map(|rule| (chain.name.to_owned(), comment(rule.comment))));
    }
    Ok(there == wanted)
}

/// All elements of all our sets; `None` when a set is gone.
fn elements_of(socket: &mut Socket, table: &str) -> Result<Option<BTreeSet<Element>>> {
    let mut elements = BTreeSet::new();
    for set in &SETS {
        let call = format!("NFT_MSG_GETSETELEM({table} {})", set.name);
        let replies = socket.dump(&call, message_type(libc::NFT_MSG_GETSETELEM), |body| {
            header(body);
            body.text(TABLE, table);
            body.text(2, set.name);
        });
        match replies {
            Ok(replies) => {
                for reply in &replies {
                    let lists = reply.attributes(NFGEN_BYTES).filter(|attr| attr.kind == 3);
                    elements
                        .extend(lists.flat_map(|list| list.inner()).map(|attr| read_element(set.name, attr)));
                }
            }
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(elements))
}

fn read_element(set: &'static str, element: tinyd_sys::netlink::Attribute<'_>) -> Element {
    let find = |kind| element.inner().find(|attr| attr.kind == kind);
    let value = |kind| {
        let bytes = find(kind).and_then(|attr| attr.inner().next());
        bytes.map(|attr| attr.value.to_vec()).unwrap_or_default()
    };
    let flags = find(ELEM_FLAGS).and_then(|attr| attr.be32()).unwrap_or_default();
    let role = if flags & ELEM_INTERVAL_END != 0 { Role::RangeEnd } else { Role::Member };
    Element { set, key: value(ELEM_KEY), role, data: value(ELEM_DATA) }
}
