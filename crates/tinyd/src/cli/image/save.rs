//! `tinyd save`, `tinyd image save`.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use tinyd_core::Error;
use tonic::Streaming;

use crate::{
    cli::{
        failure::{Failure, Result},
        globals::Globals,
        output::Sink,
        remote::answer,
        verb::Verb,
    },
    client, pb,
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
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(
                Error::invalid("--output", "an archive is nothing for a terminal: name a file").into()
            );
        }
        let format = match self.format {
            Form::DockerArchive => pb::ArchiveFormat::Docker,
            Form::OciArchive => pb::ArchiveFormat::Oci,
        };
        globals.online(async move |remote| {
            let request = pb::SaveImagesRequest { images: self.images, format: format.into() };
            let pieces = answer(remote.images().save_images(request)).await?;
            match self.output {
                Some(path) => into_file(pieces, &path).await?,
                None => into_stdout(pieces).await?,
            }
            Ok(0)
        })
    }
}

async fn into_stdout(mut pieces: Streaming<pb::SaveImagesResponse>) -> Result<()> {
    let stdout = Sink::stdout()?;
    while let Some(piece) = pieces.message().await.map_err(|status| client::error(&status))? {
        stdout.write(&piece.data).await?;
    }
    Ok(())
}

/// Writes beside the file, and takes its place when it is whole. Whoever ends this with Ctrl-C finds what was there before.
async fn into_file(mut pieces: Streaming<pb::SaveImagesResponse>, path: &Path) -> Result<()> {
    let told = |source: io::Error| Error::invalid("--output", format!("{}: {source}", path.display()));
    let Some(name) = path.file_name() else {
        return Err(told(io::ErrorKind::IsADirectory.into()).into());
    };
    let part = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let unfinished = Unfinished(part);
    let mut file = File::create(&unfinished.0).map_err(told)?;
    loop {
        let piece = tokio::select! {
            piece = pieces.message() => piece.map_err(|status| client::error(&status))?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(told)?;
                return Err(Failure::Quiet(130));
            }
        };
        let Some(piece) = piece else { break };
        file.write_all(&piece.data).map_err(told)?;
    }
    fs::rename(&unfinished.0, path).map_err(told)?;
    Ok(())
}

/// A file that is taken away unless it has got its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
