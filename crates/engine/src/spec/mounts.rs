//! What is mounted beside the root: the kernel's file systems, the files of `/etc`, what the user asked for.

use std::path::PathBuf;

use tinyd_core::{
    Result,
    config::{Mount, MountSource},
    oci,
};

use super::Inputs;
use crate::{files::failed, record::Endpoint};

/// A volume or bind mount with its source found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    /// On the host.
    pub(crate) source: PathBuf,
    /// In the container.
    pub(crate) target: String,
    /// Whether it, and every mount below it, is read-only.
    pub(crate) read_only: bool,
}

/// The option that asks the runtime for an idmapped mount where the file system can do it.
const IDMAP: &str = "x-tinyd.idmap";
/// The files of `/etc` that the engine writes.
pub(crate) const ETC: [&str; 3] = ["resolv.conf", "hostname", "hosts"];

/// All mounts in their order: a parent before what is below it. What the user mounts on one of the standard places takes its place.
pub(super) fn mounts(inputs: &Inputs<'_>) -> Result<Vec<oci::Mount>> {
    let mut wanted: Vec<oci::Mount> = Vec::new();
    for bind in inputs.binds {
        wanted.push(volume(bind, inputs.userns.is_some())?);
    }
    wanted.extend(inputs.record.config.mounts.iter().filter_map(tmpfs));
    wanted.sort_by_key(|mount| mount.destination.matches('/').count());
    let mut all = standard(inputs);
    all.extend(etc(inputs)?);
    all.retain(|mount| wanted.iter().all(|own| own.destination != mount.destination));
    // A mount of the user's that is to be below a standard one comes after it; one that holds a standard one comes before.
    let (above, below): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|own| {
        all.iter().any(|mount| mount.destination.starts_with(&format!("{}/", own.destination)))
    });
    Ok(above.into_iter().chain(all).chain(below).collect())
}

fn standard(inputs: &Inputs<'_>) -> Vec<oci::Mount> {
    let privileged = inputs.record.config.security.privileged;
    let write = if privileged { "rw" } else { "ro" };
    vec![
        kernel("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        kernel("/dev", "tmpfs", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        kernel(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        sysfs(inputs, write),
        kernel("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", write]),
        kernel("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        kernel("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ]
}

/// sysfs shows the network namespace that it is mounted from, and belongs to that namespace's user namespace: with a user namespace of
/// its own and somebody else's network, the kernel lets a container have only the host's sysfs, read-only.
fn sysfs(inputs: &Inputs<'_>, write: &str) -> oci::Mount {
    let foreign = match &inputs.record.endpoint {
        Endpoint::Host | Endpoint::Container(_) => true,
        Endpoint::Bridge { .. } | Endpoint::None => false,
    };
    if foreign && inputs.userns.is_some() {
        return kernel(
            "/sys",
            "bind",
            "/sys",
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro", "rro"],
        );
    }
    kernel("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", write])
}

fn kernel(destination: &str, kind: &str, source: &str, options: &[&str]) -> oci::Mount {
    oci::Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..oci::Mount::default()
    }
}

/// The engine's own files. They belong to the container's root by their owner, so they need no mapping.
fn etc(inputs: &Inputs<'_>) -> Result<Vec<oci::Mount>> {
    let file = |name: &str| {
        let source = utf8(&inputs.etc.join(name))?;
        Ok(kernel(
            &format!("/etc/{name}"),
            "bind",
            &source,
            &["bind", "rprivate", "nosuid", "noexec", "nodev"],
        ))
    };
    ETC.into_iter().map(file).collect()
}

fn volume(bind: &Bind, idmap: bool) -> Result<oci::Mount> {
    let mut options = vec!["rbind", "rprivate", "nosuid", "nodev"];
    if bind.read_only {
        options.extend(["ro", "rro"]);
    }
    if idmap {
        options.push(IDMAP);
    }
    Ok(kernel(&bind.target, "bind", &utf8(&bind.source)?, &options))
}

fn tmpfs(mount: &Mount) -> Option<oci::Mount> {
    let MountSource::Tmpfs { size_bytes, mode, exec } = &mount.source else { return None };
    let mut options = vec!["nosuid".to_owned(), "nodev".into(), format!("mode={:o}", mode.unwrap_or(0o1777))];
    if !exec {
        options.push("noexec".into());
    }
    options.extend(size_bytes.map(|bytes| format!("size={bytes}")));
    if mount.read_only {
        options.push("ro".into());
    }
    Some(oci::Mount {
        destination: mount.target.clone(),
        kind: Some("tmpfs".into()),
        source: Some("tmpfs".into()),
        options,
        ..oci::Mount::default()
    })
}

fn utf8(path: &std::path::Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| std::io::Error::other("the path is not UTF-8"));
    text.map(str::to_owned).map_err(|source| failed(format_args!("mount {path:?}"), source))
}
