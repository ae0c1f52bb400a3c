//! Where to ask for a registry: the hosts and what the configuration says about each, in the layouts that people already have. Nothing is
//! asked without TLS, or without a look at the certificate, unless a file says so of that host; the machine itself is no exception.
//!
//! The first of these that knows the registry decides: a directory `certs.d/HOST` ([`certs_d`]), a `[[registry]]` of `registries.conf`
//! ([`registries`]), the directory `certs.d/_default`, and at last the registry's own host.

mod certs_d;
mod registries;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use http::{HeaderName, HeaderValue, Uri};
use tinyd_core::{Error, Kind, Result};

use super::tls::Trust;
use crate::{
    failed,
    reference::{DEFAULT_REGISTRY, Reference},
};

/// Where Docker's registry is.
const DOCKER_HOST: &str = "registry-1.docker.io";
/// The most bytes that a file of the configuration may have.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The files of the configuration.
#[derive(Clone, Debug)]
pub struct HostFiles {
    /// Directories with one directory per registry, the first that has one counts: `hosts.toml` as containerd has it, or Docker's
    /// `ca.crt`, `client.cert` and `client.key`.
    pub certs_d: Vec<PathBuf>,
    /// `registries.conf`, of version 2; beside it `registries.conf.d`.
    pub registries_conf: Vec<PathBuf>,
}

impl Default for HostFiles {
    fn default() -> HostFiles {
        let certs_d = ["/etc/tinyd", "/etc/containerd", "/etc/docker", "/etc/containers"];
        HostFiles {
            certs_d: certs_d.iter().map(|dir| Path::new(dir).join("certs.d")).collect(),
            registries_conf: vec!["/etc/containers/registries.conf".into()],
        }
    }
}

/// What a host is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Can {
    /// Content by digest.
    pub(super) pull: bool,
    /// Tags.
    pub(super) resolve: bool,
    /// Taking content.
    pub(super) push: bool,
}

impl Can {
    pub(super) const ALL: Can = Can { pull: true, resolve: true, push: true };
}

/// One place where a registry's content may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The address of its API, without a slash at the end: `https://registry-1.docker.io/v2`.
    pub(super) base: Uri,
    /// What it calls the repository.
    pub(super) repository: String,
    /// Whose credentials it may see.
    pub(super) account: String,
    /// Whose content a mirror is asked for (containerd's `ns` parameter).
    pub(super) namespace: Option<String>,
    pub(super) can: Can,
    pub(super) trust: Trust,
    /// What is sent along; may be a secret.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl HostFiles {
    /// The places for a reference, in the order in which they are asked; the registry itself is the last.
    ///
    /// # Errors
    /// `InvalidArgument` with file, key and value; `PermissionDenied` for what the configuration blocks.
    pub(super) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        if let Some(found) = certs_d::hosts(&self.certs_d, reference, reference.registry())? {
            return Ok(found);
        }
        if let Some(found) = registries::endpoints(self, reference)? {
            return Ok(found);
        }
        if let Some(found) = certs_d::hosts(&self.certs_d, reference, certs_d::DEFAULT_DIR)? {
            return Ok(found);
        }
        Ok(vec![Endpoint {
            trust: self.trust(reference.registry())?,
            ..Endpoint::own(reference, api(&format!("https://{}", own_host(reference.registry())))?)
        }])
    }

    /// Docker's certificates for a host, wherever there are some.
    fn trust(&self, host: &str) -> Result<Trust> {
        Ok(certs_d::certificates(&self.certs_d, host)?.unwrap_or_default())
    }
}

impl Endpoint {
    /// The registry itself.
    fn own(reference: &Reference, base: Uri) -> Endpoint {
        Endpoint {
            base,
            repository: reference.repository().to_owned(),
            account: reference.registry().to_owned(),
            namespace: None,
            can: Can::ALL,
            trust: Trust::default(),
            headers: Vec::new(),
        }
    }

    /// How people call it: host and port.
    pub(super) fn host(&self) -> &str {
        self.base.authority().map_or("", |authority| authority.as_str())
    }
}

/// The host behind a registry's name.
fn own_host(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { DOCKER_HOST } else { registry }
}

/// The address of the API of a server.
fn api(server: &str) -> Result<Uri> {
    let text = format!("{}/v2", server.trim_end_matches('/'));
    text.parse()
        .map_err(|error| Error::new(Kind::InvalidArgument, format!("{text:?} is no address: {error}")))
}

/// What a file says; `None` when it is not there.
fn read_text(path: &Path) -> Result<Option<String>> {
    let told = |error: io::Error| failed(format_args!("read {path:?}"), error);
    match fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_MAX_BYTES => {
            Err(Error::new(Kind::InvalidArgument, format!("{path:?} has more than {FILE_MAX_BYTES} bytes")))
        }
        Ok(meta) if !meta.is_file() => Ok(None),
        Ok(_) => fs::read_to_string(path).map(Some).map_err(told),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(told(error)),
    }
}

/// A value of a file that breaks a rule.
fn bad_value(path: &Path, key: &str, value: &dyn std::fmt::Debug, rule: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("{path:?}: {key} = {value:?}: {rule}"))
}

/// A file that is no TOML, or has something else where a key is.
fn bad_toml(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let at = line.map(|line| format!(", line {line}")).unwrap_or_default();
    Error::new(Kind::InvalidArgument, format!("{path:?}{at}: {}", error.message()))
}
