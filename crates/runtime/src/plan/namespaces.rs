//! Which namespaces are made, which are joined, and how user ids are mapped.

use tinyd_core::{
    Error, Result,
    oci::{self, NamespaceKind},
};
use tinyd_sys::ns::{IdRange, flag};

/// Namespaces of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// `CLONE_NEW…` of those that are new.
    pub new: u64,
    /// Those that are joined, the user namespace first.
    pub join: Vec<Join>,
    /// The id maps, when the user namespace is new.
    pub ids: Option<IdMaps>,
    /// The id maps of the one that is joined, once somebody has looked.
    pub joined_ids: Option<IdMaps>,
}

/// A namespace that is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its `CLONE_NEW…` flag.
    pub flag: u64,
    /// Its file.
    pub path: String,
    /// Where the configuration names it.
    pub field: String,
}

/// Id maps of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<IdRange>,
    /// Groups.
    pub gids: Vec<IdRange>,
}

impl IdMaps {
    /// The host's number for a user of the container.
    #[must_use]
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        outside(&self.uids, uid)
    }

    /// The host's number for a group of the container.
    #[must_use]
    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        outside(&self.gids, gid)
    }
}

fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = id.checked_sub(range.inside)?;
        (offset < range.count).then(|| range.outside.checked_add(offset))?
    })
}

impl Namespaces {
    /// Whether all of `flags` are made new.
    #[must_use]
    pub const fn makes(&self, flags: u64) -> bool {
        self.new & flags == flags
    }

    /// Whether the caller joins a namespace of this kind for the time of the clone, so that the child is born in it. Only
    /// children are put into a PID namespace; and from inside a new user namespace nothing can be joined that belongs to
    /// another one, such as a second container's network.
    #[must_use]
    pub fn joined_by_caller(&self, kind: u64) -> bool {
        let others = matches!(kind, flag::NET | flag::IPC | flag::UTS | flag::CGROUP | flag::TIME);
        kind == flag::PID || (self.makes(flag::USER) && others)
    }

    /// The id maps of its user namespace, if it is not the host's.
    #[must_use]
    pub fn id_maps(&self) -> Option<&IdMaps> {
        self.ids.as_ref().or(self.joined_ids.as_ref())
    }

    /// The one of this kind that is joined.
    #[must_use]
    pub fn joined(&self, kind: u64) -> Option<&Join> {
        self.join.iter().find(|join| join.flag == kind)
    }

    /// The file of the user namespace that is joined.
    #[must_use]
    pub fn joined_user(&self) -> Option<&Join> {
        self.joined(flag::USER)
    }

    /// Whether the first process is born in the user namespace that is joined: a new PID namespace belongs to the one that its
    /// maker is in, and a procfs of it can only be mounted from there.
    #[must_use]
    pub fn born_in_joined_user(&self) -> bool {
        self.joined_user().is_some() && self.makes(flag::PID)
    }

    /// The kinds that the first process makes itself, later than at its birth. The root of a new cgroup namespace is where its maker is,
    /// so the cgroup is entered first; the offsets of a new time namespace are written before anyone is in it; the message queues of
    /// a new IPC namespace belong to its maker, who is to be the container's root.
    #[must_use]
    pub fn late(&self) -> u64 {
        flag::CGROUP | flag::TIME | if self.makes(flag::USER) { flag::IPC } else { 0 }
    }

    /// Whether the container has a namespace of this kind of its own, new or joined.
    #[must_use]
    pub fn has(&self, flag: u64) -> bool {
        self.makes(flag) || self.join.iter().any(|join| join.flag == flag)
    }
}

/// Every kind.
pub const KINDS: [NamespaceKind; 8] = [
    NamespaceKind::Cgroup,
    NamespaceKind::Ipc,
    NamespaceKind::Mount,
    NamespaceKind::Network,
    NamespaceKind::Pid,
    NamespaceKind::Time,
    NamespaceKind::User,
    NamespaceKind::Uts,
];

/// The `CLONE_NEW…` flag of a kind.
#[must_use]
pub const fn flag_of(kind: NamespaceKind) -> u64 {
    match kind {
        NamespaceKind::User => flag::USER,
        NamespaceKind::Pid => flag::PID,
        NamespaceKind::Network => flag::NET,
        NamespaceKind::Mount => flag::MOUNT,
        NamespaceKind::Ipc => flag::IPC,
        NamespaceKind::Uts => flag::UTS,
        NamespaceKind::Cgroup => flag::CGROUP,
        NamespaceKind::Time => flag::TIME,
    }
}

/// Reads `linux.namespaces` and the id mappings.
///
/// # Errors
/// `InvalidArgument` with the field and the rule.
pub fn plan(linux: &oci::Linux) -> Result<Namespaces> {
    let mut found = Namespaces::default();
    for (at, namespace) in linux.namespaces.iter().enumerate() {
        let field = format!("linux.namespaces[{at}]");
        let flag = flag_of(namespace.kind);
        if found.has(flag) {
            let word = format!("{:?}", namespace.kind).to_lowercase();
            return Err(Error::invalid(field, format!("{word} is listed twice")));
        }
        match namespace.path.as_deref() {
            None | Some("") => found.new |= flag,
            Some(path) if path.starts_with('/') && !path.contains('\0') => {
                found.join.push(Join { flag, path: path.to_owned(), field });
            }
            Some(path) => return Err(Error::invalid(field, format!("path {path:?} is not absolute"))),
        }
    }
    // The user namespace comes first: joining the others needs its rights.
    found.join.sort_by_key(|join| join.flag != flag::USER);
    require_mounts(&found)?;
    found.ids = id_maps(linux, &found)?;
    Ok(found)
}

