//! Frames in and out of a connection's socket, a piece at a time. Never waits.
//!
//! An inbox holds at most one frame and what came with it; whoever does not want more stops filling it. An outbox is as
//! bounded as its user makes it: see [`Outbox::is_empty`].

use std::{
    collections::VecDeque,
    io::IoSlice,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use tinyd_core::{
    json,
    wire::{self, FrameKind, HEAD_BYTES, Message, Request},
};
use tinyd_sys::{Result, socket};

/// How many bytes are asked for when nothing is known of what comes.
const FIRST_READ: usize = 4 << 10;
/// How many at most at a time.
const MOST_READ: usize = 64 << 10;

/// What a client sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    /// A request.
    Request(Request),
    /// Bytes for standard input.
    Stdin(Vec<u8>),
    /// There are no more.
    StdinEnd,
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// A frame's head.
    #[error(transparent)]
    Head(#[from] wire::BadFrame),
    /// A frame's payload.
    #[error("request is not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// A frame that only a shim sends.
    #[error("a client sends no {0:?} frame")]
    Kind(FrameKind),
}

/// How a filling went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Something came.
    Some,
    /// Nothing is there now.
    Nothing,
    /// The client has closed.
    End,
}

/// What has come from a client and is not used yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    used: usize,
    fds: Vec<OwnedFd>,
}

impl Inbox {
    /// Receives once.
    ///
    /// # Errors
    /// The connection has failed.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>) -> Result<Filled> {
        self.compact();
        let held = self.bytes.len();
        self.bytes.resize(held + self.wanted(), 0);
        let got = socket::receive(from, &mut self.bytes[held..], &mut self.fds);
        let len = got.as_ref().map_or(0, |got| got.unwrap_or(0));
        self.bytes.truncate(held + len);
        Ok(match got? {
            None => Filled::Nothing,
            Some(0) => Filled::End,
            Some(_) => Filled::Some,
        })
    }

    /// The rest of the frame that has begun, within limits.
    fn wanted(&self) -> usize {
        let head = self.bytes.first_chunk::<HEAD_BYTES>();
        match head.and_then(|head| wire::parse_head(*head).ok()) {
            Some((_, len)) => {
                let whole = HEAD_BYTES + usize::try_from(len).unwrap_or(0);
                whole.saturating_sub(self.bytes.len()).clamp(FIRST_READ, MOST_READ)
            }
            None => FIRST_READ,
        }
    }

    fn compact(&mut self) {
        self.bytes.drain(..self.used);
        self.used = 0;
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// The client breaks the protocol: tell it and close.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Broken> {
        let rest = &self.bytes[self.used..];
        let Some(head) = rest.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let (kind, len) = wire::parse_head(*head)?;
        let whole = HEAD_BYTES + usize::try_from(len).unwrap_or(usize::MAX - HEAD_BYTES);
        let Some(payload) = rest.get(HEAD_BYTES..whole) else { return Ok(None) };
        let frame = match kind {
            FrameKind::Json => Frame::Request(json::read(payload)?),
            FrameKind::Stdin => Frame::Stdin(payload.to_vec()),
            FrameKind::StdinEnd => Frame::StdinEnd,
            FrameKind::Stdout | FrameKind::Stderr => return Err(Broken::Kind(kind)),
        };
        self.used += whole;
        if self.used == self.bytes.len() {
            self.compact();
        }
        Ok(Some(frame))
    }

    /// Whether bytes have come that are not used yet.
    pub(super) fn has_more(&self) -> bool {
        self.used < self.bytes.len()
    }

    /// The next `count` descriptors that came; `None` when fewer have come.
    pub(super) fn take_fds(&mut self, count: usize) -> Option<Vec<OwnedFd>> {
        (self.fds.len() >= count).then(|| self.fds.drain(..count).collect())
    }

    /// Closes descriptors that came with a request that wants none. Those of a frame that is still on its way stay.
    pub(super) fn drop_unclaimed_fds(&mut self) {
        if !self.has_more() {
            self.fds.clear();
        }
    }
}

