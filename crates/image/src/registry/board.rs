//! How far work is that several wait for: each who listens is told, and first what was the last word about every layer.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{digest::Digest, progress::Progress};

/// Who is told. Called from the threads that do the work: it must neither block nor call back.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(Progress) + Send + Sync>);

impl Listener {
    /// Somebody who is told like this.
    pub fn new(tell: impl Fn(Progress) + Send + Sync + 'static) -> Listener {
        Listener(Arc::new(tell))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener(..)")
    }
}

/// Where progress is told.
#[derive(Default)]
pub(super) struct Board(Mutex<State>);

#[derive(Default)]
struct State {
    last: HashMap<Digest, Progress>,
    listeners: HashMap<u64, Listener>,
    next: u64,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Board(..)")
    }
}

/// Somebody who listens, until it is dropped.
pub(super) struct Listening {
    board: Arc<Board>,
    number: u64,
}

impl Board {
    pub(super) fn tell(&self, progress: Progress) {
        // Under the lock, so that nobody is told the later thing first.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in state.listeners.values() {
            (listener.0)(progress.clone());
        }
        state.last.insert(progress.layer.clone(), progress);
    }

    pub(super) fn listen(self: &Arc<Board>, listener: Listener) -> Listening {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last.values().cloned().for_each(|progress| (listener.0)(progress));
        let number = state.next;
        state.next += 1;
        state.listeners.insert(number, listener);
        Listening { board: Arc::clone(self), number }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.board.0.lock().unwrap_or_else(PoisonError::into_inner).listeners.remove(&self.number);
    }
}
