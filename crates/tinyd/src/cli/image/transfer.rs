//! Images between the daemon and a registry, as `pull`, `push` and `run` show them.

use std::io::{self, Write};

use serde::Serialize;

use super::progress::{Progress, json};
use crate::{
    cli::{
        failure::{Result, warn},
        output, registry,
        remote::{Remote, answer},
        text::{printable, printable_lines},
    },
    client, pb,
};

/// Which image comes.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Wanted {
    /// Its name, or a repository's.
    pub(in crate::cli) image: String,
    /// For which platform; "" is the daemon's own.
    pub(in crate::cli) platform: String,
    /// Every tag.
    pub(in crate::cli) all_tags: bool,
}

/// Where it is told what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Told {
    /// On standard output: it is what was asked for.
    Data,
    /// On standard error: something else was asked for, which needs it.
    Talk,
}

/// The line of JSON for an image that has come.
#[derive(Debug, Serialize)]
struct Pulled<'a> {
    status: &'a str,
    id: &'a str,
    digest: &'a str,
    reference: &'a str,
    notes: &'a [String],
}

/// The line of JSON for an image that has gone.
#[derive(Debug, Serialize)]
struct Pushed<'a> {
    status: &'a str,
    digest: &'a str,
    size: u64,
    reference: &'a str,
}

/// Has the daemon bring images in, and shows how far it is.
pub(in crate::cli) async fn pull(
    remote: &Remote,
    wanted: Wanted,
    mut progress: Progress,
    told: Told,
) -> Result<()> {
    use pb::pull_image_response::Message;
    let logins = registry::logins(&wanted.image)?;
    let Wanted { image, platform, all_tags } = wanted;
    let request = pb::PullImageRequest { image, platform, all_tags, logins };
    let mut events = answer(remote.registries().pull_image(request)).await?;
    while let Some(event) = events.message().await.map_err(|status| ended(&mut progress, &status))? {
        match event.message {
            None => {}
            Some(Message::Begun(begun)) => {
                let status = format!("Pulling from {}", begun.repository);
                progress.begin(if begun.tag.is_empty() { &begun.reference } else { &begun.tag }, &status)?;
            }
            Some(Message::Progress(step)) => progress.tell(&step)?,
            Some(Message::Paused(paused)) => progress.pause(&paused)?,
            Some(Message::Pulled(pulled)) => {
                progress.end();
                arrived(&pulled, &progress, told)?;
            }
        }
    }
    Ok(())
}

/// Has the daemon give images to their registry, and shows how far it is.
pub(in crate::cli) async fn push(
    remote: &Remote,
    image: String,
    all_tags: bool,
    mut progress: Progress,
) -> Result<()> {
    use pb::push_image_response::Message;
    let logins = registry::logins(&image)?;
    let request = pb::PushImageRequest { image, all_tags, logins };
    let mut events = answer(remote.registries().push_image(request)).await?;
    while let Some(event) = events.message().await.map_err(|status| ended(&mut progress, &status))? {
        match event.message {
            None => {}
            Some(Message::Begun(begun)) => {
                progress.begin("", &format!("The push refers to repository [{}]", repository(&begun)))?;
            }
            Some(Message::Progress(step)) => progress.tell(&step)?,
            Some(Message::Paused(paused)) => progress.pause(&paused)?,
            Some(Message::Pushed(pushed)) => {
                progress.end();
                gone(&pushed, &progress)?;
            }
        }
    }
    Ok(())
}

/// The whole name without the tag: `docker.io/library/redis`.
fn repository(begun: &pb::TransferBegun) -> &str {
    let suffix = format!(":{}", begun.tag);
    begun.reference.strip_suffix(&suffix).unwrap_or(&begun.reference)
}

/// The bars stay as they were when it failed, and the error stands below them.
fn ended(progress: &mut Progress, status: &tonic::Status) -> tinyd_core::Error {
    progress.end();
    client::error(status)
}

fn arrived(image: &pb::ImagePulled, progress: &Progress, told: Told) -> Result<()> {
    let pb::ImagePulled { id, reference, name, digest, is_new, notes } = image;
    // Docker's words.
    let status = match is_new {
        true => format!("Downloaded newer image for {name}"),
        false => format!("Image is up to date for {name}"),
    };
    if progress.is_json() {
        return json(&Pulled { status: &status, id, digest, reference, notes });
    }
    warn(notes);
    if progress.is_quiet() {
        return if told == Told::Data {
            output::print(&format!("{}\n", printable(reference)))
        } else {
            Ok(())
        };
    }
    let lines = format!("{}\n", printable_lines(&format!("Digest: {digest}\nStatus: {status}")));
    match told {
        Told::Data => output::print(&format!("{lines}{}\n", printable(reference))),
        Told::Talk => {
            let _ = io::stderr().lock().write_all(lines.as_bytes());
            Ok(())
        }
    }
}

fn gone(image: &pb::ImagePushed, progress: &Progress) -> Result<()> {
    let pb::ImagePushed { reference, tag, digest, size_bytes } = image;
    if progress.is_json() {
        return json(&Pushed { status: "Pushed", digest, size: *size_bytes, reference });
    }
    output::print(&match progress.is_quiet() {
        true => format!("{}\n", printable(reference)),
        false => format!("{}\n", printable(&format!("{tag}: digest: {digest} size: {size_bytes}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_the_name_without_its_tag() {
        let begun = |reference: &str, tag: &str| pb::TransferBegun {
            reference: reference.into(),
            tag: tag.into(),
            ..pb::TransferBegun::default()
        };
        assert_eq!(repository(&begun("localhost:5000/a:1", "1")), "localhost:5000/a");
        assert_eq!(repository(&begun("docker.io/library/a:5000", "5000")), "docker.io/library/a");
    }
}
