//! What goes into and comes out of the engine about registries. Nothing that `Debug` writes has a secret in it.

use std::time::Duration;

use tinyd_core::Result;
pub use tinyd_image::{
    reference::{DEFAULT_REGISTRY, Reference},
    registry::credentials::{AuthFile, Credentials, Helper, Login, registry_of},
};
use tokio::sync::mpsc;

use super::ImageProgress;

/// Asks for an image of a registry.
#[derive(Clone, Debug, Default)]
pub struct PullRequest {
    /// Its name; of a repository with `all_tags`.
    pub image: String,
    /// Which image of a name that is for several platforms; "" is this machine's.
    pub platform: String,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// Who asks.
    pub credentials: Credentials,
}

/// Asks to give an image to its registry.
#[derive(Clone, Debug, Default)]
pub struct PushRequest {
    /// Its name; of a repository with `all_tags`.
    pub image: String,
    /// Everything here that has a tag of the repository.
    pub all_tags: bool,
    /// Who gives it.
    pub credentials: Credentials,
}

/// What happens while images come from a registry or go to one. The last is an error, or the channel closes. Who drops it ends the
/// transfer, unless others wait for it too.
pub type TransferEvents = mpsc::Receiver<Result<TransferEvent>>;

/// What happens.
#[derive(Clone, Debug)]
pub enum TransferEvent {
    /// An image is asked for or given: what follows is about it.
    Begun(Reference),
    /// How far a layer is.
    Progress(ImageProgress),
    /// The registry has failed, and is asked again.
    Paused(RegistryPaused),
    /// It is there and can be used.
    Pulled(ImagePulled),
    /// The registry has it.
    Pushed(ImagePushed),
}

/// The registry, or each host of it, has failed, and is asked again after a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryPaused {
    /// Which host, and what it has said.
    pub why: String,
    /// How long the pause is.
    pub length: Duration,
}

/// An image is there and can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePulled {
    /// Its id.
    pub id: String,
    /// Its name.
    pub reference: Reference,
    /// What the registry has under that name.
    pub digest: String,
    /// Whether the name has stood for something else here, or for nothing.
    pub is_new: bool,
    /// What was left out of it, one line each.
    pub notes: Vec<String>,
}

/// The registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePushed {
    /// Its name.
    pub reference: Reference,
    /// The digest of its manifest.
    pub digest: String,
    /// Bytes of its manifest.
    pub size_bytes: u64,
}
