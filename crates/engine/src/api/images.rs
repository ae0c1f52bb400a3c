//! What goes into and comes out of the engine about images.

use std::collections::BTreeMap;

use bytes::Bytes;
use tinyd_core::Result;
use tokio::sync::mpsc;

/// An image, as in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSummary {
    /// Its id: the digest of its configuration, `sha256:…`.
    pub id: String,
    /// What it is called, with tags: `redis:7`.
    pub names: Vec<String>,
    /// What registries call it, with digests.
    pub digests: Vec<String>,
    /// When it was made, in nanoseconds since the epoch; 0 when it does not say.
    pub created_unix_nanos: i64,
    /// Bytes of the files of its layers.
    pub size_bytes: u64,
    /// Bytes of its layers as they travel.
    pub packed_bytes: u64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How many containers are made from it.
    pub containers: u32,
    /// `linux/amd64`.
    pub platform: String,
}

/// Everything about an image.
#[derive(Clone, Debug)]
pub struct ImageDetails {
    /// As in a list.
    pub summary: ImageSummary,
    /// Its manifest's digest.
    pub manifest: String,
    /// Its configuration document, as it is.
    pub config: Vec<u8>,
    /// When it came here, in nanoseconds since the epoch.
    pub added_unix_nanos: i64,
    /// Its layers, the lowest first.
    pub layers: Vec<ImageLayer>,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    /// The digest of the archive before it was packed.
    pub diff_id: String,
    /// The digest of what travels.
    pub digest: String,
    /// Bytes of what travels.
    pub packed_bytes: u64,
    /// Bytes of its files.
    pub size_bytes: u64,
}

/// How an image was made.
#[derive(Clone, Debug)]
pub struct ImageHistory {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub names: Vec<String>,
    /// The latest first.
    pub steps: Vec<HistoryStep>,
}

/// One step of how an image was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryStep {
    /// When, in nanoseconds since the epoch; 0 when it does not say.
    pub created_unix_nanos: i64,
    /// By what command.
    pub created_by: String,
    /// What else there is to say.
    pub comment: String,
    /// Bytes of the files of the layer that it made.
    pub size_bytes: u64,
}

/// What is gone after a name, or an image, was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRemoved {
    /// Names.
    pub untagged: Vec<String>,
    /// The image's id, when it is gone too.
    pub removed: Option<String>,
}

/// What a prune of images removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesPruned {
    /// Names.
    pub untagged: Vec<String>,
    /// Ids.
    pub removed: Vec<String>,
    /// Bytes that this gave back.
    pub freed_bytes: u64,
}

/// What a client sends, piece by piece. A channel that closes before [`Piece::End`] is a client that went away.
pub type Incoming = mpsc::Receiver<Piece>;

/// A piece of what a client sends.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// There are no more.
    End,
}

/// What happens while images come in or go out. The last is an error, or the channel closes.
pub type ImageEvents = mpsc::Receiver<Result<ImageEvent>>;

/// What happens.
#[derive(Clone, Debug)]
pub enum ImageEvent {
    /// How far a layer is.
    Progress(ImageProgress),
    /// An image is there and can be used.
    Arrived(ImageArrived),
}

/// How far a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageProgress {
    /// The digest of what travels; "" is the whole.
    pub layer: String,
    /// What is going on.
    pub step: ImageStep,
    /// How many bytes are done.
    pub done_bytes: u64,
    /// How many there are; 0 when nobody knows yet.
    pub total_bytes: u64,
}

/// What is going on with a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageStep {
    /// It is there already.
    Present,
    /// It waits for its turn.
    Waiting,
    /// It is on its way.
    Transferring,
    /// It has arrived.
    Transferred,
    /// It is being unpacked.
    Unpacking,
    /// It is unpacked.
    Unpacked,
}

/// An image is there and can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageArrived {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub names: Vec<String>,
    /// What was left out of it, one line each.
    pub notes: Vec<String>,
}

/// Bytes that the engine gives out. The last is an error, or the channel closes.
pub type Outgoing = mpsc::Receiver<Result<Bytes>>;

/// The form of an archive of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// What every tool reads: an OCI layout with Docker's manifest.json beside it.
    Docker,
    /// An OCI layout.
    Oci,
}

/// What an image that is made of a container is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitOptions {
    /// What it is called; "" is nothing.
    pub name: String,
    /// Who made it.
    pub author: String,
    /// What there is to say about it.
    pub message: String,
    /// Instructions of a Dockerfile that change its configuration.
    pub changes: Vec<String>,
    /// Whether a container that runs is frozen meanwhile.
    pub pause: bool,
}

/// What an image that is made of a root file system is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// What it is called; "" is nothing.
    pub name: String,
    /// What there is to say about it.
    pub message: String,
    /// Instructions of a Dockerfile that make its configuration.
    pub changes: Vec<String>,
    /// What it is for: `linux/arm64`; "" is this machine.
    pub platform: String,
}
