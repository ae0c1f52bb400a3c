//! The messages of System about all that is kept.

use tinyd_core::{Error, Result};
use tinyd_engine::api::{
    ContainerUsage, DiskUsage, ImageUsage, Problem, PruneChoice, SystemChecked, SystemPruned, VolumeUsage,
};

use crate::pb;

impl From<DiskUsage> for pb::DiskUsageResponse {
    fn from(usage: DiskUsage) -> Self {
        pb::DiskUsageResponse {
            images: usage.images.into_iter().map(Into::into).collect(),
            images_bytes: usage.images_bytes,
            images_reclaimable_bytes: usage.images_reclaimable_bytes,
            containers: usage.containers.into_iter().map(Into::into).collect(),
            volumes: usage.volumes.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ImageUsage> for pb::ImageUsage {
    fn from(usage: ImageUsage) -> Self {
        let ImageUsage { summary, shared_bytes, unique_bytes } = usage;
        pb::ImageUsage { image: Some(summary.into()), shared_bytes, unique_bytes }
    }
}

impl From<ContainerUsage> for pb::ContainerUsage {
    fn from(usage: ContainerUsage) -> Self {
        pb::ContainerUsage { container: Some(usage.summary.into()), size_bytes: usage.size_bytes }
    }
}

impl From<VolumeUsage> for pb::VolumeUsage {
    fn from(usage: VolumeUsage) -> Self {
        pb::VolumeUsage { volume: Some(usage.volume.into()), size_bytes: usage.size_bytes }
    }
}

/// What a prune is to remove.
pub(in crate::api) fn prune_choice(request: pb::PruneSystemRequest) -> Result<PruneChoice> {
    let pb::PruneSystemRequest { all_images, volumes, until_unix_nanos, labels, not_labels } = request;
    if volumes && until_unix_nanos.is_some() {
        let rule =
            "until= is not for volumes, which do not say when they were last needed: prune those without it";
        return Err(Error::invalid("--filter", rule));
    }
    let pair = |text: String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text, None),
    };
    Ok(PruneChoice {
        all_images,
        volumes,
        until_unix_nanos,
        labels: labels.into_iter().map(pair).collect(),
        not_labels: not_labels.into_iter().map(pair).collect(),
    })
}

impl From<SystemPruned> for pb::PruneSystemResponse {
    fn from(pruned: SystemPruned) -> Self {
        let SystemPruned { containers, networks, untagged, images, volumes, freed_bytes } = pruned;
        pb::PruneSystemResponse { containers, networks, untagged, images, volumes, freed_bytes }
    }
}

impl From<SystemChecked> for pb::CheckSystemResponse {
    fn from(checked: SystemChecked) -> Self {
        let SystemChecked { images, contents, bytes, layers, containers, volumes, problems } = checked;
        let problems = problems.into_iter().map(Into::into).collect();
        pb::CheckSystemResponse { images, contents, bytes, layers, containers, volumes, problems }
    }
}

impl From<Problem> for pb::SystemProblem {
    fn from(problem: Problem) -> Self {
        let Problem { of, what, is_repaired, remedy } = problem;
        pb::SystemProblem { of, what, repaired: is_repaired, remedy }
    }
}
