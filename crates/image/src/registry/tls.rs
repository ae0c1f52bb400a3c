//! Whom a connection trusts. The authorities are those of the machine (`rustls-native-certs`: what its administrator added or took away
//! counts, as for every other program there) and those that the configuration names for a host. Every choice is made here; it opens
//! no socket.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tinyd_core::{Error, Kind, Result};

/// What the configuration says about trust in one host. The default is TLS with the machine's authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// More authorities: files of PEM.
    pub authorities: Vec<PathBuf>,
    /// What tinyd shows: certificate and key. One file may hold both.
    pub client: Option<(PathBuf, PathBuf)>,
    /// TLS without a look at the certificate.
    pub skip_verify: bool,
    /// No TLS at all is allowed, too.
    pub plain: bool,
}

impl Trust {
    /// The files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let own = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.authorities.iter().chain(own).map(PathBuf::as_path)
    }

    /// What stays of it for another host, to which this one points: its authorities, and nothing that shows who we are or looks away.
    pub(super) fn for_others(&self) -> Trust {
        Trust { authorities: self.authorities.clone(), plain: self.plain, ..Trust::default() }
    }
}

/// The machine's authorities, read once.
static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();

fn system() -> &'static RootCertStore {
    SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // What cannot be read is left out, as everywhere: a connection that needs it says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

/// TLS 1.2 or 1.3 of ring, for one host.
///
/// # Errors
/// `InvalidArgument` with the file and the reason.
pub(super) fn client(trust: &Trust) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = system().clone();
    for path in &trust.authorities {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| bad(path, &error))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Kind::Internal, format!("set up TLS: {error}")))?;
    let builder = if trust.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        builder.with_root_certificates(roots)
    };
    match &trust.client {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| bad(certificate, &error)),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    let all = read.map_err(|error| bad(path, &error))?;
    if all.is_empty() {
        return Err(bad(path, &"it has no certificate"));
    }
    Ok(all)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| bad(path, &error))
}

fn bad(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::InvalidArgument, format!("use {path:?} for a registry: {error}"))
}

/// Takes any certificate, for hosts of which the configuration says so. The signatures are still checked: the peer has the key of what
/// it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_host_is_shown_no_certificate_and_is_looked_at() {
        let trust = Trust {
            authorities: vec!["ca.crt".into()],
            client: Some(("client.cert".into(), "client.key".into())),
            skip_verify: true,
            plain: false,
        };
        let others = Trust { authorities: vec!["ca.crt".into()], ..Trust::default() };
        assert_eq!(trust.for_others(), others);
    }
}
