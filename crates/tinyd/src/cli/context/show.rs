//! `tinyd context show`.

use clap::Args;

use super::{ls::ContextView, store::Store};
use crate::cli::{failure::Result, format::Format, globals::Globals, output, verb::Verb};

/// Say which daemon is asked when nothing else is said
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd context show\n  tinyd context show edge1 --format '{{.Host}}'")]
pub(in crate::cli) struct Show {
    /// Another one; the one in use when absent
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// json, or a template such as '{{.Host}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Verb for Show {
    fn run(self, _: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        let store = Store::read()?;
        let name = self.name.as_deref().unwrap_or_else(|| store.current_name());
        let context = store.named("NAME", name)?;
        let people = format!("{name}\n");
        output::print(&format.one(&ContextView::of(&store, name, context), || people)?)?;
        Ok(0)
    }
}
