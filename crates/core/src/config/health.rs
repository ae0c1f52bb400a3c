//! How a container's health is found out: a command that is run in it from time to time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A health check as somebody asked for it; what is absent comes from the image, and then from Docker's defaults. Times are in
/// milliseconds, from 1 on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// What is run.
    pub test: Option<HealthTest>,
    /// Between the end of one check and the beginning of the next; 30 s.
    pub interval_ms: Option<u64>,
    /// Until a check counts as failed, and its command is killed; 30 s.
    pub timeout_ms: Option<u64>,
    /// From the container's start on, the time in which failures do not count; 0.
    pub start_period_ms: Option<u64>,
    /// As `interval_ms`, in the start period; 5 s.
    pub start_interval_ms: Option<u64>,
    /// How many failures in a row make it unhealthy; 3.
    pub retries: Option<u32>,
}

/// What a health check runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// Nothing: no health is known, whatever the image says.
    None,
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A line for the image's shell, else `/bin/sh -c`.
    Shell(String),
}

impl HealthTest {
    /// Reads an image's words: `["CMD", …]`, `["CMD-SHELL", line]`, `["NONE"]`; none at all is nothing said.
    ///
    /// # Errors
    /// `InvalidArgument` of `field` for other words.
    pub fn parse(field: &str, words: &[String]) -> Result<Option<HealthTest>> {
        let rest = words.get(1..).unwrap_or_default();
        match (words.first().map(String::as_str), rest) {
            (None, _) => Ok(None),
            (Some("NONE"), _) => Ok(Some(HealthTest::None)),
            (Some("CMD"), [_, ..]) => Ok(Some(HealthTest::Exec(rest.to_vec()))),
            (Some("CMD-SHELL"), [line]) => Ok(Some(HealthTest::Shell(line.clone()))),
            _ => Err(Error::invalid(field, format!("{words:?} is none of CMD …, CMD-SHELL LINE, NONE"))),
        }
    }

    /// The same words.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        match self {
            HealthTest::None => vec!["NONE".to_owned()],
            HealthTest::Exec(argv) => [&["CMD".to_owned()], &argv[..]].concat(),
            HealthTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        }
    }
}

impl Healthcheck {
    /// What is not said here is as `other` says it.
    #[must_use]
    pub fn or(self, other: Healthcheck) -> Healthcheck {
        Healthcheck {
            test: self.test.or(other.test),
            interval_ms: self.interval_ms.or(other.interval_ms),
            timeout_ms: self.timeout_ms.or(other.timeout_ms),
            start_period_ms: self.start_period_ms.or(other.start_period_ms),
            start_interval_ms: self.start_interval_ms.or(other.start_interval_ms),
            retries: self.retries.or(other.retries),
        }
    }

    /// Whether there is something to run.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self.test, Some(HealthTest::Exec(_) | HealthTest::Shell(_)))
    }

    /// Between two checks; `starting` says whether the container is in its start period and has not been healthy yet.
    #[must_use]
    pub fn interval(&self, starting: bool) -> Duration {
        match starting {
            true => millis(self.start_interval_ms, 5_000),
            false => millis(self.interval_ms, 30_000),
        }
    }

    /// Until a check counts as failed.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        millis(self.timeout_ms, 30_000)
    }

    /// In which failures do not count.
    #[must_use]
    pub fn start_period(&self) -> Duration {
        millis(self.start_period_ms, 0)
    }

    /// How many failures in a row make it unhealthy.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries.unwrap_or(3)
    }
}

fn millis(given: Option<u64>, usual: u64) -> Duration {
    Duration::from_millis(given.unwrap_or(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn an_images_words_are_read_and_written() {
        for said in [&["NONE"][..], &["CMD", "a", "b"], &["CMD-SHELL", "a | b"]] {
            let test = HealthTest::parse("Healthcheck", &words(said)).unwrap().unwrap();
            assert_eq!(test.words(), words(said));
        }
        assert_eq!(HealthTest::parse("Healthcheck", &[]).unwrap(), None);
        for bad in [&["CMD"][..], &["CMD-SHELL"], &["CMD-SHELL", "a", "b"], &["a"], &[""]] {
            let error = HealthTest::parse("Healthcheck", &words(bad)).unwrap_err();
            assert_eq!(error.field(), Some("Healthcheck"), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_the_images_and_then_dockers() {
        let image = Healthcheck {
            test: Some(HealthTest::Shell("a".into())),
            interval_ms: Some(7),
            retries: Some(9),
            ..Healthcheck::default()
        };
        let own = Healthcheck { interval_ms: Some(5), ..Healthcheck::default() };
        let both = own.or(image.clone());
        assert!(both.is_on());
        assert_eq!((both.interval(false).as_millis(), both.retries()), (5, 9));
        assert_eq!((both.timeout().as_secs(), both.interval(true).as_secs()), (30, 5));
        let off = Healthcheck { test: Some(HealthTest::None), ..Healthcheck::default() }.or(image);
        assert!(!off.is_on() && !Healthcheck::default().is_on());
    }
}
