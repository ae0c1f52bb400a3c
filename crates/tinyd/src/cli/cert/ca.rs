//! `tinyd cert ca`.

use std::path::PathBuf;

use clap::Args;

use crate::{
    cli::{failure::Result, globals::Globals, verb::Verb},
    tls::cert::{self, CaOptions},
};

/// Make an authority: ca.pem, to be copied everywhere, and ca-key.pem, to be kept
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd cert ca --dir /etc/tinyd/certs\n\nPrints the files that it made.")]
pub(in crate::cli) struct Ca {
    /// The directory for the files; made if missing, for its owner only
    #[arg(long, visible_alias = "out", value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The name in it [default: tinyd authority]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How many days it is valid, 1 to 36500 [default: 3650]
    #[arg(long, value_name = "COUNT")]
    days: Option<u32>,
    /// Replace files that are there
    #[arg(long, short)]
    force: bool,
}

impl Verb for Ca {
    fn run(self, _: &Globals) -> Result<u8> {
        let Ca { dir, name, days, force } = self;
        super::tell(cert::ca(&CaOptions { out: dir, name, days, force }))
    }
}
