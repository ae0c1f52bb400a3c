//! Where a registry may send somebody for a token. Who answers there learns a password, so it must belong to whoever the password is for.

use http::Uri;
use tinyd_core::{Error, Kind, Result};

use super::{
    error::shown,
    location::{Origin, with_parameter},
};

/// Checks that `realm` may be asked for tokens of the registry at `registry`, whose host may be spoken to without TLS when `plain`.
///
/// # Errors
/// `PermissionDenied` with both hosts and the rule.
pub(super) fn checked(registry: &Origin, realm: &str, plain: bool) -> Result<Uri> {
    let refused = |rule: &str| {
        let message = format!(
            "{} wants tokens to be fetched from {:?}, which {rule}",
            registry.host,
            shown(realm, 200)
        );
        Error::new(Kind::PermissionDenied, message)
    };
    let uri: Uri = realm.parse().map_err(|_| refused("is no address"))?;
    let there = Origin::of(&uri).map_err(|_| refused("is no address of a host"))?;
    if !there.is_tls && !plain {
        return Err(refused("is not https"));
    }
    if !belong_together(&registry.host, &there.host) {
        return Err(refused("belongs to somebody else"));
    }
    Ok(uri)
}

/// Whether two hosts are one, or have the domain in common that somebody has registered: `registry-1.docker.io` and `auth.docker.io`,
/// but not `a.github.io` and `b.github.io`, nor anything below `co.uk`.
fn belong_together(one: &str, other: &str) -> bool {
    one == other || registered(one).is_some_and(|domain| registered(other) == Some(domain))
}

fn registered(host: &str) -> Option<&str> {
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    if is_address { None } else { psl::domain_str(host.trim_end_matches('.')) }
}

/// The address at which a token is asked for with `GET`.
pub(super) fn question(realm: &Uri, parameters: &[(&str, &str)]) -> Result<Uri> {
    parameters.iter().try_fold(realm.clone(), |uri, (name, value)| with_parameter(&uri, name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(registry: &str, realm: &str, plain: bool) -> Result<Uri> {
        checked(&Origin::of(&registry.parse().unwrap()).unwrap(), realm, plain)
    }

    #[test]
    fn a_token_comes_from_whom_the_registry_belongs_to() {
        for (registry, realm) in [
            ("https://registry-1.docker.io/v2", "https://auth.docker.io/token"),
            ("https://ghcr.io/v2", "https://ghcr.io/token"),
            ("https://registry.gitlab.com/v2", "https://gitlab.com/jwt/auth"),
            ("https://example.co.uk/v2", "https://a.b.example.co.uk/"),
            ("https://127.0.0.1:5000/v2", "https://127.0.0.1:5001/token"),
            ("https://registry:5000/v2", "https://registry/token"),
        ] {
            assert!(check(registry, realm, false).is_ok(), "{registry} {realm}");
        }
    }

    #[test]
    fn a_token_of_somebody_elses_server_is_refused_by_name() {
        for (registry, realm) in [
            ("https://registry-1.docker.io/v2", "https://auth.docker.io.evil.example/token"),
            ("https://registry-1.docker.io/v2", "https://evil-docker.io/token"),
            ("https://a.github.io/v2", "https://b.github.io/"),
            ("https://a.github.io/v2", "https://github.io/"),
            ("https://a.co.uk/v2", "https://b.co.uk/"),
            ("https://a.co.uk/v2", "https://co.uk/"),
            ("https://127.0.0.1/v2", "https://127.0.0.2/"),
            ("https://10.0.0.1/v2", "https://1.0.0.1/"),
            ("https://registry/v2", "https://other/"),
        ] {
            let error = check(registry, realm, false).unwrap_err();
            assert_eq!(error.kind(), Kind::PermissionDenied);
            assert!(error.message().contains(realm) && error.message().contains("somebody else"), "{error}");
        }
    }

    #[test]
    fn a_token_comes_over_tls_unless_the_host_is_insecure() {
        let (registry, realm) = ("http://a.example:5000/v2", "http://a.example:5001/token");
        assert!(check(registry, realm, true).is_ok());
        assert!(check(registry, realm, false).unwrap_err().message().contains("not https"));
        for bad in ["", "token", "file:///etc/passwd", "https://user:word@a.example/"] {
            assert!(!check(registry, bad, true).unwrap_err().message().contains("host's"), "{bad}");
        }
    }
}
