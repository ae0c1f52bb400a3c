//! Points in time as people write and read them.

use jiff::{Timestamp, Zoned, civil::DateTime, tz::TimeZone};
use tinyd_core::{Error, Result};

/// This moment, in the zone of this client.
pub(super) fn now() -> Zoned {
    let name = std::env::var("TZ").ok();
    Timestamp::now().to_zoned(zone(name.as_deref(), |path| std::fs::read(path).ok()))
}

/// The zone that `TZ` names, or `/etc/localtime` is; UTC when there is none. One file is read: a library that looks names up
/// in the whole database takes a millisecond for it.
fn zone(name: Option<&str>, read: impl Fn(&str) -> Option<Vec<u8>>) -> TimeZone {
    let file = |path: &str| read(path).and_then(|bytes| TimeZone::tzif("local", &bytes).ok());
    let zone = match name.map(|name| name.trim_start_matches(':')) {
        None => file("/etc/localtime"),
        Some("") => None,
        Some(path) if path.starts_with('/') => file(path),
        Some(name) => file(&format!("/usr/share/zoneinfo/{name}")).or_else(|| TimeZone::posix(name).ok()),
    };
    zone.unwrap_or(TimeZone::UTC)
}

/// Reads a point in time, in nanoseconds since the epoch: RFC 3339, a local date or time, seconds since the epoch, or how
/// long ago, as `10m` or `1h30m`.
///
/// # Errors
/// `InvalidArgument` of `field` when it is none of these.
pub(super) fn parse(field: &str, text: &str, now: &Zoned) -> Result<i64> {
    let moment = rfc3339(text)
        .or_else(|| local(text, now.time_zone()))
        .or_else(|| seconds(text))
        .or_else(|| ago(text, now.timestamp()));
    moment.and_then(|moment| i64::try_from(moment.as_nanosecond()).ok()).ok_or_else(|| {
        let rule = "2026-11-24T14:49:00Z, seconds since 1970, or how long ago as 10m or 1h30m";
        Error::invalid(field, format!("{text:?} is not a point in time: {rule}"))
    })
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn local(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    // jiff reads 20261124 as a date; here that is a number of seconds.
    let civil: DateTime = text.contains('-').then(|| text.parse().ok()).flatten()?;
    zone.to_timestamp(civil).ok()
}

fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |part: &str| !part.is_empty() && part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let nanos: i32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Timestamp::new(whole.parse().ok()?, nanos).ok()
}

fn ago(text: &str, now: Timestamp) -> Option<Timestamp> {
    let ago = humantime::parse_duration(text).ok()?;
    now.checked_sub(ago).ok()
}

/// A moment in a table: `14:49` today, `2026-11-24` on another day.
pub(super) fn clock(unix_nanos: i64, now: &Zoned) -> String {
    let Ok(moment) = Timestamp::from_nanosecond(unix_nanos.into()) else { return String::new() };
    let moment = moment.to_zoned(now.time_zone().clone());
    let format = if moment.date() == now.date() { "%H:%M" } else { "%Y-%m-%d" };
    moment.strftime(format).to_string()
}

/// How long ago a moment was, in Docker's words: `2 weeks ago`; nothing for one that never was.
pub(super) fn since(unix_nanos: i64, now: &Zoned) -> String {
    if unix_nanos == 0 {
        return String::new();
    }
    let passed = now.timestamp().as_nanosecond() - i128::from(unix_nanos);
    let seconds = u64::try_from(passed / 1_000_000_000).unwrap_or(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let text = match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..46, _) => format!("{minutes} minutes"),
        (_, _, ..=1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17_520) => format!("{} months", hours / 24 / 30),
        (..) => format!("{} years", hours / 24 / 365),
    };
    text + " ago"
}

