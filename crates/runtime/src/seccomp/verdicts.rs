//! What happens to which call: a profile's rules, by architecture and number.

use tinyd_core::{
    Error, Result, oci,
    seccomp_profile::{Action, ERRNO_DEFAULT, ERRNO_MAX, Op},
};
use tinyd_sys::seccomp::{
    FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_TSYNC_ESRCH, FLAG_WAIT_KILLABLE_RECV,
};

use super::arch::{Arch, Row};

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
        let mut policy = Policy {
            flags: flags(profile)?,
            default: return_of("defaultErrnoRet", default, profile.default_errno_ret)?,
            strict: matches!(
                default,
                Action::Errno | Action::KillThread | Action::KillProcess | Action::Trap
            ),
            rules: Vec::with_capacity(profile.syscalls.len()),
        };
        for (index, rule) in profile.syscalls.iter().enumerate() {
            policy.rules.push(Rule::read(index, rule)?);
        }
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
        let then = return_of(&field("errnoRet"), action, rule.errno_ret)?;
        if rule.names.is_empty() {
            return Err(bad(&field("names"), "names no system call"));
        }
        // The runtime hands the supervisor its descriptor with the one, and others with the other (runc refuses it).
        let own = ["sendmsg", "write"].into_iter().find(|own| rule.names.iter().any(|name| name == *own));
        if let Some(own) = own.filter(|_| action == Action::Notify) {
            let message = format!("SCMP_ACT_NOTIFY of {own} would stop the runtime itself");
            return Err(bad(&field("names"), message));
        }
        let conditions: Vec<Condition> = rule
            .args
            .iter()
            .enumerate()
            .map(|(place, arg)| condition(&field(&format!("args[{place}]")), arg))
            .collect::<Result<_>>()?;
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

fn condition(field: &str, arg: &oci::SyscallArg) -> Result<Condition> {
    let op = arg.op.parse().map_err(|error| at(&format!("{field}.op"), &error))?;
    match u8::try_from(arg.index) {
        Ok(index @ 0..=5) => Ok(Condition { index, op, value: arg.value, value_two: arg.value_two }),
        _ => Err(bad(&format!("{field}.index"), format!("{} is not an argument: 0 to 5", arg.index))),
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

fn return_of(field: &str, action: Action, errno: Option<u32>) -> Result<Return> {
    let errno = errno.unwrap_or(ERRNO_DEFAULT);
    if errno > ERRNO_MAX {
        return Err(bad(field, format!("{errno} is not an errno: 0 to {ERRNO_MAX}")));
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

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This.
    Always(Return),
    /// The first case that holds, else the last value.
    ByArguments(Vec<Case>, Return),
}

/// What happens to this number and those after it, up to the next step's.
pub(super) type Step = (u32, Verdict);

/// What happens to every number of an architecture.
#[derive(Debug)]
pub(super) struct Verdicts(pub Vec<Step>);

impl Verdicts {
    /// Applies a policy to an architecture.
    pub(super) fn of(policy: &Policy, arch: Arch) -> Verdicts {
        // The number above, the rule below: sorted by number, then in the order of the rules.
        let mut calls: Vec<u64> = Vec::with_capacity(512);
        for (index, rule) in (0u64..).zip(&policy.rules) {
            let numbers = rule.calls.iter().filter_map(|row| arch.number_in(*row));
            calls.extend(numbers.map(|number| u64::from(number) << 32 | index));
        }
        calls.sort_unstable();
        calls.dedup();
        let mut steps = Vec::with_capacity(calls.len());
        // The first number that nothing has been said of.
        let mut open = 0;
        for group in calls.chunk_by(|a, b| number_of(*a) == number_of(*b)) {
            let number = number_of(group[0]);
            if number > open {
                push(&mut steps, open, Verdict::Always(policy.default));
            }
            push(&mut steps, number, verdict(policy, group));
            open = number + 1;
        }
        let beyond = if policy.strict && !calls.is_empty() { RETURN_ENOSYS } else { policy.default };
        push(&mut steps, open, Verdict::Always(beyond));
        Verdicts(steps)
    }
}

/// The number of a call and rule in one word.
fn number_of(call: u64) -> u32 {
    (call >> 32) as u32
}

fn verdict(policy: &Policy, group: &[u64]) -> Verdict {
    // A rule that says what happens anyway says nothing (runc leaves it out): it does not hide rules with arguments.
    let rules = || {
        group
            .iter()
            .map(|call| &policy.rules[*call as u32 as usize])
            .filter(|rule| rule.then != policy.default)
    };
    if let Some(rule) = rules().find(|rule| rule.cases.is_empty()) {
        return Verdict::Always(rule.then);
    }
    let cases: Vec<Case> = rules().flat_map(|rule| rule.cases.iter().cloned()).collect();
    if cases.is_empty() {
        Verdict::Always(policy.default)
    } else {
        Verdict::ByArguments(cases, policy.default)
    }
}

/// Adds a step, unless it changes nothing.
fn push(steps: &mut Vec<Step>, from: u32, verdict: Verdict) {
    if steps.last().is_none_or(|(_, last)| *last != verdict) {
        steps.push((from, verdict));
    }
}
