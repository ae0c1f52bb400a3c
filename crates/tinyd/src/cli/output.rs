//! Standard output and standard error as data sinks: whole texts for tables, and streams that wait without blocking the
//! rest of the client.

use std::{
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::task::spawn_blocking;

use super::failure::{Failure, Result};

/// Writes a whole text to standard output.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::of_stdout(&error))
}

/// The most that is written at once: a pipe that polls writable takes this much without blocking (PIPE_BUF).
const PIECE: usize = 4096;

/// A descriptor that bytes are streamed to.
///
/// The descriptor is shared with whoever started us, so O_NONBLOCK is never set on it: poll(2) is asked before each write,
/// and a thread waits in our place when there is no room.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    fd: Arc<OwnedFd>,
}

impl Sink {
    /// Standard output.
    pub(super) fn stdout() -> Result<Sink> {
        Sink::of(io::stdout().as_fd())
    }

    /// Standard error.
    pub(super) fn stderr() -> Result<Sink> {
        Sink::of(io::stderr().as_fd())
    }

    fn of(fd: BorrowedFd<'_>) -> Result<Sink> {
        let own = fd.try_clone_to_owned().map_err(|error| Failure::of_stdout(&error))?;
        Ok(Sink { fd: Arc::new(own) })
    }

    /// Writes all of it.
    pub(super) async fn write(&self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.write_piece(piece).await.map_err(|error| Failure::of_stdout(&error))?;
        }
        Ok(())
    }

    async fn write_piece(&self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            if !has_room(&self.fd, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
                let fd = Arc::clone(&self.fd);
                spawn_blocking(move || has_room(&fd, None)).await.map_err(io::Error::other)??;
            }
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, piece))?;
            piece = &piece[written..];
        }
        Ok(())
    }
}

/// Whether a write goes through at once, be it only to say that nobody reads any more; waits for that up to `timeout`.
fn has_room(fd: &OwnedFd, timeout: Option<&Timespec>) -> io::Result<bool> {
    let mut polled = [PollFd::new(fd, PollFlags::OUT)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut polled, timeout))? > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_full_pipe_makes_the_writer_wait_and_not_the_client() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let text = vec![7; 300_000];
        runtime.block_on(async {
            let sink = Sink::of(writer.as_fd()).unwrap();
            drop(writer);
            let mut written = Box::pin(sink.write(&text));
            // The pipe holds 64 KiB: the write waits, and this timer runs all the same.
            let waited = tokio::time::timeout(std::time::Duration::from_millis(20), &mut written).await;
            assert!(waited.is_err());
            let reading = std::thread::spawn(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).map(|_| all)
            });
            written.as_mut().await.unwrap();
            drop(written);
            drop(sink);
            assert_eq!(reading.join().unwrap().unwrap(), text);
        });
    }

    #[test]
    fn a_reader_that_left_ends_the_client_quietly() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let failure =
            runtime.block_on(async { Sink::of(writer.as_fd()).unwrap().write(b"x").await.unwrap_err() });
        assert!(matches!(failure, Failure::Quiet(141)), "{failure:?}");
    }
}
