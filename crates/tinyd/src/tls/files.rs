//! The three PEM files of mutual TLS. An error names the file and the flag it was given with.

#![expect(clippy::wildcard_enum_match_arm, reason = "the libraries' enums of errors are open")]

use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tinyd_core::{Error, Result, error::chain};

/// A PEM file and the flag that named it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PemFile<'a> {
    /// `--tls-ca` and so on.
    pub(crate) flag: &'static str,
    /// Where it is.
    pub(crate) path: &'a Path,
}

/// What proves who is who.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'a> {
    /// The authority that signs the other side's certificates.
    pub(crate) ca: PemFile<'a>,
    /// This side's certificate, and those between it and the authority.
    pub(crate) cert: PemFile<'a>,
    /// This side's key.
    pub(crate) key: PemFile<'a>,
}

impl<'a> PemFile<'a> {
    /// Every certificate in it; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let certificates = CertificateDer::pem_file_iter(self.path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| self.unreadable(error))?;
        if certificates.is_empty() {
            return Err(self.bad(&"there is no certificate in it"));
        }
        Ok(certificates)
    }

    /// The first private key in it.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>> {
        use rustls::pki_types::pem::Error as Pem;
        PrivateKeyDer::from_pem_file(self.path).map_err(|error| match error {
            Pem::NoItemsFound => self.bad(&"there is no private key in it"),
            other => self.unreadable(other),
        })
    }

    /// The file cannot be used.
    pub(super) fn bad(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::invalid(self.flag, format!("{}: {reason}", self.path.display()))
    }

    fn unreadable(&self, error: rustls::pki_types::pem::Error) -> Error {
        use rustls::pki_types::pem::Error as Pem;
        match error {
            Pem::Io(error) => self.bad(&error),
            other => self.bad(&format_args!("not PEM: {}", chain(&other))),
        }
    }
}

impl Files<'_> {
    /// Certificate and key do not go together, or rustls does not take one of them.
    pub(super) fn mismatch(&self, error: &rustls::Error) -> Error {
        let (cert, key) = (self.cert.path.display(), self.key.path.display());
        match error {
            rustls::Error::InconsistentKeys(_) => self
                .key
                .bad(&format_args!("this is not the key of the certificate {cert} ({})", self.cert.flag)),
            other => self.cert.bad(&format_args!("certificate with the key {key}: {other}")),
        }
    }
}
