//! `HEALTHCHECK [--interval=30s …] CMD …`, and `HEALTHCHECK NONE`.

use tinyd_core::Result;

use super::wrong;
use crate::config::Healthcheck;

/// The fewest nanoseconds of a time that is said.
const LEAST_NANOS: i64 = 1_000_000;

/// Reads what follows the word. `command` reads a command in either form.
pub(super) fn healthcheck(rest: &str, command: impl Fn(&str) -> Result<Vec<String>>) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "interval" => check.interval = duration(name, value)?,
            "timeout" => check.timeout = duration(name, value)?,
            "start-period" => check.start_period = duration(name, value)?,
            "start-interval" => check.start_interval = duration(name, value)?,
            "retries" => {
                let number = value.parse::<i64>().ok().filter(|number| *number > 0);
                check.retries =
                    number.ok_or_else(|| wrong(format!("--retries={value}: a number from 1 on")))?;
            }
            _ => {
                return Err(wrong(format!(
                    "--{name} is not known: there is --interval, --timeout, --start-period, --start-interval and --retries"
                )));
            }
        }
        rest = after.trim_start();
    }
    let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let after = after.trim();
    check.test = match (word.to_ascii_uppercase().as_str(), after) {
        ("NONE", "") => vec!["NONE".to_owned()],
        ("CMD", "") | ("NONE", _) => return Err(wrong("HEALTHCHECK CMD has a command, NONE has none")),
        ("CMD", line) if line.starts_with('[') => {
            std::iter::once("CMD".to_owned()).chain(command(line)?).collect()
        }
        ("CMD", line) => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        _ => return Err(wrong("what follows is CMD and a command, or NONE")),
    };
    Ok(check)
}

/// Go's durations: `1m30s`, `500ms`, `1.5h`.
fn duration(name: &str, text: &str) -> Result<i64> {
    let bad = || wrong(format!("--{name}={text} is no duration: 30s, 1m30s or 500ms, at least 1ms"));
    let mut nanos = 0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let after = &rest[digits..];
        let unit = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        nanos += number
            * match &after[..unit] {
                "h" => 3600e9,
                "m" => 60e9,
                "s" => 1e9,
                "ms" => 1e6,
                "us" | "µs" => 1e3,
                "ns" => 1.0,
                _ => return Err(bad()),
            };
        rest = &after[unit..];
    }
    #[expect(clippy::cast_possible_truncation, reason = "within a thousand years, which is checked")]
    let whole = (nanos < 3e19_f64.min(i64::MAX as f64)).then_some(nanos as i64);
    whole.filter(|nanos| *nanos >= LEAST_NANOS).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<Healthcheck> {
        healthcheck(rest, |line| Ok(vec![line.to_owned()]))
    }

    #[test]
    fn checks_are_read_with_their_times() {
        let check = read("--interval=1m30s --timeout=1.5s --retries=4 CMD curl -f x || exit 1").unwrap();
        assert_eq!((check.interval, check.timeout, check.retries), (90_000_000_000, 1_500_000_000, 4));
        assert_eq!(check.test, ["CMD-SHELL", "curl -f x || exit 1"]);
        assert_eq!(read("CMD [\"a\"]").unwrap().test, ["CMD", "[\"a\"]"]);
        assert_eq!(read("none").unwrap().test, ["NONE"]);
        for bad in [
            "",
            "CMD",
            "NONE x",
            "--interval=1 CMD x",
            "--interval=0s CMD x",
            "--retries=0 CMD x",
            "--foo=1s CMD x",
            "x",
            "--timeout=1y CMD x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
