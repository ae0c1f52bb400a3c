//! The device nodes of /dev: the standard ones and those of the configuration.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use tinyd_core::{Error, Result, oci};
use tinyd_sys::fs::Node;

use super::namespaces::IdMaps;

/// What the runtime puts into a fresh /dev.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dev {
    /// Nodes by name, below /dev.
    pub nodes: Vec<(PathBuf, Node)>,
    /// Directories by name, for file systems that are mounted there.
    pub places: Vec<PathBuf>,
    /// The host's number of the container's root, who owns the rest.
    pub owner: (u32, u32),
}

impl Dev {
    /// Has a directory for a file system that is mounted at `destination`, where that is one of its own.
    pub(super) fn add_place(&mut self, destination: &Path) {
        let Ok(name) = destination.strip_prefix("/dev") else { return };
        let is_taken = self.nodes.iter().any(|(node, _)| node.starts_with(name))
            || LINKS.iter().any(|(link, _)| Path::new(link) == name)
            || self.places.iter().any(|place| place == name);
        if name.components().count() == 1 && !is_taken {
            self.places.push(name.to_owned());
        }
    }

    /// Has empty files in the places of its nodes, for mounts of the host's.
    pub(super) fn become_places(&mut self) {
        for (_, node) in self.nodes.iter_mut().filter(|(_, node)| node.kind != FileType::Fifo) {
            *node = Node { kind: FileType::RegularFile, major: 0, minor: 0, ..*node };
        }
    }
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

/// Reads those of `linux.devices` that are below /dev, with the host's numbers for their owners.
///
/// # Errors
/// `InvalidArgument` with the field and the rule.
pub fn plan(devices: &[oci::Device], ids: Option<&IdMaps>) -> Result<Dev> {
    let owner = host_ids("linux.uidMappings", ids, 0, 0)?;
    let standard = |(name, major, minor): &(&str, u32, u32)| {
        let kind = FileType::CharacterDevice;
        let node = Node { kind, major: *major, minor: *minor, mode: 0o666, uid: owner.0, gid: owner.1 };
        (PathBuf::from(name), node)
    };
    let mut nodes: Vec<(PathBuf, Node)> = STANDARD.iter().map(standard).collect();
    for (field, device) in named(devices) {
        let Some(name) = below_dev(&field, device)? else { continue };
        let node = node(&field, device, ids)?;
        // The configuration may give a standard node another mode or owner.
        nodes.retain(|(seen, _)| *seen != name);
        // The links are there in any case: an engine that lists all of the host's devices lists the host's ptmx too.
        if !LINKS.iter().any(|(link, _)| Path::new(link) == name) {
            nodes.push((name, node));
        }
    }
    Ok(Dev { nodes, places: Vec::new(), owner })
}

/// Reads those that are elsewhere: where they are named, their absolute path, and the node, whose owners are the container's numbers.
///
/// # Errors
/// `InvalidArgument` with the field and the rule.
pub fn elsewhere(devices: &[oci::Device]) -> Result<Vec<(String, PathBuf, Node)>> {
    let mut found = Vec::new();
    for (field, device) in named(devices) {
        if below_dev(&field, device)?.is_none() {
            let node = node(&field, device, None)?;
            found.push((field, PathBuf::from(&device.path), node));
        }
    }
    Ok(found)
}

fn named(devices: &[oci::Device]) -> impl Iterator<Item = (String, &oci::Device)> {
    devices.iter().enumerate().map(|(at, device)| (format!("linux.devices[{at}]"), device))
}

/// The name below /dev of a device that is there.
fn below_dev(field: &str, device: &oci::Device) -> Result<Option<PathBuf>> {
    let path = Path::new(&device.path);
    let below = path.strip_prefix("/").unwrap_or(Path::new(""));
    let plain = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let place = !below.as_os_str().is_empty() && below != Path::new("dev");
    if plain && place && !device.path.contains('\0') {
        return Ok(below.strip_prefix("dev").ok().map(Path::to_owned));
    }
    Err(Error::invalid(format!("{field}.path"), format!("{:?} is not a place for a device", device.path)))
}

fn node(field: &str, device: &oci::Device, ids: Option<&IdMaps>) -> Result<Node> {
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
    Ok(Node { kind, major, minor, mode, uid, gid })
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
    fn a_place_is_made_once_and_for_nothing_that_is_there() {
        let mut dev = plan(&[device("/dev/snd/timer")], None).unwrap();
        for destination in
            ["/dev/shm", "/dev/shm", "/dev/snd", "/dev/null", "/dev/fd", "/dev/a/b", "/dev", "/srv"]
        {
            dev.add_place(Path::new(destination));
        }
        assert_eq!(dev.places, [Path::new("shm")]);
    }

    #[test]
    fn what_is_no_place_for_a_device_is_refused() {
        for bad in ["/", "/dev", "/dev/../etc/x", "dev/x", "", "/a/../b", "/a\0b"] {
            assert!(plan(&[device(bad)], None).is_err(), "{bad}");
            assert!(elsewhere(&[device(bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_is_below_dev_or_elsewhere() {
        let devices = [device("/dev/a/b"), device("/srv/fuse")];
        assert!(plan(&devices, None).unwrap().nodes.iter().any(|(name, _)| name == Path::new("a/b")));
        let found = elsewhere(&devices).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.as_str(), found[0].1.to_str()), ("linux.devices[1]", Some("/srv/fuse")));
    }
}
