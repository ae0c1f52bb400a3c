//! Keeps the runtime's own file out of reach: a container's root that is the host's root could write it through
//! /proc/PID/exe while the runtime is inside (CVE-2019-5736).
//!
//! The runtime executes itself once more from a read-only mount of its own file that is attached nowhere: no copy is made, and
//! what is opened through /proc/PID/exe is on that mount. Where there are no detached mounts it is copied to a sealed memory file.

use std::{
    ffi::CString,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
};

use rustix::fs::{Access, AtFlags, CWD, MemfdFlags, SealFlags, accessat};
use serde::Deserialize;
use tinyd_core::{Error, Kind, Result, json, oci};
use tinyd_sys::{
    mount::{self, Attr},
    process::{self, Strings},
};

use crate::{
    caller::Caller,
    launch::{kernel, step},
};

/// Says that this is the second execution, so that there is never a third.
const MARK: &str = "TINYRUN_SEALED=1";

/// What has to be known of a configuration for that.
#[derive(Default, Deserialize)]
struct Peek {
    #[serde(default)]
    linux: Option<PeekLinux>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PeekLinux {
    uid_mappings: Option<Vec<oci::IdMapping>>,
    namespaces: Option<Vec<oci::Namespace>>,
}

impl Peek {
    /// Whether the container's root may write what belongs to the host's root. In doubt it may: what is wrong with the configuration
    /// is told by who reads all of it.
    fn root_is_the_hosts(&self) -> bool {
        let Some(linux) = &self.linux else { return true };
        let is_new_user = |namespace: &oci::Namespace| {
            namespace.kind == oci::NamespaceKind::User && namespace.path.as_deref().is_none_or(str::is_empty)
        };
        let maps = linux.uid_mappings.as_deref().unwrap_or_default();
        let has_users = linux.namespaces.iter().flatten().any(is_new_user);
        !has_users || maps.is_empty() || maps.iter().any(|range| range.host_id == 0)
    }
}

/// Keeps the runtime's own file out of the container's reach, when its root could write it.
///
/// # Errors
/// As [`require_unwritable_image`].
pub(super) fn protect(config: &[u8], caller: Caller) -> Result<()> {
    if is_second_life() || caller.is_rootless() || root_is_the_hosts(config) {
        return require_unwritable_image(caller);
    }
    Ok(())
}

fn is_second_life() -> bool {
    std::env::var_os("TINYRUN_SEALED").is_some()
}

/// As [`Peek::root_is_the_hosts`], without reading much of a configuration that does not have the word. One that spells it with escapes
/// is protected for nothing.
fn root_is_the_hosts(config: &[u8]) -> bool {
    let may_map = std::str::from_utf8(config).is_ok_and(|text| text.contains("uidMappings"));
    !may_map || json::read::<Peek>(config).unwrap_or_default().root_is_the_hosts()
}

/// Comes back when this process's image cannot be written through /proc. Otherwise the process begins again from one that cannot.
///
/// # Errors
/// When there is no way to one.
pub(super) fn require_unwritable_image(caller: Caller) -> Result<()> {
    if caller.is_rootless() && is_somebody_elses(caller) {
        return Ok(());
    }
    if process::own_image_is_unwritable().map_err(step("look at the runtime's own file"))? {
        return Ok(());
    }
    if is_second_life() {
        return Err(Error::new(
            Kind::Internal,
            "the runtime's own file cannot be protected from the container",
        ));
    }
    let image = match read_only_view() {
        Ok(image) => image,
        Err(_) => sealed_copy()?,
    };
    let args = std::env::args_os().map(|arg| c_string(arg.into_vec())).collect();
    let env =
        std::env::vars_os().map(|(key, value)| c_string([key.into_vec(), value.into_vec()].join(&b'=')));
    let env = env.chain([c_string(MARK.into())]).collect();
    let error = process::execve_fd(image.as_fd(), &Strings::new(args), &Strings::new(env));
    Err(step("execute the runtime again")(error))
}

/// Whether the file belongs to somebody whom a container of this caller's cannot be, and is not for others to write.
fn is_somebody_elses(caller: Caller) -> bool {
    let own = c"/proc/self/exe";
    let writes = accessat(CWD, own, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    let is_roots = rustix::fs::stat(own).is_ok_and(|stat| stat.st_uid == 0);
    // Root of a user namespace may write what belongs to anybody in it.
    !writes && (matches!(caller, Caller::Namespace { .. }) || is_roots)
}

fn c_string(bytes: Vec<u8>) -> CString {
    // Arguments and environment came from C strings.
    CString::new(bytes).unwrap_or_default()
}

fn read_only_view() -> tinyd_sys::Result<OwnedFd> {
    let view = mount::clone_path(c"/proc/self/exe", false)?;
    mount::set_attr(view.as_fd(), Attr { set: Attr::RDONLY, ..Attr::default() }, false)?;
    Ok(view)
}

fn sealed_copy() -> Result<OwnedFd> {
    let failed = |error: rustix::io::Errno| kernel("copy the runtime's own file", &error);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create(c"tinyrun", flags).map_err(failed)?;
    let mut own =
        std::fs::File::open("/proc/self/exe").map_err(|error| kernel("open(/proc/self/exe)", &error))?;
    let mut file = std::fs::File::from(copy);
    std::io::copy(&mut own, &mut file).map_err(|error| kernel("copy the runtime's own file", &error))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(failed)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_the_hosts(config: &str) -> bool {
        root_is_the_hosts(config.as_bytes())
    }

    #[test]
    fn the_hosts_root_is_who_is_not_mapped_elsewhere() {
        let with = |host: u32, namespaces: &str| {
            format!(
                r#"{{"x":1,"linux":{{"uidMappings":[{{"containerID":0,"hostID":{host},"size":9}}],"namespaces":{namespaces}}}}}"#
            )
        };
        let user = r#"[{"type":"mount"},{"type":"user"}]"#;
        assert!(!is_the_hosts(&with(100_000, user)));
        assert!(!is_the_hosts(&with(100_000, r#"[{"type":"user","path":""}]"#)));
        assert!(is_the_hosts(&with(0, user)));
        assert!(is_the_hosts(&with(100_000, r#"[{"type":"user","path":"/proc/1/ns/user"}]"#)));
        assert!(is_the_hosts(&with(100_000, "null")));
        for config in ["{}", "nonsense", r#"{"linux":null}"#, r#"{"linux":{"namespaces":[{"type":"user"}]}}"#]
        {
            assert!(is_the_hosts(config), "{config}");
        }
    }
}
