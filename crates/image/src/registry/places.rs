//! Several places for the same content, mirrors first: each is asked in turn, and all of them again after a pause while one may do better
//! then.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tinyd_core::{Error, Kind, Result};

use super::{
    error::{Again, Failure},
    hosts::Can,
    place::Place,
};

/// The longest that a registry may let one wait; what it says beyond that is told.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How often one tries again, and how long one waits before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How often all places are asked, at the most, without any progress.
    pub rounds: u32,
    /// How long one waits before the second round; before each further one twice as long as before the last.
    pub pause: Duration,
}

impl Default for Tries {
    fn default() -> Tries {
        Tries { rounds: 6, pause: Duration::from_millis(500) }
    }
}

/// Every host that may be asked has failed; those that may do better are asked again after a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What the last of them has said.
    pub why: Error,
    /// How long it is.
    pub length: Duration,
}

/// Who is told of pauses. It must neither block nor call back.
#[derive(Clone)]
pub struct Notice(Arc<dyn Fn(Pause) + Send + Sync>);

impl Notice {
    /// Somebody who is told like this.
    pub fn new(tell: impl Fn(Pause) + Send + Sync + 'static) -> Notice {
        Notice(Arc::new(tell))
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notice(..)")
    }
}

/// What a place is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Pull,
    Resolve,
    Push,
}

/// The places of one repository.
#[derive(Debug)]
pub(super) struct Places {
    all: Vec<Place>,
    tries: Tries,
    notice: Option<Notice>,
    /// The first that has not shown to be useless.
    first: AtomicUsize,
}

impl Places {
    pub(super) fn new(all: Vec<Place>, tries: Tries, notice: Option<Notice>) -> Places {
        Places { all, tries, notice, first: AtomicUsize::new(0) }
    }

    /// Begins to ask.
    pub(super) fn asking(self: &Arc<Places>, need: Need) -> Asking {
        let can = |can: Can| match need {
            Need::Pull => can.pull,
            Need::Resolve => can.resolve,
            Need::Push => can.push,
        };
        let first = self.first.load(Ordering::Relaxed);
        let order = (first..self.all.len()).filter(|at| can(self.all[*at].endpoint.can)).collect();
        Asking { places: Arc::clone(self), order, next: 0, round: 0, failures: Vec::new() }
    }

    /// Leaves out a place whose content is not what it should be, and those before it. Whether one is left.
    pub(super) fn leave_out(&self, at: usize) -> bool {
        if at + 1 < self.all.len() {
            self.first.fetch_max(at + 1, Ordering::Relaxed);
            return true;
        }
        false
    }
}

/// Goes from place to place until one has answered.
#[derive(Debug)]
pub(super) struct Asking {
    places: Arc<Places>,
    order: Vec<usize>,
    next: usize,
    round: u32,
    /// Of this round.
    failures: Vec<(usize, Failure)>,
}

impl Asking {
    /// The place to ask now, after a pause if it has to be.
    pub(super) async fn place(&mut self) -> Result<usize, Error> {
        if let Some(at) = self.order.get(self.next) {
            self.next += 1;
            return Ok(*at);
        }
        let Some(pause) = self.pause() else { return Err(self.error()) };
        if let (Some(notice), Some((at, last))) = (&self.places.notice, self.failures.last()) {
            let why = last.error.clone().context(self.at(*at).endpoint.host());
            (notice.0)(Pause { why, length: pause });
        }
        tokio::time::sleep(pause).await;
        self.round += 1;
        let failures = std::mem::take(&mut self.failures);
        let may_do = failures.iter().filter(|(_, failure)| failure.again != Again::Never);
        self.order = may_do.map(|(at, _)| *at).collect();
        self.next = 1;
        self.order.first().copied().ok_or_else(|| Error::new(Kind::Internal, "nobody is left to ask"))
    }

    /// The place with a number.
    pub(super) fn at(&self, at: usize) -> &Place {
        &self.places.all[at]
    }

    /// That it was of no use. With some progress one tries as often as at the beginning.
    pub(super) fn failed(&mut self, at: usize, failure: Failure, has_progress: bool) {
        if has_progress {
            self.round = 0;
        }
        // The same host without TLS, of one that the configuration calls insecure: from now on asked first.
        if failure.is_unreached && failure.again == Again::Never {
            self.places.leave_out(at);
        }
        self.failures.push((at, failure));
    }

    /// How long to wait before all are asked again; `None` when that makes no sense.
    fn pause(&self) -> Option<Duration> {
        // The registry itself is the last: when it says no, it is no.
        let (_, last) = self.failures.last()?;
        if last.again == Again::Never || self.round + 1 >= self.places.tries.rounds {
            return None;
        }
        let doubled = self.places.tries.pause.saturating_mul(1 << self.round.min(16));
        let own = doubled.mul_f64(jitter());
        let said = |failure: &Failure| match failure.again {
            Again::After(time) => Some(time),
            Again::Never | Again::Backoff => None,
        };
        let pause = self.failures.iter().filter_map(|(_, failure)| said(failure)).max().unwrap_or(own);
        (pause <= PAUSE_MAX).then_some(pause)
    }

    /// What all have said: of the last as it is, and of the others beside it.
    fn error(&mut self) -> Error {
        let Some((at, last)) = self.failures.pop() else {
            return Error::new(
                Kind::Unsupported,
                "no host of this registry may be asked for that: see its hosts.toml",
            );
        };
        let said = |at: usize, error: Error| error.context(self.at(at).endpoint.host());
        let told = said(at, last.error);
        let others: Vec<String> = self
            .failures
            .iter()
            .map(|(at, failure)| said(*at, failure.error.clone()).message().to_owned())
            .collect();
        if others.is_empty() {
            return told;
        }
        Error::new(told.kind(), format!("{} (before that {})", told.message(), others.join("; ")))
    }
}

/// Between a half and one, so that many do not come back at once.
fn jitter() -> f64 {
    let mut byte = [0];
    // Without it all wait as long as they may.
    match getrandom::fill(&mut byte) {
        Ok(()) => 0.5 + f64::from(byte[0]) / 510.0,
        Err(_) => 1.0,
    }
}
