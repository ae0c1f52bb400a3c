//! Names and passwords: Docker's `config.json`, tinyd's `auth.json` of the same shape, and what a call takes along. No helper program is
//! ever run here; [`AuthFile::helper`] says which one a command line would ask. No secret is in what `Debug` writes.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};
use tinyd_core::{Error, Kind, Result};

use crate::{
    failed,
    reference::{DEFAULT_REGISTRY, Reference},
};

/// Docker's name for its own registry in such a file.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// Who it is when there is only a token (Docker's convention).
const TOKEN_USER: &str = "<token>";

/// How somebody shows who they are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Login {
    /// With a password.
    Password {
        /// Who.
        username: String,
        /// The password.
        password: String,
    },
    /// With a token that a token server has given (OAuth 2's refresh token).
    IdentityToken(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::Password { username, .. } => {
                f.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Login::IdentityToken(_) => f.write_str("IdentityToken(..)"),
        }
    }
}

/// What a call may show, by the registry that it is for: `docker.io`, `mirror.example:5000`. Each goes to that registry and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, Login>);

impl Credentials {
    /// For one registry.
    #[must_use]
    pub fn of(registry: &str, login: Login) -> Credentials {
        Credentials::default().with(registry, login)
    }

    /// For one registry more, or a mirror.
    #[must_use]
    pub fn with(mut self, registry: &str, login: Login) -> Credentials {
        self.0.insert(normal(registry), login);
        self
    }

    /// Those for a registry.
    #[must_use]
    pub fn for_registry(&self, registry: &str) -> Option<&Login> {
        self.0.get(&normal(registry))
    }
}

/// The helper program that a file names for a registry: `docker-credential-NAME get` with the key on its standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// `pass`, `secretservice`.
    pub name: String,
    /// What the helper knows the registry by.
    pub key: String,
}

/// A file of credentials, with all that is in it.
#[derive(Clone)]
pub struct AuthFile {
    path: PathBuf,
    all: Map<String, Value>,
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl AuthFile {
    /// Reads a file; one that is not there is empty.
    ///
    /// # Errors
    /// `InvalidArgument` with the file and the rule that it breaks (never with what is in it), or the call and the errno.
    pub fn read(path: &Path) -> Result<AuthFile> {
        let path = path.to_owned();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(AuthFile { path, all: Map::new() });
            }
            Err(error) => return Err(failed(format_args!("read {path:?}"), error)),
        };
        // Of serde's message only the place is told: the rest may quote a password.
        let all = serde_json::from_slice(&bytes).map_err(|error| {
            bad(&path, &format!("is no JSON object: line {}, column {}", error.line(), error.column()))
        })?;
        Ok(AuthFile { path, all })
    }

    /// The credentials for a repository of a registry, if the file has them itself: of several the one that says most of the repository's
    /// name. "" is the registry itself.
    ///
    /// # Errors
    /// `InvalidArgument` with the file and the registry.
    pub fn login(&self, registry: &str, repository: &str) -> Result<Option<Login>> {
        let Some(Value::Object(auths)) = self.all.get("auths") else { return Ok(None) };
        let wanted = normal(registry);
        let matching = auths.iter().filter(|(key, _)| normal(key) == wanted);
        let ranked = matching.filter_map(|found| Some((covers(found.0, repository)?, found)));
        let best = ranked.max_by_key(|(length, _)| *length);
        let Some((_, (key, entry))) = best else { return Ok(None) };
        let text = |name: &str| {
            entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Login::IdentityToken(token)));
        }
        if let Some(packed) = text("auth") {
            let rule = || {
                bad(&self.path, &format!("has an \"auth\" of {key:?} that is not name:password in base64"))
            };
            let bytes = BASE64_STANDARD.decode(packed.trim()).map_err(|_| rule())?;
            let text = String::from_utf8(bytes).map_err(|_| rule())?;
            let (username, password) = text.split_once(':').ok_or_else(rule)?;
            // Docker pads what it writes with zeros.
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Login::Password { username: username.to_owned(), password }));
        }
        Ok(match (text("username"), text("password")) {
            (Some(username), Some(password)) => Some(Login::Password { username, password }),
            (_, _) => None,
        })
    }

    /// Which helper the file wants to be asked for a registry. It goes before what the file has itself, as with Docker.
    #[must_use]
    pub fn helper(&self, registry: &str) -> Option<Helper> {
        let wanted = normal(registry);
        let own = self.all.get("credHelpers").and_then(Value::as_object);
        let own = own.and_then(|all| all.iter().find(|(key, _)| normal(key) == wanted));
        let store = self.all.get("credsStore");
        let name = own.map(|(_, name)| name).or(store)?.as_str()?;
        // A name becomes part of a program's name: it must not become a path.
        let is_plain = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let key = if wanted == DEFAULT_REGISTRY { DOCKER_KEY.to_owned() } else { wanted };
        is_plain.then(|| Helper { name: name.to_owned(), key })
    }

    /// Puts credentials in, for [`AuthFile::write`].
    pub fn set(&mut self, registry: &str, login: &Login) {
        self.remove(registry);
        let entry = match login {
            Login::Password { username, password } => {
                serde_json::json!({ "auth": BASE64_STANDARD.encode(format!("{username}:{password}")) })
            }
            Login::IdentityToken(token) => serde_json::json!({
                "auth": BASE64_STANDARD.encode(format!("{TOKEN_USER}:")),
                "identitytoken": token,
            }),
        };
        let key = if normal(registry) == DEFAULT_REGISTRY { DOCKER_KEY.to_owned() } else { normal(registry) };
        let auths = self.all.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key, entry);
        }
    }

    /// Takes credentials out, for [`AuthFile::write`]. Whether there were any.
    pub fn remove(&mut self, registry: &str) -> bool {
        let Some(Value::Object(auths)) = self.all.get_mut("auths") else { return false };
        let before = auths.len();
        let wanted = normal(registry);
        auths.retain(|key, _| normal(key) != wanted);
        auths.len() != before
    }

    /// Replaces the file, readable for its owner alone.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn write(&self) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(&self.all)
            .map_err(|error| Error::new(Kind::Internal, format!("write {:?}: {error}", self.path)))?;
        bytes.push(b'\n');
        if let Some(dir) = self.path.parent()
            && !dir.exists()
        {
            fs::create_dir_all(dir).map_err(|error| failed(format_args!("make {dir:?}"), error))?;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
                .map_err(|error| failed(format_args!("chmod {dir:?}"), error))?;
        }
        tinyd_sys::fs::write_atomic(&self.path, &bytes).map_err(|error| crate::failed_call(&error))
    }
}

