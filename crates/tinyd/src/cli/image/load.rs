//! `tinyd load`, `tinyd image load`.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
};

use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use tinyd_core::{Error, Kind, Result as Checked};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use super::progress::{Progress, json};
use crate::{
    cli::{
        failure::{Result, warn},
        globals::Globals,
        output,
        remote::{Remote, answer},
        verb::Verb,
    },
    client, pb,
};

/// How many bytes are sent at once, and how many such pieces may be on their way.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_UNDER_WAY: usize = 4;

/// Load images from an archive: of 'docker save', 'podman save' or skopeo, packed or not
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd load -i redis.tar.gz\n  docker save redis:7 | tinyd load\n\nReads standard input when there is no -i."
)]
pub(in crate::cli) struct Load {
    /// The archive
    #[arg(short, long, value_name = "FILE")]
    input: Option<String>,
    /// Which image of an archive for several platforms: linux/arm64 [default: the daemon's own]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Say only what was loaded
    #[arg(short, long)]
    quiet: bool,
    /// json: a line for everything that happens
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// The line of JSON for an image.
#[derive(Debug, Serialize)]
struct Loaded<'a> {
    status: &'static str,
    id: &'a str,
    names: &'a [String],
    notes: &'a [String],
}

impl Verb for Load {
    fn run(self, globals: &Globals) -> Result<u8> {
        let progress = Progress::new(self.format.as_deref(), self.quiet)?;
        let (archive, total_bytes) = open(self.input.as_deref())?;
        let platform = self.platform.unwrap_or_default();
        globals.online(async move |remote| load(&remote, archive, total_bytes, platform, progress).await)
    }
}

/// The archive, and how long it is when that is known.
fn open(path: Option<&str>) -> Checked<(Box<dyn Read + Send>, u64)> {
    let Some(path) = path.filter(|path| *path != "-") else {
        if io::stdin().is_terminal() {
            let rule = "no archive: name a file, or send one to standard input";
            return Err(Error::invalid("--input", rule));
        }
        return Ok((Box::new(io::stdin()), 0));
    };
    let told = |source: io::Error| {
        let kind =
            if source.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::InvalidArgument };
        Error::new(kind, format!("{path}: {source}")).of_field("--input")
    };
    let file = File::open(path).map_err(told)?;
    let meta = file.metadata().map_err(told)?;
    if meta.is_dir() {
        return Err(Error::invalid(
            "--input",
            format!("{path}: it is a directory, and an archive is needed"),
        ));
    }
    Ok((Box::new(file), meta.len()))
}

async fn load(
    remote: &Remote,
    archive: Box<dyn Read + Send>,
    total_bytes: u64,
    platform: String,
    mut progress: Progress,
) -> Result<u8> {
    use pb::{load_images_request, load_images_response::Message};
    let (pieces, requests) = mpsc::channel(PIECES_UNDER_WAY);
    let (failed, mut failure) = mpsc::channel(1);
    let (sent, mut counted) = tokio::sync::watch::channel(0);
    // A thread of its own: a read that waits for whoever writes the archive cannot be called off.
    std::thread::spawn(move || {
        if let Err(source) = send(archive, &pieces, &sent) {
            let _ = failed.blocking_send(source);
            // The stream must not end as if this were the archive's end: the call is given up with it.
            pieces.blocking_send(None).ok();
        }
    });
    let open = pb::LoadImagesOpen { platform };
    let open = pb::LoadImagesRequest { message: Some(load_images_request::Message::Open(open)) };
    let pieces = ReceiverStream::new(requests);
    // After a failure nothing more is sent, not even an end.
    let pieces = tokio_stream::once(Some(open)).chain(pieces).then(|piece| async move {
        match piece {
            Some(piece) => piece,
            None => std::future::pending().await,
        }
    });
    let mut events = answer(remote.images().load_images(pieces)).await?;
    loop {
        let event = tokio::select! {
            event = events.message() => event.map_err(|status| client::error(&status))?,
            Some(source) = failure.recv() => {
                progress.end();
                return Err(Error::invalid("--input", format!("read the archive: {source}")).into());
            }
            Ok(()) = counted.changed() => {
                let done_bytes = *counted.borrow_and_update();
                let step = pb::ImageStep::Transferring.into();
                progress.tell("Loading", &pb::ImageProgress { layer: String::new(), step, done_bytes, total_bytes })?;
                continue;
            }
        };
        match event.map(|event| event.message) {
            None => break,
            Some(None) => {}
            Some(Some(Message::Progress(told))) => progress.tell("Loading", &told)?,
            Some(Some(Message::Arrived(image))) => {
                progress.end();
                arrived(&image, progress.is_json())?;
            }
        }
    }
    Ok(0)
}

/// Sends the archive, and counts.
fn send(
    mut archive: Box<dyn Read + Send>,
    pieces: &mpsc::Sender<Option<pb::LoadImagesRequest>>,
    sent: &tokio::sync::watch::Sender<u64>,
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
        let data = pb::load_images_request::Message::Data(Bytes::from(piece));
        if pieces.blocking_send(Some(pb::LoadImagesRequest { message: Some(data) })).is_err() {
            // The daemon wants no more, and has said why.
            return Ok(());
        }
        sent.send_modify(|bytes| *bytes += count as u64);
    }
}

fn arrived(image: &pb::ImageArrived, as_json: bool) -> Result<()> {
    if as_json {
        let pb::ImageArrived { id, names, notes } = image;
        return json(&Loaded { status: "Loaded image", id, names, notes });
    }
    warn(&image.notes);
    let lines: String = match image.names.as_slice() {
        [] => format!("Loaded image ID: {}\n", image.id),
        names => names.iter().map(|name| format!("Loaded image: {name}\n")).collect(),
    };
    output::print(&lines)
}
