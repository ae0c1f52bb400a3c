//! What a request brings along: nothing, a few bytes, or a piece of a blob that is read while it is sent. It can be sent again.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body, Frame, SizeHint};
use tinyd_core::Result;
use tokio::sync::mpsc;

use super::thread;

/// How much of a blob is read at a time.
const PIECE_BYTES: usize = 128 << 10;
/// How many pieces wait to be sent.
const PIECES_MAX: usize = 4;

/// As hyper sends it.
pub(super) type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// What a request brings along.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    None,
    Bytes(Bytes),
    /// So many bytes of a file, from a place on.
    Piece {
        file: Arc<File>,
        from: u64,
        length: u64,
        progress: Progress,
    },
}

/// How many bytes of a payload are on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Payload {
    /// Begins to send it.
    pub(super) async fn send(&self) -> Result<(Sent, Progress)> {
        let nothing = |never: std::convert::Infallible| match never {};
        Ok(match self {
            Payload::None => (Empty::new().map_err(nothing).boxed_unsync(), Progress::default()),
            Payload::Bytes(bytes) => {
                (Full::new(bytes.clone()).map_err(nothing).boxed_unsync(), Progress::default())
            }
            Payload::Piece { file, from, length, progress } => {
                let (to, pieces) = mpsc::channel(PIECES_MAX);
                let (file, from, length) = (Arc::clone(file), *from, *length);
                progress.0.store(0, Ordering::Relaxed);
                thread::detached("read-blob", move || read(&file, from, length, &to))?;
                let body = Reading { pieces, left: length, progress: progress.clone() };
                (body.boxed_unsync(), progress.clone())
            }
        })
    }
}

/// Reads until everything is read, it goes wrong, or nobody takes it any more.
fn read(file: &File, mut from: u64, mut left: u64, to: &mpsc::Sender<io::Result<Bytes>>) {
    while left > 0 {
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
        let read = file.read_exact_at(&mut piece, from).map(|()| Bytes::from(piece));
        let length = read.as_ref().map_or(left, |piece| piece.len() as u64);
        if to.blocking_send(read).is_err() {
            return;
        }
        from += length;
        left -= length;
    }
}

struct Reading {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    progress: Progress,
}

impl Body for Reading {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.pieces.poll_recv(cx).map(|piece| {
            piece.map(|piece| {
                let piece = piece?;
                self.left = self.left.saturating_sub(piece.len() as u64);
                self.progress.0.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Ok(Frame::data(piece))
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
