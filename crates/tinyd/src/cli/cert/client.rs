//! `tinyd cert client`.

use std::path::PathBuf;

use clap::Args;

use crate::{
    cli::{failure::Result, globals::Globals, verb::Verb},
    tls::cert::{self, LeafOptions},
};

/// Make a client's certificate: cert.pem and key.pem
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tinyd cert client --dir /etc/tinyd/certs --out ~/.tinyd ann\n\nPrints the files that it made. TINYD_CERT_PATH names a directory that holds them and ca.pem."
)]
pub(in crate::cli) struct Client {
    /// The directory of ca.pem and ca-key.pem, and for the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Another directory for the files; made if missing, for its owner only
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How many days it is valid, 1 to 36500 [default: 365]
    #[arg(long, value_name = "COUNT")]
    days: Option<u32>,
    /// Replace files that are there
    #[arg(long, short)]
    force: bool,
    /// The name in it, by which the daemon's log knows the client [default: tinyd client]
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Verb for Client {
    fn run(self, _: &Globals) -> Result<u8> {
        let Client { dir, out, days, force, name } = self;
        let out = out.unwrap_or_else(|| dir.clone());
        super::tell(cert::client(&LeafOptions { out, ca: dir, name, hosts: Vec::new(), days, force }))
    }
}
