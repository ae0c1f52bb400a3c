//! One blob from a registry into the store: behind what is there of it already, from whoever has it, hashed on its way. Whoever wants the same
//! blob meanwhile waits for this transfer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use tinyd_core::{Error, Kind, Result};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc};

use super::{
    error::Failure,
    exchange::{Answer, wrong},
    feed::Feed,
    flight::{Flights, Seat},
    place::{Place, Request},
    places::{Need, Places},
    thread,
};
use crate::{
    digest::Digest,
    document::Descriptor,
    failed,
    store::{Ingest, Store},
};

/// How many pieces wait to be written.
const PIECES_MAX: usize = 8;
/// Progress of a blob that is worth as many tries as there were at the beginning: this many bytes, or this part of it.
const PROGRESS_BYTES: u64 = 1 << 20;
const PROGRESS_PART: u64 = 20;

/// How a transfer ended.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) outcome: Result<(), Error>,
    /// The place whose content was last.
    pub(super) from: Option<usize>,
    /// Whether it was not here before.
    pub(super) is_new: bool,
}

/// The transfers that go on.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    flights: Flights<Digest, Fetched, Feed>,
    /// Who writes: a transfer that was given up has its last bytes to write while the next one begins.
    writers: Mutex<HashMap<Digest, Weak<AsyncMutex<()>>>>,
}

impl Transfers {
    /// Joins the transfer of a blob, or begins it.
    pub(super) fn join(
        self: &Arc<Transfers>,
        store: &Store,
        places: &Arc<Places>,
        wanted: &Descriptor,
    ) -> Seat<Fetched, Feed> {
        self.flights.join(wanted.digest.clone(), || {
            let feed = Arc::new(Feed::new());
            let transfer = Transfer {
                store: store.clone(),
                places: Arc::clone(places),
                wanted: wanted.clone(),
                feed: Arc::clone(&feed),
                writer: self.writer(&wanted.digest),
            };
            (transfer.run().boxed(), feed)
        })
    }

    /// Gives back what has arrived of a blob that nobody waits for any more: there is no room for it.
    pub(super) async fn give_up(&self, store: &Store, digest: &Digest) -> Result<()> {
        if self.flights.has(digest) {
            return Ok(());
        }
        let _alone = self.writer(digest).lock_owned().await;
        store.discard_ingest(digest)
    }

    fn writer(&self, digest: &Digest) -> Arc<AsyncMutex<()>> {
        let mut all = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, writer| writer.strong_count() > 0);
        if let Some(writer) = all.get(digest).and_then(Weak::upgrade) {
            return writer;
        }
        let writer = Arc::new(AsyncMutex::new(()));
        all.insert(digest.clone(), Arc::downgrade(&writer));
        writer
    }
}

/// One transfer. Whoever wants it has a lease on the blob.
struct Transfer {
    store: Store,
    places: Arc<Places>,
    wanted: Descriptor,
    feed: Arc<Feed>,
    writer: Arc<AsyncMutex<()>>,
}

impl Transfer {
    async fn run(self) -> Fetched {
        let mut fetched = Fetched { outcome: Ok(()), from: None, is_new: true };
        fetched.outcome = self.bring(&mut fetched).await;
        // Whoever follows is told, also when nobody has begun to write.
        self.feed.end(fetched.outcome.clone());
        fetched
    }

    async fn bring(&self, fetched: &mut Fetched) -> Result<()> {
        let alone = Arc::clone(&self.writer).lock_owned().await;
        let (store, wanted, feed) = (self.store.clone(), self.wanted.clone(), Arc::clone(&self.feed));
        let begun = thread::run("begin-blob", move || {
            if store.blob_size(&wanted.digest) == Some(wanted.size) {
                // It is here: as if it had been resumed to its end.
                feed.begin(store.open_blob(&wanted.digest)?, wanted.size);
                return Ok(None);
            }
            let ingest = store.ingest(&wanted)?;
            let path = ingest.path();
            let reader =
                std::fs::File::open(path).map_err(|source| failed(format_args!("open({path:?})"), source))?;
            feed.begin(reader, ingest.have());
            Ok(Some((ingest, alone)))
        });
        let Some((ingest, alone)) = begun.await? else {
            fetched.is_new = false;
            return Ok(());
        };
        let have = ingest.have();
        let (to, pieces) = mpsc::channel(PIECES_MAX);
        let feed = Arc::clone(&self.feed);
        let written = thread::run("write-blob", move || write(ingest, pieces, &feed, alone));
        let arrived = self.download(have, to, &mut fetched.from).await;
        match (arrived, written.await) {
            (Ok(()), written) => written,
            // The writer knows why nobody took any more.
            (Err(Stop::Writer), Err(why)) => Err(why),
            (Err(Stop::Writer), Ok(())) => Err(Error::new(Kind::Internal, "a blob was whole before its end")),
            (Err(Stop::Source(why)), _) => Err(why),
        }
    }

