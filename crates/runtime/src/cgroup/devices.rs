//! Which device nodes a container may open or make: the specification's rules, made one list, as v1 files or as a BPF program.
//!
//! The rules are played through once, in order, on a model of the v1 controller; what comes out is "all but these" or "none but
//! these", and both worlds enforce just that.

use std::{fmt, os::fd::BorrowedFd};

use tinyd_core::{Error, Kind, Result, oci};
use tinyd_sys::bpf::{self, Insn, Reg};

use crate::caller::Caller;

/// Access bits, as the kernel's BPF context has them.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeKind {
    Block,
    Char,
}

/// Some nodes, and what may or may not be done with them. No number is every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nodes {
    kind: NodeKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

/// The nodes every container may use, as under runc: null, zero, full, random, urandom, tty, ptmx and terminals; any node may be
/// made (mknod is a matter of capabilities), but not opened.
const DEFAULTS: [Nodes; 10] = [
    Nodes { kind: NodeKind::Char, major: None, minor: None, access: MKNOD },
    Nodes { kind: NodeKind::Block, major: None, minor: None, access: MKNOD },
    Nodes { kind: NodeKind::Char, major: Some(1), minor: Some(3), access: ALL },
    Nodes { kind: NodeKind::Char, major: Some(1), minor: Some(5), access: ALL },
    Nodes { kind: NodeKind::Char, major: Some(1), minor: Some(7), access: ALL },
    Nodes { kind: NodeKind::Char, major: Some(1), minor: Some(8), access: ALL },
    Nodes { kind: NodeKind::Char, major: Some(1), minor: Some(9), access: ALL },
    Nodes { kind: NodeKind::Char, major: Some(5), minor: Some(0), access: ALL },
    Nodes { kind: NodeKind::Char, major: Some(5), minor: Some(2), access: ALL },
    Nodes { kind: NodeKind::Char, major: Some(136), minor: None, access: ALL },
];

/// All nodes but the exceptions, or none but them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    allow: bool,
    except: Vec<Nodes>,
}

impl Filter {
    /// Plays the rules, then the standard nodes, starting from "none".
    ///
    /// # Errors
    /// `InvalidArgument` for a rule that is none, `Unsupported` for one that takes a part out of an earlier one: v1 cannot say that, and
    /// v2 is not to mean something else.
    pub(super) fn new(rules: &[oci::DeviceRule]) -> Result<Filter> {
        let mut filter = Filter { allow: false, except: Vec::new() };
        for rule in rules {
            filter.play(rule)?;
        }
        if !filter.allow {
            DEFAULTS.into_iter().try_for_each(|nodes| filter.put(true, nodes))?;
        }
        Ok(filter)
    }

    fn play(&mut self, rule: &oci::DeviceRule) -> Result<()> {
        let access = access_of(rule)?;
        let (major, minor) = (number_of("major", rule.major)?, number_of("minor", rule.minor)?);
        let nodes = |kind| Nodes { kind, major, minor, access };
        match rule.kind.as_deref() {
            // The kernel looks at nothing else of a rule for all.
            Some("a") => self.reset(rule.allow),
            None | Some("") if major.is_none() && minor.is_none() && access == ALL => self.reset(rule.allow),
            None | Some("") => {
                self.put(rule.allow, nodes(NodeKind::Block))?;
                self.put(rule.allow, nodes(NodeKind::Char))?;
            }
            Some("c" | "u") => self.put(rule.allow, nodes(NodeKind::Char))?,
            Some("b") => self.put(rule.allow, nodes(NodeKind::Block))?,
            Some(other) => return Err(bad_rule(format!("{other:?} is not a kind of device: a, b or c"))),
        }
        Ok(())
    }

    fn reset(&mut self, allow: bool) {
        *self = Filter { allow, except: Vec::new() };
    }

    fn put(&mut self, allow: bool, nodes: Nodes) -> Result<()> {
        if allow != self.allow {
            match self.except.iter_mut().find(|known| known.same_nodes(&nodes)) {
                Some(known) => known.access |= nodes.access,
                None => self.except.push(nodes),
            }
            return Ok(());
        }
        for known in &mut self.except {
            if nodes.covers(known) {
                known.access &= !nodes.access;
            } else if nodes.meets(known) {
                let message = format!("a rule for {nodes} takes a part out of an earlier one for {known}");
                return Err(Error::new(Kind::Unsupported, message).of_field("linux.resources.devices"));
            }
        }
        self.except.retain(|known| known.access != 0);
        Ok(())
    }

