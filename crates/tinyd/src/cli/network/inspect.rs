//! `tinyd network inspect`.

use clap::Args;

use crate::cli::{
    failure::Result,
    globals::Globals,
    inspect::{Type, inspect},
    verb::Verb,
};

/// Show everything about networks, as JSON
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd network inspect mynet")]
pub(in crate::cli) struct Inspect {
    /// json, or a template such as '{{.Name}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, globals: &Globals) -> Result<u8> {
        inspect(globals, self.names, Some(Type::Network), self.format.as_deref())
    }
}
