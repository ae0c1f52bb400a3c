//! Where an answer points to: `Location` and `Link` against the address that was asked (RFC 3986, section 5.2, as far as HTTP needs it).

use http::Uri;
use tinyd_core::{Error, Kind, Result};

use super::error::shown;

/// Scheme, host and port: what a browser calls an origin. Credentials never leave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) is_tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// The origin of a whole address.
    pub(super) fn of(uri: &Uri) -> Result<Origin> {
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(bad(&uri.to_string(), "is neither https nor http")),
        };
        let authority = uri.authority().ok_or_else(|| bad(&uri.to_string(), "has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("an address", "has a user in it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(bad(&uri.to_string(), "has no host"));
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Origin { is_tls, host, port })
    }
}

/// What `to` means for somebody who asked `from`.
///
/// # Errors
/// `InvalidArgument` for what is no address, or has a user in it.
pub(super) fn resolve(from: &Uri, to: &str) -> Result<Uri> {
    let to = to.split('#').next().unwrap_or_default().trim();
    let scheme = from.scheme_str().unwrap_or("https");
    let authority = from.authority().map_or("", |authority| authority.as_str());
    let path = from.path();
    let whole = if is_absolute(to) {
        to.to_owned()
    } else if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else if to.is_empty() || to.starts_with('?') {
        format!("{scheme}://{authority}{path}{to}")
    } else {
        let directory = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        format!("{scheme}://{authority}{directory}{to}")
    };
    let uri: Uri = whole.parse().map_err(|_| bad(to, "is no address"))?;
    Origin::of(&uri)?;
    Ok(uri)
}

/// The address with one more parameter.
pub(super) fn with_parameter(uri: &Uri, name: &str, value: &str) -> Result<Uri> {
    let joint = if uri.query().is_some() { '&' } else { '?' };
    let text = format!("{uri}{joint}{name}={}", percent(value));
    text.parse().map_err(|_| bad(&text, "is no address"))
}

/// A value as it stands in a query.
pub(super) fn percent(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn is_absolute(to: &str) -> bool {
    to.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

fn bad(what: &str, rule: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("the registry points to {:?}, which {rule}", shown(what, 200)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_from_where_one_stands() {
        let from: Uri = "https://a.example:5000/v2/x/blobs/uploads/?a=b".parse().unwrap();
        for (to, whole) in [
            ("https://b.example/y", "https://b.example/y"),
            ("//b.example/y", "https://b.example/y"),
            ("/v2/y?s=1", "https://a.example:5000/v2/y?s=1"),
            ("id?s=1", "https://a.example:5000/v2/x/blobs/uploads/id?s=1"),
            ("?s=1", "https://a.example:5000/v2/x/blobs/uploads/?s=1"),
            ("/y?back=http://c", "https://a.example:5000/y?back=http://c"),
        ] {
            assert_eq!(resolve(&from, to).unwrap().to_string(), whole, "{to}");
        }
        for bad in
            ["file:///etc/passwd", "ftp://a/", "https://user:word@b.example/", "https://", "http://[::1/"]
        {
            let error = resolve(&from, bad).unwrap_err();
            assert!(!error.message().contains("word"), "{error}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let of = |text: &str| Origin::of(&text.parse().unwrap()).unwrap();
        assert_eq!(of("https://A.example/x"), of("https://a.example:443/y"));
        assert_ne!(of("https://a.example"), of("http://a.example"));
        assert_ne!(of("https://a.example"), of("https://a.example:444"));
        assert_eq!(of("https://[::1]:5000/").host, "::1");
    }

    #[test]
    fn a_parameter_is_escaped_and_appended() {
        let uri: Uri = "https://a/x?s=1".parse().unwrap();
        assert_eq!(
            with_parameter(&uri, "digest", "sha256:ab").unwrap().to_string(),
            "https://a/x?s=1&digest=sha256%3Aab"
        );
    }
}
