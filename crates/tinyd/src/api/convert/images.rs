//! The messages of Images.

use tinyd_core::{Error, Kind, Result};
use tinyd_engine::api::{
    ArchiveFormat, HistoryStep, ImageArrived, ImageDetails, ImageEvent, ImageHistory, ImageLayer,
    ImageProgress, ImageRemoved, ImageStep, ImageSummary, ImagesPruned, Piece,
};

use super::known;
use crate::pb::{self, load_images_request, load_images_response};

impl From<ImageSummary> for pb::ImageSummary {
    fn from(image: ImageSummary) -> Self {
        pb::ImageSummary {
            id: image.id,
            names: image.names,
            digests: image.digests,
            created_unix_nanos: image.created_unix_nanos,
            size_bytes: image.size_bytes,
            packed_bytes: image.packed_bytes,
            labels: image.labels,
            containers: image.containers,
            platform: image.platform,
        }
    }
}

impl From<ImageDetails> for pb::InspectImageResponse {
    fn from(image: ImageDetails) -> Self {
        pb::InspectImageResponse {
            summary: Some(image.summary.into()),
            manifest: image.manifest,
            config: image.config.into(),
            added_unix_nanos: image.added_unix_nanos,
            layers: image.layers.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ImageLayer> for pb::ImageLayer {
    fn from(layer: ImageLayer) -> Self {
        pb::ImageLayer {
            diff_id: layer.diff_id,
            digest: layer.digest,
            packed_bytes: layer.packed_bytes,
            size_bytes: layer.size_bytes,
        }
    }
}

impl From<ImageHistory> for pb::ImageHistoryResponse {
    fn from(history: ImageHistory) -> Self {
        pb::ImageHistoryResponse {
            id: history.id,
            names: history.names,
            steps: history.steps.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<HistoryStep> for pb::ImageHistoryStep {
    fn from(step: HistoryStep) -> Self {
        pb::ImageHistoryStep {
            created_unix_nanos: step.created_unix_nanos,
            created_by: step.created_by,
            comment: step.comment,
            size_bytes: step.size_bytes,
        }
    }
}

impl From<ImageRemoved> for pb::RemoveImageResponse {
    fn from(removed: ImageRemoved) -> Self {
        pb::RemoveImageResponse { untagged: removed.untagged, removed: removed.removed.unwrap_or_default() }
    }
}

impl From<ImagesPruned> for pb::PruneImagesResponse {
    fn from(pruned: ImagesPruned) -> Self {
        pb::PruneImagesResponse {
            untagged: pruned.untagged,
            removed: pruned.removed,
            freed_bytes: pruned.freed_bytes,
        }
    }
}

impl From<ImageEvent> for pb::LoadImagesResponse {
    fn from(event: ImageEvent) -> Self {
        use load_images_response::Message;
        let message = match event {
            ImageEvent::Progress(progress) => Message::Progress(progress.into()),
            ImageEvent::Arrived(arrived) => Message::Arrived(arrived.into()),
        };
        pb::LoadImagesResponse { message: Some(message) }
    }
}

impl From<ImageArrived> for pb::ImageArrived {
    fn from(arrived: ImageArrived) -> Self {
        pb::ImageArrived { id: arrived.id, names: arrived.names, notes: arrived.notes }
    }
}

impl From<ImageProgress> for pb::ImageProgress {
    fn from(progress: ImageProgress) -> Self {
        let step = match progress.step {
            ImageStep::Present => pb::ImageStep::Present,
            ImageStep::Waiting => pb::ImageStep::Waiting,
            ImageStep::Transferring => pb::ImageStep::Transferring,
            ImageStep::Transferred => pb::ImageStep::Transferred,
            ImageStep::Unpacking => pb::ImageStep::Unpacking,
            ImageStep::Unpacked => pb::ImageStep::Unpacked,
        };
        pb::ImageProgress {
            layer: progress.layer,
            step: step.into(),
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
        }
    }
}

/// The first request of LoadImages.
pub(in crate::api) fn load_open(request: Option<pb::LoadImagesRequest>) -> Result<pb::LoadImagesOpen> {
    match request.and_then(|request| request.message) {
        Some(load_images_request::Message::Open(open)) => Ok(open),
        Some(load_images_request::Message::Data(_)) | None => {
            Err(Error::new(Kind::InvalidArgument, "the first request is open"))
        }
    }
}

/// A later request of LoadImages; `None` when it is not one.
pub(in crate::api) fn load_piece(request: pb::LoadImagesRequest) -> Option<Piece> {
    match request.message {
        Some(load_images_request::Message::Data(bytes)) => Some(Piece::Data(bytes)),
        Some(load_images_request::Message::Open(_)) | None => None,
    }
}

/// The form of an archive.
pub(in crate::api) fn archive_format(number: i32) -> Result<ArchiveFormat> {
    Ok(match known("--format", number)? {
        pb::ArchiveFormat::Docker => ArchiveFormat::Docker,
        pb::ArchiveFormat::Oci => ArchiveFormat::Oci,
    })
}
