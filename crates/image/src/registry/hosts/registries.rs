//! `registries.conf` of version 2 and the files of `registries.conf.d` (containers-registries.conf(5)): where a registry's content is, its
//! mirrors, what is insecure and what is blocked. Short names are not for a daemon to guess: `unqualified-search-registries` and
//! aliases are not looked at.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tinyd_core::{Error, Kind, Result};

use super::{Can, Endpoint, HostFiles, api, bad_toml, bad_value, own_host, read_text};
use crate::{reference::Reference, registry::tls::Trust};

#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<Registry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

/// The places for a reference; `None` when no `[[registry]]` is for it.
pub(super) fn endpoints(files: &HostFiles, reference: &Reference) -> Result<Option<Vec<Endpoint>>> {
    let name = format!("{}/{}", reference.registry(), reference.repository());
    let mut best: Option<(String, Registry, PathBuf)> = None;
    for path in all_files(&files.registries_conf)? {
        let Some(text) = read_text(&path)? else { continue };
        let file: File = toml::from_str(&text).map_err(|error| bad_toml(&path, &text, &error))?;
        for registry in file.registry {
            let prefix = checked_prefix(&path, &registry)?;
            // Of equals the later file counts.
            let is_better = best.as_ref().is_none_or(|(other, _, _)| prefix.len() >= other.len());
            if is_better && rest_of(&name, &prefix).is_some() {
                best = Some((prefix, registry, path.clone()));
            }
        }
    }
    let Some((prefix, registry, path)) = best else { return Ok(None) };
    if registry.blocked {
        let message = format!("{reference} is blocked by {path:?}: registry {prefix:?}");
        return Err(Error::new(Kind::PermissionDenied, message));
    }
    let rest = rest_of(&name, &prefix).unwrap_or_default();
    let asked = Asked { files, path: &path, reference };
    let mut all = Vec::new();
    for mirror in &registry.mirror {
        let can = match mirror.pull_from_mirror.as_str() {
            "" | "all" if registry.mirror_by_digest_only => (true, false),
            "" | "all" => (true, true),
            "digest-only" => (true, false),
            // Content is pulled by digest once the tag is known, so a mirror for tags has both.
            "tag-only" => (reference.digest().is_none(), true),
            other => {
                let rule = "all, digest-only or tag-only is known";
                return Err(bad_value(&path, "registry.mirror.pull-from-mirror", &other, rule));
            }
        };
        let can = Can { pull: can.0, resolve: can.1, push: false };
        all.extend(asked.place("registry.mirror.location", &mirror.location, rest, mirror.insecure, can)?);
    }
    let location = match registry.location.as_str() {
        "" => name.strip_suffix(rest).unwrap_or(&name).to_owned(),
        location => location.to_owned(),
    };
    let own = asked.place("registry.location", &location, rest, registry.insecure, Can::ALL)?;
    // Wherever the registry itself is said to be, it is that registry.
    all.extend(own.into_iter().map(|own| Endpoint { account: reference.registry().to_owned(), ..own }));
    Ok(Some(all))
}

struct Asked<'a> {
    files: &'a HostFiles,
    path: &'a Path,
    reference: &'a Reference,
}

impl Asked<'_> {
    /// A location and the rest of the name. What is insecure may speak TLS with whatever certificate, or none.
    fn place(
        &self,
        key: &str,
        location: &str,
        rest: &str,
        insecure: bool,
        can: Can,
    ) -> Result<Vec<Endpoint>> {
        let whole = format!("{location}{rest}");
        let rule = "is no host with a repository";
        let there = Reference::parse_repository(key, &whole)
            .map_err(|error| bad_value(self.path, key, &location, error.message()))?;
        let host = location.split('/').next().unwrap_or_default();
        if host.is_empty() || host.contains("://") {
            return Err(bad_value(self.path, key, &location, rule));
        }
        let trust = self.files.trust(there.registry())?;
        let endpoint = |scheme: &str, trust: Trust| -> Result<Endpoint> {
            let base = api(&format!("{scheme}://{}", own_host(there.registry())))?;
            Ok(Endpoint {
                repository: there.repository().to_owned(),
                account: there.registry().to_owned(),
                can,
                trust,
                ..Endpoint::own(self.reference, base)
            })
        };
        if !insecure {
            return Ok(vec![endpoint("https", trust)?]);
        }
        let unverified = Trust { skip_verify: true, ..trust };
        Ok(vec![endpoint("https", unverified)?, endpoint("http", Trust { plain: true, ..Trust::default() })?])
    }
}

fn checked_prefix(path: &Path, registry: &Registry) -> Result<String> {
    let prefix = if registry.prefix.is_empty() { &registry.location } else { &registry.prefix };
    if prefix.is_empty() {
        return Err(bad_value(
            path,
            "registry.location",
            &registry.location,
            "prefix or location must be there",
        ));
    }
    if prefix.starts_with("*.") && !registry.location.is_empty() && registry.prefix.starts_with("*.") {
        // Which part of the name the location replaces would be a guess.
        return Err(bad_value(
            path,
            "registry.location",
            &registry.location,
            "must be empty beside a prefix of *.",
        ));
    }
    Ok(prefix.trim_end_matches('/').to_owned())
}

/// What of a name is behind a prefix, if it is one: it ends where a part of the name does.
fn rest_of<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let (host, _) = name.split_once('/')?;
        let host = host.split(':').next().unwrap_or(host);
        return host.ends_with(domain).then(|| &name[name.find('/').unwrap_or(name.len())..]);
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn all_files(main: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in main {
        all.push(path.clone());
        let mut dir = path.clone().into_os_string();
        dir.push(".d");
        let Ok(entries) = fs::read_dir(PathBuf::from(dir)) else { continue };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
            .collect();
        files.sort();
        all.extend(files);
    }
    Ok(all)
}
