//! A container's health, by Docker's rules: what each check says changes it, and nothing else does.

use std::{collections::VecDeque, time::Duration};

use crate::config::Healthcheck;

/// How many checks are kept.
pub const CHECKS_MAX: usize = 5;
/// How much of a check's output is kept, in bytes.
pub const OUTPUT_MAX_BYTES: usize = 4096;

/// Whether a container does what it is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthStatus {
    /// Nobody knows yet.
    #[default]
    Starting,
    /// The last check went well, or too few have failed since.
    Healthy,
    /// Too many checks have failed in a row.
    Unhealthy,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// When it began, in nanoseconds since the epoch.
    pub begun_unix_nanos: i64,
    /// When it ended.
    pub ended_unix_nanos: i64,
    /// How its command ended: 0 is healthy; -1 when it took too long or could not be run.
    pub exit_code: i32,
    /// The beginning of what it printed, at most [`OUTPUT_MAX_BYTES`].
    pub output: String,
}

/// What is known of a container's health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it does what it is there for.
    pub status: HealthStatus,
    /// How many checks have failed in a row, those of the start period not counted.
    pub failing_streak: u32,
    /// The last checks, the oldest first; at most [`CHECKS_MAX`].
    pub checks: VecDeque<Check>,
}

impl Health {
    /// A check says something of a container that started at `started_unix_nanos`.
    pub fn on(&mut self, check: Check, rules: &Healthcheck, started_unix_nanos: i64) {
        if check.exit_code == 0 {
            self.status = HealthStatus::Healthy;
            self.failing_streak = 0;
        } else if !self.is_in_start_period(rules, started_unix_nanos, check.begun_unix_nanos) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= rules.retries() {
                self.status = HealthStatus::Unhealthy;
            }
        }
        while self.checks.len() >= CHECKS_MAX {
            self.checks.pop_front();
        }
        self.checks.push_back(check);
    }

    /// How long until the next check of a container that started at `started_unix_nanos`.
    #[must_use]
    pub fn pause(&self, rules: &Healthcheck, started_unix_nanos: i64, now_unix_nanos: i64) -> Duration {
        rules.interval(self.is_in_start_period(rules, started_unix_nanos, now_unix_nanos))
    }

    /// Whether failures do not count at this time. The period ends with the first check that goes well.
    fn is_in_start_period(&self, rules: &Healthcheck, started_unix_nanos: i64, at_unix_nanos: i64) -> bool {
        let since = u64::try_from(at_unix_nanos.saturating_sub(started_unix_nanos)).unwrap_or(0);
        self.status == HealthStatus::Starting && Duration::from_nanos(since) < rules.start_period()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn check(at: i64, exit_code: i32) -> Check {
        Check { begun_unix_nanos: at, ended_unix_nanos: at + 1, exit_code, output: String::new() }
    }

    fn rules(retries: u32, start_period_ms: u64) -> Healthcheck {
        let start_period_ms = Some(start_period_ms);
        Healthcheck { retries: Some(retries), start_period_ms, ..Healthcheck::default() }
    }

    fn after(rules: &Healthcheck, checks: &[(i64, i32)]) -> Health {
        let mut health = Health::default();
        checks.iter().for_each(|(at, code)| health.on(check(*at, *code), rules, 0));
        health
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let rules = rules(2, 0);
        assert_eq!(after(&rules, &[(1, 1)]).status, HealthStatus::Starting);
        assert_eq!(after(&rules, &[(1, 1), (2, 1)]).status, HealthStatus::Unhealthy);
        assert_eq!(after(&rules, &[(1, 0), (2, 1)]).status, HealthStatus::Healthy);
        assert_eq!(after(&rules, &[(1, 0), (2, -1), (3, 137)]).status, HealthStatus::Unhealthy);
        let back = after(&rules, &[(1, 1), (2, 1), (3, 0), (4, 1)]);
        assert_eq!((back.status, back.failing_streak), (HealthStatus::Healthy, 1));
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_until_it_was_healthy_once() {
        let rules = rules(1, 10_000);
        let starting = after(&rules, &[(SECOND, 1), (9 * SECOND, 1)]);
        assert_eq!((starting.status, starting.failing_streak), (HealthStatus::Starting, 0));
        assert_eq!(starting.pause(&rules, 0, 9 * SECOND).as_secs(), 5);
        assert_eq!(starting.pause(&rules, 0, 10 * SECOND).as_secs(), 30);
        assert_eq!(after(&rules, &[(10 * SECOND, 1)]).status, HealthStatus::Unhealthy);
        let was = after(&rules, &[(SECOND, 0)]);
        assert_eq!(was.pause(&rules, 0, SECOND).as_secs(), 30);
        assert_eq!(after(&rules, &[(SECOND, 0), (2 * SECOND, 1)]).status, HealthStatus::Unhealthy);
    }

    proptest! {
        #[test]
        fn the_last_check_and_the_streak_agree(codes in proptest::collection::vec(-1..3, 1..40), retries in 1u32..5) {
            let checks: Vec<(i64, i32)> = codes.iter().enumerate().map(|(at, code)| (at as i64, *code)).collect();
            let health = after(&rules(retries, 0), &checks);
            let streak = codes.iter().rev().take_while(|code| **code != 0).count();
            prop_assert_eq!(health.failing_streak as usize, streak);
            prop_assert_eq!(health.status == HealthStatus::Unhealthy, streak >= retries as usize);
            prop_assert_eq!(health.checks.len(), codes.len().min(CHECKS_MAX));
            prop_assert_eq!(health.checks.back().map(|check| check.exit_code), codes.last().copied());
        }
    }
}
