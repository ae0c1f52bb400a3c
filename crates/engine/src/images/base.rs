//! What a new container is made from: a directory of the host, or an image that is found by its name.

use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Kind, Name, Result, config::ContainerConfig};
use tinyd_image::{Image, digest::Digest, platform::Platform, store::Lease};

use super::settle;
use crate::{Inner, record::Record};

/// The image that a container was made from, as its record has it: the name may mean another one later, and the layers stay as long
/// as the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsedImage {
    /// Its id.
    pub(crate) id: Digest,
    /// The stacks of its layers, the lowest first.
    pub(crate) chain: Vec<Digest>,
}

/// What a new container is made from.
#[derive(Debug, Default)]
pub(crate) struct Base {
    /// The image, when it is none of the host's directories.
    pub(crate) used: Option<UsedImage>,
    /// Volumes that the image asks for and that have no name of a user's.
    pub(crate) volumes: Vec<Name>,
    /// Keeps the layers until the container is known.
    _lease: Option<Lease>,
}

/// Looks at the image that a definition names, and settles what the definition leaves to it.
pub(crate) fn base(inner: &Inner, config: &mut ContainerConfig) -> Result<Base> {
    if config.image.is_empty() || config.image.starts_with('/') {
        Image::open(&config.image)?;
        return Ok(Base::default());
    }
    let shelf = &inner.shelf;
    // The field says what was not found: whoever asks may pull it.
    let record = shelf.images.find("-i", &config.image).map_err(|error| error.of_field("-i"))?;
    let facts = shelf.facts(&record)?;
    fits(config, &facts.config.platform)?;
    let lease = shelf.store().lease();
    facts.chain.iter().for_each(|chain_id| lease.pin(chain_id));
    if facts.chain.is_empty() {
        return Err(Error::invalid(
            "-i",
            format!("image {:?} has no layers: there is nothing to run", config.image),
        ));
    }
    // Only now, when nothing can be collected any more.
    Image::stacked(shelf.store(), &facts.chain)?;
    let volumes = settle::settle(config, &facts.config.config)?;
    let used = UsedImage { id: record.id, chain: facts.chain.clone() };
    Ok(Base { used: Some(used), volumes, _lease: Some(lease) })
}

/// Holds an image to the platform that was asked for.
fn fits(config: &ContainerConfig, have: &Platform) -> Result<()> {
    let Some(text) = &config.platform else { return Ok(()) };
    let wanted: Platform = text.parse()?;
    if have.fits(&wanted).is_some() {
        return Ok(());
    }
    let message = format!("No such image: {} for {wanted}: what is here is for {have}", config.image);
    Err(Error::new(Kind::NotFound, message).of_field("-i"))
}

/// What a container's root is made of.
pub(crate) fn layers_of(inner: &Inner, record: &Record) -> Result<Image> {
    let Some(used) = &record.image else { return Image::open(&record.config.image) };
    // Nobody collects what a container has: if it is not there, somebody else has been.
    Image::stacked(inner.shelf.store(), &used.chain)
        .map_err(|error| Error::new(Kind::Internal, error.message()))
}
