//! `tinyd save`, `tinyd image save`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{
    cli::{archive, failure::Result, globals::Globals, remote::answer, verb::Verb},
    pb,
};

/// Save images as an archive, which every engine and skopeo read
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd save -o redis.tar redis:7\n  tinyd save --format oci-archive redis:7 nginx | ssh edge1 tinyd load\n\nWrites to standard output when there is no -o."
)]
pub(in crate::cli) struct Save {
    /// The archive; what was there is replaced when the new one is whole
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// docker-archive is an OCI layout with Docker's manifest.json beside it; oci-archive is without
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: Form,
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Form {
    DockerArchive,
    OciArchive,
}

impl Verb for Save {
    fn run(self, globals: &Globals) -> Result<u8> {
        archive::refuse_terminal(self.output.as_deref())?;
        let format = match self.format {
            Form::DockerArchive => pb::ArchiveFormat::Docker,
            Form::OciArchive => pb::ArchiveFormat::Oci,
        };
        globals.online(async move |remote| {
            let request = pb::SaveImagesRequest { images: self.images, format: format.into() };
            let pieces = answer(remote.images().save_images(request)).await?;
            archive::write(pieces, |piece| piece.data, self.output.as_deref()).await?;
            Ok(0)
        })
    }
}
