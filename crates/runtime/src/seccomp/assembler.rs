//! From verdicts to classic BPF: a balanced tree of comparisons over the call's number, then single numbers, then arguments. Every
//! instruction costs each start of a container half a microsecond of the kernel's time.
//!
//! Programs are written from their end to their start: a BPF jump only leads forward, so its target is there already when the
//! jump is written, and its distance is known. A conditional jump reaches 255 instructions; what is farther gets a return of its own,
//! or an unconditional jump nearby.

use tinyd_core::seccomp_profile::Op;
use tinyd_sys::seccomp::Insn;

use super::{
    arch::{Arch, X32_BIT},
    verdicts::{Case, Condition, RETURN_KILL_PROCESS, Return, Step, Verdict, Verdicts},
};

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_ARGS: u32 = 16;

/// The number that a tracer writes to have a call skipped. The filter sees it, and it is no call of x32's.
const SKIPPED: u32 = u32::MAX;

/// How far a conditional jump may lead, less what is still put between it and its target.
const REACH: usize = 250;

/// An instruction's distance from the program's end.
type Label = usize;

/// A program in the making, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Insn>,
    /// Where each value is returned, the last one written.
    returns: Vec<(Return, Label)>,
    /// Where arguments are looked at: calls with the same rules share it.
    leaves: Vec<(Arch, Verdict, Label)>,
}

impl Assembler {
    /// The program, first instruction first.
    pub(super) fn finish(mut self) -> Vec<Insn> {
        self.reversed.reverse();
        self.reversed
    }

    /// Writes the search tree of an architecture, with the load of the number before it where [`Assembler::dispatch`] does not need that
    /// itself.
    pub(super) fn verdicts(&mut self, arch: Arch, verdicts: &Verdicts) -> Label {
        let root = self.tree(arch, &parts(&verdicts.0));
        match arch {
            Arch::X86_64 | Arch::X32 => root,
            Arch::X86 | Arch::Aarch64 | Arch::Arm => self.load(DATA_NR, root),
        }
    }

    /// Writes the start: which architecture's tree it is. A call of any other kills.
    pub(super) fn dispatch(&mut self, trees: &[(Arch, Label)]) {
        let tree_of = |wanted: Arch| trees.iter().find(|(arch, _)| *arch == wanted).map(|(_, label)| *label);
        let x86_64 = tree_of(Arch::X86_64).map(|tree| {
            let x32 = match tree_of(Arch::X32) {
                Some(x32) => x32,
                None => {
                    let kill = self.returned(RETURN_KILL_PROCESS);
                    self.branch(JUMP_EQUAL, SKIPPED, tree, kill)
                }
            };
            let test = self.branch(JUMP_GREATER_EQUAL, X32_BIT, x32, tree);
            self.load(DATA_NR, test)
        });
        let mut next = self.returned(RETURN_KILL_PROCESS);
        for (arch, tree) in trees.iter().rev() {
            let tree = match arch {
                Arch::X86_64 => x86_64.unwrap_or(*tree),
                Arch::X32 => continue,
                Arch::X86 | Arch::Aarch64 | Arch::Arm => *tree,
            };
            next = self.branch(JUMP_EQUAL, arch.audit(), tree, next);
        }
        self.load(DATA_ARCH, next);
    }

    /// Searches the verdict of the number in the accumulator among `parts`, which start at or below it.
    fn tree(&mut self, arch: Arch, parts: &[&[Step]]) -> Label {
        match parts {
            [] => self.returned(RETURN_KILL_PROCESS),
            [part] => self.part(arch, part),
            _ => {
                let (low, high) = parts.split_at(parts.len() / 2);
                let pivot = high[0][0].0;
                // A leaf that only returns is shared where it is in reach, and must be looked up after the other half is written.
                let above = self.tree(arch, high);
                let below = self.tree(arch, low);
                self.branch(JUMP_GREATER_EQUAL, pivot, above, below)
            }
        }
    }

    /// Asks for each single number of a part.
    fn part(&mut self, arch: Arch, part: &[Step]) -> Label {
        let mut next = self.leaf(arch, &part[0].1);
        for (number, verdict) in part.iter().skip(1).step_by(2) {
            let single = self.leaf(arch, verdict);
            next = self.branch(JUMP_EQUAL, *number, single, next);
        }
        next
    }

    fn leaf(&mut self, arch: Arch, verdict: &Verdict) -> Label {
        let (cases, otherwise) = match verdict {
            Verdict::Always(value) => return self.returned(*value),
            Verdict::ByArguments(cases, otherwise) => (cases, *otherwise),
        };
        // Where arguments have the same width, the same rules are the same program.
        let same =
            |(other, known, _): &&(Arch, Verdict, Label)| other.wide() == arch.wide() && known == verdict;
        if let Some((_, _, label)) = self.leaves.iter().find(same) {
            return *label;
        }
        let mut next = self.returned(otherwise);
        for case in cases.iter().rev() {
            next = self.case(arch, case, next);
        }
        self.leaves.push((arch, verdict.clone(), next));
        next
    }

    fn case(&mut self, arch: Arch, case: &Case, otherwise: Label) -> Label {
        let mut next = self.returned(case.then);
        for condition in case.conditions.iter().rev() {
            next = self.condition(arch, condition, next, otherwise);
        }
        next
    }

