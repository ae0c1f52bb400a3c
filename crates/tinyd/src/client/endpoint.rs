//! A daemon's address, as a type.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use tinyd_core::{Error, Result};

/// Where a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A socket on this host, absolute.
    Unix(PathBuf),
    /// Another host.
    Tcp {
        /// `HOST:PORT`; an IPv6 address stands in brackets.
        authority: String,
        /// What proves who is who; only an insecure daemon on loopback goes without.
        tls: Option<TlsFiles>,
    },
}

/// PEM files of mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The authority that signed the daemon's certificate.
    pub(crate) ca: PathBuf,
    /// This client's certificate.
    pub(crate) cert: PathBuf,
    /// This client's key.
    pub(crate) key: PathBuf,
}

impl Endpoint {
    /// Reads `unix:///PATH`, `/PATH` or `tcp://HOST:PORT`; `tls` is for the last only.
    ///
    /// # Errors
    /// `InvalidArgument` of `field` with the rule that the text breaks.
    pub(crate) fn parse(field: &str, text: &str, tls: Option<TlsFiles>) -> Result<Endpoint> {
        let bad = |rule: &str| Error::invalid(field, format!("{text:?}{rule}"));
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text)) {
            if !Path::new(path).is_absolute() {
                return Err(bad(": the socket's path is not absolute: unix:///PATH"));
            }
            return Ok(Endpoint::Unix(PathBuf::from(path)));
        }
        let authority = text
            .strip_prefix("tcp://")
            .ok_or_else(|| bad(" is not a daemon's address: unix:///PATH or tcp://HOST:PORT"))?;
        if authority.contains(['/', '@']) || split(authority).is_none() {
            return Err(bad(": a host and a port from 1 to 65535, such as tcp://edge1:9999"));
        }
        Ok(Endpoint::Tcp { authority: authority.to_owned(), tls })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { authority, .. } => write!(f, "tcp://{authority}"),
        }
    }
}

/// The host, without brackets, and the port, 1 to 65535.
pub(super) fn split(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(bare) => bare,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        for text in
            ["unix:///run/tinyd/tinyd.sock", "tcp://edge1:9999", "tcp://[::1]:1", "tcp://10.0.0.1:65535"]
        {
            assert_eq!(Endpoint::parse("--host", text, None).unwrap().to_string(), text);
        }
        assert_eq!(Endpoint::parse("--host", "/x.sock", None).unwrap().to_string(), "unix:///x.sock");
    }

    #[test]
    fn addresses_that_are_none_say_the_rule() {
        for (bad, rule) in [
            ("ftp://x", "unix:///PATH or tcp://HOST:PORT"),
            ("unix://relative", "not absolute"),
            ("tcp://edge", "a host and a port"),
            ("tcp://:80", "a host and a port"),
            ("tcp://edge:0", "a host and a port"),
            ("tcp://edge:99999", "1 to 65535"),
            ("tcp://::1:80", "a host and a port"),
            ("tcp://u@edge:80", "a host and a port"),
            ("", "unix:///PATH"),
        ] {
            let error = Endpoint::parse("--host", bad, None).unwrap_err();
            assert!(error.to_string().contains(rule), "{bad}: {error}");
        }
    }
}
