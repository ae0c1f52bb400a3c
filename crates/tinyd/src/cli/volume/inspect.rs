//! `tinyd volume inspect`.

use clap::Args;

use crate::cli::{
    failure::Result,
    globals::Globals,
    inspect::{Type, inspect},
    verb::Verb,
};

/// Show everything about volumes, as JSON
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd volume inspect data")]
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
        inspect(globals, self.names, Some(Type::Volume), self.format.as_deref())
    }
}
