//! What is asked of a process: arguments, environment, signals, ulimits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest single argument or environment entry, in bytes with its NUL: the kernel's `MAX_ARG_STRLEN`.
pub const ARG_MAX_BYTES: usize = 131_072;
/// The most that all arguments and the environment hold together, in bytes: what execve(2) takes with an 8 MiB stack.
pub const ARGS_TOTAL_MAX_BYTES: usize = 2 << 20;

/// Checks an argument list: no NUL, no argument over [`ARG_MAX_BYTES`], all together under [`ARGS_TOTAL_MAX_BYTES`].
///
/// # Errors
/// `InvalidArgument` of `field` with the index of the argument.
pub fn check_argv(field: &str, argv: &[String]) -> Result<()> {
    for (index, arg) in argv.iter().enumerate() {
        if arg.contains('\0') {
            return Err(Error::invalid(field, format!("argument {index} has a NUL byte")));
        }
        if arg.len() >= ARG_MAX_BYTES {
            return Err(Error::invalid(
                field,
                format!(
                    "argument {index} has {} bytes: at most {} (the kernel's MAX_ARG_STRLEN)",
                    arg.len(),
                    ARG_MAX_BYTES - 1
                ),
            ));
        }
    }
    let total: usize = argv.iter().map(|arg| arg.len() + 9).sum();
    if total > ARGS_TOTAL_MAX_BYTES {
        return Err(Error::invalid(
            field,
            format!("the arguments have {total} bytes: at most {ARGS_TOTAL_MAX_BYTES}"),
        ));
    }
    Ok(())
}

/// Checks `KEY=VALUE` entries: a key that is not empty, no NUL, not too long.
///
/// # Errors
/// `InvalidArgument` of `field` with the key; values are secret and never told.
pub fn check_env(field: &str, env: &[String]) -> Result<()> {
    for (index, entry) in env.iter().enumerate() {
        let key = entry.split('=').next().unwrap_or_default();
        if !entry.contains('=') || key.is_empty() || key.chars().any(char::is_control) {
            return Err(Error::invalid(field, format!("entry {index} is not KEY=VALUE")));
        }
        if entry.contains('\0') || entry.len() >= ARG_MAX_BYTES {
            return Err(Error::invalid(
                field,
                format!("the value of {key} has a NUL byte or is over {} bytes", ARG_MAX_BYTES - 1),
            ));
        }
    }
    Ok(())
}

/// An environment under construction: later values win, order is kept.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    /// Sets `KEY=VALUE`; an entry without `=` is ignored (see [`check_env`]).
    pub fn set(&mut self, entry: &str) {
        if let Some((key, value)) = entry.split_once('=')
            && self.values.insert(key.to_owned(), value.to_owned()).is_none()
        {
            self.order.push(key.to_owned());
        }
    }

    /// Sets a key unless it is there.
    pub fn set_default(&mut self, key: &str, value: &str) {
        if !self.values.contains_key(key) {
            self.set(&format!("{key}={value}"));
        }
    }

    /// The entries as `KEY=VALUE`.
    #[must_use]
    pub fn into_entries(self) -> Vec<String> {
        self.order.iter().map(|key| format!("{key}={}", self.values[key])).collect()
    }
}

/// A signal by number, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal(i32);

/// The signal that `stop` sends first.
pub type StopSignal = Signal;

