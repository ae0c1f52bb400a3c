//! Lines of the log that strangers cause. The first few are told one by one; of the rest only how many there were, so that a flood of
//! connections fills neither the log nor the disk below it.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

/// How long lines are counted together.
const SPAN: Duration = Duration::from_secs(10);
/// How many lines there are in one span before the rest is only counted.
const LINES_MAX: u32 = 20;

/// One kind of line. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(super) struct Notices {
    /// What every line says.
    what: &'static str,
    counts: Arc<Mutex<Counts>>,
}

/// The lines of one span.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    told: u32,
    untold: u64,
}

impl Notices {
    /// Lines that say `what`.
    pub(super) fn new(what: &'static str) -> Notices {
        Notices { what, counts: Arc::default() }
    }

    /// Tells that something happened to a peer and why, or counts it.
    pub(super) fn tell(&self, peer: impl Display, reason: &str) {
        if self.may_tell() {
            tracing::warn!(%peer, reason, "{}", self.what);
        }
    }

    /// Whether this line may be written. The first of a span starts the span's clock.
    fn may_tell(&self) -> bool {
        let mut counts = self.counts();
        if *counts == Counts::default() {
            tokio::spawn(self.clone().sum_up());
        }
        if counts.told < LINES_MAX {
            counts.told += 1;
            return true;
        }
        counts.untold += 1;
        false
    }

    /// Tells at the end of a span how much was not told in it.
    async fn sum_up(self) {
        // The span is the subject: what came in it is counted when it is over.
        sleep(SPAN).await;
        let untold = std::mem::take(&mut *self.counts()).untold;
        if untold > 0 {
            tracing::warn!(more = untold, span_s = SPAN.as_secs(), "{}: more than is told", self.what);
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counting cannot panic half-way.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_in_part_and_then_as_a_number() {
        let notices = Notices::new("refused a connection");
        let told = (0..1000).filter(|_| notices.may_tell()).count();
        assert_eq!(told, LINES_MAX as usize);
        assert_eq!(notices.counts().untold, 1000 - u64::from(LINES_MAX));
        // The test's clock is tokio's: this passes at once.
        sleep(SPAN * 2).await;
        assert_eq!(*notices.counts(), Counts::default(), "the next span begins with nothing");
        assert!(notices.may_tell());
    }
}
