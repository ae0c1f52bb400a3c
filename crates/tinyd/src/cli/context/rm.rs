//! `tinyd context rm`.

use clap::Args;
use tinyd_core::{Error, Kind};

use super::store::Store;
use crate::cli::{
    failure::{Result, say},
    globals::Globals,
    output,
    verb::Verb,
};

/// Take names of daemons away
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd context rm edge1")]
pub(in crate::cli) struct Rm {
    /// Names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Also the one in use: then it is this host's daemon again
    #[arg(long, short)]
    force: bool,
}

impl Verb for Rm {
    fn run(self, _: &Globals) -> Result<u8> {
        let mut store = Store::read()?;
        let mut code = 0;
        for name in &self.names {
            match take(&mut store, name, self.force) {
                Ok(()) => output::print(&format!("{name}\n"))?,
                Err(error) => {
                    say(&error.to_string());
                    code = 1;
                }
            }
        }
        store.write()?;
        Ok(code)
    }
}

fn take(store: &mut Store, name: &str, force: bool) -> tinyd_core::Result<()> {
    let in_use = store.current_name() == name;
    if in_use && !force && store.contexts.contains_key(name) {
        return Err(Error::new(
            Kind::WrongState,
            format!("the context {name:?} is in use: --force takes it away all the same"),
        ));
    }
    if store.contexts.remove(name).is_none() {
        return Err(Error::new(Kind::NotFound, format!("there is no context {name:?} to take away")));
    }
    if in_use {
        store.current = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::store::Context;

    #[test]
    fn the_one_in_use_is_kept_unless_forced() {
        let mut store = Store::default();
        store.contexts.insert("edge".into(), Context::default());
        store.current = Some("edge".into());
        assert!(take(&mut store, "edge", false).unwrap_err().to_string().contains("--force"));
        take(&mut store, "edge", true).unwrap();
        assert_eq!(store, Store::default());
        assert!(take(&mut store, "edge", true).is_err());
        assert!(take(&mut store, "default", true).is_err());
    }
}