/// A container's root is a matter of its mount namespace. Over one that is joined its own new user namespace would have no right.
fn require_mounts(namespaces: &Namespaces) -> Result<()> {
    match namespaces.joined(flag::MOUNT) {
        None if !namespaces.makes(flag::MOUNT) => {
            Err(Error::invalid("linux.namespaces", "a mount namespace is needed"))
        }
        Some(join) if namespaces.makes(flag::USER) => {
            let rule = "a mount namespace that is there is not the new user namespace's to mount in";
            Err(Error::invalid(join.field.as_str(), rule))
        }
        None | Some(_) => Ok(()),
    }
}

fn id_maps(linux: &oci::Linux, namespaces: &Namespaces) -> Result<Option<IdMaps>> {
    let given = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if !namespaces.makes(flag::USER) {
        // With a namespace that is joined the mappings only tell what it has.
        if given && !namespaces.has(flag::USER) {
            return Err(Error::invalid(
                "linux.uidMappings",
                "id mappings need a user namespace in linux.namespaces",
            ));
        }
        return Ok(None);
    }
    let maps = IdMaps {
        uids: ranges("linux.uidMappings", &linux.uid_mappings)?,
        gids: ranges("linux.gidMappings", &linux.gid_mappings)?,
    };
    if maps.host_uid(0).is_none() || maps.host_gid(0).is_none() {
        return Err(Error::invalid(
            "linux.uidMappings",
            "a new user namespace needs mappings of user 0 and group 0",
        ));
    }
    Ok(Some(maps))
}

/// Checks one list of mappings.
///
/// # Errors
/// `InvalidArgument` for an empty list, an empty or overflowing range, or more than the kernel's 340 lines.
pub fn ranges(field: &str, mappings: &[oci::IdMapping]) -> Result<Vec<IdRange>> {
    const LINES_MAX: usize = 340;
    if mappings.is_empty() || mappings.len() > LINES_MAX {
        return Err(Error::invalid(
            field,
            format!("{} mappings: 1 to {LINES_MAX} are possible", mappings.len()),
        ));
    }
    mappings
        .iter()
        .enumerate()
        .map(|(at, mapping)| {
            let fits = |start: u32| mapping.size > 0 && start.checked_add(mapping.size - 1).is_some();
            if fits(mapping.container_id) && fits(mapping.host_id) {
                Ok(IdRange { inside: mapping.container_id, outside: mapping.host_id, count: mapping.size })
            } else {
                let rule = "size is at least 1 and the last id at most 4294967295";
                Err(Error::invalid(format!("{field}[{at}]"), rule))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn linux(namespaces: &[(NamespaceKind, Option<&str>)]) -> oci::Linux {
        let namespaces = namespaces
            .iter()
            .map(|(kind, path)| oci::Namespace { kind: *kind, path: path.map(str::to_owned) })
            .collect();
        oci::Linux { namespaces, ..oci::Linux::default() }
    }

    #[test]
    fn new_and_joined_are_told_apart_and_the_user_namespace_is_joined_first() {
        let found = plan(&linux(&[
            (NamespaceKind::Mount, None),
            (NamespaceKind::Network, Some("/run/netns/a")),
            (NamespaceKind::User, Some("/proc/1/ns/user")),
        ]))
        .unwrap();
        assert_eq!(found.new, flag::MOUNT);
        assert_eq!(found.join[0].flag, flag::USER);
        assert_eq!(found.join[1].path, "/run/netns/a");
        assert!(found.has(flag::NET) && !found.makes(flag::NET));
    }

    #[test]
    fn refusals_name_the_field() {
        let twice = plan(&linux(&[(NamespaceKind::Mount, None), (NamespaceKind::Mount, None)])).unwrap_err();
        assert_eq!(twice.to_string(), "linux.namespaces[1]: mount is listed twice");
        let none = plan(&linux(&[(NamespaceKind::Pid, None)])).unwrap_err();
        assert!(none.message().contains("mount namespace"));
        let relative =
            plan(&linux(&[(NamespaceKind::Mount, None), (NamespaceKind::Pid, Some("x"))])).unwrap_err();
        assert!(relative.message().contains("not absolute"));
        let not_its_own =
            plan(&linux(&[(NamespaceKind::Mount, Some("/x")), (NamespaceKind::User, None)])).unwrap_err();
        assert_eq!(not_its_own.field(), Some("linux.namespaces[0]"));
        let unmapped =
            plan(&linux(&[(NamespaceKind::Mount, None), (NamespaceKind::User, None)])).unwrap_err();
        assert_eq!(unmapped.field(), Some("linux.uidMappings"));
    }

    proptest! {
        #[test]
        fn an_id_maps_into_its_own_range(inside in 0u32..1000, outside in 1000u32..4_000_000_000, count in 1u32..70_000, id: u32) {
            let maps = IdMaps { uids: vec![IdRange { inside, outside, count }], gids: Vec::new() };
            match maps.host_uid(id) {
                Some(host) => prop_assert_eq!(host - outside, id - inside),
                None => prop_assert!(id < inside || id - inside >= count || outside.checked_add(id - inside).is_none()),
            }
        }
    }
}
