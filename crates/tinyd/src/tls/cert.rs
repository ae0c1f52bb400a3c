//! `tinyd cert`: an authority of one's own, and certificates for daemons and clients. Nothing is ever overwritten unasked, and a
//! key is readable by its owner alone from the first byte.

#![expect(clippy::wildcard_enum_match_arm, reason = "the libraries' enums of errors are open")]

use std::{
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose as Usage, SanType,
};
use tinyd_core::{Error, Kind, Result};

/// The longest common name, in bytes (RFC 5280 A.1).
const COMMON_NAME_MAX: usize = 64;
/// The longest validity, in days.
const DAYS_MAX: u32 = 36_500;
/// How long before now a certificate begins, so that a clock that is a little behind takes it.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// An authority to make.
#[derive(Clone, Debug)]
pub(crate) struct CaOptions {
    /// The directory for `ca.pem` and `ca-key.pem`; made if missing, 0700.
    pub(crate) out: PathBuf,
    /// Its common name; "tinyd authority of HOST" when absent.
    pub(crate) name: Option<String>,
    /// How long it is valid; [`CaOptions::DAYS`] when absent.
    pub(crate) days: Option<u32>,
    /// Whether files that are there are replaced.
    pub(crate) force: bool,
}

/// A daemon's or client's certificate to make.
#[derive(Clone, Debug)]
pub(crate) struct LeafOptions {
    /// The directory that holds `ca.pem` and `ca-key.pem`.
    pub(crate) ca: PathBuf,
    /// The directory for the certificate and its key; made if missing, 0700.
    pub(crate) out: PathBuf,
    /// Its common name; a server's first host or "tinyd client" when absent.
    pub(crate) name: Option<String>,
    /// Names and addresses under which clients reach the daemon; a server needs one, a client none.
    pub(crate) hosts: Vec<String>,
    /// How long it is valid; [`LeafOptions::SERVER_DAYS`] or [`LeafOptions::CLIENT_DAYS`] when absent.
    pub(crate) days: Option<u32>,
    /// Whether files that are there are replaced.
    pub(crate) force: bool,
}

impl CaOptions {
    /// Ten years.
    pub(crate) const DAYS: u32 = 3650;
}

impl LeafOptions {
    /// The longest that most TLS libraries take of a server.
    pub(crate) const SERVER_DAYS: u32 = 825;
    /// A year.
    pub(crate) const CLIENT_DAYS: u32 = 365;
}

/// What was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// The certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, PEM, mode 0600.
    pub(crate) key: PathBuf,
}

/// Makes an authority: `ca.pem` and `ca-key.pem`.
///
/// # Errors
/// `AlreadyExists` when one of the files is there; `InvalidArgument` of the option that breaks a rule.
pub(crate) fn ca(options: &CaOptions) -> Result<Made> {
    let host = rustix::system::uname();
    let own = format!("tinyd authority of {}", host.nodename().to_string_lossy());
    // A host's name may have as many bytes as a common name has in all.
    let own = &own[..own.floor_char_boundary(COMMON_NAME_MAX)];
    let mut params = params(options.name.as_deref().unwrap_or(own), options.days.unwrap_or(CaOptions::DAYS))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![Usage::KeyCertSign, Usage::CrlSign, Usage::DigitalSignature];
    let key = generate()?;
    let certificate = params.self_signed(&key).map_err(signing)?;
    save(&options.out, ["ca", "ca-key"], options.force, &certificate.pem(), &key)
}

/// Makes a daemon's certificate: `server-cert.pem` and `server-key.pem`.
///
/// # Errors
/// `NotFound` without an authority; `AlreadyExists` when one of the files is there; `InvalidArgument` of the option that breaks a
/// rule.
pub(crate) fn server(options: &LeafOptions) -> Result<Made> {
    let Some(first) = options.hosts.first() else {
        return Err(Error::invalid(
            "--host",
            "missing: the names and addresses under which clients reach the daemon, such as edge1 or 10.0.0.7",
        ));
    };
    let name = options.name.as_deref().unwrap_or(first);
    leaf(options, name, LeafOptions::SERVER_DAYS, Purpose::ServerAuth, ["server-cert", "server-key"])
}

/// Makes a client's certificate: `cert.pem` and `key.pem`, the names that `TINYD_CERT_PATH` looks for.
///
/// # Errors
/// As [`server`].
pub(crate) fn client(options: &LeafOptions) -> Result<Made> {
    let name = options.name.as_deref().unwrap_or("tinyd client");
    leaf(options, name, LeafOptions::CLIENT_DAYS, Purpose::ClientAuth, ["cert", "key"])
}

