//! The image of a container: which, for which platform, and whether it is pulled.

use clap::{Args, ValueEnum};
use tinyd_core::{Error, Result};

use super::Here;

/// When an image is pulled before it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Pull {
    /// In any case.
    Always,
    /// When it is not there.
    #[default]
    Missing,
    /// Never.
    Never,
}

// The image of a container.
#[derive(Args, Clone, Debug, Default)]
pub(in crate::cli) struct ImageArgs {
    /// The image: its name or id, or a directory on the daemon's host that holds a root file system (with / or ./). Without it the first word is the image
    #[arg(short = 'i', long, value_name = "IMAGE")]
    pub(super) image: Option<String>,
    /// Pull the image first: always, missing (when it is not there), never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = true)]
    pub(in crate::cli) pull: Pull,
    /// What the image has to be for: linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub(super) platform: Option<String>,
    /// Show nothing of a pull
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}

/// The image and the container's own words.
pub(super) fn image_and_command(
    image: Option<String>,
    mut words: Vec<String>,
    here: &impl Here,
) -> Result<(String, Vec<String>)> {
    let missing = || Error::invalid("-i", "no image: -i IMAGE, or the image as the first word");
    let image = match image {
        Some(image) => image,
        None if words.is_empty() => return Err(missing()),
        None => words.remove(0),
    };
    if image.is_empty() {
        return Err(missing());
    }
    Ok((absolute_if_dotted("-i", image, here)?, words))
}

/// `.` and `./rootfs` are directories here; any other word is sent as it is, for it may be the name of an image.
pub(super) fn absolute_if_dotted(field: &str, path: String, here: &impl Here) -> Result<String> {
    let dotted = matches!(path.as_str(), "." | "..") || path.starts_with("./") || path.starts_with("../");
    if !dotted {
        return Ok(path);
    }
    here.absolute(&path).map_err(|error| Error::invalid(field, format!("{path:?}: {error}")))
}
