//! Joins a call with streams in both directions to an attachment of the engine's.
//!
//! Output is pulled: nothing is taken from the engine until HTTP/2 has room for it, so a client that does not read stops the
//! container's pipe and costs no memory. When the client goes away the bridge is dropped, and with it everything it holds.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tinyd_core::Error;
use tinyd_engine::api::{Attachment, Input, Output};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, Streaming};

use super::{containers::shutting_down, convert::Dialogue, error};

/// The responses of a call; requests are fed to the attachment by a task of its own.
pub(super) struct Bridge<D: Dialogue> {
    started: Option<D::Response>,
    output: mpsc::Receiver<Output>,
    /// Why the client's requests are not taken any more. Gone once they have ended in peace.
    refusal: Option<oneshot::Receiver<Error>>,
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    feeder: AbortHandle,
    over: bool,
}

impl<D: Dialogue> Bridge<D> {
    /// Joins; the first response says that it is done. Ends with an error when the daemon ends.
    pub(super) fn new(
        attachment: Attachment,
        requests: Streaming<D::Request>,
        ending: CancellationToken,
    ) -> Bridge<D> {
        let (refuse, refusal) = oneshot::channel();
        let started = Some(D::started(&attachment));
        let feeder = tokio::spawn(feed::<D>(requests, attachment.input, refuse)).abort_handle();
        Bridge {
            started,
            output: attachment.output,
            refusal: Some(refusal),
            ending: Box::pin(ending.cancelled_owned()),
            feeder,
            over: false,
        }
    }

    /// Why it ends before the process does, if it does.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if self.ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(shutting_down());
        }
        let Some(refusal) = &mut self.refusal else { return Poll::Pending };
        let refused = ready!(Pin::new(refusal).poll(cx));
        self.refusal = None;
        refused.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<D: Dialogue> Stream for Bridge<D>
where
    D::Response: Unpin,
{
    type Item = Result<D::Response, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(started) = self.started.take() {
            return Poll::Ready(Some(Ok(started)));
        }
        let response = match self.output.poll_recv(cx) {
            Poll::Ready(Some(output)) => {
                self.over = matches!(output, Output::Exited(_) | Output::Failed(_));
                D::output(output)
            }
            Poll::Ready(None) => {
                self.over = true;
                return Poll::Ready(None);
            }
            Poll::Pending => {
                let error = ready!(self.poll_end(cx));
                self.over = true;
                Err(error)
            }
        };
        Poll::Ready(Some(response.map_err(|error| {
            tracing::info!(error = %error, "a stream was ended");
            error::status(&error)
        })))
    }
}

