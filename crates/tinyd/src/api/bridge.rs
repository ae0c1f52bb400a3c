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
