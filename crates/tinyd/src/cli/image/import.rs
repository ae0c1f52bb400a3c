//! `tinyd import`, `tinyd image import`.

use clap::Args;
use tinyd_core::Error;

use super::progress::{Progress, Way, json};
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

/// Make an image of one layer out of a root file system: a tar archive, as it is or packed with gzip or zstd
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd import debian.tar.gz debian:12\n  tinyd export web | tinyd import -c 'CMD [\"nginx\"]' -c 'EXPOSE 80' - web:flat\n  xz -dc root.tar.xz | tinyd import - root\n\nPrints the image's id. What a container of it runs is what -c says: an archive has no configuration."
)]
pub(in crate::cli) struct Import {
    /// A Dockerfile's instruction for its configuration, as often as needed: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// What there is to say about it, for 'history'
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// What it is for: linux/arm64 [default: the daemon's own]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// json: a line for everything that happens
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The archive; - is standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// What the image is called; the tag is 'latest' when absent
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

impl Verb for Import {
    fn run(self, globals: &Globals) -> Result<u8> {
        if self.file.starts_with("http://") || self.file.starts_with("https://") {
            let rule = format!(
                "{}: a file or - is needed: fetch it first, with `curl URL | tinyd import -`",
                self.file
            );
            return Err(Error::invalid("FILE", rule).into());
        }
        let progress = Progress::new(Way::Import, self.format.as_deref(), false)?;
        let archive = archive::open("FILE", Some(&self.file))?;
        let message = self.message.unwrap_or_else(|| format!("Imported from {}", self.file));
        let open = pb::ImportImageOpen {
            image: self.name.unwrap_or_default(),
            message,
            changes: self.changes,
            platform: self.platform.unwrap_or_default(),
        };
        globals.online(async move |remote| import(&remote, archive, open, progress).await)
    }
}

async fn import(
    remote: &Remote,
    archive: Source,
    open: pb::ImportImageOpen,
    mut progress: Progress,
) -> Result<u8> {
    use pb::{import_image_request as request, import_image_response::Message};
    let total_bytes = archive.total_bytes;
    let message = |message| pb::ImportImageRequest { message: Some(message) };
    let open = message(request::Message::Open(open));
    let (requests, mut sending) = archive.requests(open, move |data| message(request::Message::Data(data)));
    let mut events = answer(remote.images().import_image(requests)).await?;
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
        return json(
            &serde_json::json!({ "status": "Imported image", "id": id, "names": names, "notes": notes }),
        );
    }
    warn(&image.notes);
    output::print(&format!("{}\n", image.id))
}
