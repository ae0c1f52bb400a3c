//! References: what people call images, by Docker's rules (distribution/reference `regexp.go`): `redis` is
//! `docker.io/library/redis:latest`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Result};

use crate::digest::Digest;

/// The registry of a name that says none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of a name that says none.
pub const DEFAULT_TAG: &str = "latest";
/// Bytes that registry and repository may have together.
const NAME_MAX_BYTES: usize = 255;
/// Bytes that a tag may have.
const TAG_MAX_BYTES: usize = 128;

/// A checked reference: a repository of a registry, and in it a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads what a user has written, of which `field` is the option or argument. Without tag and digest it is `latest`.
    ///
    /// # Errors
    /// `InvalidArgument` with the part and the rule that it breaks.
    pub fn parse(field: &str, text: &str) -> Result<Reference> {
        let reference = split(text)
            .map_err(|rule| Error::invalid(field, format!("{text:?} is not an image's name: {rule}")))?;
        Ok(match reference {
            Reference { tag: None, digest: None, .. } => reference.with_tag(DEFAULT_TAG),
            named => named,
        })
    }

    /// A name without a tag: a repository.
    ///
    /// # Errors
    /// As [`Reference::parse`]; a tag or a digest is one, too.
    pub fn parse_repository(field: &str, text: &str) -> Result<Reference> {
        let reference = split(text)
            .map_err(|rule| Error::invalid(field, format!("{text:?} is not a repository's name: {rule}")))?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(Error::invalid(
                field,
                format!("{text:?} has a tag or a digest: a repository alone is meant"),
            ));
        }
        Ok(reference)
    }

    /// `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/redis`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `7`.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// What it must be, whatever the tag says.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository's image of another tag. The tag is taken as it is.
    #[must_use]
    pub(crate) fn with_tag(&self, tag: &str) -> Reference {
        Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// The same repository's content of a digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The name as people write it, without what they leave out: `redis`, `ghcr.io/a/b`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned()
    }

    /// [`Reference::familiar_name`] with tag and digest: `redis:7`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    /// The whole name: `docker.io/library/redis:7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(format!("{}/{}", self.registry, self.repository)))
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        Reference::parse("IMAGE", text)
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Reference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

/// The parts of a name; or the rule that it breaks.
fn split(text: &str) -> std::result::Result<Reference, String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            (rest, Some(digest.parse::<Digest>().map_err(|error| error.message().to_owned())?))
        }
        None => (text, None),
    };
    // The last colon behind the last slash: a registry may have a port.
    let path_at = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[path_at..].rfind(':') {
        Some(colon) => (&rest[..path_at + colon], Some(&rest[path_at + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if digest.is_none()
        && tag.is_none()
        && name.len() == 64
        && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Err("64 hexadecimal digits are an id".into());
    }
    let (registry, repository) = split_registry(name);
    check_registry(registry)?;
    let repository = match registry {
        DEFAULT_REGISTRY if !repository.contains('/') => format!("library/{repository}"),
        _ => repository.to_owned(),
    };
    for component in repository.strip_prefix("library/").unwrap_or(&repository).split('/') {
        check_component(component)?;
    }
    if registry.len() + 1 + repository.len() > NAME_MAX_BYTES {
        return Err(format!("it has more than {NAME_MAX_BYTES} bytes"));
    }
    Ok(Reference { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
}

/// What is before the first slash is a registry when it cannot be a part of a repository's name.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        Some(_) | None => (DEFAULT_REGISTRY, name),
    }
}

fn check_registry(registry: &str) -> std::result::Result<(), String> {
    let bad = || Err(format!("{registry:?} is not a registry's host, with or without a port"));
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("ipv6", port),
            Some(_) | None => return bad(),
        },
        None => registry.split_at(registry.find(':').unwrap_or(registry.len())),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => port.is_empty(),
    };
    if !host.split('.').all(label) || !port_is_good {
        return bad();
    }
    Ok(())
}

/// Lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn check_component(component: &str) -> std::result::Result<(), String> {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_are_words = bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    let mut separators = bytes.split(|byte| word(*byte)).filter(|run| !run.is_empty());
    let separator = |run: &[u8]| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-');
    if ends_are_words && separators.all(separator) {
        return Ok(());
    }
    if component.is_empty() {
        return Err("a part of it is empty".into());
    }
    if component.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("{component:?} has upper-case letters"));
    }
    Err(format!(
        "{component:?} is not lower-case letters and digits, with '.', '_', '__' or '-' between them"
    ))
}

