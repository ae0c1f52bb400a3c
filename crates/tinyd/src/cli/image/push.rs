//! `tinyd push`, `tinyd image push`.

use clap::Args;

use super::{
    progress::{Progress, Way},
    transfer,
};
use crate::cli::{failure::Result, globals::Globals, verb::Verb};

/// Give an image to the registry that its name says
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd tag app:1 registry.example:5000/team/app:1 && tinyd push registry.example:5000/team/app:1\n  tinyd push --all-tags registry.example:5000/team/app\n\nWhat the registry has already is not sent. Prints the digest, which is the one that is here."
)]
pub(in crate::cli) struct Push {
    /// Everything here that has a tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Print only the whole name
    #[arg(short, long)]
    quiet: bool,
    /// json: a line for everything that happens
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The image, with a tag [default tag: latest]
    #[arg(value_name = "NAME")]
    image: String,
}

impl Verb for Push {
    fn run(self, globals: &Globals) -> Result<u8> {
        let progress = Progress::new(Way::Push, self.format.as_deref(), self.quiet)?;
        globals.online(async move |remote| {
            transfer::push(&remote, self.image, self.all_tags, progress).await?;
            Ok(0)
        })
    }
}