/// The registry that somebody means who writes a host or an address of one: `https://index.docker.io/v1/` is `docker.io`.
///
/// # Errors
/// `InvalidArgument` of `field` when it is no registry's host.
pub fn registry_of(field: &str, server: &str) -> Result<String> {
    let rule =
        || Error::invalid(field, format!("{server:?} is not a registry's host, with or without a port"));
    let host = normal(server.trim());
    // A repository of it, so that a host is told from a repository of Docker's registry.
    let any = Reference::parse_repository(field, &format!("{host}/any")).map_err(|_| rule())?;
    if any.registry() == host { Ok(host) } else { Err(rule()) }
}

/// A registry as a file may call it, as tinyd does: no scheme, no path, and Docker's own by one name.
fn normal(key: &str) -> String {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => DEFAULT_REGISTRY.to_owned(),
        other => other.to_ascii_lowercase(),
    }
}

/// How much of a repository's name a key says, if it is for that repository: `quay.io/team` is for `team/app` (containers-auth.json(5)). What
/// follows an address (`https://index.docker.io/v1/`), or is only a version, is Docker's, and no repository.
fn covers(key: &str, repository: &str) -> Option<usize> {
    let path = key.split_once('/').map_or("", |(_, path)| path.trim_end_matches('/'));
    if key.contains("://") || matches!(path, "" | "v1" | "v2") {
        return Some(0);
    }
    let rest = repository.strip_prefix(path)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(path.len())
}

fn bad(path: &Path, rule: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("{path:?} {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_for_a_registry_the_nearest_to_the_repository_counts() {
        let path = std::env::temp_dir().join(format!("tinyd-auths-{}", std::process::id()));
        let entry = |who: &str| serde_json::json!({ "username": who, "password": "x" });
        let auths = serde_json::json!({ "auths": {
            "quay.io/team/app": entry("app"), "quay.io": entry("all"), "quay.io/team": entry("team"),
            "https://index.docker.io/v1/": entry("docker"), "a.example/only": entry("only"),
        } });
        fs::write(&path, auths.to_string()).unwrap();
        let file = AuthFile::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        for (registry, repository, who) in [
            ("quay.io", "team/app", Some("app")),
            ("quay.io", "team/application", Some("team")),
            ("quay.io", "teams", Some("all")),
            ("quay.io", "", Some("all")),
            ("docker.io", "library/redis", Some("docker")),
            ("a.example", "only/this", Some("only")),
            ("a.example", "other", None),
            ("a.example", "", None),
        ] {
            let found = file.login(registry, repository).unwrap();
            let wanted = who.map(|who| Login::Password { username: who.into(), password: "x".into() });
            assert_eq!(found, wanted, "{registry} {repository}");
        }
    }

    #[test]
    fn a_registry_is_known_by_whatever_people_call_it() {
        for (text, registry) in [
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("https://ghcr.io", "ghcr.io"),
            ("Registry.Example:5000/v2/\n", "registry.example:5000"),
            ("localhost", "localhost"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(registry_of("SERVER", text).unwrap(), registry, "{text}");
        }
        // A word alone is a repository of Docker's, and a host only with a dot or a port.
        for bad in ["", "/", "redis", "a b", "host:99999", "-x.example", "a.example@b", "\u{1b}[2J.example"] {
            let error = registry_of("SERVER", bad).unwrap_err();
            assert_eq!(error.field(), Some("SERVER"), "{bad:?}");
            assert!(!error.message().contains('\u{1b}'), "{error}");
        }
    }
}
