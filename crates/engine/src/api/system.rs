//! What goes into and comes out of the engine about all that it keeps.

pub use tinyd_image::check::Problem;

use super::{ContainerSummary, ImageSummary, VolumeView};

/// What is kept on disk.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// The images, the newest first.
    pub images: Vec<ImageUsage>,
    /// Bytes of all images together, packed and unpacked; what several have counts once.
    pub images_bytes: u64,
    /// How many of these would come back if all images went that no container has.
    pub images_reclaimable_bytes: u64,
    /// The containers, the newest first.
    pub containers: Vec<ContainerUsage>,
    /// The volumes, by name.
    pub volumes: Vec<VolumeUsage>,
}

/// An image, and what it takes.
#[derive(Clone, Debug)]
pub struct ImageUsage {
    /// As in a list.
    pub summary: ImageSummary,
    /// Bytes that other images have too.
    pub shared_bytes: u64,
    /// Bytes that go with it.
    pub unique_bytes: u64,
}

/// A container, and what it takes.
#[derive(Clone, Debug)]
pub struct ContainerUsage {
    /// As in a list.
    pub summary: ContainerSummary,
    /// Bytes of its own files, its log included.
    pub size_bytes: u64,
}

/// A volume, and what it takes.
#[derive(Clone, Debug)]
pub struct VolumeUsage {
    /// As in a list.
    pub volume: VolumeView,
    /// Bytes of its files.
    pub size_bytes: u64,
}

/// What a prune is to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneChoice {
    /// Also images that have a name, when no container has them.
    pub all_images: bool,
    /// Also volumes that nobody has named.
    pub volumes: bool,
    /// Only what was made before this, in nanoseconds since the epoch.
    pub until_unix_nanos: Option<i64>,
    /// Only what has all these labels, with this value if there is one.
    pub labels: Vec<(String, Option<String>)>,
    /// Only what has none of these.
    pub not_labels: Vec<(String, Option<String>)>,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemPruned {
    /// Ids of containers.
    pub containers: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of images.
    pub untagged: Vec<String>,
    /// Ids of images.
    pub images: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// Bytes that this gave back.
    pub freed_bytes: u64,
}

/// What a check looked at, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemChecked {
    /// Images.
    pub images: u64,
    /// Documents and packed layers.
    pub contents: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Containers.
    pub containers: u64,
    /// Volumes.
    pub volumes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}
