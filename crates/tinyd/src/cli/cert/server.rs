//! `tinyd cert server`.

use std::path::PathBuf;

use clap::Args;

use crate::{
    cli::{failure::Result, globals::Globals, verb::Verb},
    tls::cert::{self, LeafOptions},
};

/// Make a daemon's certificate: server-cert.pem and server-key.pem
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tinyd cert server --dir /etc/tinyd/certs --out edge1 edge1.example.org 10.0.0.7\n\nPrints the files that it made."
)]
pub(in crate::cli) struct Server {
    /// The directory of ca.pem and ca-key.pem, and for the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Another directory for the files; made if missing, for its owner only
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The name in it [default: the first HOST]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How many days it is valid, 1 to 36500 [default: 825]
    #[arg(long, value_name = "COUNT")]
    days: Option<u32>,
    /// Replace files that are there
    #[arg(long, short)]
    force: bool,
    /// The names and addresses under which clients reach the daemon
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
}

impl Verb for Server {
    fn run(self, globals: &Globals) -> Result<u8> {
        let Server { dir, out, name, days, force, mut hosts } = self;
        // No daemon is asked here, so --host can only mean one of these.
        hosts.extend(globals.host.clone());
        let out = out.unwrap_or_else(|| dir.clone());
        super::tell(cert::server(&LeafOptions { out, ca: dir, name, hosts, days, force }))
    }
}
