//! `certs.d/HOST`: `hosts.toml` as containerd reads it (containerd, `docs/hosts.md`), and Docker's certificates beside or instead of it.

use std::{
    fmt, fs,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use http::{HeaderName, HeaderValue, Uri};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use tinyd_core::Result;

use super::{Can, Endpoint, api, bad_toml, bad_value, own_host, read_text};
use crate::{failed, reference::Reference, registry::tls::Trust};

/// The directory for registries without one of their own.
pub(super) const DEFAULT_DIR: &str = "_default";
const FILE: &str = "hosts.toml";

#[derive(Debug, Default, Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: InOrder<Host>,
    #[serde(flatten)]
    own: Host,
}

#[derive(Debug, Default, Deserialize)]
struct Host {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Client>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: InOrder<OneOrMore>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(self) -> Vec<String> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(all) => all,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    /// One file with both, or several.
    Files(OneOrMore),
    /// `[["cert", "key"], …]`.
    Pairs(Vec<Vec<String>>),
}

/// A table whose order counts.
#[derive(Debug)]
struct InOrder<T>(Vec<(String, T)>);

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        InOrder(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Table<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Table<T> {
            type Value = InOrder<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(InOrder(all))
            }
        }
        from.deserialize_map(Table(PhantomData))
    }
}

/// The places that `hosts.toml` names for a registry; `None` when no directory of this name has one.
pub(super) fn hosts(dirs: &[PathBuf], reference: &Reference, name: &str) -> Result<Option<Vec<Endpoint>>> {
    for dir in dirs.iter().flat_map(|dir| names(name).map(|name| dir.join(name))) {
        let path = dir.join(FILE);
        let Some(text) = read_text(&path)? else { continue };
        let file: File = toml::from_str(&text).map_err(|error| bad_toml(&path, &text, &error))?;
        let shared = docker_style(&dir)?.unwrap_or_default();
        return read(&Place { dir: &dir, path: &path, reference, shared }, file).map(Some);
    }
    Ok(None)
}

/// Docker's certificates for a host; `None` when there are none.
pub(super) fn certificates(dirs: &[PathBuf], host: &str) -> Result<Option<Trust>> {
    for dir in dirs.iter().flat_map(|dir| names(host).map(|name| dir.join(name))) {
        if let Some(trust) = docker_style(&dir)? {
            return Ok(Some(trust));
        }
    }
    Ok(None)
}

/// What a directory for a host may be called: `HOST:PORT`, or `HOST_PORT_` where a colon is no good.
fn names(host: &str) -> impl Iterator<Item = String> {
    let plain = host.rsplit_once(':').map(|(name, port)| format!("{name}_{port}_"));
    [Some(host.to_owned()), plain].into_iter().flatten()
}

struct Place<'a> {
    dir: &'a Path,
    path: &'a Path,
    reference: &'a Reference,
    shared: Trust,
}

fn read(place: &Place<'_>, file: File) -> Result<Vec<Endpoint>> {
    let registry = place.reference.registry();
    let mut all = Vec::new();
    for (address, host) in file.host.0 {
        let key = format!("host.{address:?}");
        let base = place.address(&key, &address, host.override_path)?;
        let authority = base.authority().map_or("", |authority| authority.as_str());
        let is_own = authority == own_host(registry);
        let account = if is_own { registry } else { authority }.to_owned();
        let namespace = (!is_own).then(|| registry.to_owned());
        let endpoint = Endpoint { account, namespace, ..Endpoint::own(place.reference, base) };
        all.push(place.settings(&key, endpoint, host)?);
    }
    let base = match file.server.as_deref().filter(|server| !server.is_empty()) {
        Some(server) => place.address("server", server, file.own.override_path)?,
        None => api(&format!("https://{}", own_host(registry)))?,
    };
    all.push(place.settings("", Endpoint::own(place.reference, base), file.own)?);
    Ok(all)
}

