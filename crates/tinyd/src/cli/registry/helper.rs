//! Helper programs that keep credentials, as Docker has them: `docker-credential-NAME get`, `store` or `erase`, with what it is about on its
//! standard input. No secret is an argument, and nothing that a helper says of a secret is shown.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Kind, Result};
use tinyd_engine::api::{Helper, Login};

/// Who it is when there is only a token (Docker's convention).
const TOKEN_USER: &str = "<token>";
/// What helpers say of a registry that they do not know.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The most characters of what a helper says that are shown.
const SHOWN_MAX_CHARS: usize = 200;

/// What a helper takes and gives.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// Asks for credentials; `None` when it has none.
///
/// # Errors
/// `Unavailable` with the program's name and what it says.
pub(super) fn get(helper: &Helper) -> Result<Option<Login>> {
    let said = match talk(helper, "get", &helper.key)? {
        Ok(said) => said,
        Err(why) if why.trim() == NOT_FOUND => return Ok(None),
        Err(why) => return Err(refused(helper, "get", &why)),
    };
    // Of what cannot be read nothing is told: there is a secret in it.
    let kept: Kept = serde_json::from_str(&said).map_err(|_| {
        Error::new(Kind::Unavailable, format!("{} get: its answer is not what it should be", program(helper)))
    })?;
    Ok(Some(match kept.username.as_str() {
        TOKEN_USER => Login::IdentityToken(kept.secret),
        _ => Login::Password { username: kept.username, password: kept.secret },
    }))
}

/// Has it keep credentials.
///
/// # Errors
/// As [`get`].
pub(super) fn store(helper: &Helper, login: &Login) -> Result<()> {
    let (username, secret) = match login {
        Login::Password { username, password } => (username.as_str(), password),
        Login::IdentityToken(token) => (TOKEN_USER, token),
    };
    let kept = Kept { server: helper.key.clone(), username: username.to_owned(), secret: secret.clone() };
    let text = serde_json::to_string(&kept).map_err(|error| Error::internal(&error))?;
    talk(helper, "store", &text)?.map(drop).map_err(|why| refused(helper, "store", &why))
}

/// Has it forget credentials; whether it had any.
///
/// # Errors
/// As [`get`].
pub(super) fn erase(helper: &Helper) -> Result<bool> {
    match talk(helper, "erase", &helper.key)? {
        Ok(_) => Ok(true),
        Err(why) if why.trim() == NOT_FOUND => Ok(false),
        Err(why) => Err(refused(helper, "erase", &why)),
    }
}

/// What it says, if it ends well; else what it says of why not. Its standard error is the user's.
fn talk(helper: &Helper, verb: &str, input: &str) -> Result<std::result::Result<String, String>> {
    let program = program(helper);
    let told = |source: io::Error| {
        let is_missing = source.kind() == io::ErrorKind::NotFound;
        let why = if is_missing { "there is no such program on PATH".to_owned() } else { source.to_string() };
        Error::new(Kind::Unavailable, format!("{program} {verb}: {why}"))
    };
    let mut command = Command::new(&program);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(told)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read says why by how it ends.
        let _ = stdin.write_all(input.as_bytes());
    }
    let out = child.wait_with_output().map_err(told)?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(if out.status.success() { Ok(said) } else { Err(said) })
}

fn program(helper: &Helper) -> String {
    format!("docker-credential-{}", helper.name)
}

fn refused(helper: &Helper, verb: &str, why: &str) -> Error {
    let why = match why.trim() {
        "" => "it failed and did not say why".to_owned(),
        why => why.chars().take(SHOWN_MAX_CHARS).collect(),
    };
    Error::new(Kind::Unavailable, format!("{} {verb}: {why}", program(helper)))
}
