//! `tinyd rmi`, `tinyd image rm`.

use clap::Args;

use crate::{
    cli::{
        failure::{Result, say},
        globals::Globals,
        output,
        remote::answer,
        verb::Verb,
    },
    pb,
};

/// Remove names of images; an image goes with its last one
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd rmi redis:7\n  tinyd rmi -f $(tinyd images -q)\n\nAn image that a container has stays; -f removes it unless the container runs."
)]
pub(in crate::cli) struct Rm {
    /// Also an id that has several names, and an image of a container that does not run
    #[arg(short, long)]
    force: bool,
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Verb for Rm {
    fn run(self, globals: &Globals) -> Result<u8> {
        globals.online(async move |remote| {
            let mut code = 0;
            // One after the other: the same image may be meant twice.
            for image in self.images {
                let request = pb::RemoveImageRequest { image, force: self.force };
                match answer(remote.images().remove_image(request)).await {
                    Ok(gone) => output::print(&told(&gone))?,
                    Err(error) => {
                        say(&error.to_string());
                        code = 1;
                    }
                }
            }
            Ok(code)
        })
    }
}

fn told(gone: &pb::RemoveImageResponse) -> String {
    let untagged = gone.untagged.iter().map(|name| format!("Untagged: {name}\n"));
    let deleted = Some(&gone.removed).filter(|id| !id.is_empty()).map(|id| format!("Deleted: {id}\n"));
    untagged.chain(deleted).collect()
}
