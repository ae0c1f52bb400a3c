//! `tinyd load`, `tinyd image load`.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::{
    layout,
    progress::{Progress, Way, json},
};
use crate::{
    cli::{
        archive::{self, Sent, Source},
        failure::{Result, warn},
        globals::Globals,
        output,
        remote::{Remote, answer},
        verb::Verb,
    },
    pb,
};

/// Load images from an archive: of 'docker save', 'podman save' or skopeo, packed or not
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd load -i redis.tar.gz\n  docker save redis:7 | tinyd load\n  skopeo copy docker://redis:7 oci:layout:redis && tinyd load -i layout\n\nReads standard input when there is no -i."
)]
pub(in crate::cli) struct Load {
    /// The archive, or a directory that is an OCI layout
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
        let progress = Progress::new(Way::Load, self.format.as_deref(), self.quiet)?;
        let archive = match self.input.as_deref().map(Path::new).filter(|path| path.is_dir()) {
            Some(dir) => {
                let (packer, total_bytes) = layout::pack(dir)?;
                Source::new("--input", Box::new(packer), total_bytes)
            }
            None => archive::open("--input", self.input.as_deref())?,
        };
        let platform = self.platform.unwrap_or_default();
        globals.online(async move |remote| load(&remote, archive, platform, progress).await)
    }
}

async fn load(remote: &Remote, archive: Source, platform: String, mut progress: Progress) -> Result<u8> {
    use pb::{load_images_request as request, load_images_response::Message};
    let total_bytes = archive.total_bytes;
    let message = |message| pb::LoadImagesRequest { message: Some(message) };
    let open = message(request::Message::Open(pb::LoadImagesOpen { platform }));
    let (requests, mut sending) = archive.requests(open, move |data| message(request::Message::Data(data)));
    let mut events = answer(remote.images().load_images(requests)).await?;
    loop {
        match sending.next(&mut events).await.inspect_err(|_| progress.end())? {
            Sent::Bytes(done_bytes) => progress.sent(done_bytes, total_bytes)?,
            Sent::Event(None) => return Ok(0),
            Sent::Event(Some(event)) => match event.message {
                None => {}
                Some(Message::Progress(told)) => progress.tell(&told)?,
                Some(Message::Arrived(image)) => {
                    progress.end();
                    arrived(&image, progress.is_json())?;
                }
            },
        }
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