/// RFC 3339, or nothing for a moment that never was.
pub(super) fn rfc3339_or_none(unix_nanos: i64) -> Option<String> {
    (unix_nanos != 0).then(|| tinyd_core::time::rfc3339(unix_nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Zoned {
        "2026-11-24T14:49:30+01:00[+01:00]".parse().unwrap()
    }

    #[test]
    fn how_long_ago_is_told_as_docker_tells_it() {
        let seconds = |seconds: i64| {
            let then = now().timestamp().as_nanosecond() - i128::from(seconds) * 1_000_000_000;
            since(i64::try_from(then).unwrap(), &now())
        };
        let told = [0, 1, 59, 60, 120, 2760, 3600 * 2, 3600 * 48, 86_400 * 14, 86_400 * 60, 86_400 * 800]
            .map(seconds);
        let words = [
            "Less than a second ago",
            "1 second ago",
            "59 seconds ago",
            "About a minute ago",
            "2 minutes ago",
            "About an hour ago",
            "2 hours ago",
            "2 days ago",
            "2 weeks ago",
            "2 months ago",
            "2 years ago",
        ];
        assert_eq!(told, words);
        assert_eq!((since(0, &now()).as_str(), seconds(-9).as_str()), ("", "Less than a second ago"));
    }

    #[test]
    fn points_in_time() {
        let at = |text: &str| tinyd_core::time::rfc3339(parse("--since", text, &now()).unwrap());
        assert_eq!(at("2026-11-24T10:00:00Z"), "2026-11-24T10:00:00.000000000Z");
        assert_eq!(at("2026-11-24T10:00:00.5+02:00"), "2026-11-24T08:00:00.500000000Z");
        assert_eq!(at("2026-11-24T10:00:00"), "2026-11-24T09:00:00.000000000Z");
        assert_eq!(at("2026-11-24"), "2026-11-23T23:00:00.000000000Z");
        assert_eq!(at("1795493813"), "2026-11-24T04:16:53.000000000Z");
        assert_eq!(at("1795493813.25"), "2026-11-24T04:16:53.250000000Z");
        assert_eq!(at("10m"), "2026-11-24T13:39:30.000000000Z");
        assert_eq!(at("1h30m"), "2026-11-24T12:19:30.000000000Z");
    }

    #[test]
    fn what_is_no_point_in_time_is_told() {
        for bad in ["", "yesterday", "10", "-5", "1e9", "10x", "2026-13-01"] {
            let outcome = parse("--since", bad, &now());
            if bad == "10" {
                // Ten seconds after the epoch.
                assert_eq!(outcome.unwrap(), 10_000_000_000);
            } else {
                assert!(outcome.unwrap_err().to_string().contains("not a point in time"), "{bad}");
            }
        }
    }

    #[test]
    fn the_zone_is_a_name_a_file_or_a_rule() {
        let zoned = |name: Option<&str>| {
            let utc: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
            utc.to_zoned(zone(name, |_| None)).strftime("%H:%M").to_string()
        };
        assert_eq!(zoned(Some("EST5EDT,M3.2.0,M11.1.0")), "07:00");
        for utc in [None, Some(""), Some(":/no/such/file"), Some("No/Such")] {
            assert_eq!(zoned(utc), "12:00", "{utc:?}");
        }
        let asked = std::cell::RefCell::new(Vec::new());
        for name in [None, Some(":Europe/Berlin"), Some("/x")] {
            zone(name, |path| {
                asked.borrow_mut().push(path.to_owned());
                None
            });
        }
        assert_eq!(asked.into_inner(), ["/etc/localtime", "/usr/share/zoneinfo/Europe/Berlin", "/x"]);
    }

    #[test]
    fn today_is_a_time_and_another_day_a_date() {
        let nanos = |text: &str| parse("", text, &now()).unwrap();
        assert_eq!(clock(nanos("2026-11-24T12:05:00Z"), &now()), "13:05");
        // An hour before midnight UTC is another day here.
        assert_eq!(clock(nanos("2026-11-23T23:30:00Z"), &now()), "00:30");
        assert_eq!(clock(nanos("2026-11-23T22:30:00Z"), &now()), "2026-11-23");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", nanos: i64) {
            let _ = parse("--since", &text, &now());
            clock(nanos, &now());
        }
    }
}
