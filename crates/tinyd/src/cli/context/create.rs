//! `tinyd context create`.

use std::path::{Path, PathBuf};

use clap::Args;
use tinyd_core::{Error, Kind, Name};

use super::store::{Context, DEFAULT, Store};
use crate::cli::{failure::Result, globals::Globals, host, output, verb::Verb};

/// Give a daemon a name
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tinyd context create edge1 --host tcp://edge1:9999 --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem"
)]
pub(in crate::cli) struct Create {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
    /// Use it from now on
    #[arg(long = "use")]
    and_use: bool,
}

impl Verb for Create {
    fn run(self, globals: &Globals) -> Result<u8> {
        Name::parse("NAME", &self.name)?;
        let mut store = Store::read()?;
        if self.name == DEFAULT || store.contexts.contains_key(&self.name) {
            let taken =
                format!("there is a context {:?} already (tinyd context rm takes it away)", self.name);
            return Err(Error::new(Kind::AlreadyExists, taken).of_field("NAME").into());
        }
        let host = globals
            .host
            .clone()
            .ok_or_else(|| Error::invalid("--host", "missing: a context is the name of a host"))?;
        let context = Context {
            host,
            tls_ca: absolute("--tlscacert", globals.tlscacert.as_deref())?,
            tls_cert: absolute("--tlscert", globals.tlscert.as_deref())?,
            tls_key: absolute("--tlskey", globals.tlskey.as_deref())?,
        };
        host::endpoint("--host", &context)?;
        store.contexts.insert(self.name.clone(), context);
        if self.and_use {
            store.current = Some(self.name.clone());
        }
        store.write()?;
        output::print(&format!("{}\n", self.name))?;
        Ok(0)
    }
}

/// The file's absolute path: a context works from every directory.
fn absolute(field: &str, path: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(path) = path else { return Ok(None) };
    let absolute =
        path.canonicalize().map_err(|error| Error::invalid(field, format!("{}: {error}", path.display())))?;
    Ok(Some(absolute))
}
