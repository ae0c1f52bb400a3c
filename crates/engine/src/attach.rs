//! Joined streams of a container: bytes between a client's channels and the shim's socket. A client that does not read stops the
//! container's output, not the daemon.

use std::time::Duration;

use tinyd_core::{
    Error, Kind, Result,
    wire::{Message, Request},
};
use tokio::sync::mpsc;

use crate::{
    Inner,
    api::{AttachOptions, Attachment, Input, Output},
    conn::{Conn, ConnWriter, Frame},
    container,
    handle::Handle,
    shim::Shim,
    start::Started,
};

/// How many pieces of output wait for a client. Each is at most 64 KiB.
pub(crate) const OUTPUT: usize = 4;
/// How many pieces of input wait for the shim.
pub(crate) const INPUT: usize = 8;
/// How long the end of a container is held back until what follows it is done.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Streams that are joined, with nobody reading yet.
#[derive(Debug)]
pub(crate) struct Streams {
    conn: Conn,
}

impl Streams {
    /// Joins the streams of a shim's container.
    pub(crate) async fn join(shim: &Shim, options: AttachOptions) -> Result<Streams> {
        let mut conn = shim.connect().await?;
        conn.ask_done(&Request::Attach { stdin: options.stdin }).await?;
        if let Some(size) = options.size {
            conn.send(&Request::Resize { rows: size.rows, cols: size.cols }, &[]).await?;
        }
        Ok(Streams { conn })
    }
}

/// Joins the streams of a container that runs.
pub(crate) async fn attach(inner: &Inner, who: &str, options: AttachOptions) -> Result<Attachment> {
    let handle = inner.registry.find(who)?;
    handle.require_alive("attach to")?;
    let shim = inner.shim(&handle.record.id)?;
    let streams = Streams::join(&shim, options).await?;
    attachment(handle, Started { warnings: Vec::new(), streams: Some(streams) })
}

/// Hands joined streams to a client.
pub(crate) fn attachment(handle: Handle, started: Started) -> Result<Attachment> {
    let streams = started.streams.ok_or_else(|| Error::new(Kind::Internal, "the streams were not joined"))?;
    let (to_client, output) = mpsc::channel(OUTPUT);
    let (input, from_client) = mpsc::channel(INPUT);
    let (reader, writer) = streams.conn.split()?;
    let attachment = Attachment {
        id: handle.record.id.clone(),
        warnings: started.warnings,
        tty: handle.record.config.tty,
        pid: handle.view.borrow().state.pid().unwrap_or(0),
        output,
        input,
    };
    let feeding = tokio::spawn(feed(writer, from_client, handle.clone()));
    tokio::spawn(async move {
        if let Some(last) = drain(reader, &to_client, &handle).await {
            // Let go first, so that the shim waits for nobody.
            feeding.abort();
            if let Output::Exited(_) = last {
                let _ = tokio::time::timeout(SETTLE_MAX, handle.settled()).await;
            }
            let _ = to_client.send(last).await;
        }
        // Also when the container does not take what was typed: a client that is gone must not look like one that does not read.
        feeding.abort();
    });
    Ok(attachment)
}

/// From the client to the container.
async fn feed(mut writer: ConnWriter, mut from_client: mpsc::Receiver<Input>, handle: Handle) {
    while let Some(input) = from_client.recv().await {
        let fed = match input {
            Input::Data(bytes) => writer.stdin(&bytes).await,
            Input::End => writer.stdin_end().await,
            Input::Resize(size) => writer.tell(&Request::Resize { rows: size.rows, cols: size.cols }).await,
            Input::Signal(number) => {
                // One that comes too late is for nobody.
                let _ = handle.ask(|reply| container::Input::Signal(number, reply)).await;
                Ok(())
            }
        };
        if fed.is_err() {
            return;
        }
    }
}

/// From the container to the client. Returns the last word, unless the client is gone.
async fn drain(mut reader: Conn, to_client: &mpsc::Sender<Output>, handle: &Handle) -> Option<Output> {
    loop {
        let frame = tokio::select! {
            frame = reader.receive() => frame,
            () = to_client.closed() => return None,
        };
        let output = match frame {
            Ok(Some(Frame::Stdout(bytes))) => Output::Stdout(bytes),
            Ok(Some(Frame::Stderr(bytes))) => Output::Stderr(bytes),
            Ok(Some(Frame::Message(message, _))) => match *message {
                Message::Exited(exit) => return Some(Output::Exited(exit)),
                Message::Failed(error) => return Some(Output::Failed(error)),
                // Nothing else is said here that a client must know.
                Message::Done
                | Message::Created { .. }
                | Message::Started { .. }
                | Message::ExecStarted { .. }
                | Message::ExecExited { .. }
                | Message::Status(_)
                | Message::Processes { .. } => continue,
            },
            lost @ (Ok(None) | Err(_)) => return Some(after_loss(lost.err(), handle).await),
        };
        to_client.send(output).await.ok()?;
    }
}

/// The shim was lost, and the container with it; or the daemon lets go.
async fn after_loss(error: Option<Error>, handle: &Handle) -> Output {
    match tokio::time::timeout(SETTLE_MAX, handle.ended()).await {
        Ok(Some(exit)) => Output::Exited(exit),
        Ok(None) | Err(_) => Output::Failed(
            error.unwrap_or_else(|| Error::new(Kind::Unavailable, "the streams of the container were lost")),
        ),
    }
}
