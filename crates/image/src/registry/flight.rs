//! Work that several want at the same time is done once. It goes on for as long as one of them waits, whoever began it, and is dropped with
//! the last.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};

/// What is going on, by what it is for. `B` is what can be seen of it from beside.
pub(super) struct Flights<K, T: Clone, B>(Mutex<HashMap<K, Flight<T, B>>>);

struct Flight<T: Clone, B> {
    work: WeakShared<BoxFuture<'static, T>>,
    beside: Weak<B>,
}

/// A place among those who wait.
pub(super) struct Seat<T: Clone, B> {
    pub(super) work: Shared<BoxFuture<'static, T>>,
    pub(super) beside: Arc<B>,
    /// Whether this one has begun it.
    pub(super) is_first: bool,
}

impl<K, T: Clone, B> Default for Flights<K, T, B> {
    fn default() -> Self {
        Flights(Mutex::default())
    }
}

impl<K, T: Clone, B> fmt::Debug for Flights<K, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights(..)")
    }
}

impl<K: Eq + Hash, T: Clone, B> Flights<K, T, B> {
    /// Whether somebody waits for it.
    pub(super) fn has(&self, key: &K) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let work = all.get(key).and_then(|flight| flight.work.upgrade());
        // If this is the last by now, the work is dropped without the lock.
        drop(all);
        work.is_some_and(|work| work.peek().is_none())
    }

    /// Joins the work, or begins it.
    pub(super) fn join(&self, key: K, begin: impl FnOnce() -> (BoxFuture<'static, T>, Arc<B>)) -> Seat<T, B> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, flight| flight.beside.strong_count() > 0);
        if let Some(flight) = all.get(&key)
            && let (Some(work), Some(beside)) = (flight.work.upgrade(), flight.beside.upgrade())
            && work.peek().is_none()
        {
            return Seat { work, beside, is_first: false };
        }
        let (work, beside) = begin();
        let work = work.shared();
        if let Some(weak) = work.downgrade() {
            all.insert(key, Flight { work: weak, beside: Arc::downgrade(&beside) });
        }
        Seat { work, beside, is_first: true }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_is_done_once_and_goes_on_without_who_began_it() {
        let (flights, begun) = (Flights::<u8, u8, ()>::default(), Arc::new(AtomicU32::new(0)));
        let (tell, told) = oneshot::channel::<u8>();
        let mut told = Some(told);
        let mut join = || {
            flights.join(1, || {
                begun.fetch_add(1, Ordering::Relaxed);
                let told = told.take().unwrap();
                (async { told.await.unwrap() }.boxed(), Arc::new(()))
            })
        };
        let (first, second) = (join(), join());
        assert!(first.is_first && !second.is_first);
        drop(first);
        tell.send(7).unwrap();
        assert_eq!((second.work.await, begun.load(Ordering::Relaxed)), (7, 1));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped_and_begun_again() {
        let flights = Flights::<u8, u8, ()>::default();
        let (tell, told) = oneshot::channel::<u8>();
        let seat = flights.join(1, || (async { told.await.unwrap() }.boxed(), Arc::new(())));
        drop(seat);
        assert!(tell.is_closed());
        let again = flights.join(1, || (async { 2 }.boxed(), Arc::new(())));
        assert!(again.is_first);
        assert_eq!(again.work.await, 2);
    }
}