    /// From place to place, until everything was given to the writer.
    async fn download(
        &self,
        mut have: u64,
        to: mpsc::Sender<Bytes>,
        from: &mut Option<usize>,
    ) -> Result<(), Stop> {
        let mut asking = self.places.asking(Need::Pull);
        let enough = PROGRESS_BYTES.min(self.wanted.size / PROGRESS_PART).max(1);
        if have == self.wanted.size {
            return Ok(());
        }
        loop {
            let at = asking.place().await.map_err(Stop::Source)?;
            let before = have;
            *from = Some(at);
            match self.attempt(asking.at(at), &mut have, &to).await {
                Ok(()) => return Ok(()),
                Err(Halt::Writer) => return Err(Stop::Writer),
                Err(Halt::Failed(failure)) => asking.failed(at, failure, have - before >= enough),
            }
        }
    }

    async fn attempt(&self, place: &Place, have: &mut u64, to: &mpsc::Sender<Bytes>) -> Result<(), Halt> {
        let size = self.wanted.size;
        let (mut answer, mut skip) = self.open(place, *have).await.map_err(Halt::Failed)?;
        loop {
            let mut piece = match answer.piece().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                // It has announced more than there is: everything is here.
                Err(_) if *have == size => break,
                Err(failure) => return Err(Halt::Failed(failure)),
            };
            // Of a host that begins at the beginning whatever it is asked.
            let skipped = piece.len().min(usize::try_from(skip).unwrap_or(piece.len()));
            skip -= skipped as u64;
            let _ = piece.split_to(skipped);
            if piece.len() as u64 > size - *have {
                return Err(Halt::Failed(wrong(format!("it sends more than the {size} bytes of the blob"))));
            }
            if !piece.is_empty() {
                *have += piece.len() as u64;
                to.send(piece).await.map_err(|_| Halt::Writer)?;
            }
        }
        if *have < size {
            let message = format!("the connection was closed after {have} of {size} bytes");
            return Err(Halt::Failed(Failure::transient(message)));
        }
        Ok(())
    }

    /// Asks for what is missing; and how many of the bytes that come are here already.
    async fn open(&self, place: &Place, have: u64) -> Result<(Answer, u64), Failure> {
        let whole = Request::new(Method::GET, place.address(&format!("blobs/{}", self.wanted.digest))?);
        if have == 0 {
            return Ok((place.take(whole, &[StatusCode::OK]).await?, 0));
        }
        let range = HeaderValue::try_from(format!("bytes={have}-"))
            .map_err(|error| wrong(format!("ask for a range: {error}")))?;
        let rest = whole.clone().header(header::RANGE, range);
        let answer = place.send(rest).await?;
        match answer.status {
            StatusCode::OK => Ok((answer, have)),
            StatusCode::PARTIAL_CONTENT if first_byte(&answer) == Some(have) => Ok((answer, 0)),
            // It has no idea of ranges, or an own one.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                Ok((place.take(whole, &[StatusCode::OK]).await?, have))
            }
            _ => Err(place.refusal(answer).await),
        }
    }
}

/// Why a transfer has ended early.
enum Stop {
    Writer,
    Source(Error),
}

/// Why one try has.
enum Halt {
    Writer,
    Failed(Failure),
}

/// Where a part begins: `bytes 5-10/11`.
fn first_byte(answer: &Answer) -> Option<u64> {
    let range = answer.header(header::CONTENT_RANGE)?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

/// Writes what comes, and names it when it is whole. `_alone` says that nobody else writes.
fn write(
    mut ingest: Ingest,
    mut pieces: mpsc::Receiver<Bytes>,
    feed: &Feed,
    _alone: OwnedMutexGuard<()>,
) -> Result<()> {
    let mut all = || -> Result<()> {
        while let Some(piece) = pieces.blocking_recv() {
            ingest.write(&piece)?;
            feed.grow(ingest.have());
        }
        Ok(())
    };
    let outcome = all().and_then(|()| ingest.finish()?.publish());
    feed.end(outcome.clone());
    outcome
}
