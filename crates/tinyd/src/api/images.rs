//! The Images service.

use tinyd_engine::api::Piece;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Streaming};

use super::{Answer, Api, Many, answer, containers::until, convert, error, read};
use crate::pb::{self, images_server::Images};

/// How many pieces of what a client sends wait for the disk.
const PIECES_UNDER_WAY: usize = 4;

#[tonic::async_trait]
impl Images for Api {
    async fn list_images(&self, _: Request<pb::ListImagesRequest>) -> Answer<pb::ListImagesResponse> {
        let listed = self.engine.image_list().await;
        answer(listed, |all| pb::ListImagesResponse { images: all.into_iter().map(Into::into).collect() })
    }

    async fn inspect_image(
        &self,
        request: Request<pb::InspectImageRequest>,
    ) -> Answer<pb::InspectImageResponse> {
        answer(self.engine.image_inspect(request.into_inner().image).await, Into::into)
    }

    async fn image_history(
        &self,
        request: Request<pb::ImageHistoryRequest>,
    ) -> Answer<pb::ImageHistoryResponse> {
        answer(self.engine.image_history(request.into_inner().image).await, Into::into)
    }

    async fn tag_image(&self, request: Request<pb::TagImageRequest>) -> Answer<pb::TagImageResponse> {
        let pb::TagImageRequest { image, name } = request.into_inner();
        answer(self.engine.image_tag(image, name).await, |id| pb::TagImageResponse { id })
    }

    async fn remove_image(
        &self,
        request: Request<pb::RemoveImageRequest>,
    ) -> Answer<pb::RemoveImageResponse> {
        let pb::RemoveImageRequest { image, force } = request.into_inner();
        answer(self.engine.image_remove(image, force).await, Into::into)
    }

    async fn prune_images(
        &self,
        request: Request<pb::PruneImagesRequest>,
    ) -> Answer<pb::PruneImagesResponse> {
        answer(self.engine.image_prune(request.into_inner().all).await, Into::into)
    }

    type LoadImagesStream = Many<pb::LoadImagesResponse>;

    async fn load_images(
        &self,
        request: Request<Streaming<pb::LoadImagesRequest>>,
    ) -> Answer<Self::LoadImagesStream> {
        let mut requests = request.into_inner();
        let open = read(convert::load_open(requests.message().await?))?;
        let (pieces, incoming) = mpsc::channel(PIECES_UNDER_WAY);
        let events = read(self.engine.image_load(incoming, open.platform).await)?;
        tokio::spawn(feed(requests, pieces, convert::load_piece));
        let events = ReceiverStream::new(events)
            .map(|event| event.map(pb::LoadImagesResponse::from).map_err(|error| error::status(&error)));
        Ok(Response::new(Box::pin(until(self.ending.clone(), events))))
    }

    type SaveImagesStream = Many<pb::SaveImagesResponse>;

    async fn save_images(&self, request: Request<pb::SaveImagesRequest>) -> Answer<Self::SaveImagesStream> {
        let pb::SaveImagesRequest { images, format } = request.into_inner();
        let format = read(convert::archive_format(format))?;
        let pieces = read(self.engine.image_save(images, format).await)?;
        let pieces = ReceiverStream::new(pieces).map(|piece| {
            piece.map(|data| pb::SaveImagesResponse { data }).map_err(|error| error::status(&error))
        });
        Ok(Response::new(Box::pin(until(self.ending.clone(), pieces))))
    }

    type ImportImageStream = Many<pb::ImportImageResponse>;

    async fn import_image(
        &self,
        request: Request<Streaming<pb::ImportImageRequest>>,
    ) -> Answer<Self::ImportImageStream> {
        let mut requests = request.into_inner();
        let options = read(convert::import_open(requests.message().await?))?;
        let (pieces, incoming) = mpsc::channel(PIECES_UNDER_WAY);
        let events = read(self.engine.image_import(incoming, options).await)?;
        tokio::spawn(feed(requests, pieces, convert::import_piece));
        let events = ReceiverStream::new(events)
            .map(|event| event.map(pb::ImportImageResponse::from).map_err(|error| error::status(&error)));
        Ok(Response::new(Box::pin(until(self.ending.clone(), events))))
    }
}

/// Passes on what a client sends, as `piece` reads it. Whoever reads the pieces tells its end from its going away: only an end is passed on.
async fn feed<T>(
    mut requests: Streaming<T>,
    pieces: mpsc::Sender<Piece>,
    piece: impl Fn(T) -> Option<Piece>,
) {
    loop {
        let next = match requests.message().await {
            Ok(Some(request)) => piece(request),
            Ok(None) => Some(Piece::End),
            Err(_) => None,
        };
        let Some(next) = next else { return };
        let is_over = matches!(next, Piece::End);
        // Nobody reads any more when something has gone wrong, which the client is told.
        if pieces.send(next).await.is_err() || is_over {
            return;
        }
    }
}
