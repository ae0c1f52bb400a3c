//! `tinyd cert`: an authority of one's own, and certificates for daemons and clients.

pub(super) mod ca;
pub(super) mod client;
pub(super) mod server;

use tinyd_core::Error;

use super::{failure::Result, output};
use crate::tls::cert::Made;

/// Prints the two files, the certificate first; or the error, by the words of these commands.
fn tell(made: Result<Made, Error>) -> Result<u8> {
    let made = made.map_err(|error| match error.field() {
        Some("--ca") => error.of_field("--dir"),
        Some("--host") => error.of_field("HOST"),
        Some(_) | None => error,
    })?;
    output::print(&format!("{}\n{}\n", made.certificate.display(), made.key.display()))?;
    Ok(0)
}
