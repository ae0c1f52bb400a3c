//! Times as numbers and as text. The clock itself is elsewhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch of a clock reading; times before 1970 count as 0.
#[must_use]
pub fn unix_nanos(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// RFC 3339 with nanoseconds in UTC, `2026-11-24T04:16:53.000000001Z`, as in logs and JSON output.
#[must_use]
pub fn rfc3339(unix_nanos: i64) -> String {
    let since = Duration::from_nanos(u64::try_from(unix_nanos).unwrap_or(0));
    humantime::format_rfc3339_nanos(UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_rfc_3339() {
        assert_eq!(rfc3339(1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(rfc3339(1_795_493_813_000_000_000), "2026-11-24T04:16:53.000000000Z");
    }
}
