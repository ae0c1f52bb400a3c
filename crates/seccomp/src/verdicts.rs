//! What happens to which call: a profile's rules, by architecture and number.

use tinyd_core::{
    Error, Result, oci,
    seccomp_profile::{Action, ERRNO_DEFAULT, ERRNO_MAX, Op},
};
use tinyd_sys::seccomp::{
    FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_TSYNC_ESRCH, FLAG_WAIT_KILLABLE_RECV,
};

use super::arch::{Arch, ROWS, Row};

/// What the kernel is told: an action and its data.
pub(super) type Return = u32;

/// `SECCOMP_RET_ERRNO` with ENOSYS.
pub(super) const RETURN_ENOSYS: Return = 0x0005_0000 | libc::ENOSYS as u32;
/// `SECCOMP_RET_KILL_PROCESS`.
pub(super) const RETURN_KILL_PROCESS: Return = 0x8000_0000;

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub index: u8,
    pub op: Op,
    /// Compared with; the mask of [`Op::MaskedEqual`].
    pub value: u64,
    /// The masked value.
    pub value_two: u64,
}

impl Condition {
    /// Whether the argument's high half does not matter.
    pub(super) fn is_about_low_half(&self) -> bool {
        self.op == Op::MaskedEqual && self.value >> 32 == 0 && self.value_two >> 32 == 0
    }
}

/// An alternative: what is returned when all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub conditions: Vec<Condition>,
    pub then: Return,
}

/// A rule with everything parsed.
#[derive(Debug)]
struct Rule {
    /// Its calls; names that no architecture has are left out.
    calls: Vec<Row>,
    /// Empty: no condition at all.
    cases: Vec<Case>,
    then: Return,
}

/// A profile with everything parsed.
#[derive(Debug)]
pub(super) struct Policy {
    pub flags: u32,
    default: Return,
    /// Whether calls that nobody named are refused.
    strict: bool,
    rules: Vec<Rule>,
    named: Named,
}

impl Policy {
    /// Reads a profile.
    ///
    /// # Errors
    /// `InvalidArgument` of the field that breaks a rule.
    pub(super) fn read(profile: &oci::Seccomp) -> Result<Policy> {
        let default: Action = profile.default_action.parse().map_err(|error| at("defaultAction", &error))?;
        if default == Action::Notify {
            return Err(bad("defaultAction", "SCMP_ACT_NOTIFY would ask about its own supervisor's calls"));
        }
        let mut rules = Vec::with_capacity(profile.syscalls.len());
        for (index, rule) in profile.syscalls.iter().enumerate() {
            rules.push(Rule::read(index, rule)?);
        }
        let mut policy = Policy {
            flags: flags(profile)?,
            default: return_of(default, profile.default_errno_ret)
                .map_err(|message| bad("defaultErrnoRet", message))?,
            strict: matches!(
                default,
                Action::Errno | Action::KillThread | Action::KillProcess | Action::Trap
            ),
            named: Named::of(&rules)?,
            rules,
        };
        if profile.syscalls.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY") {
            policy.flags |= FLAG_NEW_LISTENER;
            if policy.flags & FLAG_TSYNC != 0 {
                // The kernel takes both only with the third.
                policy.flags |= FLAG_TSYNC_ESRCH;
            }
        } else {
            // It is about a supervisor's calls: without one the kernel refuses it.
            policy.flags &= !FLAG_WAIT_KILLABLE_RECV;
        }
        Ok(policy)
    }
}

impl Rule {
    fn read(index: usize, rule: &oci::SyscallRule) -> Result<Rule> {
        let field = |name: &str| format!("syscalls[{index}].{name}");
        let action: Action = rule.action.parse().map_err(|error| at(&field("action"), &error))?;
        let then = return_of(action, rule.errno_ret).map_err(|message| bad(&field("errnoRet"), message))?;
        if rule.names.is_empty() {
            return Err(bad(&field("names"), "names no system call"));
        }
        // The runtime hands the supervisor its descriptor with the one, and others with the other (runc refuses it).
        let own = ["sendmsg", "write"].into_iter().find(|own| rule.names.iter().any(|name| name == *own));
        if let Some(own) = own.filter(|_| action == Action::Notify) {
            let message = format!("SCMP_ACT_NOTIFY of {own} would stop the runtime itself");
            return Err(bad(&field("names"), message));
        }
        let read = |(place, arg)| {
            condition(arg)
                .map_err(|(member, message)| bad(&field(&format!("args[{place}].{member}")), message))
        };
        let conditions: Vec<Condition> = rule.args.iter().enumerate().map(read).collect::<Result<_>>()?;
        Ok(Rule { calls: rows(&rule.names), cases: cases(conditions, then), then })
    }
}

