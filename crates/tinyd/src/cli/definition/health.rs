//! How its health is found out.

use clap::Args;
use tinyd_core::{
    Error, Result,
    config::{HealthTest, Healthcheck},
};

// Its health.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Health")]
pub(super) struct HealthArgs {
    /// What is run in it to find out: a line for the image's shell, or for /bin/sh. It is healthy when that ends with 0
    #[arg(long, value_name = "LINE")]
    health_cmd: Option<String>,
    /// Between the end of one check and the beginning of the next, such as 30s or 1m30s [default: the image's, or 30s]
    #[arg(long, value_name = "TIME")]
    health_interval: Option<String>,
    /// Until a check counts as failed and its command is killed [default: the image's, or 30s]
    #[arg(long, value_name = "TIME")]
    health_timeout: Option<String>,
    /// How many failures in a row make it unhealthy [default: the image's, or 3]
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    health_retries: Option<String>,
    /// The time after the start in which failures do not count [default: the image's, or none]
    #[arg(long, value_name = "TIME")]
    health_start_period: Option<String>,
    /// As --health-interval, in the start period [default: the image's, or 5s]
    #[arg(long, value_name = "TIME")]
    health_start_interval: Option<String>,
    /// Run no health check, whatever the image says
    #[arg(long, conflicts_with_all = ["health_cmd", "health_interval", "health_timeout", "health_retries", "health_start_period", "health_start_interval"])]
    no_healthcheck: bool,
}

impl HealthArgs {
    /// What was said; `None` when nothing was.
    ///
    /// # Errors
    /// `InvalidArgument` of the flag at fault.
    pub(super) fn check(self) -> Result<Option<Healthcheck>> {
        if self.no_healthcheck {
            return Ok(Some(Healthcheck { test: Some(HealthTest::None), ..Healthcheck::default() }));
        }
        let check = Healthcheck {
            test: self.health_cmd.map(shell_line).transpose()?,
            interval_ms: millis("--health-interval", self.health_interval, 1)?,
            timeout_ms: millis("--health-timeout", self.health_timeout, 1)?,
            start_period_ms: millis("--health-start-period", self.health_start_period, 0)?,
            start_interval_ms: millis("--health-start-interval", self.health_start_interval, 1)?,
            retries: self.health_retries.map(retries).transpose()?,
        };
        Ok(Some(check).filter(|check| *check != Healthcheck::default()))
    }
}

/// Docker's `none` is no check.
fn shell_line(line: String) -> Result<HealthTest> {
    match line.trim() {
        "" => Err(Error::invalid("--health-cmd", "an empty line checks nothing: --no-healthcheck says so")),
        "none" => Ok(HealthTest::None),
        _ => Ok(HealthTest::Shell(line)),
    }
}

fn millis(field: &str, text: Option<String>, least: u64) -> Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || {
        let rule = format!("{text:?} is not a time such as 500ms, 30s or 1m30s, of at least {least}ms");
        Error::invalid(field, rule)
    };
    let time = match text.as_str() {
        "0" => std::time::Duration::ZERO,
        _ => humantime::parse_duration(&text).map_err(|_| wrong())?,
    };
    u64::try_from(time.as_millis()).ok().filter(|millis| *millis >= least).ok_or_else(wrong).map(Some)
}

fn retries(text: String) -> Result<u32> {
    let wrong = || Error::invalid("--health-retries", format!("{text:?} is not a number: 1 to {}", u32::MAX));
    text.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn check(words: &[&str]) -> Result<Option<Healthcheck>> {
        let words = std::iter::once("run").chain(words.iter().copied());
        let matches = HealthArgs::augment_args(Command::new("run")).try_get_matches_from(words).unwrap();
        HealthArgs::from_arg_matches(&matches).unwrap().check()
    }

    #[test]
    fn what_is_said_is_kept_and_nothing_else() {
        assert_eq!(check(&[]).unwrap(), None);
        let said = check(&["--health-cmd", "a | b", "--health-interval", "1m30s", "--health-retries", "2"])
            .unwrap()
            .unwrap();
        assert_eq!(said.test, Some(HealthTest::Shell("a | b".into())));
        assert_eq!((said.interval_ms, said.retries, said.timeout_ms), (Some(90_000), Some(2), None));
        assert_eq!(check(&["--health-start-period", "0"]).unwrap().unwrap().start_period_ms, Some(0));
        for off in [&["--no-healthcheck"][..], &["--health-cmd", "none"]] {
            assert_eq!(check(off).unwrap().unwrap().test, Some(HealthTest::None), "{off:?}");
        }
    }

    #[test]
    fn bad_words_name_their_flag() {
        for (flag, value) in [
            ("--health-interval", "0"),
            ("--health-interval", "5"),
            ("--health-timeout", "1us"),
            ("--health-start-period", "soon"),
            ("--health-start-interval", "0s"),
            ("--health-retries", "0"),
            ("--health-retries", "-1"),
            ("--health-cmd", " "),
        ] {
            assert_eq!(check(&[flag, value]).unwrap_err().field(), Some(flag), "{value}");
        }
    }
}
