//! `tinyd export`: a container's file system as a tar archive.

use std::path::PathBuf;

use clap::Args;

use super::{archive, failure::Result, globals::Globals, remote::answer, verb::Verb};
use crate::pb;

/// Write a container's file system as a tar archive
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd export -o web.tar web\n  tinyd export web | tinyd import - web:flat\n\nWrites to standard output when there is no -o. Volumes and what else is mounted in the container are left out. A container that runs goes on: pause it first when its files must fit together."
)]
pub(super) struct Export {
    /// The archive; what was there is replaced when the new one is whole
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name, id, or unique beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Export {
    fn run(self, globals: &Globals) -> Result<u8> {
        archive::refuse_terminal(self.output.as_deref())?;
        globals.online(async move |remote| {
            let request = pb::ExportRequest { container: self.container };
            let pieces = answer(remote.containers().export(request)).await?;
            archive::write(pieces, |piece| piece.data, self.output.as_deref()).await?;
            Ok(0)
        })
    }
}
