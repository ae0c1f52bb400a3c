//! A session: this client's streams, terminal and signals joined to a container's or an exec's, until its process ends,
//! the user leaves, or this client is told to go.

mod attach;
mod exec;
mod signals;
mod stdin;

use std::{
    future::Future,
    io::{self, IsTerminal, Write},
};

pub(super) use attach::Attaching;
use bytes::Bytes;
pub(super) use exec::Executing;
use signals::Signals;
use tinyd_core::{Error, Kind};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::Streaming;

use super::{
    failure::{Failure, Result, say, warn},
    output::Sink,
    remote::Remote,
    terminal::{self, Raw},
};
use crate::{client, pb};

/// What this client sends.
#[derive(Debug)]
pub(super) enum Input {
    /// Bytes of standard input.
    Data(Bytes),
    /// Standard input has ended.
    End,
    /// The terminal's size.
    Resize(pb::WindowSize),
    /// A signal for the process.
    Signal(i32),
}

/// What the daemon sends.
#[derive(Debug)]
pub(super) enum Event {
    /// The process runs, on a terminal or not.
    Started {
        /// Whether there is a terminal, when the call says so.
        tty: Option<bool>,
        /// What could not be done and was not asked for by name.
        warnings: Vec<String>,
    },
    /// Output.
    Output(pb::Output),
    /// The process has ended with this status.
    Ended(u32),
}

/// One of the two calls with streams in both directions.
pub(super) trait Protocol: Sized + 'static {
    /// What the client sends.
    type Request: Send + 'static;
    /// What the daemon sends.
    type Response;
    /// Whether the process can be sent signals.
    const SIGNALS: bool;
    /// What runs on when this client leaves.
    const WHAT: &'static str;
    /// Whether its output goes on, to the log, when nobody here reads it. Else the process finds its pipe closed, as it would anywhere.
    const LOGGED: bool;

    /// Whether a terminal is asked for.
    fn terminal(&self) -> bool;
    /// The first request.
    fn open(self, size: Option<pb::WindowSize>) -> Self::Request;
    /// A later request; nothing when the call has no word for it.
    fn request(input: Input) -> Option<Self::Request>;
    /// What a response says; nothing when it is empty.
    fn event(response: Self::Response) -> Option<Event>;
    /// Makes the call.
    fn call(
        remote: &Remote,
        requests: impl Stream<Item = Self::Request> + Send + 'static,
    ) -> impl Future<Output = tinyd_core::Result<Streaming<Self::Response>>>;
}

/// How many bytes of standard input may be on their way, in pieces of 32 KiB at most.
const PIECES_UNDER_WAY: usize = 4;
/// How many resizes and signals may be on their way.
const CONTROLS_UNDER_WAY: usize = 16;

/// Joins the streams until the end, and gives the exit code.
pub(super) async fn run<P: Protocol>(remote: &Remote, protocol: P, stdin: bool) -> Result<u8> {
    let (control, controls) = mpsc::channel(CONTROLS_UNDER_WAY);
    let (data, pieces) = mpsc::channel(PIECES_UNDER_WAY);
    let later = ReceiverStream::new(controls).merge(ReceiverStream::new(pieces)).filter_map(P::request);
    let asked = protocol.terminal();
    let requests = tokio_stream::once(protocol.open(terminal::size())).chain(later);
    let mut responses = P::call(remote, requests).await?;

    let tty = started::<P>(&mut responses).await?.unwrap_or(asked);
    let keys = tty && stdin && io::stdin().is_terminal();
    // In this order: a signal must not end this client with the terminal raw.
    let mut signals = Signals::listen(P::SIGNALS, tty, keys)?;
    let raw = keys.then(Raw::enter).transpose()?;
    let mut left = stdin.then(|| stdin::forward(data, keys));
    if tty && let Some(size) = terminal::size() {
        // It may have changed since the call was made, before anyone listened for that.
        let _ = control.try_send(Input::Resize(size));
    }
    let output = copy::<P>(&mut responses);
    tokio::pin!(output);
    loop {
        tokio::select! {
            ended = &mut output => {
                if P::LOGGED && matches!(ended, Err(Failure::Quiet(_))) {
                    // Unlike a program in a pipeline it does not end of that, and nobody would think of it any more.
                    say(&format!("nobody reads the output any more: {} runs on", P::WHAT));
                }
                return ended;
            }
            signal = signals.next() => match signals.meaning(signal) {
                signals::Meaning::Send(input) => pass(&control, input),
                signals::Meaning::Again => raw.iter().for_each(Raw::again),
                signals::Meaning::Nothing => {}
                signals::Meaning::Leave(code) => return Ok(code),
                signals::Meaning::GiveUp(code) => {
                    say("the container has not ended after three signals, and runs on: 'tinyd kill' ends it");
                    return Ok(code);
                }
            },
            () = detached(&mut left) => {
                drop(raw);
                // The cursor stands in the container's line.
                let _ = io::stderr().write_all(b"\n");
                say(&format!("read escape sequence: {} runs on", P::WHAT));
                return Ok(0);
            }
        }
    }
}

/// Waits for the process to run. Until then a signal ends this client as it ends any program.
async fn started<P: Protocol>(responses: &mut Streaming<P::Response>) -> Result<Option<bool>> {
    match next::<P>(responses).await? {
        Some(Event::Started { tty, warnings }) => {
            warn(&warnings);
            Ok(tty)
        }
        Some(Event::Output(_) | Event::Ended(_)) | None => {
            Err(Error::new(Kind::Internal, "the daemon did not say whether the process runs").into())
        }
    }
}

/// Writes output until the process has ended, and gives its status.
async fn copy<P: Protocol>(responses: &mut Streaming<P::Response>) -> Result<u8> {
    let (stdout, stderr) = (Sink::stdout()?, Sink::stderr()?);
    while let Some(event) = next::<P>(responses).await.map_err(lost)? {
        match event {
            Event::Output(output) => match output.stream() {
                pb::Stream::Stdout => stdout.write(&output.data).await?,
                pb::Stream::Stderr => stderr.write(&output.data).await?,
            },
            Event::Ended(code) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
            Event::Started { .. } => {}
        }
    }
    Err(Error::new(Kind::Unavailable, "the daemon ended the stream before it told the exit status").into())
}

async fn next<P: Protocol>(responses: &mut Streaming<P::Response>) -> tinyd_core::Result<Option<Event>> {
    while let Some(response) = responses.message().await.map_err(|status| client::error(&status))? {
        if let Some(event) = P::event(response) {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// A daemon that goes away takes no container with it: who reads of the one should know the other.
fn lost(error: Error) -> Error {
    if error.kind() != Kind::Unavailable {
        return error;
    }
    Error::new(Kind::Unavailable, format!("{}; the container runs on", error.message()))
}

/// Sends a resize or a signal. When this many are under way the connection stands still, and so would one more.
fn pass(control: &mpsc::Sender<Input>, input: Input) {
    let _ = control.try_send(input);
}

/// Ready when the user has typed the keys to leave; never when nobody can.
async fn detached(left: &mut Option<oneshot::Receiver<()>>) {
    match left {
        Some(receiver) => {
            if receiver.await.is_err() {
                // Standard input has ended without them.
                *left = None;
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
