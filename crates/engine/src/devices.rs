//! The host's devices that a container gets: those named, or with `--privileged` all that are nodes of `/dev`.

use std::{
    fs::{self, Metadata},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use rustix::fs::{major, minor};
use tinyd_core::{Error, Result, config::Security};

use crate::spec::HostDevice;

/// What the container has in its own way, or what only makes sense outside.
const OWN: [&str; 12] =
    ["console", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero", "log"];
/// How deep below `/dev` nodes are looked for.
const DEPTH_MAX: usize = 4;

/// Looks up the devices.
pub(crate) fn of(security: &Security) -> Result<Vec<HostDevice>> {
    let mut found = Vec::new();
    for pair in &security.devices {
        let device =
            fs::metadata(&pair.host).ok().and_then(|meta| device(&meta, &pair.container, &pair.access));
        found.push(device.ok_or_else(|| {
            Error::invalid("--device", format!("{:?} is not a device of this host", pair.host))
        })?);
    }
    if security.privileged {
        let mut all = Vec::new();
        collect(Path::new("/dev"), &mut all, 0);
        all.retain(|device| found.iter().all(|named| named.path != device.path));
        found.extend(all);
    }
    Ok(found)
}

fn device(meta: &Metadata, path: &str, access: &str) -> Option<HostDevice> {
    let kind = meta.file_type();
    (kind.is_char_device() || kind.is_block_device()).then(|| HostDevice {
        path: path.to_owned(),
        block: kind.is_block_device(),
        major: major(meta.rdev()),
        minor: minor(meta.rdev()),
        mode: meta.mode() & 0o777,
        owner: (meta.uid(), meta.gid()),
        access: access.to_owned(),
    })
}

fn collect(dir: &Path, into: &mut Vec<HostDevice>, depth: usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if depth == 0 && name.to_str().is_some_and(|name| OWN.contains(&name)) {
            continue;
        }
        // Of the entry itself: links would show a device twice.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth < DEPTH_MAX {
            collect(&entry.path(), into, depth + 1);
        }
        into.extend(entry.path().to_str().and_then(|path| device(&meta, path, "rwm")));
    }
}

#[cfg(test)]
mod tests {
    use tinyd_core::config::DevicePair;

    use super::*;

    #[test]
    fn a_device_has_its_numbers() {
        let devices = vec![DevicePair::parse("--device", "/dev/null:/dev/nothing:r").unwrap()];
        let found = of(&Security { devices, ..Security::default() }).unwrap();
        assert_eq!((found[0].path.as_str(), found[0].major, found[0].minor), ("/dev/nothing", 1, 3));
        assert_eq!(found[0].access, "r");
        let all = of(&Security { privileged: true, ..Security::default() }).unwrap();
        assert!(all.iter().all(|device| device.path != "/dev/null" && device.path.starts_with("/dev/")));
    }
}
