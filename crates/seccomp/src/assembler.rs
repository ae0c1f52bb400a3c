//! From verdicts to classic BPF: a tree of comparisons over the call's number, then single numbers, then arguments. Every instruction
//! costs each start of a container half a microsecond of the kernel's time, most of it for its machine code; and the kernel follows
//! each number to its end, 4 ns a step. So x32 shares x86_64's tree, and numbers are about equally far from the root.
//!
//! Programs are written from their end to their start: a BPF jump only leads forward, so its target is there already when the
//! jump is written, and its distance is known. A conditional jump reaches 255 instructions; what is farther gets a return of its own,
//! or an unconditional jump nearby.

use tinyd_core::seccomp_profile::Op;
use tinyd_sys::seccomp::Insn;

use super::{
    arch::{Arch, X32_BIT},
    verdicts::{Case, Condition, RETURN_KILL_PROCESS, Return, Ruling, Rulings, Step, Verdict, Verdicts},
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

/// More numbers than the kernel has calls: when a filter is installed, each is followed through it once for each of the machine's
/// two tables (`seccomp_cache_prepare`, since 5.11).
const FOLLOWED: u32 = 512;

/// A program in the making, last instruction first.
#[derive(Debug)]
pub(super) struct Assembler<'a> {
    rulings: &'a Rulings,
    reversed: Vec<Insn>,
    /// Where each value is returned, the last one written.
    returns: Vec<(Return, Label)>,
    /// Where more is looked at than the number: calls with the same rules share it.
    leaves: Vec<(Outcome, Label)>,
}

/// What a search ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// A verdict, where arguments are 64 bits wide or 32; not wide where that is all the same.
    Of { wide: bool, verdict: Verdict },
    /// One for x86_64, and one for the same number of x32.
    Either { x86_64: Verdict, x32: Verdict },
}

/// What happens to this number and those after it, up to the next one's.
type Search = (u32, Outcome);

/// Where one of the consecutive parts of a search begins: its place, of which comes how far numbers in it are to be from the tree's root; its
/// first step.
type Part = (u32, u32);

impl<'a> Assembler<'a> {
    pub(super) fn new(rulings: &'a Rulings) -> Self {
        // As much as a profile such as docker's takes, so that nothing moves.
        Assembler {
            rulings,
            reversed: Vec::with_capacity(256),
            returns: Vec::with_capacity(8),
            leaves: Vec::with_capacity(16),
        }
    }

    /// The program, first instruction first.
    pub(super) fn finish(mut self) -> Vec<Insn> {
        self.reversed.reverse();
        self.reversed
    }

    /// Writes the search of an architecture; not of x32, whose numbers are x86_64's.
    pub(super) fn verdicts(&mut self, arch: Arch, verdicts: &Verdicts) -> Label {
        let steps = verdicts.0.iter().map(|(from, verdict)| (*from, self.of(arch, *verdict)));
        let steps: Vec<_> = steps.collect();
        let mut root = self.search(&steps);
        if arch == Arch::X86_64 {
            let kill = self.returned(RETURN_KILL_PROCESS);
            let skipped = self.branch(JUMP_EQUAL, SKIPPED, root, kill);
            root = self.branch(JUMP_GREATER_EQUAL, X32_BIT, skipped, root);
        }
        self.load(DATA_NR, root)
    }

    /// Writes the search of x86_64 and x32 together: what a number means to the one it mostly means to the other.
    pub(super) fn x86_64_and_x32(&mut self, x86_64: &Verdicts, x32: &Verdicts) -> Label {
        let root = self.search(&self.side_by_side(&x86_64.0, &x32.0));
        let root = self.and(!X32_BIT, root);
        self.load(DATA_NR, root)
    }

    /// Writes the start: which architecture's search it is. A call of any other kills.
    pub(super) fn dispatch(&mut self, searches: &[(Arch, Label)]) {
        let mut next = self.returned(RETURN_KILL_PROCESS);
        for (arch, search) in searches.iter().rev() {
            next = self.branch(JUMP_EQUAL, arch.audit(), *search, next);
        }
        self.load(DATA_ARCH, next);
    }

