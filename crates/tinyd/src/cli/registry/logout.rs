//! `tinyd logout`: forgets the credentials for a registry. The daemon has none to forget.

use clap::Args;
use tinyd_engine::api::{DEFAULT_REGISTRY, registry_of};

use super::stores;
use crate::cli::{
    failure::{Result, warn},
    globals::Globals,
    output,
    verb::Verb,
};

/// Log out of a registry: forget its credentials
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd logout registry.example:5000")]
pub(in crate::cli) struct Logout {
    /// The registry's host [default: docker.io]
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Verb for Logout {
    fn run(self, _: &Globals) -> Result<u8> {
        let registry = registry_of("SERVER", self.server.as_deref().unwrap_or(DEFAULT_REGISTRY))?;
        // Docker's words for both.
        output::print(&match stores::forget(&registry)? {
            true => format!("Removing login credentials for {registry}\n"),
            false => format!("Not logged in to {registry}\n"),
        })?;
        if let Some(path) = stores::elsewhere(&registry) {
            let path = path.display();
            warn(&[format!(
                "{path} has credentials for {registry} too, and they are used: log out with the program that wrote it"
            )]);
        }
        Ok(0)
    }
}
