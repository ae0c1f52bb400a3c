//! From a name to an image's documents: what a registry has under a tag or a digest, and of an index the image for a platform. Every document is
//! counted and hashed before anything in it is believed.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use tinyd_core::{Error, Kind, Result};

use super::{
    error::Failure,
    exchange::Answer,
    place::{Place, Request},
    places::{Need, Places},
    thread,
};
use crate::{
    digest::{Digest, Hasher},
    document::{Descriptor, Document, MANIFEST_MAX_BYTES, Manifest, media},
    platform::Platform,
    reference::{DEFAULT_TAG, Reference},
    store::Lease,
};

/// Every kind of document that is understood.
const ACCEPT: [&str; 4] = [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_LIST, media::DOCKER_MANIFEST];
/// What a registry says that a document's digest is.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

/// What a name stands for. Its documents are in the store, and in the lease.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) manifest: Manifest,
    pub(super) digest: Digest,
    /// The index that led to it.
    pub(super) index: Option<Digest>,
}

/// Asks what a reference stands for. `known` is what the store had under that name until now: where it still is that, nothing is transferred.
pub(super) async fn resolve(
    places: &Arc<Places>,
    lease: &Arc<Lease>,
    reference: &Reference,
    platform: &Platform,
    known: Option<&Digest>,
) -> Result<Resolved> {
    let (digest, document) = match unchanged(places, lease, reference, known).await {
        Some(found) => found,
        None => top(places, lease, reference).await?,
    };
    let index = match document {
        Document::Manifest(manifest) => return Ok(Resolved { manifest, digest, index: None }),
        Document::Index(index) => index,
    };
    let picked = index.pick(platform)?.clone();
    let (image, document) = below(places, lease, &picked).await?;
    match document {
        Document::Manifest(manifest) => Ok(Resolved { manifest, digest: image, index: Some(digest) }),
        Document::Index(_) => {
            let message = format!("the index names {image} as an image, and that is an index again");
            Err(Error::new(Kind::InvalidArgument, message))
        }
    }
}

/// The document that is here already, when the registry says that it is still the one. That is not counted as a pull.
async fn unchanged(
    places: &Arc<Places>,
    lease: &Arc<Lease>,
    reference: &Reference,
    known: Option<&Digest>,
) -> Option<(Digest, Document)> {
    let known = known?;
    // The first one only: where it does not know, the document itself is asked for.
    let mut asking = places.asking(Need::Resolve);
    let at = asking.place().await.ok()?;
    let answer =
        asking.at(at).send(document(asking.at(at), Method::HEAD, &wanted(reference)).ok()?).await.ok()?;
    let said = answer.header(CONTENT_DIGEST)?.parse::<Digest>().ok()?;
    if answer.status != StatusCode::OK || said != *known {
        return None;
    }
    Some((said.clone(), here(lease, &said).await?))
}

/// Tag or digest, as it stands in the address.
fn wanted(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or(DEFAULT_TAG).to_owned(),
    }
}

/// What the registry has under the name.
async fn top(places: &Arc<Places>, lease: &Arc<Lease>, reference: &Reference) -> Result<(Digest, Document)> {
    let need = if reference.digest().is_some() { Need::Pull } else { Need::Resolve };
    let path = wanted(reference);
    let what =
        What { need, limit_bytes: MANIFEST_MAX_BYTES, request: &|place| document(place, Method::GET, &path) };
    let got = what
        .ask(places, &|answer, bytes| {
            // What is asked for by digest has that; what by tag, what the registry says, if it does.
            let said = answer.header(CONTENT_DIGEST).and_then(|text| text.parse().ok());
            let digest = reference.digest().cloned().or(said).unwrap_or_else(|| Digest::of(bytes));
            expect(bytes, &Descriptor::of(&digest, bytes.len() as u64))?;
            Ok(digest)
        })
        .await?;
    keep(lease, got).await
}

/// An image that an index names: here, or at the registry.
async fn below(places: &Arc<Places>, lease: &Arc<Lease>, wanted: &Descriptor) -> Result<(Digest, Document)> {
    if wanted.size > MANIFEST_MAX_BYTES {
        let message = format!("the image's manifest has {} bytes: at most {MANIFEST_MAX_BYTES}", wanted.size);
        return Err(Error::new(Kind::InvalidArgument, message));
    }
    if let Some(document) = here(lease, &wanted.digest).await {
        return Ok((wanted.digest.clone(), document));
    }
    let path = wanted.digest.to_string();
    let request: &MakeRequest<'_> = &|place| document(place, Method::GET, &path);
    let what = What { need: Need::Pull, limit_bytes: wanted.size, request };
    let got = what.ask(places, &|_, bytes| expect(bytes, wanted).map(|()| wanted.digest.clone())).await?;
    keep(lease, got).await
}

