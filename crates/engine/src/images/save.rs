//! `save`: images go out as one archive.

use std::sync::Arc;

use tinyd_core::{Error, Result};
use tinyd_image::{
    reference::Reference,
    save::{self, Form, Saved},
    store::Lease,
};
use tokio::sync::mpsc;

use super::pipe::Writer;
use crate::{
    Inner,
    api::{ArchiveFormat, Outgoing},
    blocking,
};

/// How many pieces wait for a client that is slow.
pub(super) const PIECES: usize = 4;

/// Writes an archive of these images to the client. What is not there is told before the first byte.
pub(crate) async fn save(inner: &Arc<Inner>, images: Vec<String>, format: ArchiveFormat) -> Result<Outgoing> {
    let finder = Arc::clone(inner);
    let (lease, saved) = blocking(move || find(&finder, &images)).await?;
    let form = match format {
        ArchiveFormat::Docker => Form::Docker,
        ArchiveFormat::Oci => Form::Oci,
    };
    let (pieces, receiver) = mpsc::channel(PIECES);
    let task = Arc::clone(inner);
    inner.tasks.spawn_blocking(move || {
        let _lease = lease;
        let written = save::save(task.shelf.store(), &saved, form, &mut Writer::new(pieces.clone()));
        if let Err(error) = written {
            let _ = pieces.blocking_send(Err(error));
        }
    });
    Ok(receiver)
}

/// The images, each once, with what was asked for by name; their content is kept while the lease is.
fn find(inner: &Inner, images: &[String]) -> Result<(Lease, Vec<Saved>)> {
    if images.is_empty() {
        return Err(Error::invalid("IMAGE", "no image: say which"));
    }
    let lease = inner.shelf.store().lease();
    let mut all: Vec<Saved> = Vec::new();
    for text in images {
        let record = inner.shelf.images.find("IMAGE", text)?;
        let facts = inner.shelf.facts(&record)?;
        for part in std::iter::once(&facts.manifest.config).chain(&facts.manifest.layers) {
            lease.pin(&part.digest);
        }
        lease.pin(&facts.digest);
        let name = Reference::parse("IMAGE", text).ok().filter(|name| record.names.contains(name));
        let at = all.iter().position(|saved| saved.manifest == facts.digest).unwrap_or_else(|| {
            all.push(Saved { manifest: facts.digest.clone(), names: Vec::new() });
            all.len() - 1
        });
        all[at].names.extend(name);
        all[at].names.dedup();
    }
    Ok((lease, all))
}
