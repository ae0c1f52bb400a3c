//! Leases: content that somebody is about to need, and that no image names yet, is not collected. Whoever brings an image in holds one, and
//! puts a digest into it before looking whether the store has that.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tinyd_core::Result;

use super::Store;
use crate::digest::Digest;

/// How many leases have each digest: of blobs and of stacks of layers.
pub(super) type Pins = Arc<Mutex<BTreeMap<Digest, usize>>>;

/// What its holder needs, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    own: Mutex<Vec<Digest>>,
}

/// The whole of what is needed by leases, which stays as it is while this is held.
#[derive(Debug)]
pub(crate) struct Pinned<'a>(MutexGuard<'a, BTreeMap<Digest, usize>>);

impl Store {
    /// A lease on nothing yet.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease { store: self.clone(), own: Mutex::new(Vec::new()) }
    }

    pub(crate) fn pinned(&self) -> Pinned<'_> {
        Pinned(lock(&self.pins))
    }
}

impl Lease {
    /// The store that it is of.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// [`Store::put_blob`], kept.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        self.pin(&Digest::of(bytes));
        self.store.put_blob(bytes)
    }

    /// Keeps a blob, or the layer that ends a stack, from being collected. Waits while something is.
    pub fn pin(&self, digest: &Digest) {
        *lock(&self.store.pins).entry(digest.clone()).or_default() += 1;
        lock(&self.own).push(digest.clone());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut pins = lock(&self.store.pins);
        for digest in lock(&self.own).drain(..) {
            if let Some(count) = pins.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    pins.remove(&digest);
                }
            }
        }
    }
}

impl Pinned<'_> {
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.0.contains_key(digest)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked has left whole digests.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    #[test]
    fn what_two_have_is_kept_until_the_second_lets_go() {
        let scratch = Scratch::new("lease");
        let (store, digest) = (&scratch.store, Digest::of(b"x"));
        let (one, two) = (store.lease(), store.clone().lease());
        one.pin(&digest);
        one.pin(&digest);
        two.pin(&digest);
        drop(one);
        assert!(store.pinned().has(&digest));
        drop(two);
        assert!(!store.pinned().has(&digest));
    }
}
