//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// A time limit, stretched on a machine that is known to be slow (`TINYD_E2E_SLOW`, a factor; the emulated machine sets it).
#[must_use]
pub fn patience(limit: Duration) -> Duration {
    let factor = std::env::var("TINYD_E2E_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    limit * factor
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none within `seconds`; `what` is what was waited for.
pub fn wait_for<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience(Duration::from_secs(seconds));
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