impl<D: Dialogue> Drop for Bridge<D> {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

/// Passes requests on until the client has no more, the process takes no more, or one is refused.
async fn feed<D: Dialogue>(
    mut requests: Streaming<D::Request>,
    input: mpsc::Sender<Input>,
    refuse: oneshot::Sender<Error>,
) {
    // A client that broke off ends the call; there is nobody left to tell.
    while let Ok(Some(request)) = requests.message().await {
        match D::input(request) {
            Ok(next) => {
                if input.send(next).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = refuse.send(error);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tinyd_core::{ContainerId, Exit};
    use tokio_stream::{StreamExt, wrappers::ReceiverStream};
    use tonic::{
        Code,
        body::Body,
        codec::{Codec, EncodeBody},
    };
    use tonic_prost::ProstCodec;

    use super::*;
    use crate::{
        api::convert::Exec,
        pb::{ExecOpen, ExecRequest, ExecResponse, exec_request::Message, exec_response},
    };

    /// A bridge, and what it joins: the engine's ends and the client's.
    struct Joined {
        bridge: Bridge<Exec>,
        output: mpsc::Sender<Output>,
        input: mpsc::Receiver<Input>,
        client: mpsc::Sender<Result<ExecRequest, Status>>,
        ending: CancellationToken,
    }

    fn join() -> Joined {
        let (output, from_engine) = mpsc::channel(1);
        let (to_engine, input) = mpsc::channel(1);
        let (client, requests) = mpsc::channel(1);
        let mut codec = ProstCodec::<ExecRequest, ExecRequest>::default();
        let body =
            Body::new(EncodeBody::new_client(codec.encoder(), ReceiverStream::new(requests), None, None));
        let requests = Streaming::new_request(codec.decoder(), body, None, None);
        let attachment = Attachment {
            id: ContainerId::from_bytes([1; 32]),
            warnings: Vec::new(),
            tty: false,
            pid: 7,
            output: from_engine,
            input: to_engine,
        };
        let ending = CancellationToken::new();
        Joined { bridge: Bridge::new(attachment, requests, ending.clone()), output, input, client, ending }
    }

    fn stdin(text: &'static str) -> Result<ExecRequest, Status> {
        Ok(ExecRequest { message: Some(Message::Stdin(Bytes::from_static(text.as_bytes()))) })
    }

    async fn next(bridge: &mut Bridge<Exec>) -> exec_response::Message {
        let response: ExecResponse = bridge.next().await.unwrap().unwrap();
        response.message.unwrap()
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_exit_is_last() {
        let mut joined = join();
        assert!(
            matches!(next(&mut joined.bridge).await, exec_response::Message::Started(started) if started.pid == 7)
        );
        joined.client.send(stdin("in")).await.unwrap();
        assert!(matches!(joined.input.recv().await, Some(Input::Data(data)) if data == "in"));
        joined.output.send(Output::Stderr("out".into())).await.unwrap();
        assert!(
            matches!(next(&mut joined.bridge).await, exec_response::Message::Output(output) if output.data == "out")
        );
        let exit = Exit { code: 3, signal: None, oom: false, at_unix_nanos: 0 };
        joined.output.send(Output::Exited(exit)).await.unwrap();
        assert!(
            matches!(next(&mut joined.bridge).await, exec_response::Message::Exit(exit) if exit.code == 3)
        );
        assert!(joined.bridge.next().await.is_none());
    }

    #[tokio::test]
    async fn output_waits_for_its_reader() {
        let mut joined = join();
        joined.output.send(Output::Stdout("one".into())).await.unwrap();
        tokio::task::yield_now().await;
        assert!(joined.output.try_send(Output::Stdout("two".into())).is_err(), "nobody has read");
        let _started = next(&mut joined.bridge).await;
        let _one = next(&mut joined.bridge).await;
        joined.output.try_send(Output::Stdout("two".into())).unwrap();
    }

    #[tokio::test]
    async fn a_client_that_goes_away_leaves_nothing() {
        let Joined { bridge, output, mut input, client: _client, ending: _ending } = join();
        drop(bridge);
        assert!(input.recv().await.is_none());
        assert!(output.is_closed());
    }

    #[tokio::test]
    async fn a_request_out_of_turn_ends_the_call() {
        let mut joined = join();
        let _started = next(&mut joined.bridge).await;
        let open = ExecRequest { message: Some(Message::Open(ExecOpen::default())) };
        joined.client.send(Ok(open)).await.unwrap();
        let status = joined.bridge.next().await.unwrap().unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "only the first message of the stream is open")
        );
        assert!(joined.bridge.next().await.is_none());
    }

    #[tokio::test]
    async fn requests_may_end_before_the_output_does() {
        let mut joined = join();
        let _started = next(&mut joined.bridge).await;
        drop(joined.client);
        assert!(joined.input.recv().await.is_none());
        joined.output.send(Output::Stdout("late".into())).await.unwrap();
        assert!(matches!(next(&mut joined.bridge).await, exec_response::Message::Output(_)));
    }

    #[tokio::test]
    async fn a_daemon_that_ends_says_so() {
        let mut joined = join();
        let _started = next(&mut joined.bridge).await;
        joined.ending.cancel();
        let status = joined.bridge.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    }
}
