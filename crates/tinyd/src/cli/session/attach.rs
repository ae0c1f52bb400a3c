//! The Attach call: a container's own streams.

use tokio_stream::Stream;
use tonic::Streaming;

use super::{Event, Input, Protocol};
use crate::{
    cli::remote::{Remote, answer},
    pb::{self, attach_open::Target, attach_request as request, attach_response as response},
};

/// What to attach to.
#[derive(Debug)]
pub(in crate::cli) struct Attaching {
    /// A container that runs, or one to start or to make.
    pub(in crate::cli) target: Target,
    /// Whether this client's input is its standard input.
    pub(in crate::cli) stdin: bool,
}

impl Protocol for Attaching {
    type Request = pb::AttachRequest;
    type Response = pb::AttachResponse;
    const SIGNALS: bool = true;
    const WHAT: &'static str = "the container";
    const LOGGED: bool = true;

    fn terminal(&self) -> bool {
        matches!(&self.target, Target::Run(config) if config.tty)
    }

    fn open(self, size: Option<pb::WindowSize>) -> pb::AttachRequest {
        let open = pb::AttachOpen { target: Some(self.target), stdin: self.stdin, size };
        pb::AttachRequest { message: Some(request::Message::Open(open)) }
    }

    fn request(input: Input) -> Option<pb::AttachRequest> {
        let message = match input {
            Input::Data(bytes) => request::Message::Stdin(bytes),
            Input::End => request::Message::StdinEnd(pb::StdinEnd {}),
            Input::Resize(size) => request::Message::Resize(size),
            Input::Signal(number) => request::Message::Signal(number),
        };
        Some(pb::AttachRequest { message: Some(message) })
    }

    fn event(response: pb::AttachResponse) -> Option<Event> {
        Some(match response.message? {
            response::Message::Started(started) => {
                Event::Started { tty: Some(started.tty), warnings: started.warnings }
            }
            response::Message::Output(output) => Event::Output(output),
            response::Message::Exit(exit) => Event::Ended(exit.code),
        })
    }

    async fn call(
        remote: &Remote,
        requests: impl Stream<Item = pb::AttachRequest> + Send + 'static,
    ) -> tinyd_core::Result<Streaming<pb::AttachResponse>> {
        answer(remote.containers().attach(requests)).await
    }
}