impl Place<'_> {
    /// The address of an API as containerd completes it.
    fn address(&self, key: &str, text: &str, is_whole: bool) -> Result<Uri> {
        let rule = |rule: &str| bad_value(self.path, key, &text, rule);
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|_| rule("is no address"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !matches!(scheme, "https" | "http") {
            return Err(rule("is neither https:// nor http://"));
        }
        if uri.query().is_some() || uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(rule("has more than a host, a port and a path"));
        }
        let bare = with_scheme.trim_end_matches('/');
        if is_whole || uri.path().trim_end_matches('/').ends_with("/v2") {
            return bare.parse().map_err(|_| rule("is no address"));
        }
        api(bare)
    }

    fn settings(&self, key: &str, endpoint: Endpoint, host: Host) -> Result<Endpoint> {
        let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        let can = match host.capabilities {
            None => Can::ALL,
            Some(words) => {
                let mut can = Can { pull: false, resolve: false, push: false };
                for word in &words {
                    match word.as_str() {
                        "pull" => can.pull = true,
                        "resolve" => can.resolve = true,
                        "push" => can.push = true,
                        // Of containerd, about what a host may be asked beside content.
                        "dial" | "referrers" => {}
                        _ => {
                            let key = below("capabilities");
                            return Err(bad_value(self.path, &key, word, "pull, resolve or push is known"));
                        }
                    }
                }
                can
            }
        };
        let mut headers = Vec::new();
        for (name, values) in host.header.0 {
            let key = below("header");
            let header: HeaderName =
                name.parse().map_err(|_| bad_value(self.path, &key, &name, "is no header's name"))?;
            for value in values.all() {
                // The value is not told: it may be a password.
                let rule = || bad_value(self.path, &key, &name, "has a value that no header can have");
                let mut value: HeaderValue = value.parse().map_err(|_| rule())?;
                value.set_sensitive(true);
                headers.push((header.clone(), value));
            }
        }
        let mut trust = self.shared.clone();
        trust.skip_verify = host.skip_verify;
        trust.plain = endpoint.base.scheme_str() == Some("http");
        let authorities = host.ca.map(OneOrMore::all).unwrap_or_default();
        trust.authorities.extend(authorities.iter().map(|file| self.dir.join(file)));
        if let Some(client) = host.client {
            trust.client = self.client(&below("client"), client)?;
        }
        Ok(Endpoint { can, trust, headers, ..endpoint })
    }

    /// The first certificate and key: one connection can show only one.
    fn client(&self, key: &str, client: Client) -> Result<Option<(PathBuf, PathBuf)>> {
        let pair = match client {
            Client::Files(files) => files.all().into_iter().next().map(|file| (file.clone(), file)),
            Client::Pairs(pairs) => match pairs.into_iter().next().as_deref() {
                None => None,
                Some([both]) => Some((both.clone(), both.clone())),
                Some([certificate, private]) => {
                    let private = if private.is_empty() { certificate } else { private };
                    Some((certificate.clone(), private.clone()))
                }
                Some(other) => {
                    return Err(bad_value(self.path, key, &other, "is no pair of certificate and key"));
                }
            },
        };
        Ok(pair.map(|(certificate, private)| (self.dir.join(certificate), self.dir.join(private))))
    }
}

/// Every `*.crt` is an authority; the first `NAME.cert` with its `NAME.key` is what we show.
fn docker_style(dir: &Path) -> Result<Option<Trust>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(None) };
    let mut trust = Trust::default();
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(|error| failed(format_args!("read {dir:?}"), error))?.path());
    }
    files.sort();
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => trust.authorities.push(file),
            Some("cert") if trust.client.is_none() => {
                let key = file.with_extension("key");
                if !key.exists() {
                    return Err(bad_value(&file, "client certificate", &key, "its key is not there"));
                }
                trust.client = Some((file, key));
            }
            Some(_) | None => {}
        }
    }
    Ok((trust != Trust::default()).then_some(trust))
}
