//! For tests: the kernel's classic BPF machine, and the plainest reading of a profile. It knows the compiler's table of numbers (which
//! has a test of its own) and nothing else of it.

use std::{collections::BTreeMap, str::FromStr};

use tinyd_core::{
    oci,
    seccomp_profile::{Action, Op},
};
use tinyd_sys::seccomp::Insn;

use super::arch::Arch;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub arch: u32,
    pub nr: u32,
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16.. => {
                let arg = self.args[(offset as usize - 16) / 8];
                if (offset - 16).is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("load of {offset}"),
        }
    }
}

/// Runs a program as the kernel would; panics where the kernel would refuse it.
pub(super) fn run(program: &[Insn], call: &Call) -> u32 {
    let mut accumulator = 0u32;
    let mut at = 0usize;
    loop {
        let insn = program[at];
        at += 1;
        let skip = |holds: bool| usize::from(if holds { insn.jt } else { insn.jf });
        match insn.code {
            0x20 => accumulator = call.word(insn.k),
            0x54 => accumulator &= insn.k,
            0x05 => at += insn.k as usize,
            0x15 => at += skip(accumulator == insn.k),
            0x25 => at += skip(accumulator > insn.k),
            0x35 => at += skip(accumulator >= insn.k),
            0x06 => return insn.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// A profile on one architecture, read rule by rule.
pub(super) struct Reading<'a> {
    arch: Arch,
    default: u32,
    beyond: u32,
    newest: Option<u32>,
    rules: BTreeMap<u32, Vec<&'a oci::SyscallRule>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(profile: &'a oci::Seccomp, arch: Arch) -> Reading<'a> {
        let default = returned(&profile.default_action, profile.default_errno_ret);
        let mut rules: BTreeMap<u32, Vec<&oci::SyscallRule>> = BTreeMap::new();
        let mut newest = None;
        for rule in &profile.syscalls {
            for number in rule.names.iter().filter_map(|name| arch.number(name)) {
                newest = newest.max(Some(number));
                if returned(&rule.action, rule.errno_ret) != default {
                    rules.entry(number).or_default().push(rule);
                }
            }
        }
        let strict = ["SCMP_ACT_ERRNO", "SCMP_ACT_TRAP"].contains(&profile.default_action.as_str())
            || profile.default_action.starts_with("SCMP_ACT_KILL");
        let beyond = if strict { 0x5_0000 | libc::ENOSYS as u32 } else { default };
        Reading { arch, default, beyond, newest, rules }
    }

    /// What it says about a call.
    pub(super) fn says(&self, nr: u32, args: &[u64; 6]) -> u32 {
        let named = self.rules.get(&nr).map_or(&[][..], Vec::as_slice);
        let always = named.iter().find(|rule| rule.args.is_empty());
        let held = || named.iter().find(|rule| holds(rule, self.arch, args));
        match always.or_else(held) {
            Some(rule) => returned(&rule.action, rule.errno_ret),
            None if self.newest.is_some_and(|newest| nr > newest) => self.beyond,
            None => self.default,
        }
    }

    /// The highest number that it names.
    #[cfg(test)]
    pub(super) fn newest(&self) -> Option<u32> {
        self.newest
    }

    /// Arguments at and beside every value that the rules of a call compare with, one argument at a time and all at once.
    pub(super) fn edges(&self, nr: u32) -> Vec<[u64; 6]> {
        let mut all = vec![[0; 6], [u64::MAX; 6]];
        for arg in self.rules.get(&nr).into_iter().flatten().flat_map(|rule| &rule.args) {
            for value in [arg.value, arg.value_two, arg.value & arg.value_two] {
                for value in [value, value.wrapping_sub(1), value.wrapping_add(1), value ^ 1 << 32, !value] {
                    let mut one = [0; 6];
                    one[arg.index as usize] = value;
                    all.extend([one, [value; 6]]);
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn holds(rule: &oci::SyscallRule, arch: Arch, args: &[u64; 6]) -> bool {
    let width = if arch.wide() { u64::MAX } else { u64::from(u32::MAX) };
    let one = |arg: &oci::SyscallArg| {
        let value = args[arg.index as usize] & width;
        let (with, two) = (arg.value & width, arg.value_two & width);
        match Op::from_str(&arg.op).expect("a word of the table") {
            Op::NotEqual => value != with,
            Op::Less => value < with,
            Op::LessOrEqual => value <= with,
            Op::Equal => value == with,
            Op::GreaterOrEqual => value >= with,
            Op::Greater => value > with,
            Op::MaskedEqual => value & with == two,
        }
    };
    let repeated = rule
        .args
        .iter()
        .enumerate()
        .any(|(at, arg)| rule.args[..at].iter().any(|other| other.index == arg.index));
    if repeated { rule.args.iter().any(one) } else { rule.args.iter().all(one) }
}

pub(super) fn returned(action: &str, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(1);
    match Action::from_str(action).expect("a word of the table") {
        Action::KillThread => 0,
        Action::KillProcess => 0x8000_0000,
        Action::Trap => 0x3_0000,
        Action::Errno => 0x5_0000 | data,
        Action::Trace => 0x7ff0_0000 | data,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
        Action::Notify => 0x7fc0_0000,
    }
}
