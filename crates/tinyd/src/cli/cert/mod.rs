//! `tinyd cert`: an authority of one's own, and certificates for daemons and clients.

pub(super) mod ca;
pub(super) mod client;
pub(super) mod server;

use super::{failure::Result, output};
use crate::tls::cert::Made;

/// Prints the two files, the certificate first.
fn print(made: &Made) -> Result<u8> {
    output::print(&format!("{}\n{}\n", made.certificate.display(), made.key.display()))?;
    Ok(0)
}
