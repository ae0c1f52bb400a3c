//! `login`: whether a registry takes somebody's credentials. Nothing of them is kept here.

use tinyd_core::Result;

use crate::{
    Inner,
    api::{Credentials, Login, registry_of},
};

/// Asks the registry; what it is called in names of images.
pub(crate) async fn check_login(inner: &Inner, server: &str, login: Login) -> Result<String> {
    let registry = registry_of("SERVER", server)?;
    inner.registries.log_in(&registry, &Credentials::of(&registry, login)).await?;
    Ok(registry)
}