/// A small blob, such as a configuration: here, or from the registry. It is in the store afterwards.
pub(super) async fn small(places: &Arc<Places>, lease: &Arc<Lease>, wanted: &Descriptor) -> Result<()> {
    lease.pin(&wanted.digest);
    let size = wanted.size;
    let (own, digest) = (Arc::clone(lease), wanted.digest.clone());
    let is_here = thread::run("read-blob", move || Ok(own.store().read_blob(&digest, size).is_ok()));
    if is_here.await? {
        return Ok(());
    }
    let path = format!("blobs/{}", wanted.digest);
    let request: &MakeRequest<'_> = &|place| Ok(Request::new(Method::GET, place.address(&path)?));
    let what = What { need: Need::Pull, limit_bytes: size, request };
    let got = what.ask(places, &|_, bytes| expect(bytes, wanted).map(|()| wanted.digest.clone())).await?;
    put(lease, got.digest, got.bytes).await
}

/// A document of the store.
async fn here(lease: &Arc<Lease>, digest: &Digest) -> Option<Document> {
    lease.pin(digest);
    let (own, digest) = (Arc::clone(lease), digest.clone());
    let bytes = thread::run("read-blob", move || own.store().read_blob(&digest, MANIFEST_MAX_BYTES));
    Document::parse(&bytes.await.ok()?, "").ok()
}

/// Holds content to its descriptor.
fn expect(bytes: &[u8], wanted: &Descriptor) -> Result<()> {
    if bytes.len() as u64 != wanted.size {
        let message = format!("{} has {} bytes, not {}", wanted.digest, bytes.len(), wanted.size);
        return Err(Error::new(Kind::InvalidArgument, message));
    }
    let mut hasher = Hasher::new(wanted.digest.algorithm());
    hasher.update(bytes);
    match hasher.finish() {
        found if found == wanted.digest => Ok(()),
        found => {
            let message = format!("what came as {} is something else: its digest is {found}", wanted.digest);
            Err(Error::new(Kind::InvalidArgument, message))
        }
    }
}

/// Reads a document, and puts it into the store.
async fn keep(lease: &Arc<Lease>, got: Got) -> Result<(Digest, Document)> {
    let document = Document::parse(&got.bytes, &got.media_type)?;
    put(lease, got.digest.clone(), got.bytes).await?;
    Ok((got.digest, document))
}

async fn put(lease: &Arc<Lease>, digest: Digest, bytes: Bytes) -> Result<()> {
    let lease = Arc::clone(lease);
    thread::run("write-blob", move || {
        lease.pin(&digest);
        if lease.store().blob_size(&digest) == Some(bytes.len() as u64) {
            return Ok(());
        }
        let mut content = lease.store().unnamed_by(digest.algorithm())?;
        content.write(&bytes)?;
        content.publish_as(&digest)
    })
    .await
}

fn document(place: &Place, method: Method, path: &str) -> Result<Request> {
    let request = Request::new(method, place.address(&format!("manifests/{path}"))?);
    let with = |request: Request, kind| request.header(header::ACCEPT, HeaderValue::from_static(kind));
    Ok(ACCEPT.into_iter().fold(request, with))
}

type MakeRequest<'a> = dyn Fn(&Place) -> Result<Request> + Send + Sync + 'a;
type Check<'a> = dyn Fn(&Answer, &Bytes) -> Result<Digest> + Send + Sync + 'a;

/// Something small that is asked for from place after place.
struct What<'a> {
    need: Need,
    limit_bytes: u64,
    request: &'a MakeRequest<'a>,
}

/// What came, and has this digest.
struct Got {
    digest: Digest,
    media_type: String,
    bytes: Bytes,
}

impl What<'_> {
    async fn ask(&self, places: &Arc<Places>, check: &Check<'_>) -> Result<Got> {
        let mut asking = places.asking(self.need);
        loop {
            let at = asking.place().await?;
            match self.once(asking.at(at), check).await {
                Ok(got) => return Ok(got),
                Err(failure) => asking.failed(at, failure, false),
            }
        }
    }

    async fn once(&self, place: &Place, check: &Check<'_>) -> Result<Got, Failure> {
        let mut answer = place.take((self.request)(place)?, &[StatusCode::OK]).await?;
        let bytes = answer.whole(self.limit_bytes).await?;
        let digest = check(&answer, &bytes)?;
        let media_type = answer.header(header::CONTENT_TYPE).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        Ok(Got { digest, media_type, bytes })
    }
}
