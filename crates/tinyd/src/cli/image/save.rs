//! `tinyd save`, `tinyd image save`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tinyd_core::Error;
use tonic::Streaming;

use super::layout::Unpacker;
use crate::{
    cli::{
        archive,
        failure::{Failure, Result},
        globals::Globals,
        remote::answer,
        verb::Verb,
    },
    client, pb,
};

/// Save images as an archive, which every engine and skopeo read
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd save -o redis.tar redis:7\n  tinyd save --format oci-archive redis:7 nginx | ssh edge1 tinyd load\n  tinyd save --format oci-dir -o layout redis:7\n\nWrites to standard output when there is no -o."
)]
pub(in crate::cli) struct Save {
    /// The archive, which replaces what was there when it is whole; or the directory, which is not there yet or is empty
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// docker-archive is an OCI layout with Docker's manifest.json beside it; oci-archive is without; oci-dir is the layout as a directory
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
    OciDir,
}

impl Verb for Save {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = match self.format {
            Form::DockerArchive => pb::ArchiveFormat::Docker,
            Form::OciArchive | Form::OciDir => pb::ArchiveFormat::Oci,
        };
        let directory = match (self.format, &self.output) {
            (Form::OciDir, Some(to)) => Some(Unpacker::new(to)?),
            (Form::OciDir, None) => {
                let rule = "no directory: oci-dir is one, and is named with -o";
                return Err(Error::invalid("--output", rule).into());
            }
            (Form::DockerArchive | Form::OciArchive, output) => {
                archive::refuse_terminal(output.as_deref())?;
                None
            }
        };
        globals.online(async move |remote| {
            let request = pb::SaveImagesRequest { images: self.images, format: format.into() };
            let pieces = answer(remote.images().save_images(request)).await?;
            match directory {
                Some(directory) => into_directory(pieces, directory).await?,
                None => archive::write(pieces, |piece| piece.data, self.output.as_deref()).await?,
            }
            Ok(0)
        })
    }
}

async fn into_directory(
    mut pieces: Streaming<pb::SaveImagesResponse>,
    mut directory: Unpacker,
) -> Result<()> {
    loop {
        let piece = tokio::select! {
            piece = pieces.message() => piece.map_err(|status| client::error(&status))?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::Quiet(130)),
        };
        let Some(piece) = piece else { break };
        directory.take(&piece.data)?;
    }
    Ok(directory.finish()?)
}
