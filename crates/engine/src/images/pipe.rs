//! Between a client's messages and code that reads or writes and blocks.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use tinyd_core::Result;
use tokio::sync::mpsc;

use crate::api::{Incoming, Piece};

/// How many bytes go out in one message.
const OUT_BYTES: usize = 256 << 10;

/// Reads what a client sends. It must not be used on a thread of the async runtime.
#[derive(Debug)]
pub(super) struct Reader {
    incoming: Incoming,
    piece: Bytes,
    is_over: bool,
}

impl Reader {
    pub(super) const fn new(incoming: Incoming) -> Reader {
        Reader { incoming, piece: Bytes::new(), is_over: false }
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_over {
            match self.incoming.blocking_recv() {
                Some(Piece::Data(bytes)) => self.piece = bytes,
                Some(Piece::End) => self.is_over = true,
                None => {
                    let gone = "the client went away before the end";
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, gone));
                }
            }
        }
        let count = self.piece.len().min(into.len());
        into[..count].copy_from_slice(&self.piece[..count]);
        self.piece.advance(count);
        Ok(count)
    }
}

/// Sends a client what is written. It waits while the client is slow.
#[derive(Debug)]
pub(super) struct Writer {
    outgoing: mpsc::Sender<Result<Bytes>>,
    piece: Vec<u8>,
}

impl Writer {
    pub(super) const fn new(outgoing: mpsc::Sender<Result<Bytes>>) -> Writer {
        Writer { outgoing, piece: Vec::new() }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client went away");
        self.outgoing.blocking_send(Ok(piece)).map_err(gone)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(OUT_BYTES);
        }
        let count = bytes.len().min(OUT_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == OUT_BYTES {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_goes_away_is_no_end() {
        let (sender, incoming) = mpsc::channel(4);
        for piece in [Piece::Data(Bytes::from_static(b"ab")), Piece::Data(Bytes::from_static(b"c"))] {
            sender.blocking_send(piece).unwrap();
        }
        drop(sender);
        let (mut reader, mut text) = (Reader::new(incoming), Vec::new());
        assert_eq!(reader.read_to_end(&mut text).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(text, b"abc");

        let (sender, incoming) = mpsc::channel(4);
        sender.blocking_send(Piece::End).unwrap();
        drop(sender);
        assert_eq!(Reader::new(incoming).read_to_end(&mut text).unwrap(), 0);
    }

    #[test]
    fn what_is_written_goes_out_in_pieces_and_whole() {
        let (sender, mut outgoing) = mpsc::channel(4);
        let mut writer = Writer::new(sender);
        let bytes = vec![7; OUT_BYTES + 5];
        writer.write_all(&bytes).unwrap();
        writer.flush().unwrap();
        drop(writer);
        let mut seen = Vec::new();
        while let Some(piece) = outgoing.blocking_recv() {
            seen.push(piece.unwrap().len());
        }
        assert_eq!(seen, [OUT_BYTES, 5]);
    }
}