/// The names of x86's and arm64's signals 1 to 31 (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);

    /// Reads `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `RTMAX-1`.
    ///
    /// # Errors
    /// `InvalidArgument` of `field` when there is no such signal.
    pub fn parse(field: &str, text: &str) -> Result<Signal> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let realtime = |rest: &str, base: i32, sign: i32| match rest {
            "" => Some(base),
            _ => rest.trim_start_matches(['+', '-']).parse::<i32>().ok().map(|by| base + sign * by),
        };
        let number = if let Ok(number) = text.parse::<i32>() {
            Some(number)
        } else if let Some(index) = NAMES.iter().position(|known| *known == name) {
            i32::try_from(index + 1).ok()
        } else if let Some(rest) = name.strip_prefix("RTMIN") {
            realtime(rest, 34, 1)
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            realtime(rest, 64, -1)
        } else {
            None
        };
        number.filter(|number| (1..=64).contains(number)).map(Signal).ok_or_else(|| {
            Error::invalid(
                field,
                format!("{text:?} is not a signal: a name such as TERM or a number from 1 to 64"),
            )
        })
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match usize::try_from(self.0 - 1).ok().and_then(|index| NAMES.get(index)) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A resource limit: `--ulimit nofile=1024:2048`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The kernel's name without RLIMIT_, lower case: `nofile`.
    pub name: String,
    /// The soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// The hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

impl Ulimit {
    /// The names that setrlimit(2) knows.
    pub const NAMES: [&'static str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];

    /// Reads `NAME=SOFT[:HARD]`; -1 and `unlimited` are without limit.
    ///
    /// # Errors
    /// `InvalidArgument` of `field` with the part that is wrong and the rule.
    pub fn parse(field: &str, text: &str) -> Result<Ulimit> {
        let shape = || {
            Error::invalid(
                field,
                format!("{text:?} is not a ulimit: NAME=SOFT[:HARD], such as nofile=1024:2048"),
            )
        };
        let (name, limits) = text.split_once('=').ok_or_else(shape)?;
        let name = name.to_ascii_lowercase();
        if !Self::NAMES.contains(&name.as_str()) {
            return Err(Error::invalid(
                field,
                format!("{text:?}: {name:?} is not a limit: one of {}", Self::NAMES.join(", ")),
            ));
        }
        let number = |part: &str| match part {
            "-1" | "unlimited" => Ok(u64::MAX),
            _ => part.parse::<u64>().map_err(|_| shape()),
        };
        let (soft, hard) = match limits.split_once(':') {
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(limits)?, number(limits)?),
        };
        if soft > hard {
            return Err(Error::invalid(field, format!("{text:?}: the soft limit is above the hard limit")));
        }
        Ok(Ulimit { name, soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGKILL", 9),
            ("usr1", 10),
            ("15", 15),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("SYS", 31),
        ] {
            assert_eq!(Signal::parse("--signal", text).unwrap().number(), number, "{text}");
        }
        for bad in ["", "0", "65", "-1", "TERMINATE", "RTMIN+99", "RTMIN+x"] {
            assert!(Signal::parse("--signal", bad).is_err(), "{bad}");
        }
        assert_eq!(Signal::parse("", "RTMIN+3").unwrap().to_string(), "37");
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
    }

    #[test]
    fn ulimits() {
        assert_eq!(
            Ulimit::parse("--ulimit", "nofile=1024:-1").unwrap(),
            Ulimit { name: "nofile".into(), soft: 1024, hard: u64::MAX }
        );
        for bad in ["nofile", "nofiles=1", "nofile=2:1", "nofile=x"] {
            assert!(Ulimit::parse("--ulimit", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_that_execve_would_refuse() {
        assert!(check_argv("COMMAND", &["a\0b".into()]).unwrap_err().message().contains("argument 0"));
        assert!(
            check_argv("COMMAND", &["ok".into(), "x".repeat(ARG_MAX_BYTES)])
                .unwrap_err()
                .message()
                .contains("argument 1")
        );
        assert!(check_argv("COMMAND", &vec!["x".repeat(100_000); 30]).is_err());
        assert!(check_env("-e", &["=x".into()]).is_err());
        assert!(check_env("-e", &["SECRET\0=hush".into()]).is_err());
    }

    #[test]
    fn the_last_value_of_a_variable_wins() {
        let mut env = Environment::default();
        for entry in ["A=1", "B=2", "A=3"] {
            env.set(entry);
        }
        env.set_default("B", "9");
        env.set_default("C", "4");
        assert_eq!(env.into_entries(), ["A=3", "B=2", "C=4"]);
    }
}