    /// Whether there is no device that it denies.
    fn allows_everything(&self) -> bool {
        self.allow && self.except.is_empty()
    }

    /// What it allows in systemd's words, a node and an access for each; none when that is nearly all.
    pub(super) fn in_systemds_words(&self) -> Option<Vec<(String, String)>> {
        let name = |nodes: &Nodes| {
            let kind = if nodes.kind == NodeKind::Char { "char" } else { "block" };
            let node = match (nodes.major, nodes.minor) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                (None, None) => format!("{kind}-*"),
                // There is no word for it.
                (None, Some(_)) => return None,
            };
            // The access is the last word of its line.
            let line = nodes.to_string();
            line.rsplit(' ').next().map(|access| (node, access.to_owned()))
        };
        (!self.allow).then(|| self.except.iter().filter_map(name).collect())
    }

    /// The v1 files to write, in order. `now` is what `devices.list` says: a cgroup in use gets only the differences, so that
    /// nothing it has open to it is closed for a moment.
    pub(super) fn v1_writes(&self, now: &str) -> Vec<(&'static str, String)> {
        let (add, take) =
            if self.allow { ("devices.deny", "devices.allow") } else { ("devices.allow", "devices.deny") };
        let all: Vec<String> = self.except.iter().map(Nodes::to_string).collect();
        let listed: Vec<&str> = now.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        // devices.list does not show the exceptions of "all but these": then everything is written again.
        if self.allow || listed.iter().any(|line| line.starts_with("a ")) {
            return std::iter::once((take, "a".to_owned()))
                .chain(all.into_iter().map(|line| (add, line)))
                .collect();
        }
        let wanted: Vec<(&str, &str)> = all.iter().filter_map(|line| line.rsplit_once(' ')).collect();
        let listed: Vec<(&str, &str)> = listed.iter().filter_map(|line| line.rsplit_once(' ')).collect();
        // An access is added to and taken from what has the same words for its nodes, a letter at a time (security/device_cgroup.c).
        let more = lacking(&wanted, &listed).map(|line| (add, line));
        more.chain(lacking(&listed, &wanted).map(|line| (take, line))).collect()
    }

    /// The program for a v2 cgroup: returns 1 to allow, 0 to deny.
    pub(super) fn program(&self) -> Vec<Insn> {
        const TYPE_BLOCK: i32 = 1;
        const TYPE_CHAR: i32 = 2;
        // struct bpf_cgroup_dev_ctx { u32 access_type (access << 16 | type), major, minor }, in R1.
        let mut program = vec![
            Insn::load_u32(Reg::R2, Reg::R1, 0),
            Insn::load_u32(Reg::R4, Reg::R1, 4),
            Insn::load_u32(Reg::R5, Reg::R1, 8),
            Insn::mov_reg(Reg::R3, Reg::R2),
            Insn::and(Reg::R2, 0xffff),
            Insn::shift_right(Reg::R3, 16),
        ];
        for nodes in &self.except {
            let mut body = Vec::new();
            let kind = if nodes.kind == NodeKind::Block { TYPE_BLOCK } else { TYPE_CHAR };
            body.push(Test::Differs(Reg::R2, kind));
            body.extend(nodes.major.map(|major| Test::Differs(Reg::R4, major as i32)));
            body.extend(nodes.minor.map(|minor| Test::Differs(Reg::R5, minor as i32)));
            if nodes.access != ALL {
                // Allowed is what the rule has in full; denied is what it has any part of.
                body.push(if self.allow { Test::NoneOf(nodes.access) } else { Test::NotAllOf(nodes.access) });
            }
            push_tests(&mut program, &body);
            program.extend([Insn::mov(Reg::R0, i32::from(!self.allow)), Insn::exit()]);
        }
        program.extend([Insn::mov(Reg::R0, i32::from(self.allow)), Insn::exit()]);
        program
    }
}

/// What `some` have and `others` have not, line by line.
fn lacking<'a>(
    some: &'a [(&'a str, &'a str)],
    others: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = String> + 'a {
    some.iter().filter_map(|(node, access)| {
        let has =
            |letter: char| others.iter().any(|(other, theirs)| other == node && theirs.contains(letter));
        let lacks: String = access.chars().filter(|letter| !has(*letter)).collect();
        (!lacks.is_empty()).then(|| format!("{node} {lacks}"))
    })
}

