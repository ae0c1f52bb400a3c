//! `tinyd context ls`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::store::{Context, DEFAULT, Store};
use crate::cli::{failure::Result, format::Format, globals::Globals, output, table::Table, verb::Verb};

/// List the daemons that have names
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd context ls\n  tinyd context ls --format json")]
pub(in crate::cli) struct Ls {
    /// json, or a template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names only
    #[arg(long, short)]
    quiet: bool,
}

/// A context in JSON and templates.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::cli) struct ContextView {
    name: String,
    current: bool,
    host: String,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

impl ContextView {
    pub(in crate::cli) fn of(store: &Store, name: &str, context: Context) -> ContextView {
        let Context { host, tls_ca, tls_cert, tls_key } = context;
        ContextView {
            name: name.to_owned(),
            current: store.current_name() == name,
            host,
            tls_ca,
            tls_cert,
            tls_key,
        }
    }
}

impl Verb for Ls {
    fn run(self, _: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        let views = views(&Store::read()?)?;
        let text = if self.quiet {
            views.iter().map(|view| format!("{}\n", view.name)).collect()
        } else {
            format.list(&views, || table(&views))?
        };
        output::print(&text)?;
        Ok(0)
    }
}

fn views(store: &Store) -> tinyd_core::Result<Vec<ContextView>> {
    let mut views = vec![ContextView::of(store, DEFAULT, store.named("context", DEFAULT)?)];
    views.extend(store.contexts.iter().map(|(name, context)| ContextView::of(store, name, context.clone())));
    Ok(views)
}

fn table(views: &[ContextView]) -> String {
    let mut table = Table::new(&["NAME", "CURRENT", "HOST", "TLS"]);
    for view in views {
        let mark = |yes: bool, word: &str| if yes { word.to_owned() } else { String::new() };
        table.row([
            view.name.clone(),
            mark(view.current, "*"),
            view.host.clone(),
            mark(view.tls_ca.is_some(), "mutual"),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_in_use_is_marked() {
        let mut store = Store::default();
        store.contexts.insert("edge".into(), Context { host: "tcp://e:1".into(), ..Context::default() });
        store.current = Some("edge".into());
        assert_eq!(
            table(&views(&store).unwrap()),
            "NAME     CURRENT  HOST                          TLS\n\
             default  -        unix:///run/tinyd/tinyd.sock  -\n\
             edge     *        tcp://e:1                     -\n"
        );
    }
}
