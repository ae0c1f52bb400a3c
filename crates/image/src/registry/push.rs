//! An image from the store to a registry: what the registry lacks of its blobs, then the manifest, byte for byte as it is kept.

use std::{fs::File, future::Future, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use tinyd_core::{Error, Kind, Result};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    board::Board,
    error::Failure,
    exchange::{Answer, wrong},
    location::{self, with_parameter},
    payload::{Payload, Progress as Sent},
    place::{Place, Request},
    places::{Need, Places},
    resolve::CONTENT_DIGEST,
    thread,
};
use crate::{
    digest::Digest,
    document::{Descriptor, Document, MANIFEST_MAX_BYTES, media},
    progress::{Progress, Step},
    reference::{DEFAULT_TAG, Reference},
    store::Lease,
};

/// How often it is told how far an upload is.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What brings an image to a registry.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) places: Arc<Places>,
    /// Keeps the image while it is read.
    pub(super) lease: Arc<Lease>,
    pub(super) board: Arc<Board>,
    /// Repositories of the registry that may have its blobs.
    pub(super) from: Vec<String>,
    pub(super) at_once: usize,
    pub(super) chunk_bytes: u64,
}

impl Push {
    pub(super) async fn run(self, manifest: &Digest, reference: &Reference) -> Result<Reference> {
        let (push, image) = (Arc::new(self), manifest.clone());
        let lease = Arc::clone(&push.lease);
        let kept = thread::run("read-manifest", move || Kept::read(&lease, &image)).await?;
        for blob in &kept.blobs {
            push.tell(blob, Step::Waiting);
        }
        let each = kept.blobs.iter().cloned().map(|blob| {
            let push = Arc::clone(&push);
            async move {
                let told = |error: Error| error.context(format_args!("content {}", blob.digest.short()));
                push.blob(&blob).await.map_err(told)
            }
        });
        let each: Vec<_> = each.collect();
        stream::iter(each).buffer_unordered(push.at_once.max(1)).try_collect::<Vec<()>>().await?;
        push.manifest(manifest, &kept, reference).await?;
        Ok(reference.with_digest(manifest.clone()))
    }

    /// Gives one blob to the registry, unless it has that.
    async fn blob(&self, blob: &Descriptor) -> Result<()> {
        let mut asking = self.places.asking(Need::Push);
        loop {
            let at = asking.place().await?;
            let mut upload = Upload::new(self, asking.at(at), blob)?;
            let failure = match self.telling(blob, upload.progress.clone(), upload.run()).await {
                Ok(step) => {
                    self.tell(blob, step);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            let has_progress = upload.done > 0;
            asking.failed(at, failure, has_progress);
        }
    }

    /// Tells how far it is while it goes on.
    async fn telling<T>(&self, blob: &Descriptor, progress: Sent, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut tick = interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = 0;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = tick.tick() => {
                    let done_bytes = progress.count();
                    if done_bytes != told {
                        told = done_bytes;
                        self.tell(blob, Step::Uploading { done_bytes, total_bytes: blob.size });
                    }
                }
            }
        }
    }

    async fn manifest(&self, digest: &Digest, kept: &Kept, reference: &Reference) -> Result<()> {
        let name = match (reference.tag(), reference.digest()) {
            (None, Some(digest)) => digest.to_string(),
            (tag, _) => tag.unwrap_or(DEFAULT_TAG).to_owned(),
        };
        let mut asking = self.places.asking(Need::Push);
        loop {
            let at = asking.place().await?;
            match put_manifest(asking.at(at), &name, digest, kept).await {
                Ok(()) => return Ok(()),
                Err(failure) => asking.failed(at, failure.context("manifest"), false),
            }
        }
    }

    fn tell(&self, blob: &Descriptor, step: Step) {
        self.board.tell(Progress { layer: blob.digest.clone(), step });
    }
}

/// A manifest as it is kept, and what it names.
struct Kept {
    bytes: Vec<u8>,
    media_type: String,
    blobs: Vec<Descriptor>,
}

impl Kept {
    fn read(lease: &Lease, digest: &Digest) -> Result<Kept> {
        lease.pin(digest);
        let bytes = lease.store().read_blob(digest, MANIFEST_MAX_BYTES)?;
        let Document::Manifest(manifest) = Document::parse(&bytes, "")? else {
            let message = format!("{digest} is an index: what is pushed is one image");
            return Err(Error::new(Kind::Unsupported, message));
        };
        let mut blobs: Vec<Descriptor> = Vec::new();
        for blob in manifest.layers.into_iter().chain([manifest.config]) {
            lease.pin(&blob.digest);
            if lease.store().blob_size(&blob.digest) != Some(blob.size) {
                let message = format!("the store has no content {} of {} bytes", blob.digest, blob.size);
                return Err(Error::new(Kind::NotFound, message));
            }
            if blobs.iter().all(|other| other.digest != blob.digest) {
                blobs.push(blob);
            }
        }
        let media_type =
            if manifest.media_type.is_empty() { media::OCI_MANIFEST.to_owned() } else { manifest.media_type };
        Ok(Kept { bytes, media_type, blobs })
    }
}

async fn put_manifest(place: &Place, name: &str, digest: &Digest, kept: &Kept) -> Result<(), Failure> {
    let kind = HeaderValue::try_from(&kept.media_type)
        .map_err(|_| wrong(format!("its media type {:?} cannot be sent", kept.media_type)))?;
    let request = Request::new(Method::PUT, place.address(&format!("manifests/{name}"))?)
        .header(header::CONTENT_TYPE, kind)
        .payload(Payload::Bytes(kept.bytes.clone().into()));
    let answer = place.take(request, &[StatusCode::CREATED, StatusCode::OK]).await?;
    same_digest(&answer, digest)
}