/// The rows of names. Profiles list names in order, or nearly: the next one is mostly a few rows on.
fn rows(names: &oci::Names) -> Vec<Row> {
    let mut rows = Vec::with_capacity(names.len());
    let mut likely = Row::FIRST;
    for name in names.iter() {
        if let Some(row) = likely.of_near(name) {
            likely = row.next();
            rows.push(row);
        }
    }
    rows
}

/// All conditions must hold, unless two are about the same argument: then each stands for itself, as in runc.
fn cases(conditions: Vec<Condition>, then: Return) -> Vec<Case> {
    let mut seen = [false; 6];
    let repeated =
        conditions.iter().any(|condition| std::mem::replace(&mut seen[usize::from(condition.index)], true));
    match conditions.len() {
        0 => Vec::new(),
        _ if repeated => {
            conditions.into_iter().map(|condition| Case { conditions: vec![condition], then }).collect()
        }
        _ => vec![Case { conditions, then }],
    }
}

/// Reads a condition; the member that is wrong and why.
fn condition(arg: &oci::SyscallArg) -> Result<Condition, (&'static str, String)> {
    let op = arg.op.parse().map_err(|error: Error| ("op", error.message().to_owned()))?;
    match u8::try_from(arg.index) {
        Ok(index @ 0..=5) => Ok(Condition { index, op, value: arg.value, value_two: arg.value_two }),
        _ => Err(("index", format!("{} is not an argument: 0 to 5", arg.index))),
    }
}

/// The flags of a profile by their words.
pub(super) const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_TSYNC", FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV),
];

fn flags(profile: &oci::Seccomp) -> Result<u32> {
    // runc's default when a profile names no flag: the mitigation costs more than a filter does.
    if profile.flags.is_empty() {
        return Ok(FLAG_SPEC_ALLOW);
    }
    profile.flags.iter().try_fold(0, |flags, word| {
        let found = FLAGS.iter().find(|(known, _)| known == word).map(|(_, flag)| flags | flag);
        found.ok_or_else(|| bad("flags", format!("{word:?} is not a flag such as SECCOMP_FILTER_FLAG_LOG")))
    })
}

/// What the kernel is told; or what is wrong with the errno, which an action that has none to return must not come with (config-linux.md,
/// seccomp).
fn return_of(action: Action, errno: Option<u32>) -> Result<Return, String> {
    if let Some(errno) = errno.filter(|_| !matches!(action, Action::Errno | Action::Trace)) {
        return Err(format!("{errno} is for SCMP_ACT_ERRNO and SCMP_ACT_TRACE, and not for this action"));
    }
    let errno = errno.unwrap_or(ERRNO_DEFAULT);
    if errno > ERRNO_MAX {
        return Err(format!("{errno} is not an errno: 0 to {ERRNO_MAX}"));
    }
    Ok(match action {
        Action::KillThread => 0,
        Action::KillProcess => RETURN_KILL_PROCESS,
        Action::Trap => 0x0003_0000,
        Action::Errno => 0x0005_0000 | errno,
        Action::Trace => 0x7ff0_0000 | errno,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
        Action::Notify => 0x7fc0_0000,
    })
}

fn bad(field: &str, message: impl Into<String>) -> Error {
    Error::invalid(format!("linux.seccomp.{field}"), message)
}

fn at(field: &str, error: &Error) -> Error {
    bad(field, error.message())
}

/// What happens to a call: one of [`Rulings`], in which equal ones are the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict(u16);

/// All that happens to calls. Hundreds of steps share a few of them: each page that a step takes is one that is cleared while a container
/// starts.
#[derive(Debug, Default)]
pub(super) struct Rulings(Vec<Ruling>);

/// What happens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// This.
    Always(Return),
    /// The first case that holds, else the last value.
    ByArguments(Vec<Case>, Return),
}

impl Rulings {
    fn verdict(&mut self, ruling: Ruling) -> Verdict {
        let known = self.0.iter().position(|known| *known == ruling);
        let at = known.unwrap_or_else(|| {
            self.0.push(ruling);
            self.0.len() - 1
        });
        // There are not as many calls on all architectures together.
        Verdict(at as u16)
    }

    pub(super) fn of(&self, verdict: Verdict) -> &Ruling {
        &self.0[usize::from(verdict.0)]
    }

    /// Whether it is the same where arguments are 64 bits wide and where they are 32.
    pub(super) fn is_of_any_width(&self, verdict: Verdict) -> bool {
        match self.of(verdict) {
            Ruling::Always(_) => true,
            Ruling::ByArguments(cases, _) => {
                cases.iter().flat_map(|case| &case.conditions).all(Condition::is_about_low_half)
            }
        }
    }
}

