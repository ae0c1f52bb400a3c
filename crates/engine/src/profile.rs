//! Seccomp profiles in Docker's JSON format, as a user hands them in.

use tinyd_core::{Error, Result, oci};

use crate::host::Host;

/// The option under which a user names a profile.
const FIELD: &str = "--security-opt";

/// The filter that a profile means for a container with these capabilities on this machine.
pub(crate) fn resolve(text: &str, _capabilities: &[String], _host: &Host) -> Result<oci::Seccomp> {
    serde_json::from_str(text)
        .map_err(|source| Error::invalid(FIELD, format!("the seccomp profile is not valid: {source}")))
}
