//! `pull`: an image comes from its registry. It gets its name when all of it is there; what came of one that did not is gone on with by
//! the next pull.

use std::sync::Arc;

use tinyd_core::{Error, Kind, Result};
use tinyd_image::{
    digest::Digest,
    images::Arrival,
    platform::Platform,
    reference::Reference,
    registry::{PullOptions, Pulled},
    store::ImageRecord,
};

use super::transfer::{Teller, transfer};
use crate::{
    Inner,
    api::{ImagePulled, PullRequest, TransferEvent, TransferEvents},
    blocking,
    container::now,
    images::collect_soon,
};

/// Brings in an image, or all of a repository.
pub(crate) fn pull(inner: &Arc<Inner>, request: PullRequest) -> Result<TransferEvents> {
    let reference = named(&request.image, request.all_tags)?;
    let platform = match request.platform.as_str() {
        "" => None,
        text => Some(text.parse()?),
    };
    let all_tags = request.all_tags;
    let puller = Puller { inner: Arc::clone(inner), platform, request };
    Ok(transfer(inner, |teller| async move {
        let all = if all_tags { puller.tags(&reference).await? } else { vec![reference] };
        for reference in all {
            if let Err(error) = puller.one(reference, &teller).await {
                // A document that led nowhere, or all of it on a full disk.
                collect_soon(&puller.inner);
                return Err(error);
            }
        }
        Ok(())
    }))
}

/// The image that is meant, or with `all_tags` the repository.
pub(super) fn named(text: &str, all_tags: bool) -> Result<Reference> {
    if all_tags {
        return Reference::parse_repository("--all-tags", text);
    }
    Reference::parse("NAME", text)
}

struct Puller {
    inner: Arc<Inner>,
    platform: Option<Platform>,
    request: PullRequest,
}

impl Puller {
    async fn tags(&self, repository: &Reference) -> Result<Vec<Reference>> {
        let tags = self.inner.registries.tags(repository, &self.request.credentials).await?;
        if tags.is_empty() {
            let message = format!("{} has no tags", repository.familiar_name());
            return Err(Error::new(Kind::NotFound, message));
        }
        Ok(tags)
    }

    async fn one(&self, reference: Reference, teller: &Teller) -> Result<()> {
        teller.tell(TransferEvent::Begun(reference.clone())).await;
        let had = self.inner.shelf.images.find("NAME", &reference.to_string()).ok();
        let options = PullOptions {
            platform: self.platform.clone(),
            credentials: self.request.credentials.clone(),
            known: had.as_ref().and_then(|record| known(record, &reference)),
            listener: Some(teller.listener()),
            notice: Some(teller.notice()),
        };
        let pulled = self.inner.registries.pull(&reference, &options).await?;
        let inner = Arc::clone(&self.inner);
        let told = blocking(move || write_down(&inner, reference, had.as_ref(), pulled)).await?;
        teller.tell(TransferEvent::Pulled(told)).await;
        Ok(())
    }
}

/// What the registry had under the name when it was last asked.
fn known(record: &ImageRecord, reference: &Reference) -> Option<Digest> {
    let of_repository = |pinned: &&Reference| {
        pinned.registry() == reference.registry() && pinned.repository() == reference.repository()
    };
    record.pinned.iter().rfind(of_repository).and_then(Reference::digest).cloned()
}

/// Gives the image its name. What was pulled keeps its content until then.
fn write_down(
    inner: &Inner,
    reference: Reference,
    had: Option<&ImageRecord>,
    pulled: Pulled,
) -> Result<ImagePulled> {
    // A name must not outlive what it stands for.
    inner.shelf.store().sync_names()?;
    // Of a name with a digest the tag says nothing, as with Docker.
    let names = if reference.digest().is_some() { Vec::new() } else { vec![reference.clone()] };
    let is_new = had.is_none_or(|had| had.id != pulled.id || !had.manifests.contains(&pulled.manifest));
    let digest = pulled.index.as_ref().unwrap_or(&pulled.manifest).to_string();
    let arrival = Arrival {
        id: pulled.id.clone(),
        manifest: pulled.manifest.clone(),
        index: pulled.index.clone(),
        names,
        pinned: Some(pulled.pinned.clone()),
        at_unix_nanos: now(),
    };
    let record = inner.shelf.images.arrive(arrival)?;
    Ok(ImagePulled { id: record.id.to_string(), reference, digest, is_new, notes: pulled.notes.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_images_or_with_all_tags_a_repositorys() {
        assert_eq!(named("redis", false).unwrap().to_string(), "docker.io/library/redis:latest");
        assert_eq!(named("redis", true).unwrap().to_string(), "docker.io/library/redis");
        assert_eq!(named("redis:7", true).unwrap_err().field(), Some("--all-tags"));
        assert_eq!(named("Redis", false).unwrap_err().field(), Some("NAME"));
    }

    #[test]
    fn what_is_known_of_a_name_is_what_its_own_repository_calls_it() {
        let name = |text: &str| text.parse::<Reference>().unwrap();
        let (here, elsewhere) = (Digest::of(b"here"), Digest::of(b"elsewhere"));
        let record = ImageRecord {
            id: Digest::of(b"id"),
            manifests: Vec::new(),
            indexes: Default::default(),
            names: [name("a.example/x:1")].into(),
            pinned: [
                name("a.example/x").with_digest(here.clone()),
                name("b.example/x").with_digest(elsewhere.clone()),
            ]
            .into(),
            added_unix_nanos: 0,
        };
        assert_eq!(known(&record, &name("a.example/x:1")), Some(here));
        assert_eq!(known(&record, &name("b.example/x")), Some(elsewhere));
        assert_eq!(known(&record, &name("b.example/y")), None);
    }
}
