//! Options that every command takes: which daemon is asked.

use std::path::PathBuf;

use clap::Args;

use super::{failure::Result, host, remote::Remote};

// Which daemon.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Globals {
    /// Where the daemon listens: unix:///PATH or tcp://HOST:PORT [env: TINYD_HOST]
    #[arg(long, short = 'H', global = true, value_name = "URL", help_heading = "Global options")]
    pub(super) host: Option<String>,
    /// The daemon by the name of a context (see 'tinyd context') [env: TINYD_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub(super) context: Option<String>,
    /// PEM file of the authority that signed the daemon's certificate [env: TINYD_CERT_PATH, a directory: ca.pem]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(super) tlscacert: Option<PathBuf>,
    /// PEM file of this client's certificate [env: TINYD_CERT_PATH: cert.pem]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(super) tlscert: Option<PathBuf>,
    /// PEM file of this client's key [env: TINYD_CERT_PATH: key.pem]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(super) tlskey: Option<PathBuf>,
}

impl Globals {
    /// Runs `work` with a connection to the daemon.
    pub(super) fn online(&self, work: impl AsyncFnOnce(Remote) -> Result<u8>) -> Result<u8> {
        let endpoint = host::resolve(self)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| tinyd_core::Error::internal(&source).context("start the async runtime"))?;
        let outcome = runtime.block_on(async { work(Remote::connect(&endpoint).await?).await });
        // The process ends now: nothing that still waits (standard input, say) holds it up.
        runtime.shutdown_background();
        outcome
    }
}