    fn of(&self, arch: Arch, verdict: Verdict) -> Outcome {
        Outcome::Of { wide: arch.wide() && !self.rulings.is_of_any_width(verdict), verdict }
    }

    /// The steps of x86_64 and those of x32 without x32's bit, as one search.
    fn side_by_side(&self, x86_64: &[Step], x32: &[Step]) -> Vec<Search> {
        let mut both = Vec::with_capacity(x86_64.len() + x32.len());
        // x32's steps begin below its first number.
        let first = x32.partition_point(|(from, _)| *from <= X32_BIT).saturating_sub(1);
        let (mut left, mut right) = (x86_64, x32.get(first..).unwrap_or_default());
        let mut from = 0;
        while let ([(_, one), ..], [(_, other), ..]) = (left, right) {
            let outcome = if one == other && self.rulings.is_of_any_width(*one) {
                Outcome::Of { wide: false, verdict: *one }
            } else {
                Outcome::Either { x86_64: *one, x32: *other }
            };
            if both.last().is_none_or(|(_, last)| *last != outcome) {
                both.push((from, outcome));
            }
            let next_left = left.get(1).map(|(next, _)| *next);
            let next_right = right.get(1).map(|(next, _)| next - X32_BIT);
            let Some(next) = next_left.into_iter().chain(next_right).min() else { break };
            from = next;
            if next_left == Some(next) {
                left = &left[1..];
            }
            if next_right == Some(next) {
                right = &right[1..];
            }
        }
        both
    }

    /// Searches the number in the accumulator.
    fn search(&mut self, steps: &[Search]) -> Label {
        let parts = parts(steps);
        self.tree(steps, &parts, (FOLLOWED + parts.len() as u32, steps.len() as u32))
    }

    /// Searches the number among `parts`, which start at or below it and end before `end`.
    fn tree(&mut self, steps: &[Search], parts: &[Part], end: Part) -> Label {
        match parts {
            [] => self.returned(RETURN_KILL_PROCESS),
            [(_, first)] => self.part(&steps[*first as usize..end.1 as usize]),
            [(start, _), rest @ ..] => {
                let middle = start + (end.0 - start) / 2;
                let split = 1 + rest.partition_point(|(place, _)| *place < middle).min(rest.len() - 1);
                let (low, high) = parts.split_at(split);
                let first = high[0];
                // A leaf that only returns is shared where it is in reach, and must be looked up after the other half is written.
                let above = self.tree(steps, high, end);
                let below = self.tree(steps, low, first);
                self.branch(JUMP_GREATER_EQUAL, steps[first.1 as usize].0, above, below)
            }
        }
    }

    /// Asks for each single number of a part.
    fn part(&mut self, part: &[Search]) -> Label {
        let mut next = self.leaf(part[0].1);
        for (number, outcome) in part.iter().skip(1).step_by(2) {
            let single = self.leaf(*outcome);
            next = self.branch(JUMP_EQUAL, *number, single, next);
        }
        next
    }

    fn leaf(&mut self, outcome: Outcome) -> Label {
        if let Outcome::Of { verdict, .. } = outcome
            && let Ruling::Always(value) = self.rulings.of(verdict)
        {
            return self.returned(*value);
        }
        let known = self.leaves.iter().position(|(known, _)| *known == outcome);
        // What only tells two returns apart is as short as the way to another one.
        if let Some((_, label)) = known.and_then(|at| self.leaves.get(at))
            && (self.distance(*label) <= REACH / 2 || matches!(outcome, Outcome::Of { .. }))
        {
            return *label;
        }
        let label = match outcome {
            Outcome::Of { wide, verdict } => self.verdict(wide, verdict),
            Outcome::Either { x86_64, x32 } => {
                let x32 = self.leaf(self.of(Arch::X32, x32));
                let x86_64 = self.leaf(self.of(Arch::X86_64, x86_64));
                let test = self.branch(JUMP_GREATER_EQUAL, X32_BIT, x32, x86_64);
                self.load(DATA_NR, test)
            }
        };
        match known {
            Some(at) => self.leaves[at].1 = label,
            None => self.leaves.push((outcome, label)),
        }
        label
    }