/// What has not gone to a client yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Piece>,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Outbox {
    /// Whether everything has gone.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a message with its descriptors.
    pub(super) fn push(&mut self, message: &Message, fds: Vec<OwnedFd>) {
        // A message of a shim always can be written: no map with keys that are no strings, and short.
        if let Ok(bytes) = wire::json_frame(message) {
            self.queue.push_back(Piece { bytes, sent: 0, fds });
        }
    }

    /// Sends stream bytes, at most [`wire::STREAM_MAX_BYTES`]; what does not fit is copied and queued.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn stream(&mut self, to: BorrowedFd<'_>, kind: FrameKind, bytes: &[u8]) -> Result<()> {
        let head = wire::head(kind, u32::try_from(bytes.len()).unwrap_or(0));
        let sent = if self.queue.is_empty() {
            socket::send(to, &[IoSlice::new(&head), IoSlice::new(bytes)], &[])?.unwrap_or(0)
        } else {
            0
        };
        if sent < HEAD_BYTES + bytes.len() {
            let rest = [&head[sent.min(HEAD_BYTES)..], &bytes[sent.saturating_sub(HEAD_BYTES)..]].concat();
            self.queue.push_back(Piece { bytes: rest, sent: 0, fds: Vec::new() });
        }
        Ok(())
    }

    /// Sends what fits.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn flush(&mut self, to: BorrowedFd<'_>) -> Result<()> {
        while let Some(piece) = self.queue.front_mut() {
            let fds: Vec<BorrowedFd<'_>> = piece.fds.iter().map(AsFd::as_fd).collect();
            let Some(sent) = socket::send(to, &[IoSlice::new(&piece.bytes[piece.sent..])], &fds)? else {
                return Ok(());
            };
            piece.fds.clear();
            piece.sent += sent;
            if piece.sent == piece.bytes.len() {
                self.queue.pop_front();
            }
        }
        self.queue = VecDeque::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream};

    use proptest::prelude::*;

    use super::*;

    fn stdin_frame(bytes: &[u8]) -> Vec<u8> {
        [&wire::head(FrameKind::Stdin, bytes.len() as u32)[..], bytes].concat()
    }

    fn all(inbox: &mut Inbox, from: &UnixStream) -> Vec<Frame> {
        let mut frames = Vec::new();
        while inbox.fill(from.as_fd()).unwrap() == Filled::Some {
            while let Some(frame) = inbox.next().unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn descriptors_are_those_of_their_frame() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        // A client's requests go out as a shim's messages do.
        let request = wire::json_frame(&Request::Status).unwrap();
        outbox.queue.push_back(Piece { bytes: request.clone(), sent: 0, fds: vec![] });
        outbox.queue.push_back(Piece { bytes: request, sent: 0, fds: vec![null(), null()] });
        outbox.flush(ours.as_fd()).unwrap();

        let mut inbox = Inbox::default();
        assert_eq!(
            all(&mut inbox, &theirs),
            [Frame::Request(Request::Status), Frame::Request(Request::Status)]
        );
        assert!(inbox.take_fds(3).is_none());
        assert_eq!(inbox.take_fds(2).unwrap().len(), 2);
    }

    #[test]
    fn what_nobody_claims_is_closed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let frame = wire::json_frame(&Request::Status).unwrap();
        socket::send(ours.as_fd(), &[IoSlice::new(&frame)], &[ours.as_fd()]).unwrap();
        let mut inbox = Inbox::default();
        assert_eq!(all(&mut inbox, &theirs).len(), 1);
        inbox.drop_unclaimed_fds();
        assert!(inbox.take_fds(1).is_none());
    }

    #[test]
    fn a_broken_frame_ends_the_conversation() {
        for bad in [&[7, 0, 0, 0, 0][..], &wire::head(FrameKind::Stdout, 0)[..], b"\0\x02\0\0\0{}"] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(bad).unwrap();
            let mut inbox = Inbox::default();
            inbox.fill(theirs.as_fd()).unwrap();
            assert!(inbox.next().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_client_that_does_not_read_gets_the_rest_later() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        let bytes = vec![b'x'; 60_000];
        let mut frames = 0;
        while outbox.is_empty() {
            outbox.stream(ours.as_fd(), FrameKind::Stdin, &bytes).unwrap();
            frames += 1;
        }
        let mut inbox = Inbox::default();
        let mut got = all(&mut inbox, &theirs);
        outbox.flush(ours.as_fd()).unwrap();
        got.extend(all(&mut inbox, &theirs));
        assert!(outbox.is_empty());
        assert_eq!(got, vec![Frame::Stdin(bytes); frames]);
    }

    proptest! {
        #[test]
        fn frames_cut_anywhere_come_whole(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..6),
            cut in 1usize..5000,
        ) {
            let sent: Vec<u8> = payloads.iter().flat_map(|bytes| stdin_frame(bytes)).collect();
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let (mut inbox, mut got) = (Inbox::default(), Vec::new());
            for piece in sent.chunks(cut) {
                ours.write_all(piece).unwrap();
                got.extend(all(&mut inbox, &theirs));
            }
            let wanted: Vec<Frame> = payloads.into_iter().map(Frame::Stdin).collect();
            prop_assert_eq!(got, wanted);
        }
    }
}
