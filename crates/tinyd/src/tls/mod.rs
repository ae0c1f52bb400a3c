//! Mutual TLS 1.3, of ring, with every choice made here: who is trusted, what is offered, and what a refusal means in words.
//! It opens no socket.

pub(crate) mod cert;
mod files;
mod refusal;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use files::{Files, PemFile};
pub(crate) use refusal::{of_client, of_daemon};
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier, version::TLS13};
use tinyd_core::{Error, Kind, Result};

/// The one protocol that is spoken inside.
const ALPN: &[u8] = b"h2";

/// A daemon's side: only clients whose certificate the authority signed for client authentication come in.
///
/// # Errors
/// `InvalidArgument` of the flag whose file cannot be used, with the file and the reason.
pub(crate) fn daemon(files: &Files<'_>) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(authority(files)?, Arc::clone(&provider))
        .build()
        .map_err(|error| files.ca.bad(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(internal)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(files.cert.certificates()?, files.key.key()?)
        .map_err(|error| files.mismatch(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A ticket would let a client come back without its certificate being looked at again.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// A client's side: only a daemon whose certificate the authority signed for server authentication and for its name is spoken to.
///
/// # Errors
/// `InvalidArgument` of the flag whose file cannot be used, with the file and the reason.
pub(crate) fn client(files: &Files<'_>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(internal)?
        .with_root_certificates(authority(files)?)
        .with_client_auth_cert(files.cert.certificates()?, files.key.key()?)
        .map_err(|error| files.mismatch(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn authority(files: &Files<'_>) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in files.ca.certificates()? {
        roots.add(certificate).map_err(|error| files.ca.bad(&error))?;
    }
    Ok(Arc::new(roots))
}

fn internal(error: rustls::Error) -> Error {
    Error::new(Kind::Internal, format!("set up TLS 1.3: {error}"))
}