    fn condition(&mut self, arch: Arch, condition: &Condition, yes: Label, no: Label) -> Label {
        let compare =
            Compare { wide: arch.wide(), index: u32::from(condition.index), value: condition.value };
        match condition.op {
            Op::Equal => self.equal(&compare, yes, no),
            Op::NotEqual => self.equal(&compare, no, yes),
            Op::GreaterOrEqual => self.greater(JUMP_GREATER_EQUAL, &compare, yes, no),
            Op::Less => self.greater(JUMP_GREATER_EQUAL, &compare, no, yes),
            Op::Greater => self.greater(JUMP_GREATER, &compare, yes, no),
            Op::LessOrEqual => self.greater(JUMP_GREATER, &compare, no, yes),
            Op::MaskedEqual => self.masked(&compare, condition.value_two, yes, no),
        }
    }

    fn equal(&mut self, compare: &Compare, yes: Label, no: Label) -> Label {
        let low = self.branch(JUMP_EQUAL, compare.low(), yes, no);
        let low = self.load(compare.low_at(), low);
        if !compare.wide {
            return low;
        }
        let high = self.branch(JUMP_EQUAL, compare.high(), low, no);
        self.load(compare.high_at(), high)
    }

    /// `jump` compares the low halves when the high ones are equal.
    fn greater(&mut self, jump: u16, compare: &Compare, yes: Label, no: Label) -> Label {
        let low = self.branch(jump, compare.low(), yes, no);
        let low = self.load(compare.low_at(), low);
        if !compare.wide {
            return low;
        }
        let same = self.branch(JUMP_EQUAL, compare.high(), low, no);
        let high = self.branch(JUMP_GREATER, compare.high(), yes, same);
        self.load(compare.high_at(), high)
    }

    fn masked(&mut self, mask: &Compare, value: u64, yes: Label, no: Label) -> Label {
        let low = self.branch(JUMP_EQUAL, value as u32, yes, no);
        let low = self.and(mask.low(), low);
        let low = self.load(mask.low_at(), low);
        if !mask.wide {
            return low;
        }
        let high = self.branch(JUMP_EQUAL, (value >> 32) as u32, low, no);
        let high = self.and(mask.high(), high);
        self.load(mask.high_at(), high)
    }

    fn push(&mut self, insn: Insn) -> Label {
        self.reversed.push(insn);
        self.reversed.len() - 1
    }

    /// How many instructions the next one would skip to get there.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - 1 - target
    }

    /// A return of this value that the next few instructions can jump to.
    fn returned(&mut self, value: Return) -> Label {
        let known = self.returns.iter().position(|(known, _)| *known == value);
        if let Some((_, label)) = known.and_then(|at| self.returns.get(at))
            && self.distance(*label) <= REACH / 2
        {
            return *label;
        }
        let label = self.push(Insn { code: RETURN, jt: 0, jf: 0, k: value });
        match known {
            Some(at) => self.returns[at].1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    /// The target itself, or something nearer that leads to it.
    fn near(&mut self, target: Label) -> Label {
        if self.distance(target) <= REACH {
            return target;
        }
        match self.reversed[target] {
            Insn { code: RETURN, k: value, .. } => self.returned(value),
            _ => self.jump(target),
        }
    }

    fn jump(&mut self, target: Label) -> Label {
        let distance = self.distance(target) as u32;
        self.push(Insn { code: JUMP, jt: 0, jf: 0, k: distance })
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let no = self.near(no);
        let yes = self.near(yes);
        // REACH leaves room for what `near` has just put between.
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(Insn { code, jt, jf, k })
    }

    /// Writes an instruction that goes on at `next`.
    fn load(&mut self, offset: u32, next: Label) -> Label {
        self.before(next, LOAD, offset)
    }

    fn and(&mut self, mask: u32, next: Label) -> Label {
        self.before(next, AND, mask)
    }

    fn before(&mut self, next: Label, code: u16, k: u32) -> Label {
        if self.distance(next) != 0 {
            self.jump(next);
        }
        self.push(Insn { code, jt: 0, jf: 0, k })
    }
}

/// Steps in parts that are one verdict but for a few single numbers: every second step of a part is one. Asking for a number takes one
/// instruction where leaving it out of an interval takes two.
fn parts(steps: &[Step]) -> Vec<&[Step]> {
    /// More would make the way to the part's own verdict long.
    const SINGLES: usize = 3;
    let is_single = |three: &&[Step]| match three {
        [before, single, after] => before.1 == after.1 && after.0 - single.0 == 1,
        _ => false,
    };
    let mut parts = Vec::new();
    let mut rest = steps;
    while !rest.is_empty() {
        let singles = rest.windows(3).step_by(2).take(SINGLES).take_while(is_single).count();
        let (part, after) = rest.split_at(1 + 2 * singles);
        parts.push(part);
        rest = after;
    }
    parts
}

/// An argument and what it is compared with, in halves. Both machines that this is built for are little endian.
struct Compare {
    wide: bool,
    index: u32,
    value: u64,
}

impl Compare {
    const fn low(&self) -> u32 {
        self.value as u32
    }

    const fn high(&self) -> u32 {
        (self.value >> 32) as u32
    }

    const fn low_at(&self) -> u32 {
        DATA_ARGS + 8 * self.index
    }

    const fn high_at(&self) -> u32 {
        self.low_at() + 4
    }
}
