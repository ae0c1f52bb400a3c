//! `tinyd context use`.

use clap::Args;

use super::store::{DEFAULT, Store};
use crate::cli::{failure::Result, globals::Globals, output, verb::Verb};

/// Ask this daemon from now on
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd context use edge1\n  tinyd context use default    # this host's own daemon"
)]
pub(in crate::cli) struct Use {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Verb for Use {
    fn run(self, _: &Globals) -> Result<u8> {
        let mut store = Store::read()?;
        store.named("NAME", &self.name)?;
        store.current = Some(self.name.clone()).filter(|name| name != DEFAULT);
        store.write()?;
        output::print(&format!("{}\n", self.name))?;
        Ok(0)
    }
}