/// A reason to go on to the next rule.
enum Test {
    Differs(Reg, i32),
    NoneOf(u8),
    NotAllOf(u8),
}

/// Adds tests that, when one holds, jump over the two instructions that come after them.
fn push_tests(program: &mut Vec<Insn>, tests: &[Test]) {
    let len = |test: &Test| if matches!(test, Test::Differs(..)) { 1 } else { 3 };
    let mut left: i16 = tests.iter().map(len).sum::<i16>() + 2;
    for test in tests {
        left -= len(test);
        match test {
            Test::Differs(reg, value) => program.push(Insn::jump_if_not_equal(*reg, *value, left)),
            Test::NoneOf(access) => program.extend([
                Insn::mov_reg(Reg::R1, Reg::R3),
                Insn::and(Reg::R1, i32::from(*access)),
                Insn::jump_if_equal(Reg::R1, 0, left),
            ]),
            Test::NotAllOf(access) => program.extend([
                Insn::mov_reg(Reg::R1, Reg::R3),
                Insn::and(Reg::R1, i32::from(*access)),
                Insn::jump_if_not_equal_reg(Reg::R1, Reg::R3, left),
            ]),
        }
    }
}

impl Nodes {
    fn same_nodes(&self, other: &Nodes) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn covers(&self, other: &Nodes) -> bool {
        let over = |mine: Option<u32>, theirs: Option<u32>| mine.is_none() || mine == theirs;
        self.kind == other.kind && over(self.major, other.major) && over(self.minor, other.minor)
    }

    fn meets(&self, other: &Nodes) -> bool {
        let touch =
            |mine: Option<u32>, theirs: Option<u32>| mine.is_none() || theirs.is_none() || mine == theirs;
        self.kind == other.kind
            && self.access & other.access != 0
            && touch(self.major, other.major)
            && touch(self.minor, other.minor)
    }
}

/// As v1's files have it: `c 1:3 rwm`.
impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let kind = if self.kind == NodeKind::Block { 'b' } else { 'c' };
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        [(READ, "r"), (WRITE, "w"), (MKNOD, "m")]
            .into_iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}

fn access_of(rule: &oci::DeviceRule) -> Result<u8> {
    let text = rule.access.as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
    text.chars().try_fold(0, |bits, letter| match letter {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MKNOD),
        _ => Err(bad_rule(format!("{text:?} is not an access: some of r, w and m"))),
    })
}

fn number_of(what: &str, number: Option<i64>) -> Result<Option<u32>> {
    match number {
        None | Some(-1) => Ok(None),
        // 2^31 - 1 is far above the kernel's 12 and 20 bits, and fits BPF's immediate values.
        Some(number) => match u32::try_from(number).ok().filter(|number| *number <= i32::MAX as u32) {
            Some(number) => Ok(Some(number)),
            None => Err(bad_rule(format!("{number} is not a {what} number"))),
        },
    }
}

fn bad_rule(message: String) -> Error {
    Error::invalid("linux.resources.devices", message)
}

/// A list that nobody keeps: no container of the machine's root runs with more devices than it was to have. Who is not that can make no
/// node, and open only what it could without a container; the kernel leaves the list to root.
///
/// # Errors
/// `Unsupported` unless it allows everything.
pub(super) fn unfiltered(filter: &Filter, why: &str) -> Result<()> {
    if filter.allows_everything() || Caller::of_this_process()?.is_rootless() {
        return Ok(());
    }
    let message = format!("the list cannot be kept here: {why}");
    Err(Error::new(Kind::Unsupported, message).of_field("linux.resources.devices"))
}

/// Puts the program on a v2 cgroup in place of what is there. There is no moment without a filter.
pub(super) fn attach(cgroup: BorrowedFd<'_>, program: &[Insn]) -> tinyd_sys::Result<()> {
    let new = bpf::load_device_program(program)?;
    let old = bpf::attached_device_programs(cgroup)?;
    match old.as_slice() {
        [one] => bpf::replace_device_program(cgroup, &new, one),
        several => {
            bpf::attach_device_program(cgroup, &new)?;
            several.iter().try_for_each(|program| bpf::detach_device_program(cgroup, program))
        }
    }
}
