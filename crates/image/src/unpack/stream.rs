//! The tar stream through one buffer: blocks, contents in large pieces, and a limit on what is read at all. Knows nothing of headers.

use std::io::{ErrorKind, Read};

use tinyd_core::{Error, Kind, Result};

/// What a tar archive is made of, in bytes.
pub(super) const BLOCK: usize = 512;
/// How much is read at once, and so the largest piece that is written at once.
const BUFFER: usize = 256 << 10;

/// The stream and what of it is read but not used.
pub(super) struct Stream<'a> {
    source: &'a mut dyn Read,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// How many bytes have been read, and how many may be.
    read: u64,
    limit: u64,
    ended: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn new(source: &'a mut dyn Read, limit: u64) -> Stream<'a> {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Stream { source, buffer, start: 0, end: 0, read: 0, limit, ended: false }
    }

    /// Where in the stream the next byte is.
    pub(super) fn position(&self) -> u64 {
        self.read - (self.end - self.start) as u64
    }

    /// The next block; `None` when the stream ends before it.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.end - self.start < BLOCK {
            self.fill()?;
        }
        match self.end - self.start {
            0 => Ok(None),
            1..BLOCK => Err(cut_short(self.read)),
            _ => {
                let mut block = [0; BLOCK];
                block.copy_from_slice(&self.buffer[self.start..self.start + BLOCK]);
                self.start += BLOCK;
                Ok(Some(block))
            }
        }
    }

    /// The next bytes: at least one, at most `max`, which is not zero; as many as one read of the source gave.
    pub(super) fn piece(&mut self, max: u64) -> Result<&[u8]> {
        if self.start == self.end {
            self.fill()?;
            if self.start == self.end {
                return Err(cut_short(self.read));
            }
        }
        let length = usize::try_from(max).unwrap_or(usize::MAX).min(self.end - self.start);
        let piece = &self.buffer[self.start..self.start + length];
        self.start += length;
        Ok(piece)
    }

    /// The next `length` bytes. For what has to be in memory whole: the caller limits it.
    pub(super) fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            let left = length - bytes.len() as u64;
            bytes.extend_from_slice(self.piece(left)?);
        }
        Ok(bytes)
    }

    pub(super) fn skip(&mut self, mut length: u64) -> Result<()> {
        while length > 0 {
            length -= self.piece(length)?.len() as u64;
        }
        Ok(())
    }

    /// Reads to the end: whoever computes a digest of the stream wants all of it.
    pub(super) fn drain(&mut self) -> Result<()> {
        loop {
            self.start = self.end;
            self.fill()?;
            if self.start == self.end {
                return Ok(());
            }
        }
    }

    /// Fills the buffer until it is full or the source has ended, so that few and large pieces come out of a source of small ones.
    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while !self.ended && self.end < BUFFER {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(length) => {
                    self.end += length;
                    self.read += length as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::new(Kind::Internal, format!("read the layer: {error}"))),
            }
            if self.read > self.limit {
                let message = format!("the layer is larger than the {} bytes that it may have", self.limit);
                return Err(Error::new(Kind::Exhausted, message));
            }
        }
        Ok(())
    }
}

fn cut_short(at: u64) -> Error {
    Error::new(Kind::InvalidArgument, format!("the archive ends in the middle of an entry, after {at} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives little at a time.
    struct Drops(Vec<u8>);

    impl Read for Drops {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = self.0.len().min(7).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0.drain(..length);
            Ok(length)
        }
    }

    #[test]
    fn a_source_of_drops_comes_out_in_large_pieces() {
        let mut source = Drops(vec![7; 3000]);
        let mut stream = Stream::new(&mut source, 3000);
        assert_eq!(stream.block().unwrap(), Some([7; BLOCK]));
        assert_eq!(stream.position(), 512);
        assert_eq!(stream.piece(5000).unwrap().len(), 3000 - BLOCK);
        assert_eq!(stream.block().unwrap(), None);
    }

    #[test]
    fn an_archive_that_is_cut_is_told_apart_from_one_that_ends() {
        let mut bytes = &[0_u8; 700][..];
        let mut stream = Stream::new(&mut bytes, 1000);
        stream.block().unwrap().unwrap();
        assert!(stream.block().unwrap_err().message().contains("ends in the middle"));
        let mut bytes = &[0_u8; 700][..];
        assert!(Stream::new(&mut bytes, 1000).skip(701).is_err());
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let mut bytes = &[0_u8; 1025][..];
        assert_eq!(Stream::new(&mut bytes, 1024).drain().unwrap_err().kind(), Kind::Exhausted);
        let mut bytes = &[0_u8; 1024][..];
        Stream::new(&mut bytes, 1024).drain().unwrap();
    }
}
