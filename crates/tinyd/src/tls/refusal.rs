//! Why a handshake was refused, in words that say what to do. In TLS 1.3 a client learns that its certificate was refused only by
//! an alert after its own handshake is over, so both directions are told here.

#![expect(clippy::wildcard_enum_match_arm, reason = "the libraries' enums of errors are open")]

use std::io;

use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as Tls, PeerIncompatible as Gap};

/// For the daemon's log: why it refused a client, or the client went away.
pub(crate) fn of_client(error: &io::Error) -> String {
    match tls(error) {
        Some(Tls::NoCertificatesPresented) => "no client certificate was given".to_owned(),
        Some(Tls::InvalidCertificate(bad)) => {
            format!("client certificate is {}", fault(bad, "client authentication"))
        }
        Some(Tls::AlertReceived(alert)) => {
            format!("the client refused this daemon's certificate: {}", word(*alert))
        }
        Some(Tls::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        Some(Tls::PeerIncompatible(
            Gap::SupportedVersionsExtensionRequired | Gap::Tls12NotOfferedOrEnabled,
        )) => "it does not speak TLS 1.3".to_owned(),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "it hung up during the handshake".to_owned(),
        None => error.to_string(),
    }
}

/// For a client's user: why the daemon was refused, or refused this client.
pub(crate) fn of_daemon(error: &io::Error) -> String {
    match tls(error) {
        Some(Tls::InvalidCertificate(bad)) => {
            format!("the daemon's certificate is {}", fault(bad, "server authentication"))
        }
        Some(Tls::AlertReceived(alert)) => refused(*alert),
        Some(Tls::InvalidMessage(_)) => "what listens there does not speak TLS".to_owned(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

/// What the daemon said of this client's certificate.
fn refused(alert: Alert) -> String {
    let why = match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            "it wants a client certificate and none was given"
        }
        // A certificate of an authority of the same name, such as one that was made anew, is bad only in its signature.
        Alert::UnknownCA | Alert::DecryptError => {
            "the client certificate (--tlscert) is not signed by the authority that the daemon trusts"
        }
        Alert::CertificateExpired => "the client certificate (--tlscert) has expired or is not valid yet",
        Alert::UnsupportedCertificate => {
            "the certificate (--tlscert) is not for client authentication: make one with tinyd cert client"
        }
        Alert::CertificateRevoked => "the client certificate (--tlscert) is revoked",
        Alert::BadCertificate | Alert::CertificateUnknown => {
            "the client certificate (--tlscert) is not one that it takes"
        }
        Alert::ProtocolVersion => "it does not speak TLS 1.3",
        Alert::NoApplicationProtocol => "it does not speak HTTP/2",
        other => return format!("the daemon refused the handshake: {}", word(other)),
    };
    format!("the daemon refused this client: {why}")
}

/// What is wrong with a certificate, after "is".
fn fault(bad: &Bad, purpose: &str) -> String {
    match bad {
        Bad::Expired | Bad::ExpiredContext { .. } => "expired".to_owned(),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => "not valid yet".to_owned(),
        Bad::UnknownIssuer | Bad::BadSignature => "not signed by this side's authority".to_owned(),
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => format!("not for {purpose}"),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => format!("for another name: {bad}"),
        Bad::Revoked => "revoked".to_owned(),
        Bad::BadEncoding => "malformed".to_owned(),
        other => format!("not acceptable: {other}"),
    }
}

fn word(alert: Alert) -> String {
    alert.as_str().map_or_else(|| format!("alert {}", u8::from(alert)), str::to_owned)
}

/// The TLS library's own error inside an input or output error.
fn tls(error: &io::Error) -> Option<&Tls> {
    error.get_ref()?.downcast_ref()
}
