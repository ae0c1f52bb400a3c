//! Messages that carry secrets, as logs and panics show them: without.

use std::fmt;

use super::{RegistryLogin, RegistryPassword, registry_login::Login};

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryLogin").field("registry", &self.registry).field("login", &self.login).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::Password(password) => password.fmt(f),
            Login::IdentityToken(_) => f.write_str("IdentityToken(..)"),
        }
    }
}

impl fmt::Debug for RegistryPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryPassword").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::{CheckLoginRequest, PullImageRequest, PushImageRequest};

    #[test]
    fn no_request_shows_a_secret() {
        let password = RegistryPassword { username: "who".into(), password: "correct horse".into() };
        for login in [Login::Password(password), Login::IdentityToken("correct horse".into())] {
            let login = RegistryLogin { registry: "a.example".into(), login: Some(login) };
            let logins = vec![login.clone()];
            let shown = format!(
                "{:?} {:#?} {:?}",
                PullImageRequest { logins: logins.clone(), ..PullImageRequest::default() },
                PushImageRequest { logins, ..PushImageRequest::default() },
                CheckLoginRequest { login: Some(login) },
            );
            assert!(shown.contains("a.example") && !shown.contains("horse"), "{shown}");
        }
    }
}
