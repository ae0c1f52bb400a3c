//! A pipe's or terminal's end in the daemon, read and written without blocking.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use tinyd_core::Result;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{api::Output, files::failed};

/// What makes an [`Output`] of bytes.
pub(crate) type Wrap = fn(Bytes) -> Output;

/// How much is read at once, in bytes.
const PIECE: usize = 16 << 10;
/// How long a terminal may take to hand on what was written before its process ended.
const LINGER: Duration = Duration::from_millis(20);

/// One end.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: AsyncFd<OwnedFd>,
}

impl Stream {
    /// Takes an end over. Within the runtime.
    #[expect(
        deprecated,
        reason = "what replaces `new` is unsafe for types that may swap descriptors; an OwnedFd cannot"
    )]
    pub(crate) fn open(fd: OwnedFd) -> Result<Stream> {
        let open = || {
            ioctl_fionbio(&fd, true)?;
            AsyncFd::new(fd)
        };
        open().map(|fd| Stream { fd }).map_err(|source| failed("register a stream", source))
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fd.async_io(Interest::READABLE, |fd| Ok(read(fd, &mut *buffer)?)).await;
        match read {
            // How a terminal says that nobody has its other side open.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
            other => other,
        }
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.fd.async_io(Interest::WRITABLE, |fd| Ok(write(fd, bytes)?)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Hands everything on until the end, or, once the process has ended, until nothing is there: somebody else may hold the other
    /// side open for ever. With `discard` nobody wants it.
    pub(crate) async fn pump(
        &self,
        wrap: Wrap,
        to_client: &mpsc::Sender<Output>,
        ended: &CancellationToken,
        discard: bool,
    ) {
        let mut buffer = BytesMut::zeroed(PIECE);
        loop {
            let read = tokio::select! {
                biased;
                read = self.read(&mut buffer) => read,
                () = ended.cancelled() => break,
            };
            if !self.hand_on(read, &mut buffer, wrap, to_client, discard).await {
                return;
            }
        }
        while let Ok(read) = timeout(LINGER, self.read(&mut buffer)).await {
            if !self.hand_on(read, &mut buffer, wrap, to_client, discard).await {
                return;
            }
        }
    }

    async fn hand_on(
        &self,
        read: io::Result<usize>,
        buffer: &mut BytesMut,
        wrap: Wrap,
        to_client: &mpsc::Sender<Output>,
        discard: bool,
    ) -> bool {
        match read {
            Ok(0) | Err(_) => false,
            Ok(_) if discard => true,
            Ok(length) => to_client.send(wrap(Bytes::copy_from_slice(&buffer[..length]))).await.is_ok(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[tokio::test]
    async fn everything_written_before_the_end_comes_and_a_held_pipe_holds_nobody() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let stream = Stream::open(read).unwrap();
        let held = write.try_clone().unwrap();
        rustix::io::write(&write, &[7; 40_000]).unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        let ended = CancellationToken::new();
        ended.cancel();
        timeout(Duration::from_secs(5), stream.pump(Output::Stdout, &sender, &ended, false)).await.unwrap();
        drop((sender, held));
        let mut total = 0;
        while let Some(Output::Stdout(bytes)) = receiver.recv().await {
            total += bytes.len();
        }
        assert_eq!(total, 40_000);
    }
}
