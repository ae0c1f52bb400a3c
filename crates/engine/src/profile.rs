//! Seccomp profiles in Docker's JSON format, as a user hands them in.

use tinyd_core::{Error, Result, oci, seccomp_profile::Profile};

use crate::host::Host;

/// The option under which a user names a profile.
const FIELD: &str = "--security-opt";

/// The filter that a profile means for a container with these capabilities on this machine.
pub(crate) fn resolve(text: &str, capabilities: &[String], host: &Host) -> Result<oci::Seccomp> {
    let resolved = Profile::parse(text).and_then(|profile| {
        profile.resolve(capabilities, go_architecture(&host.architecture), host.kernel_version())
    });
    resolved.map_err(|error| {
        let message = format!("seccomp profile: {error}");
        Error::new(error.kind(), message).of_field(FIELD)
    })
}

/// The format's word for the kernel's.
fn go_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
