//! The device nodes of /dev: the standard ones and those of the configuration.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use tinyd_core::{Error, Kind, Result, oci};
use tinyd_sys::fs::Node;

use super::namespaces::IdMaps;

/// What the runtime puts into a fresh /dev.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dev {
    /// Nodes by name, below /dev.
    pub nodes: Vec<(PathBuf, Node)>,
    /// The host's number of the container's root, who owns the rest.
    pub owner: (u32, u32),
}

/// Symbolic links of every /dev: name, target.
pub const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The nodes that every container has: name, major, minor.
const STANDARD: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Reads `linux.devices`, with the host's numbers for their owners.
///
/// # Errors
/// `InvalidArgument` with the field and the rule; `Unsupported` for a place that is not below /dev.
pub fn plan(devices: &[oci::Device], ids: Option<&IdMaps>) -> Result<Dev> {
    let owner = host_ids("linux.uidMappings", ids, 0, 0)?;
    let standard = |(name, major, minor): &(&str, u32, u32)| {
        let kind = FileType::CharacterDevice;
        let node = Node { kind, major: *major, minor: *minor, mode: 0o666, uid: owner.0, gid: owner.1 };
        (PathBuf::from(name), node)
    };
    let mut nodes: Vec<(PathBuf, Node)> = STANDARD.iter().map(standard).collect();
    for (at, device) in devices.iter().enumerate() {
        let (name, node) = one(&format!("linux.devices[{at}]"), device, ids)?;
        // The configuration may give a standard node another mode or owner.
        nodes.retain(|(seen, _)| *seen != name);
        // The links are there in any case: an engine that lists all of the host's devices lists the host's ptmx too.
        if !LINKS.iter().any(|(link, _)| Path::new(link) == name) {
            nodes.push((name, node));
        }
    }
    Ok(Dev { nodes, owner })
}

fn one(field: &str, device: &oci::Device, ids: Option<&IdMaps>) -> Result<(PathBuf, Node)> {
    let name = Path::new(&device.path).strip_prefix("/dev").map_err(|_| {
        Error::new(Kind::Unsupported, format!("{:?} is not below /dev", device.path))
            .of_field(format!("{field}.path"))
    })?;
    let plain = name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if name.as_os_str().is_empty() || !plain || device.path.contains('\0') {
        return Err(Error::invalid(
            format!("{field}.path"),
            format!("{:?} is not a place for a device", device.path),
        ));
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => {
            return Err(Error::invalid(format!("{field}.type"), format!("{other:?} is none of c, b, u, p")));
        }
    };
    let number = |name: &str, value: Option<i64>| match (kind, value) {
        (FileType::Fifo, _) => Ok(0),
        (_, Some(value)) => u32::try_from(value)
            .map_err(|_| Error::invalid(format!("{field}.{name}"), format!("{value} is out of range"))),
        (_, None) => Err(Error::invalid(format!("{field}.{name}"), "it is needed")),
    };
    let (uid, gid) = host_ids(field, ids, device.uid.unwrap_or(0), device.gid.unwrap_or(0))?;
    let (major, minor) = (number("major", device.major)?, number("minor", device.minor)?);
    let mode = device.file_mode.unwrap_or(0o666) & 0o7777;
    Ok((name.to_owned(), Node { kind, major, minor, mode, uid, gid }))
}

fn host_ids(field: &str, ids: Option<&IdMaps>, uid: u32, gid: u32) -> Result<(u32, u32)> {
    let Some(ids) = ids else { return Ok((uid, gid)) };
    ids.host_uid(uid)
        .zip(ids.host_gid(gid))
        .ok_or_else(|| Error::invalid(field, format!("owner {uid}:{gid} is not in the id mappings")))
}

#[cfg(test)]
mod tests {
    use tinyd_sys::ns::IdRange;

    use super::*;

    fn device(path: &str) -> oci::Device {
        oci::Device {
            path: path.into(),
            kind: "c".into(),
            major: Some(10),
            minor: Some(229),
            ..oci::Device::default()
        }
    }

    #[test]
    fn nodes_belong_to_the_containers_root() {
        let range = vec![IdRange { inside: 0, outside: 100_000, count: 65_536 }];
        let ids = IdMaps { uids: range.clone(), gids: range };
        let dev = plan(&[device("/dev/fuse")], Some(&ids)).unwrap();
        assert_eq!(dev.nodes.len(), 7);
        assert!(dev.nodes.iter().all(|(_, node)| (node.uid, node.gid) == (100_000, 100_000)));
    }

    #[test]
    fn a_standard_node_can_be_given_again() {
        let mut tty = device("/dev/tty");
        tty.file_mode = Some(0o620);
        let dev = plan(&[tty], None).unwrap();
        let found: Vec<_> = dev.nodes.iter().filter(|(name, _)| name == Path::new("tty")).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.mode, 0o620);
    }

    /// podman and containerd list every device of the host in a privileged container's configuration.
    #[test]
    fn the_hosts_ptmx_does_not_take_the_place_of_the_containers() {
        let dev = plan(&[device("/dev/ptmx")], None).unwrap();
        assert!(dev.nodes.iter().all(|(name, _)| name != Path::new("ptmx")));
    }

    #[test]
    fn places_outside_dev_are_refused() {
        for bad in ["/etc/x", "/dev", "/dev/../etc/x", "dev/x"] {
            assert!(plan(&[device(bad)], None).is_err(), "{bad}");
        }
    }
}
