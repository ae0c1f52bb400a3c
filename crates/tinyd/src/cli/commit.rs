//! `tinyd commit`: an image of what a container has changed.

use clap::Args;

use super::{
    failure::{Result, warn},
    globals::Globals,
    output,
    remote::answer,
    verb::Verb,
};
use crate::pb;

/// Make an image of what a container has changed: a layer above those of its image
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd commit -m 'with curl' web web:2\n  tinyd commit -c 'CMD [\"nginx\", \"-g\", \"daemon off;\"]' -c 'ENV LANG=C.UTF-8' web web:3\n\nPrints the image's id. What a container of it runs, its user, environment, labels and so on are this container's, but for what -c says. Volumes are left out. Of a container whose image is a directory, or is gone, the image is one layer with the whole tree."
)]
pub(super) struct Commit {
    /// Who made it: 'Ann <ann@example.com>'
    #[arg(short, long, value_name = "AUTHOR")]
    author: Option<String>,
    /// A Dockerfile's instruction for its configuration, as often as needed: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// What there is to say about it, for 'history'
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Freeze a container that runs while its files are read; with =false it goes on, and they may not fit together
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pause: bool,
    /// Name, id, or unique beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What the image is called; the tag is 'latest' when absent
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

impl Verb for Commit {
    fn run(self, globals: &Globals) -> Result<u8> {
        globals.online(async move |remote| {
            let request = pb::CommitRequest {
                container: self.container,
                image: self.name.unwrap_or_default(),
                author: self.author.unwrap_or_default(),
                message: self.message.unwrap_or_default(),
                changes: self.changes,
                no_pause: !self.pause,
            };
            let made = answer(remote.containers().commit(request)).await?;
            warn(&made.notes);
            output::print(&format!("{}\n", made.id))?;
            Ok(0)
        })
    }
}
