//! The messages of Attach and Exec.

use tinyd_core::{Error, Kind, Result, config::ContainerConfig};
use tinyd_engine::api::{AttachOptions, Attachment, ExecConfig, Input, Output, WindowSize};

use super::{
    absent_when_empty,
    definition::{signal, user},
    fits, required,
};
use crate::pb::{self, attach_request, attach_response, exec_request, exec_response};

/// What a client wants to be joined to.
pub(in crate::api) enum Target {
    /// One that runs.
    Running(String),
    /// A new one.
    New(Box<ContainerConfig>),
    /// One that is created or stopped.
    Start(String),
}

/// The words of a call with streams in both directions.
pub(in crate::api) trait Dialogue: Send + 'static {
    /// What the client sends.
    type Request: Send + 'static;
    /// What the daemon sends.
    type Response: Send + 'static;

    /// A later request.
    fn input(request: Self::Request) -> Result<Input>;
    /// The first response.
    fn started(attachment: &Attachment) -> Self::Response;
    /// A later response.
    fn output(output: Output) -> Result<Self::Response>;
}

/// The words of Attach.
pub(in crate::api) struct Attach;
/// The words of Exec.
pub(in crate::api) struct Exec;

/// Reads the first request of Attach.
pub(in crate::api) fn attach_open(request: Option<pb::AttachRequest>) -> Result<(Target, AttachOptions)> {
    use pb::attach_open::Target as Wanted;
    let Some(attach_request::Message::Open(open)) = request.and_then(|request| request.message) else {
        return Err(first_is_open());
    };
    let target = match required("target", open.target)? {
        Wanted::Container(who) => Target::Running(who),
        Wanted::Run(config) => Target::New(Box::new(config.try_into()?)),
        Wanted::Start(who) => Target::Start(who),
    };
    Ok((target, AttachOptions { stdin: open.stdin, size: open.size.map(size).transpose()? }))
}

/// Reads the first request of Exec: where, and what.
pub(in crate::api) fn exec_open(request: Option<pb::ExecRequest>) -> Result<(String, ExecConfig)> {
    let Some(exec_request::Message::Open(open)) = request.and_then(|request| request.message) else {
        return Err(first_is_open());
    };
    let exec = ExecConfig {
        command: open.command,
        tty: open.tty,
        stdin: open.stdin,
        env: open.env,
        workdir: absent_when_empty(open.workdir),
        user: user("-u", open.user)?,
        privileged: open.privileged,
        size: open.size.map(size).transpose()?,
        detach: open.detach,
    };
    Ok((open.container, exec))
}

impl Dialogue for Attach {
    type Request = pb::AttachRequest;
    type Response = pb::AttachResponse;

    fn input(request: pb::AttachRequest) -> Result<Input> {
        use attach_request::Message;
        match required("message", request.message)? {
            Message::Open(_) => Err(open_is_first()),
            Message::Stdin(bytes) => Ok(Input::Data(bytes)),
            Message::StdinEnd(pb::StdinEnd {}) => Ok(Input::End),
            Message::Resize(window) => size(window).map(Input::Resize),
            Message::Signal(number) => signal("signal", number).map(|signal| Input::Signal(signal.number())),
        }
    }

    fn started(attachment: &Attachment) -> pb::AttachResponse {
        let started = pb::AttachStarted {
            id: attachment.id.to_string(),
            warnings: attachment.warnings.clone(),
            tty: attachment.tty,
        };
        pb::AttachResponse { message: Some(attach_response::Message::Started(started)) }
    }

    fn output(output: Output) -> Result<pb::AttachResponse> {
        use attach_response::Message;
        let message = match output {
            Output::Stdout(data) => Message::Output(piece(pb::Stream::Stdout, data)),
            Output::Stderr(data) => Message::Output(piece(pb::Stream::Stderr, data)),
            Output::Exited(exit) => Message::Exit((&exit).into()),
            Output::Failed(error) => return Err(error),
        };
        Ok(pb::AttachResponse { message: Some(message) })
    }
}

impl Dialogue for Exec {
    type Request = pb::ExecRequest;
    type Response = pb::ExecResponse;

    fn input(request: pb::ExecRequest) -> Result<Input> {
        use exec_request::Message;
        match required("message", request.message)? {
            Message::Open(_) => Err(open_is_first()),
            Message::Stdin(bytes) => Ok(Input::Data(bytes)),
            Message::StdinEnd(pb::StdinEnd {}) => Ok(Input::End),
            Message::Resize(window) => size(window).map(Input::Resize),
        }
    }

    fn started(attachment: &Attachment) -> pb::ExecResponse {
        let started = pb::ExecStarted { pid: attachment.pid };
        pb::ExecResponse { message: Some(exec_response::Message::Started(started)) }
    }

    fn output(output: Output) -> Result<pb::ExecResponse> {
        use exec_response::Message;
        let message = match output {
            Output::Stdout(data) => Message::Output(piece(pb::Stream::Stdout, data)),
            Output::Stderr(data) => Message::Output(piece(pb::Stream::Stderr, data)),
            Output::Exited(exit) => Message::Exit(pb::ExecExit { code: exit.code.into() }),
            Output::Failed(error) => return Err(error),
        };
        Ok(pb::ExecResponse { message: Some(message) })
    }
}

fn piece(stream: pb::Stream, data: bytes::Bytes) -> pb::Output {
    pb::Output { stream: stream.into(), data }
}

fn size(window: pb::WindowSize) -> Result<WindowSize> {
    Ok(WindowSize { rows: fits("rows", window.rows, 0)?, cols: fits("cols", window.cols, 0)? })
}

fn first_is_open() -> Error {
    Error::new(Kind::InvalidArgument, "the first message of the stream has to be open")
}

fn open_is_first() -> Error {
    Error::new(Kind::InvalidArgument, "only the first message of the stream is open")
}
