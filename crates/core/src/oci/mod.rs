//! The OCI runtime specification's `config.json` (1.3) as types.
//!
//! Fields are named as in the specification; absent fields are left out when written. Nothing here has an opinion:
//! defaults are the specification's, never a profile.

mod linux;
mod names;
mod process;
mod seccomp;
mod state;

use std::collections::BTreeMap;

pub use linux::*;
pub use names::Names;
pub use process::*;
pub use seccomp::*;
use serde::{Deserialize, Serialize};
pub use state::*;

/// The version of the specification that [`Spec`] follows.
pub const OCI_VERSION: &str = "1.3.0";

/// `config.json` (config.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// SemVer of the specification that the bundle follows.
    pub oci_version: String,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Mounts beside the root, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// The first process. `start` needs it, `create` does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The UTS namespace's hostname.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The UTS namespace's domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Programs run at points of the lifecycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Arbitrary metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The root file system (config.md, Root).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: String,
    /// Whether it is read-only inside.
    #[serde(skip_serializing_if = "is_false")]
    pub readonly: bool,
}

/// One mount (config.md, Mounts).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where, absolute in the container.
    pub destination: String,
    /// The file system type; `bind` or nothing with a bind option.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What: a path for bind mounts, a name otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// fstab-style options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// User mappings of an idmapped mount; the container's own when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group mappings of an idmapped mount; the container's own when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// Hooks by point (config.md, POSIX-platform Hooks).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Deprecated: after the namespaces, before pivot_root, in the runtime's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// Before pivot_root, in the runtime's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// Before pivot_root, in the container's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// Before the process, in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// After the process has started, in the runtime's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// After deletion, in the runtime's namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hook {
    /// An absolute path.
    pub path: String,
    /// argv, with argv[0].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// KEY=VALUE.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds until it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_spec_writes_only_its_version() {
        let spec = Spec { oci_version: OCI_VERSION.into(), ..Spec::default() };
        assert_eq!(serde_json::to_string(&spec).unwrap(), r#"{"ociVersion":"1.3.0"}"#);
    }

    #[test]
    fn a_spec_as_runc_writes_it_reads_and_writes_the_same() {
        let text = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs","readonly":true},
          "mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
          "process":{"terminal":true,"user":{"uid":0,"gid":0},"args":["sh"],"env":["PATH=/bin"],"cwd":"/",
            "capabilities":{"bounding":["CAP_KILL"]},"rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}]},
          "linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]},"namespaces":[{"type":"pid"}],
            "maskedPaths":["/proc/kcore"],
            "seccomp":{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        let again: Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(spec, again);
        assert_eq!(spec.linux.unwrap().namespaces[0].kind, NamespaceKind::Pid);
    }
}
