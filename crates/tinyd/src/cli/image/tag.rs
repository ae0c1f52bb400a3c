//! `tinyd tag`, `tinyd image tag`.

use clap::Args;

use crate::{
    cli::{failure::Result, globals::Globals, remote::answer, verb::Verb},
    pb,
};

/// Give an image another name
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tinyd tag redis:7 registry.example.com/cache:stable\n\nAn image that had the name loses it."
)]
pub(in crate::cli) struct Tag {
    /// Name, id, or unique beginning of an id
    #[arg(value_name = "SOURCE_IMAGE")]
    source: String,
    /// The new name; the tag is 'latest' when absent
    #[arg(value_name = "TARGET_IMAGE")]
    target: String,
}

impl Verb for Tag {
    fn run(self, globals: &Globals) -> Result<u8> {
        globals.online(async move |remote| {
            let request = pb::TagImageRequest { image: self.source, name: self.target };
            answer(remote.images().tag_image(request)).await?;
            Ok(0)
        })
    }
}
