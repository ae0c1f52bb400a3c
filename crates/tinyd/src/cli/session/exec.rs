//! The Exec call: the streams of one more process.

use tokio_stream::Stream;
use tonic::Streaming;

use super::{Event, Input, Protocol};
use crate::{
    cli::remote::{Remote, answer},
    pb::{self, exec_request as request, exec_response as response},
};

/// What to run, and where. Its size is filled in when the call is made.
#[derive(Debug)]
pub(in crate::cli) struct Executing(pub(in crate::cli) pb::ExecOpen);

impl Executing {
    /// The call with nothing more to say: for a process that goes on with no streams.
    pub(in crate::cli) async fn detached(self, remote: &Remote) -> tinyd_core::Result<()> {
        let mut responses = Self::call(remote, tokio_stream::once(self.open(None))).await?;
        // The first answer says that it runs; there is nothing to wait for after it.
        responses.message().await.map(|_started| ()).map_err(|status| crate::client::error(&status))
    }
}

impl Protocol for Executing {
    type Request = pb::ExecRequest;
    type Response = pb::ExecResponse;
    const SIGNALS: bool = false;
    const WHAT: &'static str = "the program";
    const LOGGED: bool = false;

    fn terminal(&self) -> bool {
        self.0.tty
    }

    fn open(mut self, size: Option<pb::WindowSize>) -> pb::ExecRequest {
        self.0.size = size;
        pb::ExecRequest { message: Some(request::Message::Open(self.0)) }
    }

    fn request(input: Input) -> Option<pb::ExecRequest> {
        let message = match input {
            Input::Data(bytes) => request::Message::Stdin(bytes),
            Input::End => request::Message::StdinEnd(pb::StdinEnd {}),
            Input::Resize(size) => request::Message::Resize(size),
            Input::Signal(_) => return None,
        };
        Some(pb::ExecRequest { message: Some(message) })
    }

    fn event(response: pb::ExecResponse) -> Option<Event> {
        Some(match response.message? {
            response::Message::Started(_) => Event::Started { tty: None, warnings: Vec::new() },
            response::Message::Output(output) => Event::Output(output),
            response::Message::Exit(exit) => Event::Ended(exit.code),
        })
    }

    async fn call(
        remote: &Remote,
        requests: impl Stream<Item = pb::ExecRequest> + Send + 'static,
    ) -> tinyd_core::Result<Streaming<pb::ExecResponse>> {
        answer(remote.containers().exec(requests)).await
    }
}
