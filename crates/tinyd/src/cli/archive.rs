//! Archives between files and the daemon: `save` and `export` write one, `load` and `import` read one.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tinyd_core::{Error, Kind, Result as Checked};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::Streaming;

use super::{
    failure::{Failure, Result},
    output::Sink,
};
use crate::client;

/// How many bytes are sent at once, and how many such pieces may be on their way.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_UNDER_WAY: usize = 4;

/// Refuses to write an archive to a terminal.
///
/// # Errors
/// `InvalidArgument` of `--output`.
pub(super) fn refuse_terminal(output: Option<&Path>) -> Checked<()> {
    if output.is_none() && io::stdout().is_terminal() {
        return Err(Error::invalid("--output", "an archive is nothing for a terminal: name a file"));
    }
    Ok(())
}

/// Writes what the daemon sends to a file, or to standard output.
///
/// # Errors
/// The daemon's error, or that the file cannot be written.
pub(super) async fn write<T>(
    pieces: Streaming<T>,
    data: impl Fn(T) -> Bytes,
    output: Option<&Path>,
) -> Result<()> {
    match output {
        Some(path) => into_file(pieces, data, path).await,
        None => into_stdout(pieces, data).await,
    }
}

async fn into_stdout<T>(mut pieces: Streaming<T>, data: impl Fn(T) -> Bytes) -> Result<()> {
    let stdout = Sink::stdout()?;
    while let Some(piece) = pieces.message().await.map_err(|status| client::error(&status))? {
        stdout.write(&data(piece)).await?;
    }
    Ok(())
}

/// Writes beside the file, and takes its place when it is whole. Whoever ends this with Ctrl-C finds what was there before.
async fn into_file<T>(mut pieces: Streaming<T>, data: impl Fn(T) -> Bytes, path: &Path) -> Result<()> {
    let told = |source: io::Error| Error::invalid("--output", format!("{}: {source}", path.display()));
    let Some(name) = path.file_name() else {
        return Err(told(io::ErrorKind::IsADirectory.into()).into());
    };
    let part = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let unfinished = Unfinished(part);
    let mut file = File::create(&unfinished.0).map_err(told)?;
    loop {
        let piece = tokio::select! {
            piece = pieces.message() => piece.map_err(|status| client::error(&status))?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(told)?;
                return Err(Failure::Quiet(130));
            }
        };
        let Some(piece) = piece else { break };
        file.write_all(&data(piece)).map_err(told)?;
    }
    fs::rename(&unfinished.0, path).map_err(told)?;
    Ok(())
}

/// A file that is taken away unless it has got its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// An archive to be sent.
pub(super) struct Source {
    archive: Box<dyn Read + Send>,
    /// How long it is; 0 when nobody knows.
    pub(super) total_bytes: u64,
    field: &'static str,
}

/// Opens a file, or standard input for `-` and for nothing. `field` is where it is named.
///
/// # Errors
/// `NotFound` and `InvalidArgument` of `field`.
pub(super) fn open(field: &'static str, path: Option<&str>) -> Checked<Source> {
    let Some(path) = path.filter(|path| *path != "-") else {
        if io::stdin().is_terminal() {
            let rule = "no archive: name a file, or send one to standard input";
            return Err(Error::invalid(field, rule));
        }
        return Ok(Source { archive: Box::new(io::stdin()), total_bytes: 0, field });
    };
    let told = |source: io::Error| {
        let kind =
            if source.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::InvalidArgument };
        Error::new(kind, format!("{path}: {source}")).of_field(field)
    };
    let file = File::open(path).map_err(told)?;
    let meta = file.metadata().map_err(told)?;
    if meta.is_dir() {
        let rule = format!("{path}: it is a directory, and an archive is needed");
        return Err(Error::invalid(field, rule));
    }
    Ok(Source { archive: Box::new(file), total_bytes: meta.len(), field })
}

/// An archive on its way.
pub(super) struct Sending {
    counted: watch::Receiver<u64>,
    failure: mpsc::Receiver<io::Error>,
    field: &'static str,
}

/// What happens while an archive is on its way.
pub(super) enum Sent<E> {
    /// The daemon says something; nothing more when it is `None`.
    Event(Option<E>),
    /// So many bytes are sent.
    Bytes(u64),
}

impl Source {
    /// An archive that is made on its way.
    pub(super) fn new(field: &'static str, archive: Box<dyn Read + Send>, total_bytes: u64) -> Source {
        Source { archive, total_bytes, field }
    }

    /// The requests of a call: `open`, and a `piece` for every part of the archive.
    pub(super) fn requests<R: Send + 'static>(
        self,
        open: R,
        piece: impl Fn(Bytes) -> R + Send + 'static,
    ) -> (impl Stream<Item = R> + Send + 'static, Sending) {
        let (pieces, requests) = mpsc::channel(PIECES_UNDER_WAY);
        let (failed, failure) = mpsc::channel(1);
        let (sent, counted) = watch::channel(0);
        let Source { archive, field, .. } = self;
        // A thread of its own: a read that waits for whoever writes the archive cannot be called off.
        std::thread::spawn(move || {
            if let Err(source) = send(archive, piece, &pieces, &sent) {
                let _ = failed.blocking_send(source);
                // The stream must not end as if this were the archive's end: the call is given up with it.
                pieces.blocking_send(None).ok();
            }
        });
        // After a failure nothing more is sent, not even an end.
        let requests =
            tokio_stream::once(Some(open)).chain(ReceiverStream::new(requests)).then(|piece| async move {
                match piece {
                    Some(piece) => piece,
                    None => std::future::pending().await,
                }
            });
        (requests, Sending { counted, failure, field })
    }
}

impl Sending {
    /// Waits for the next thing that happens.
    ///
    /// # Errors
    /// The daemon's error, or that the archive cannot be read.
    pub(super) async fn next<E>(&mut self, events: &mut Streaming<E>) -> Result<Sent<E>> {
        tokio::select! {
            event = events.message() => Ok(Sent::Event(event.map_err(|status| client::error(&status))?)),
            Some(source) = self.failure.recv() => {
                Err(Error::invalid(self.field, format!("read the archive: {source}")).into())
            }
            Ok(()) = self.counted.changed() => Ok(Sent::Bytes(*self.counted.borrow_and_update())),
        }
    }
}

/// Sends the archive, and counts.
fn send<R>(
    mut archive: Box<dyn Read + Send>,
    request: impl Fn(Bytes) -> R,
    pieces: &mpsc::Sender<Option<R>>,
    sent: &watch::Sender<u64>,
) -> io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let count = match archive.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(source) if source.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(source),
        };
        piece.truncate(count);
        if pieces.blocking_send(Some(request(Bytes::from(piece)))).is_err() {
            // The daemon wants no more, and has said why.
            return Ok(());
        }
        sent.send_modify(|bytes| *bytes += count as u64);
    }
}