fn check_tag(tag: &str) -> std::result::Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = tag.len() <= TAG_MAX_BYTES
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    if good {
        return Ok(());
    }
    Err(format!(
        "the tag {tag:?} is not letters, digits, '_', '.' and '-', at most {TAG_MAX_BYTES}, a letter, digit or '_' first"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_left_out_is_dockers() {
        for (text, whole, familiar) in [
            ("redis", "docker.io/library/redis:latest", "redis:latest"),
            ("redis:7", "docker.io/library/redis:7", "redis:7"),
            ("docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
            ("index.docker.io/library/redis", "docker.io/library/redis:latest", "redis:latest"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest", "bitnami/redis:latest"),
            ("localhost/redis", "localhost/redis:latest", "localhost/redis:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("ghcr.io/a/b_c/d--e.f:V1.0-x", "ghcr.io/a/b_c/d--e.f:V1.0-x", "ghcr.io/a/b_c/d--e.f:V1.0-x"),
            ("Host/redis", "Host/redis:latest", "Host/redis:latest"),
            ("[::1]:5000/redis", "[::1]:5000/redis:latest", "[::1]:5000/redis:latest"),
        ] {
            let reference = Reference::parse("IMAGE", text).unwrap();
            assert_eq!(reference.to_string(), whole);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(Reference::parse("IMAGE", familiar).unwrap(), reference);
        }
    }

    #[test]
    fn a_digest_stands_alone_or_beside_a_tag() {
        let digest = Digest::of(b"");
        let pinned = Reference::parse("IMAGE", &format!("redis@{digest}")).unwrap();
        assert_eq!((pinned.tag(), pinned.digest()), (None, Some(&digest)));
        let both = Reference::parse("IMAGE", &format!("redis:7@{digest}")).unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("7"), Some(&digest)));
        assert_eq!(both.with_digest(digest), pinned);
        let error = Reference::parse_repository("IMAGE", "redis:7").unwrap_err();
        assert!(error.message().contains("has a tag"), "{error}");
        assert_eq!(
            Reference::parse_repository("IMAGE", "redis").unwrap().to_string(),
            "docker.io/library/redis"
        );
    }

    #[test]
    fn what_is_no_name_says_why() {
        let long = "a".repeat(300);
        let id = "0".repeat(64);
        for (bad, rule) in [
            ("", "empty"),
            ("/redis", "empty"),
            ("redis/", "empty"),
            ("a//b", "empty"),
            ("Redis", "upper-case"),
            ("localhost:5000/Redis", "upper-case"),
            ("re dis", "lower-case letters"),
            ("redis\n", "lower-case letters"),
            ("-redis", "lower-case letters"),
            ("a___b", "lower-case letters"),
            ("a/../b", "lower-case letters"),
            ("redis:", "tag"),
            ("redis:-x", "tag"),
            (&format!("redis:{}", &long[..129]), "tag"),
            ("redis@sha256:12", "64"),
            ("redis@", "not a digest"),
            ("host:99999/redis", "registry"),
            ("host:/redis", "registry"),
            ("-host.io/redis", "registry"),
            ("[::z]/redis", "registry"),
            (&id, "an id"),
            (&long, "255 bytes"),
        ] {
            let error = Reference::parse("IMAGE", bad).unwrap_err();
            assert!(error.message().contains(rule), "{bad:?}: {error}");
            assert_eq!(error.field(), Some("IMAGE"));
        }
    }

    proptest! {
        #[test]
        fn a_whole_name_reads_as_itself(text in "([a-zA-Z.:]{0,9}/)?[a-z0-9._/-]{1,12}(:[a-zA-Z0-9._-]{0,5})?") {
            if let Ok(reference) = Reference::parse("IMAGE", &text) {
                prop_assert_eq!(Reference::parse("IMAGE", &reference.to_string()).unwrap(), reference.clone());
                prop_assert_eq!(Reference::parse("IMAGE", &reference.familiar()).unwrap(), reference);
            }
        }
    }
}
