//! The messages by which images are made here: Commit and ImportImage.

use tinyd_core::{Error, Kind, Result};
use tinyd_engine::api::{CommitOptions, ImageArrived, ImageEvent, ImportOptions, Piece};

use crate::pb::{self, import_image_request, import_image_response};

/// The container, and what its image is to be like.
pub(in crate::api) fn commit(request: pb::CommitRequest) -> (String, CommitOptions) {
    let pb::CommitRequest { container, image, author, message, changes, no_pause } = request;
    (container, CommitOptions { name: image, author, message, changes, pause: !no_pause })
}

impl From<ImageArrived> for pb::CommitResponse {
    fn from(arrived: ImageArrived) -> Self {
        pb::CommitResponse { id: arrived.id, names: arrived.names, notes: arrived.notes }
    }
}

/// The first request of ImportImage.
pub(in crate::api) fn import_open(request: Option<pb::ImportImageRequest>) -> Result<ImportOptions> {
    match request.and_then(|request| request.message) {
        Some(import_image_request::Message::Open(open)) => {
            let pb::ImportImageOpen { image, message, changes, platform } = open;
            Ok(ImportOptions { name: image, message, changes, platform })
        }
        Some(import_image_request::Message::Data(_)) | None => {
            Err(Error::new(Kind::InvalidArgument, "the first request is open"))
        }
    }
}

/// A later request of ImportImage; `None` when it is not one.
pub(in crate::api) fn import_piece(request: pb::ImportImageRequest) -> Option<Piece> {
    match request.message {
        Some(import_image_request::Message::Data(bytes)) => Some(Piece::Data(bytes)),
        Some(import_image_request::Message::Open(_)) | None => None,
    }
}

impl From<ImageEvent> for pb::ImportImageResponse {
    fn from(event: ImageEvent) -> Self {
        use import_image_response::Message;
        let message = match event {
            ImageEvent::Progress(progress) => Message::Progress(progress.into()),
            ImageEvent::Arrived(arrived) => Message::Arrived(arrived.into()),
        };
        pb::ImportImageResponse { message: Some(message) }
    }
}
