//! `tinyd login`: asks the registry whether it takes a name and a password, and only then keeps them.

use clap::Args;
use tinyd_core::{Error, Result as Checked};
use tinyd_engine::api::{DEFAULT_REGISTRY, Login as Credential, registry_of};

use super::{message, secret, stores};
use crate::{
    cli::{
        failure::{Result, warn},
        globals::Globals,
        output,
        remote::answer,
        verb::Verb,
    },
    pb,
};

/// Log in to a registry
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd login\n  tinyd login -u ann --password-stdin registry.example:5000 <password.txt\n\nAsks for what is not given. The daemon asks the registry; then ~/.config/tinyd/auth.json (0600) has the\ncredentials, or the helper that its credsStore or credHelpers names."
)]
pub(in crate::cli) struct Login {
    /// The name
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// The password or token; whoever lists processes sees it: better use --password-stdin
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<Secret>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// The registry's host [default: docker.io]
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// A word that is not shown.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Checked<Secret, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}

impl Verb for Login {
    fn run(self, globals: &Globals) -> Result<u8> {
        let registry = registry_of("SERVER", self.server.as_deref().unwrap_or(DEFAULT_REGISTRY))?;
        let login = self.credential()?;
        globals.online(async move |remote| {
            let request = pb::CheckLoginRequest { login: Some(message(&registry, login.clone())) };
            let checked = answer(remote.registries().check_login(request)).await?;
            stores::keep(&checked.registry, &login)?;
            output::print("Login Succeeded\n")?;
            Ok(0)
        })
    }
}

impl Login {
    fn credential(self) -> Result<Credential> {
        let username = match self.username {
            Some(name) if name.is_empty() => {
                return Err(Error::invalid("--username", "it is empty").into());
            }
            Some(name) => name,
            None => secret::username()?,
        };
        let password = match self.password {
            Some(Secret(password)) => {
                warn(&[
                    "a password on the command line is seen by whoever lists processes: --password-stdin"
                        .to_owned(),
                ]);
                password
            }
            None if self.password_stdin => secret::from_stdin()?,
            None => secret::password()?,
        };
        Ok(Credential::Password { username, password })
    }
}
