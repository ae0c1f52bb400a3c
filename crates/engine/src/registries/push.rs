//! `push`: an image goes to the registry that its name says, with the bytes and digests that it came or was made with.

use std::sync::Arc;

use tinyd_core::{Error, Kind, Result};
use tinyd_image::{
    digest::Digest, document::MANIFEST_MAX_BYTES, reference::Reference, registry::PushOptions,
};

use super::{
    pull::named,
    transfer::{Teller, transfer},
};
use crate::{
    Inner,
    api::{ImagePushed, PushRequest, TransferEvent, TransferEvents},
    blocking,
};

/// Gives an image, or all of a repository, to its registry.
pub(crate) async fn push(inner: &Arc<Inner>, request: PushRequest) -> Result<TransferEvents> {
    let finder = Arc::clone(inner);
    let (image, all_tags) = (request.image.clone(), request.all_tags);
    let all = blocking(move || find(&finder, &image, all_tags)).await?;
    let task = Arc::clone(inner);
    Ok(transfer(inner, |teller| async move {
        for outgoing in all {
            one(&task, outgoing, &request, &teller).await?;
        }
        Ok(())
    }))
}

/// What is pushed under which name.
struct Outgoing {
    id: Digest,
    name: Reference,
    manifest: Digest,
    size_bytes: u64,
    known_as: Vec<Reference>,
}

async fn one(inner: &Arc<Inner>, outgoing: Outgoing, request: &PushRequest, teller: &Teller) -> Result<()> {
    let Outgoing { id, name, manifest, size_bytes, known_as } = outgoing;
    teller.tell(TransferEvent::Begun(name.clone())).await;
    let options = PushOptions {
        credentials: request.credentials.clone(),
        known_as,
        listener: Some(teller.listener()),
        notice: Some(teller.notice()),
    };
    let pinned = inner.registries.push(&manifest, &name, &options).await?;
    let task = Arc::clone(inner);
    blocking(move || task.shelf.images.pin(&id, pinned)).await?;
    let pushed = ImagePushed { reference: name, digest: manifest.to_string(), size_bytes };
    teller.tell(TransferEvent::Pushed(pushed)).await;
    Ok(())
}

/// What here has this name, or a tag of this repository.
fn find(inner: &Inner, image: &str, all_tags: bool) -> Result<Vec<Outgoing>> {
    let wanted = named(image, all_tags)?;
    if wanted.digest().is_some() {
        let rule = format!("{image:?} has a digest: what is pushed gets a tag, and its digest by itself");
        return Err(Error::invalid("NAME", rule));
    }
    let is_meant = |name: &Reference| match all_tags {
        true => name.registry() == wanted.registry() && name.repository() == wanted.repository(),
        false => *name == wanted,
    };
    let mut all = Vec::new();
    for record in inner.shelf.images.list() {
        for name in record.names.iter().filter(|name| is_meant(name)) {
            let manifest = inner.shelf.facts(&record)?.digest.clone();
            let size_bytes = inner.shelf.store().read_blob(&manifest, MANIFEST_MAX_BYTES)?.len() as u64;
            let known_as = record.names.iter().chain(&record.pinned).cloned().collect();
            all.push(Outgoing { id: record.id.clone(), name: name.clone(), manifest, size_bytes, known_as });
        }
    }
    if all.is_empty() {
        // Docker's words: scripts look for them.
        let message = match all_tags {
            true => format!("An image does not exist locally with the name: {}", wanted.familiar_name()),
            false => format!("An image does not exist locally with the tag: {}", wanted.familiar()),
        };
        return Err(Error::new(Kind::NotFound, message));
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}