    fn verdict(&mut self, wide: bool, verdict: Verdict) -> Label {
        match self.rulings.of(verdict) {
            Ruling::Always(value) => self.returned(*value),
            Ruling::ByArguments(cases, otherwise) => {
                if let Some(question) = only_question(cases).filter(|_| wide) {
                    // Behind the high half, which is the same for all, it is what it is where there is none.
                    let low = self.leaf(Outcome::Of { wide: false, verdict });
                    let otherwise = self.returned(*otherwise);
                    let compare = Compare { wide, index: u32::from(question.index), value: question.value };
                    let high = self.branch(JUMP_EQUAL, compare.high(), low, otherwise);
                    return self.load(compare.high_at(), high);
                }
                let otherwise = self.returned(*otherwise);
                cases.chunk_by(is_one_question).rev().fold(otherwise, |next, cases| match cases {
                    [case] => self.case(wide, case, next),
                    _ => self.one_of(wide, cases, next),
                })
            }
        }
    }

    /// Cases that ask one argument for one value each: it is loaded once for them all.
    fn one_of(&mut self, wide: bool, cases: &[Case], otherwise: Label) -> Label {
        let conditions = cases.iter().filter_map(|case| Some((case.conditions.first()?, case.then)));
        let mut next = otherwise;
        let mut at = None;
        for (condition, then) in conditions.rev() {
            let compare = Compare { wide, index: u32::from(condition.index), value: condition.value };
            let then = self.returned(then);
            next = self.branch(JUMP_EQUAL, compare.low(), then, next);
            at = Some(compare);
        }
        let Some(compare) = at else { return next };
        let low = self.load(compare.low_at(), next);
        if !wide {
            return low;
        }
        let high = self.branch(JUMP_EQUAL, compare.high(), low, otherwise);
        self.load(compare.high_at(), high)
    }

    fn case(&mut self, wide: bool, case: &Case, otherwise: Label) -> Label {
        let mut next = self.returned(case.then);
        for condition in case.conditions.iter().rev() {
            next = self.condition(wide, condition, next, otherwise);
        }
        next
    }

    fn condition(&mut self, wide: bool, condition: &Condition, yes: Label, no: Label) -> Label {
        let compare = Compare { wide, index: u32::from(condition.index), value: condition.value };
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
        if !mask.wide || (mask.high() == 0 && value >> 32 == 0) {
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

/// What all cases ask for, where they are one question.
fn only_question(cases: &[Case]) -> Option<&Condition> {
    let (first, rest) = cases.split_first()?;
    let is_one = is_one_question(first, first) && rest.iter().all(|case| is_one_question(first, case));
    first.conditions.first().filter(|_| is_one)
}

/// Whether two cases ask the same argument for a value, and the values' high halves are the same.
fn is_one_question(one: &Case, other: &Case) -> bool {
    match (&one.conditions[..], &other.conditions[..]) {
        ([one], [other]) => {
            (one.op, other.op) == (Op::Equal, Op::Equal)
                && one.index == other.index
                && one.value >> 32 == other.value >> 32
        }
        _ => false,
    }
}

/// The parts of a search that have one outcome but for a few single numbers: every second step of a part is one. Asking for a number takes
/// one instruction where leaving it out of an interval takes two. Each number has the same weight, and each part that of one number.
fn parts(steps: &[Search]) -> Vec<Part> {
    /// More would make the way to the part's own outcome long.
    const SINGLES: usize = 3;
    let is_single = |three: &&[Search]| match three {
        [before, single, after] => before.1 == after.1 && after.0 - single.0 == 1,
        _ => false,
    };
    let mut parts = Vec::with_capacity(steps.len());
    let mut first = 0;
    while let Some((from, _)) = steps.get(first) {
        let singles = steps[first..].windows(3).step_by(2).take(SINGLES).take_while(is_single).count();
        parts.push((from.min(&FOLLOWED) + parts.len() as u32, first as u32));
        first += 1 + 2 * singles;
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
