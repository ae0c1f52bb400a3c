//! A blob on its way in, as others see it: how far it is, and a reader that follows the writer. The disk is between them, so that neither a
//! slow reader nor a fast writer costs memory.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tinyd_core::Error;

/// How far a blob is.
#[derive(Debug)]
pub(super) struct Feed {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    have: u64,
    /// Bytes that were there before: of an earlier transfer.
    resumed: u64,
    end: Option<Result<(), Error>>,
}

impl Feed {
    pub(super) fn new() -> Feed {
        Feed { state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the bytes are, and how many are there already.
    pub(super) fn begin(&self, file: File, have: u64) {
        let mut state = self.lock();
        (state.file, state.have, state.resumed) = (Some(Arc::new(file)), have, have);
        drop(state);
        self.changed.notify_all();
    }

    /// That there are more by now.
    pub(super) fn grow(&self, have: u64) {
        self.lock().have = have;
        self.changed.notify_all();
    }

    /// That this is all, or that there will be no more.
    pub(super) fn end(&self, end: Result<(), Error>) {
        self.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    /// Bytes of an earlier transfer that were not asked for again.
    pub(super) fn resumed(&self) -> u64 {
        self.lock().resumed
    }

    /// How many bytes there are.
    pub(super) fn have(&self) -> u64 {
        self.lock().have
    }

    /// Whether there will be no more, and not all are there.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.lock().end, Some(Err(_)))
    }
}

/// Reads a blob while it arrives.
#[derive(Debug)]
pub(super) struct Follower {
    feed: Arc<Feed>,
    stop: Arc<AtomicBool>,
    at: u64,
}

/// Ends the follower when it is dropped: nobody wants any more what it reads for.
#[derive(Debug)]
pub(super) struct Leash {
    feed: Arc<Feed>,
    stop: Arc<AtomicBool>,
}

impl Follower {
    pub(super) fn new(feed: &Arc<Feed>) -> (Follower, Leash) {
        let stop = Arc::new(AtomicBool::new(false));
        let leash = Leash { feed: Arc::clone(feed), stop: Arc::clone(&stop) };
        (Follower { feed: Arc::clone(feed), stop, at: 0 }, leash)
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // Under the lock, so that it is not between a look at it and the wait.
        let state = self.feed.lock();
        self.stop.store(true, Ordering::Relaxed);
        drop(state);
        self.feed.changed.notify_all();
    }
}

impl Read for Follower {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.feed.lock();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("it is not wanted any more"));
            }
            if let Some(file) = &state.file
                && self.at < state.have
            {
                let (file, have) = (Arc::clone(file), state.have);
                drop(state);
                let length = into.len().min(usize::try_from(have - self.at).unwrap_or(into.len()));
                let count = file.read_at(&mut into[..length], self.at)?;
                if count == 0 && length > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.at += count as u64;
                return Ok(count);
            }
            match &state.end {
                Some(Ok(())) => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(error.message().to_owned())),
                None => state = self.feed.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tinyd_core::Kind;

    use super::*;

    fn begun() -> (Arc<Feed>, File) {
        let path = std::env::temp_dir().join(format!(
            "tinyd-feed-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let writer = File::create(&path).unwrap();
        let feed = Arc::new(Feed::new());
        feed.begin(File::open(&path).unwrap(), 0);
        std::fs::remove_file(&path).unwrap();
        (feed, writer)
    }

    #[test]
    fn a_reader_follows_the_writer_to_the_end() {
        let (feed, mut writer) = begun();
        let (mut follower, _leash) = Follower::new(&feed);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            follower.read_to_end(&mut all).map(|_| all)
        });
        for at in 1..=100_u64 {
            writer.write_all(b"x").unwrap();
            feed.grow(at);
        }
        feed.end(Ok(()));
        assert_eq!(reader.join().unwrap().unwrap(), vec![b'x'; 100]);
    }

    #[test]
    fn a_reader_ends_with_the_writers_error_or_when_it_is_let_go() {
        let (feed, _writer) = begun();
        let (mut one, _leash) = Follower::new(&feed);
        let (mut other, leash) = Follower::new(&feed);
        let reader = std::thread::spawn(move || other.read(&mut [0]).unwrap_err().to_string());
        drop(leash);
        assert!(reader.join().unwrap().contains("not wanted"));
        feed.end(Err(Error::new(Kind::Unavailable, "it was cut")));
        assert!(one.read(&mut [0]).unwrap_err().to_string().contains("it was cut"));
    }
}
