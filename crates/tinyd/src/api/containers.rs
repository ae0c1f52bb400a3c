//! The Containers service.

use futures_util::{
    StreamExt, future,
    stream::{self, Stream},
};
use tinyd_core::{Error, Kind, config::Signal};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Answer, Api, Many, answer,
    bridge::Bridge,
    convert::{self, Attach, Exec, Target, required},
    error, read,
};
use crate::pb::{self, containers_server::Containers};

#[tonic::async_trait]
impl Containers for Api {
    async fn create(&self, request: Request<pb::CreateRequest>) -> Answer<pb::CreateResponse> {
        let config = read(definition(request.into_inner().config))?;
        let created = self.engine.create(config).await;
        answer(created, |created| pb::CreateResponse { id: created.id.into(), warnings: created.warnings })
    }

    async fn start(&self, request: Request<pb::StartRequest>) -> Answer<pb::StartResponse> {
        let started = self.engine.start(&request.into_inner().container).await;
        answer(started, |started| pb::StartResponse { id: started.id.into(), warnings: started.warnings })
    }

    async fn run(&self, request: Request<pb::RunRequest>) -> Answer<pb::RunResponse> {
        let config = read(definition(request.into_inner().config))?;
        let started = self.engine.run(config).await;
        answer(started, |started| pb::RunResponse { id: started.id.into(), warnings: started.warnings })
    }

    async fn stop(&self, request: Request<pb::StopRequest>) -> Answer<pb::StopResponse> {
        let pb::StopRequest { container, timeout_secs } = request.into_inner();
        answer(self.engine.stop(&container, timeout_secs).await, |id| pb::StopResponse { id: id.into() })
    }

    async fn kill(&self, request: Request<pb::KillRequest>) -> Answer<pb::KillResponse> {
        let pb::KillRequest { container, signal } = request.into_inner();
        let signal = if signal == 0 { Signal::KILL } else { read(convert::signal("--signal", signal))? };
        answer(self.engine.kill(&container, signal).await, |id| pb::KillResponse { id: id.into() })
    }

    async fn restart(&self, request: Request<pb::RestartRequest>) -> Answer<pb::RestartResponse> {
        let pb::RestartRequest { container, timeout_secs } = request.into_inner();
        answer(self.engine.restart(&container, timeout_secs).await, |id| pb::RestartResponse {
            id: id.into(),
        })
    }

    async fn pause(&self, request: Request<pb::PauseRequest>) -> Answer<pb::PauseResponse> {
        let paused = self.engine.pause(&request.into_inner().container).await;
        answer(paused, |id| pb::PauseResponse { id: id.into() })
    }

    async fn unpause(&self, request: Request<pb::UnpauseRequest>) -> Answer<pb::UnpauseResponse> {
        let resumed = self.engine.unpause(&request.into_inner().container).await;
        answer(resumed, |id| pb::UnpauseResponse { id: id.into() })
    }

    async fn remove(&self, request: Request<pb::RemoveRequest>) -> Answer<pb::RemoveResponse> {
        let pb::RemoveRequest { container, force, volumes } = request.into_inner();
        let removed = self.engine.remove(&container, force, volumes).await;
        answer(removed, |id| pb::RemoveResponse { id: id.into() })
    }

    async fn wait(&self, request: Request<pb::WaitRequest>) -> Answer<pb::WaitResponse> {
        let who = request.into_inner().container;
        let ended = self.ending.run_until_cancelled(self.engine.wait(&who)).await;
        let ended = ended.unwrap_or_else(|| Err(shutting_down()));
        answer(ended, |(id, exit)| pb::WaitResponse { id: id.into(), exit: Some((&exit).into()) })
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Answer<pb::ListResponse> {
        let listed = self.engine.list(request.into_inner().all).await;
        answer(listed, |all| pb::ListResponse { containers: all.into_iter().map(Into::into).collect() })
    }

    async fn inspect(&self, request: Request<pb::InspectRequest>) -> Answer<pb::InspectResponse> {
        answer(self.engine.inspect(&request.into_inner().container).await, Into::into)
    }

    async fn top(&self, request: Request<pb::TopRequest>) -> Answer<pb::TopResponse> {
        let processes = self.engine.top(&request.into_inner().container).await;
        answer(processes, |all| pb::TopResponse { processes: all.into_iter().map(Into::into).collect() })
    }

    type LogsStream = Many<pb::LogsResponse>;

    async fn logs(&self, request: Request<pb::LogsRequest>) -> Answer<Self::LogsStream> {
        let request = request.into_inner();
        let lines = read(self.engine.logs(&request.container, convert::log_query(&request)).await)?;
        let lines = ReceiverStream::new(lines)
            .map(|line| line.map(pb::LogsResponse::from).map_err(|error| error::status(&error)));
        Ok(Response::new(Box::pin(until(self.ending.clone(), lines))))
    }

    type AttachStream = Many<pb::AttachResponse>;

    async fn attach(&self, request: Request<Streaming<pb::AttachRequest>>) -> Answer<Self::AttachStream> {
        let mut requests = request.into_inner();
        let (target, options) = read(convert::attach_open(requests.message().await?))?;
        let attachment = match target {
            Target::Running(who) => self.engine.attach(&who, options).await,
            Target::New(config) => self.engine.run_attached(*config, options).await,
            Target::Start(who) => self.engine.start_attached(&who, options).await,
        };
        let bridge = Bridge::<Attach>::new(read(attachment)?, requests, self.ending.clone());
        Ok(Response::new(Box::pin(bridge)))
    }

    type ExecStream = Many<pb::ExecResponse>;

    async fn exec(&self, request: Request<Streaming<pb::ExecRequest>>) -> Answer<Self::ExecStream> {
        let mut requests = request.into_inner();
        let (who, exec) = read(convert::exec_open(requests.message().await?))?;
        let attachment = read(self.engine.exec(&who, exec).await)?;
        Ok(Response::new(Box::pin(Bridge::<Exec>::new(attachment, requests, self.ending.clone()))))
    }

    type ExportStream = Many<pb::ExportResponse>;

    async fn export(&self, request: Request<pb::ExportRequest>) -> Answer<Self::ExportStream> {
        let pieces = read(self.engine.export(&request.into_inner().container).await)?;
        let pieces = ReceiverStream::new(pieces).map(|piece| {
            piece.map(|data| pb::ExportResponse { data }).map_err(|error| error::status(&error))
        });
        Ok(Response::new(Box::pin(until(self.ending.clone(), pieces))))
    }

    async fn commit(&self, request: Request<pb::CommitRequest>) -> Answer<pb::CommitResponse> {
        let (who, options) = convert::commit(request.into_inner());
        let made = self.ending.run_until_cancelled(self.engine.commit(&who, options)).await;
        answer(made.unwrap_or_else(|| Err(shutting_down())), Into::into)
    }
}

fn definition(
    config: Option<pb::ContainerConfig>,
) -> tinyd_core::Result<tinyd_core::config::ContainerConfig> {
    required("config", config)?.try_into()
}

/// A stream that ends with an error when the daemon does, so that nobody takes a part for the whole.
pub(super) fn until<T: Send>(
    ending: CancellationToken,
    items: impl Stream<Item = Result<T, Status>> + Send,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let cut = ending.clone();
    let last = async move { cut.is_cancelled().then(|| Err(error::status(&shutting_down()))) };
    items.take_until(ending.cancelled_owned()).chain(stream::once(last).filter_map(future::ready))
}

pub(super) fn shutting_down() -> Error {
    Error::new(Kind::Unavailable, "the daemon is shutting down")
}
