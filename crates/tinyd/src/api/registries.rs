//! The Registries service.

use futures_util::Stream;
use tinyd_engine::api::{PullRequest, PushRequest, TransferEvent, TransferEvents};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{Answer, Api, Many, answer, containers::until, convert, error, read};
use crate::pb::{self, registries_server::Registries};

#[tonic::async_trait]
impl Registries for Api {
    type PullImageStream = Many<pb::PullImageResponse>;

    async fn pull_image(&self, request: Request<pb::PullImageRequest>) -> Answer<Self::PullImageStream> {
        let request: PullRequest = read(request.into_inner().try_into())?;
        let events = read(self.engine.image_pull(request).await)?;
        Ok(Response::new(Box::pin(until(self.ending.clone(), told(events, convert::pull_event)))))
    }

    type PushImageStream = Many<pb::PushImageResponse>;

    async fn push_image(&self, request: Request<pb::PushImageRequest>) -> Answer<Self::PushImageStream> {
        let request: PushRequest = read(request.into_inner().try_into())?;
        let events = read(self.engine.image_push(request).await)?;
        Ok(Response::new(Box::pin(until(self.ending.clone(), told(events, convert::push_event)))))
    }

    async fn check_login(&self, request: Request<pb::CheckLoginRequest>) -> Answer<pb::CheckLoginResponse> {
        let (server, login) = read(convert::login(request.into_inner().login))?;
        let checked = self.engine.check_login(&server, login).await;
        answer(checked, |registry| pb::CheckLoginResponse { registry })
    }
}

/// Events as responses.
fn told<R: Send>(
    events: TransferEvents,
    response: impl Fn(TransferEvent) -> R + Send,
) -> impl Stream<Item = Result<R, Status>> + Send {
    ReceiverStream::new(events).map(move |event| event.map(&response).map_err(|error| error::status(&error)))
}