/// The common name in a certificate, if it has one that can be printed.
pub(crate) fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    (!name.chars().any(char::is_control)).then(|| name.to_owned())
}

/// Makes a certificate for one purpose.
fn leaf(options: &LeafOptions, name: &str, days: u32, purpose: Purpose, stems: [&str; 2]) -> Result<Made> {
    let mut params = params(name, options.days.unwrap_or(days))?;
    params.subject_alt_names = options.hosts.iter().map(|host| alternative(host)).collect::<Result<_>>()?;
    params.extended_key_usages = vec![purpose];
    sign(options, params, stems)
}

/// Has the authority sign it, for a new key.
fn sign(options: &LeafOptions, mut params: CertificateParams, stems: [&str; 2]) -> Result<Made> {
    let authority = Authority::read(&options.ca)?;
    // A certificate that outlives its authority would promise what nobody can check.
    params.not_after = params.not_after.min(authority.not_after.into());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![Usage::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = generate()?;
    let certificate = params.signed_by(&key, &authority.issuer).map_err(signing)?;
    save(&options.out, stems, options.force, &certificate.pem(), &key)
}

/// What signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

impl Authority {
    fn read(dir: &Path) -> Result<Authority> {
        let (cert, key) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    let missing =
                        format!("{}: there is no authority: make one with tinyd cert ca", path.display());
                    Error::new(Kind::NotFound, missing).of_field("--ca")
                }
                _ => Error::invalid("--ca", format!("{}: {error}", path.display())),
            })
        };
        let (cert_pem, key_pem) = (read(&cert)?, read(&key)?);
        let bad = |path: &Path, reason: &dyn std::fmt::Display| {
            Error::invalid("--ca", format!("{}: {reason}", path.display()))
        };
        let pair = KeyPair::from_pem(&key_pem).map_err(|error| bad(&key, &error))?;
        let facts = Facts::read(&cert_pem).map_err(|reason| bad(&cert, &reason))?;
        if !facts.is_ca {
            return Err(bad(&cert, &"it is not an authority's certificate"));
        }
        if facts.public_key != rcgen::PublicKeyData::subject_public_key_info(&pair) {
            return Err(bad(
                &key,
                &format_args!("this is not the key of the certificate {}", cert.display()),
            ));
        }
        if facts.not_after <= SystemTime::now() {
            return Err(bad(&cert, &"the authority has expired: make another with tinyd cert ca --force"));
        }
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, pair).map_err(|error| bad(&cert, &error))?;
        Ok(Authority { issuer, not_after: facts.not_after })
    }
}

/// What is looked at in a certificate that was made earlier.
struct Facts {
    is_ca: bool,
    public_key: Vec<u8>,
    not_after: SystemTime,
}

impl Facts {
    fn read(pem: &str) -> Result<Facts, String> {
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| format!("not PEM: {error}"))?;
        let certificate = pem.parse_x509().map_err(|error| format!("not a certificate: {error}"))?;
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Facts {
            is_ca: certificate.is_ca(),
            public_key: certificate.public_key().raw.to_vec(),
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        })
    }
}

/// What every certificate of ours has: a common name, and a validity that begins a little before now.
fn params(name: &str, days: u32) -> Result<CertificateParams> {
    if name.is_empty() || name.len() > COMMON_NAME_MAX || name.chars().any(char::is_control) {
        return Err(Error::invalid(
            "--name",
            format!("{name:?} is not a common name: 1 to {COMMON_NAME_MAX} bytes, no control character"),
        ));
    }
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(Error::invalid("--days", format!("{days} is out of range: 1 to {DAYS_MAX}")));
    }
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "tinyd");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

/// A name or address as it stands in a certificate.
fn alternative(host: &str) -> Result<SanType> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || Error::invalid("--host", format!("{host:?} is neither a host's name nor an address"));
    rustls::pki_types::DnsName::try_from(host.strip_prefix("*.").unwrap_or(host)).map_err(|_| bad())?;
    Ok(SanType::DnsName(host.try_into().map_err(|_| bad())?))
}

/// A key on the curve P-256, which everything that speaks TLS 1.3 knows.
fn generate() -> Result<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(signing)
}

