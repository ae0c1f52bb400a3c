//! Who asks registries: `tinyd login` and `tinyd logout`, and what of it is told to the daemon with a call. Files and helper programs of
//! credentials are the user's: this side alone reads them.

mod helper;
pub(super) mod login;
pub(super) mod logout;
mod secret;
mod stores;

use tinyd_engine::api::{Login, Reference};

use super::failure::Result;
use crate::pb;

/// What there is to show to the registry of an image, or of a repository. A name that is none is the daemon's to refuse.
pub(super) fn logins(image: &str) -> Result<Vec<pb::RegistryLogin>> {
    let Ok(reference) = Reference::parse("NAME", image) else { return Ok(Vec::new()) };
    let login = stores::find(reference.registry(), reference.repository())?;
    Ok(login.map(|login| message(reference.registry(), login)).into_iter().collect())
}

fn message(registry: &str, login: Login) -> pb::RegistryLogin {
    let login = match login {
        Login::Password { username, password } => {
            pb::registry_login::Login::Password(pb::RegistryPassword { username, password })
        }
        Login::IdentityToken(token) => pb::registry_login::Login::IdentityToken(token),
    };
    pb::RegistryLogin { registry: registry.to_owned(), login: Some(login) }
}
