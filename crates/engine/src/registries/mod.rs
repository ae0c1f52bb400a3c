//! Registries as the engine has them: images come from them and go to them. How they are spoken to is `tinyd_image`'s; here the images get
//! their names, and clients are told.

mod login;
mod pull;
mod push;
mod transfer;

use tinyd_image::{
    registry::{Client, Config},
    store::Store,
};

pub(crate) use self::{login::check_login, pull::pull, push::push};

/// Who talks to registries for this store, configured as `docs/registries.md` says.
pub(crate) fn client(store: &Store) -> Client {
    Client::new(store.clone(), Config::default())
}