/// Writes a certificate and its key; both or neither.
fn save(dir: &Path, stems: [&str; 2], force: bool, certificate: &str, key: &KeyPair) -> Result<Made> {
    use std::os::unix::fs::DirBuilderExt;
    let [cert_path, key_path] = stems.map(|stem| dir.join(format!("{stem}.pem")));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| unwritable(dir, &error))?;
    let taken = [&cert_path, &key_path].into_iter().find(|path| path.symlink_metadata().is_ok());
    if let Some(taken) = taken.filter(|_| !force) {
        let there = format!("{} is there already: --force replaces it", taken.display());
        return Err(Error::new(Kind::AlreadyExists, there).of_field("--out"));
    }
    write_new(&key_path, force, 0o600, key.serialize_pem().as_bytes())?;
    write_new(&cert_path, force, 0o644, certificate.as_bytes()).inspect_err(|_| {
        // A key without a certificate is of no use to anybody.
        let _ = fs::remove_file(&key_path);
    })?;
    Ok(Made { certificate: cert_path, key: key_path })
}

/// Writes a file that was not there; `force` takes away the one that was. Never through a link, never into another's file.
fn write_new(path: &Path, force: bool, mode: u32, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        if force && path.symlink_metadata().is_ok() {
            fs::remove_file(path)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
        io::ErrorKind::AlreadyExists => Kind::AlreadyExists,
        _ => Kind::Internal,
    };
    Error::new(kind, format!("{}: {error}", path.display())).of_field("--out")
}

fn signing(error: rcgen::Error) -> Error {
    Error::new(Kind::Internal, format!("make a certificate: {error}"))
}

/// A client's certificate whose time is over, for tests: nobody can ask for one.
#[cfg(test)]
pub(super) fn expired_client(options: &LeafOptions) -> Result<Made> {
    let mut params = params("late", 1)?;
    params.not_before = (SystemTime::now() - DAY * 2).into();
    params.not_after = (SystemTime::now() - DAY).into();
    params.extended_key_usages = vec![Purpose::ClientAuth];
    sign(options, params, ["cert", "key"])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tinyd-cert-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn authority(out: &Path) -> CaOptions {
        CaOptions { out: out.to_owned(), name: None, days: None, force: false }
    }

    fn signed(dir: &Path, hosts: &[&str]) -> LeafOptions {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        LeafOptions { ca: dir.to_owned(), out: dir.to_owned(), name: None, hosts, days: None, force: false }
    }

    #[test]
    fn files_are_private_and_never_overwritten_unasked() {
        let dir = scratch("files");
        let made = ca(&authority(&dir)).unwrap();
        assert_eq!(fs::metadata(&made.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let before = fs::read(&made.key).unwrap();
        assert_eq!(ca(&authority(&dir)).unwrap_err().kind(), Kind::AlreadyExists);
        assert_eq!(fs::read(&made.key).unwrap(), before);
        ca(&CaOptions { force: true, ..authority(&dir) }).unwrap();
        assert_ne!(fs::read(&made.key).unwrap(), before);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_leaf_does_not_outlive_its_authority() {
        let dir = scratch("days");
        let made = ca(&CaOptions { days: Some(10), ..authority(&dir) }).unwrap();
        let server = server(&signed(&dir, &["edge1", "10.0.0.7", "::1"])).unwrap();
        let until = |path: &Path| Facts::read(&fs::read_to_string(path).unwrap()).unwrap().not_after;
        assert_eq!(until(&server.certificate), until(&made.certificate));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_cannot_be_made_is_told() {
        let dir = scratch("bad");
        let missing = client(&signed(&dir, &[])).unwrap_err();
        assert_eq!((missing.kind(), missing.field()), (Kind::NotFound, Some("--ca")));
        ca(&authority(&dir)).unwrap();
        assert_eq!(server(&signed(&dir, &[])).unwrap_err().field(), Some("--host"));
        assert_eq!(server(&signed(&dir, &["a b"])).unwrap_err().field(), Some("--host"));
        assert_eq!(
            client(&LeafOptions { days: Some(0), ..signed(&dir, &[]) }).unwrap_err().field(),
            Some("--days")
        );
        fs::copy(dir.join("ca-key.pem"), dir.join("saved")).unwrap();
        ca(&CaOptions { force: true, ..authority(&dir) }).unwrap();
        fs::copy(dir.join("saved"), dir.join("ca-key.pem")).unwrap();
        assert!(client(&signed(&dir, &[])).unwrap_err().message().contains("not the key of the certificate"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