/// What happens to this number and those after it, up to the next step's.
pub(super) type Step = (u32, Verdict);

/// What happens to every number of an architecture.
#[derive(Debug)]
pub(super) struct Verdicts(pub Vec<Step>);

impl Verdicts {
    /// Applies a policy to an architecture.
    pub(super) fn of(policy: &Policy, arch: Arch, rulings: &mut Rulings) -> Verdicts {
        let mut steps = Vec::with_capacity(128);
        // The first number that nothing has been said of, and what the last step always returns.
        let (mut open, mut last) = (0, None);
        let mut rules = Vec::new();
        let mut calls = arch.calls();
        let mut call = calls.next();
        while let Some((number, row)) = call {
            call = calls.next();
            policy.named.rules_of(row, &mut rules);
            while let Some((_, row)) = call.filter(|(next, _)| *next == number) {
                // Another name of the same call.
                policy.named.rules_of(row, &mut rules);
                rules.sort_unstable();
                rules.dedup();
                call = calls.next();
            }
            if rules.is_empty() {
                continue;
            }
            let plain = policy.plain(&rules);
            if number > open || plain.is_none() || plain != last {
                if number > open {
                    push(&mut steps, open, rulings.verdict(Ruling::Always(policy.default)));
                }
                push(&mut steps, number, rulings.verdict(policy.ruling(&rules)));
                last = plain;
            }
            open = number + 1;
            rules.clear();
        }
        let beyond = if policy.strict && open > 0 { RETURN_ENOSYS } else { policy.default };
        push(&mut steps, open, rulings.verdict(Ruling::Always(beyond)));
        Verdicts(steps)
    }
}

/// Which rules name a call. It is asked for each call of each architecture while a container starts: plain loops, since this program
/// is compiled to be small.
#[derive(Debug)]
struct Named {
    /// The first one's index and one more, by row, and [`Named::MORE`]; 0 is none.
    first: [u16; ROWS],
    /// The others, in order.
    more: Vec<(Row, u16)>,
}

impl Named {
    /// Says that the first is not the only one.
    const MORE: u16 = 1 << 15;

    /// # Errors
    /// More rules than can be counted here.
    fn of(rules: &[Rule]) -> Result<Named> {
        if rules.len() >= usize::from(Named::MORE) {
            return Err(bad("syscalls", format!("{} rules are too many: at most 32767", rules.len())));
        }
        let mut named = Named { first: [0; ROWS], more: Vec::new() };
        for (index, rule) in rules.iter().enumerate() {
            let place = index as u16 + 1;
            for row in &rule.calls {
                let first = &mut named.first[row.index()];
                if *first == 0 {
                    *first = place;
                } else if *first & !Named::MORE != place {
                    *first |= Named::MORE;
                    named.more.push((*row, place));
                }
            }
        }
        Ok(named)
    }

    /// Adds the indices of the rules that name a call.
    fn rules_of(&self, row: Row, rules: &mut Vec<usize>) {
        let first = self.first[row.index()];
        if first != 0 {
            rules.push(usize::from(first & !Named::MORE) - 1);
        }
        if first & Named::MORE != 0 {
            for (other, place) in &self.more {
                if *other == row {
                    rules.push(usize::from(*place) - 1);
                }
            }
        }
    }
}

impl Policy {
    /// What the rules return, when that is one rule's word without conditions.
    fn plain(&self, rules: &[usize]) -> Option<Return> {
        match rules {
            [rule] => self.rules.get(*rule).filter(|rule| rule.cases.is_empty()).map(|rule| rule.then),
            _ => None,
        }
    }

    /// What happens to a call that these rules name.
    fn ruling(&self, rules: &[usize]) -> Ruling {
        // A rule that says what happens anyway says nothing (runc leaves it out): it does not hide rules with arguments.
        let rules = || rules.iter().map(|rule| &self.rules[*rule]).filter(|rule| rule.then != self.default);
        if let Some(rule) = rules().find(|rule| rule.cases.is_empty()) {
            return Ruling::Always(rule.then);
        }
        let cases: Vec<Case> = rules().flat_map(|rule| rule.cases.iter().cloned()).collect();
        if cases.is_empty() { Ruling::Always(self.default) } else { Ruling::ByArguments(cases, self.default) }
    }
}

/// Adds a step, unless it changes nothing.
fn push(steps: &mut Vec<Step>, from: u32, verdict: Verdict) {
    if steps.last().is_none_or(|(_, last)| *last != verdict) {
        steps.push((from, verdict));
    }
}