/// A registry that says which digest it has found says the right one.
fn same_digest(answer: &Answer, digest: &Digest) -> Result<(), Failure> {
    match answer.header(CONTENT_DIGEST).map(str::parse::<Digest>) {
        Some(Ok(said)) if said != *digest => {
            Err(wrong(format!("the registry has taken {said} where {digest} was sent")))
        }
        Some(_) | None => Ok(()),
    }
}

/// One blob on its way to one place.
struct Upload<'a> {
    push: &'a Push,
    place: &'a Place,
    blob: &'a Descriptor,
    file: Arc<File>,
    progress: Sent,
    /// Bytes that the place has said it has.
    done: u64,
}

impl<'a> Upload<'a> {
    fn new(push: &'a Push, place: &'a Place, blob: &'a Descriptor) -> Result<Upload<'a>> {
        let file = Arc::new(push.lease.store().open_blob(&blob.digest)?);
        Ok(Upload { push, place, blob, file, progress: Sent::default(), done: 0 })
    }

    async fn run(&mut self) -> Result<Step, Failure> {
        if self.is_there().await? {
            return Ok(Step::Present);
        }
        let Some(session) = self.begin().await? else { return Ok(Step::Present) };
        let session =
            if self.blob.size > self.push.chunk_bytes { self.chunks(session).await? } else { session };
        self.finish(session).await?;
        Ok(Step::Uploaded)
    }

    async fn is_there(&self) -> Result<bool, Failure> {
        let request = Request::new(Method::HEAD, self.place.address(&format!("blobs/{}", self.blob.digest))?);
        let answer = self.place.send(request).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.place.refusal(answer).await),
        }
    }

    /// Where the bytes go; `None` when the registry has found them in another repository.
    async fn begin(&self) -> Result<Option<Uri>, Failure> {
        let mut uri = self.place.address("blobs/uploads/")?;
        if let Some(from) = self.push.from.first() {
            uri = with_parameter(&uri, "mount", &self.blob.digest.to_string())?;
            uri = with_parameter(&uri, "from", from)?;
        }
        let request = Request::new(Method::POST, uri.clone());
        let answer = self.place.take(request, &[StatusCode::ACCEPTED, StatusCode::CREATED]).await?;
        if answer.status == StatusCode::CREATED {
            return Ok(None);
        }
        next(&answer, &uri).map(Some)
    }

    /// Piece by piece; after a cut from where the registry is.
    async fn chunks(&mut self, mut session: Uri) -> Result<Uri, Failure> {
        while self.done < self.blob.size {
            let length = self.push.chunk_bytes.max(1).min(self.blob.size - self.done);
            let range = HeaderValue::try_from(format!("{}-{}", self.done, self.done + length - 1))
                .map_err(|error| wrong(format!("say which part it is: {error}")))?;
            let request = Request::new(Method::PATCH, session.clone())
                .header(header::CONTENT_TYPE, OCTETS)
                .header(header::CONTENT_RANGE, range)
                .payload(self.piece(length));
            match self.place.take(request, &[StatusCode::ACCEPTED]).await {
                Ok(answer) => {
                    session = next(&answer, &session)?;
                    self.done = end(&answer).unwrap_or(self.done + length);
                }
                Err(failure) => session = self.again(session, failure).await?,
            }
            if self.done > self.blob.size {
                return Err(wrong(format!("it says that it has {} of {} bytes", self.done, self.blob.size)));
            }
        }
        Ok(session)
    }

    /// Asks how far the registry is; when it is no further than before, the failure is what it was.
    async fn again(&mut self, session: Uri, failure: Failure) -> Result<Uri, Failure> {
        let Ok(answer) = self.place.send(Request::new(Method::GET, session.clone())).await else {
            return Err(failure);
        };
        match (answer.status, end(&answer)) {
            (StatusCode::NO_CONTENT, Some(have)) if have > self.done => {
                self.done = have;
                next(&answer, &session)
            }
            _ => Err(failure),
        }
    }

    /// Says that it is whole; with the bytes, when none were sent before.
    async fn finish(&mut self, session: Uri) -> Result<(), Failure> {
        let uri = with_parameter(&session, "digest", &self.blob.digest.to_string())?;
        let left = self.blob.size - self.done;
        let payload = if left > 0 { self.piece(left) } else { Payload::None };
        let request = Request::new(Method::PUT, uri).header(header::CONTENT_TYPE, OCTETS).payload(payload);
        let answer = self.place.take(request, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).await?;
        same_digest(&answer, &self.blob.digest)
    }

    fn piece(&self, length: u64) -> Payload {
        let (file, progress) = (Arc::clone(&self.file), self.progress.clone());
        Payload::Piece { file, from: self.done, length, progress }
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Where it goes on.
fn next(answer: &Answer, asked: &Uri) -> Result<Uri, Failure> {
    let to = answer
        .header(header::LOCATION)
        .ok_or_else(|| wrong("it does not say where the content goes".into()))?;
    let next = location::resolve(asked, to)?;
    if asked.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
        return Err(wrong("it wants the content without TLS".into()));
    }
    Ok(next)
}

/// How many bytes it has: `0-99` are 100.
fn end(answer: &Answer) -> Option<u64> {
    let range = answer.header(header::RANGE)?;
    let last = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?.1.trim();
    last.parse::<u64>().ok()?.checked_add(1)
}
