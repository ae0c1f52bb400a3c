//! `tinyd image inspect`.

use clap::Args;

use crate::cli::{
    failure::Result,
    globals::Globals,
    inspect::{Type, inspect},
    verb::Verb,
};

/// Show everything about images, as JSON
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd image inspect --format '{{.Config.Entrypoint}}' redis:7")]
pub(in crate::cli) struct Inspect {
    /// json, or a template such as '{{.Id}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, globals: &Globals) -> Result<u8> {
        inspect(globals, self.images, Some(Type::Image), self.format.as_deref())
    }
}
