//! Whose ids a mount shows: by a mount's mappings, or by the options `idmap` and `ridmap`, with ids or without.

use tinyd_core::{Error, Kind, Result, oci};
use tinyd_sys::ns::{IdRange, flag};

use super::Idmap;
use crate::plan::{
    namespaces::{self, IdMaps, Namespaces},
    options::{IdmapOption, Options},
};

/// What a bind mount's options and mappings come to.
///
/// # Errors
/// `InvalidArgument` for a mapping that is none, for two that are said at once, and where there is no user namespace to go by.
pub(super) fn of(
    named: &str,
    mount: &oci::Mount,
    options: &Options,
    namespaces: &Namespaces,
) -> Result<Idmap> {
    let own = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    let asked = options.idmap.or(own.then_some(IdmapOption { recursive: false, required: true }));
    let Some(asked) = asked else { return Ok(Idmap::No) };
    let written = options.idmap_ids.as_deref();
    if let Some(text) = written.filter(|_| !own) {
        return Ok(Idmap::Own { ids: read(named, text, namespaces)?, recursive: asked.recursive });
    }
    if written.is_some() {
        return Err(Error::invalid(
            named,
            "ids are in the idmap option and in uidMappings: one of them is enough",
        ));
    }
    if own {
        let ids = IdMaps {
            uids: namespaces::ranges(&format!("{named}.uidMappings"), &mount.uid_mappings)?,
            gids: namespaces::ranges(&format!("{named}.gidMappings"), &mount.gid_mappings)?,
        };
        return Ok(Idmap::Own { ids, recursive: asked.recursive });
    }
    if namespaces.makes(flag::USER) {
        return Ok(Idmap::Container { recursive: asked.recursive, required: asked.required });
    }
    if asked.required {
        return Err(Error::invalid(named, "idmap without mappings needs a new user namespace"));
    }
    Ok(Idmap::No)
}

/// Refuses what only a bind mount can have.
///
/// # Errors
/// `Unsupported` where it is asked for.
pub(super) fn refuse(field: &str, mount: &oci::Mount, options: &Options) -> Result<()> {
    if options.idmap.is_some_and(|asked| asked.required) || !mount.uid_mappings.is_empty() {
        return Err(Error::new(Kind::Unsupported, "only bind mounts can be id-mapped").of_field(field));
    }
    Ok(())
}

/// `uids=0-1-10#10-11-10;gids=0-100-10` (crun(1), "idmap mount options"): of each range the first id of the file system, the first one
/// that it is shown as, and how many. Behind an `@` the second is one of the container's.
fn read(named: &str, text: &str, namespaces: &Namespaces) -> Result<IdMaps> {
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let maps = namespaces.id_maps();
        match part.split_once('=') {
            Some(("uids", list)) => uids = ranges(named, list, maps.map(|maps| maps.uids.as_slice()))?,
            Some(("gids", list)) => gids = ranges(named, list, maps.map(|maps| maps.gids.as_slice()))?,
            _ => {
                let message = format!("idmap: {part:?} is neither uids= nor gids=");
                return Err(Error::invalid(named, message));
            }
        }
    }
    Ok(IdMaps {
        uids: namespaces::ranges(&format!("{named}: idmap: uids"), &uids)?,
        gids: namespaces::ranges(&format!("{named}: idmap: gids"), &gids)?,
    })
}

fn ranges(named: &str, list: &str, containers: Option<&[IdRange]>) -> Result<Vec<oci::IdMapping>> {
    list.split('#').map(|text| range(named, text, containers)).collect()
}

fn range(named: &str, text: &str, containers: Option<&[IdRange]>) -> Result<oci::IdMapping> {
    let bad = |why: &str| Error::invalid(named, format!("idmap: {text:?} {why}"));
    let is_relative = text.starts_with('@');
    let numbers: Vec<u32> = text
        .strip_prefix('@')
        .unwrap_or(text)
        .split('-')
        .map(|word| word.parse().ok().filter(|_| word.bytes().all(|byte| byte.is_ascii_digit())))
        .collect::<Option<_>>()
        .ok_or_else(|| bad("is not three numbers, such as 0-1000-10"))?;
    let [container_id, shown, size] = numbers[..] else {
        return Err(bad("is not three numbers, such as 0-1000-10"));
    };
    if !is_relative {
        return Ok(oci::IdMapping { container_id, host_id: shown, size });
    }
    let ids = containers.ok_or_else(|| bad("is relative to a user namespace that there is not"))?;
    let holds = |range: &&IdRange| {
        let from = shown.checked_sub(range.inside);
        from.is_some_and(|from| from.checked_add(size).is_some_and(|end| end <= range.count))
    };
    let range =
        ids.iter().find(holds).ok_or_else(|| bad("is not within one range of the container's ids"))?;
    Ok(oci::IdMapping { container_id, host_id: range.outside + (shown - range.inside), size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in(text: &str, ids: Option<&[IdRange]>) -> Result<Vec<(u32, u32, u32)>> {
        let given = |list: &str| ranges("m", list, ids);
        let all = text.split(';').map(given).collect::<Result<Vec<_>>>()?;
        Ok(all.concat().iter().map(|one| (one.container_id, one.host_id, one.size)).collect())
    }

    #[test]
    fn ranges_are_crun_s_words() {
        assert_eq!(read_in("0-1-10#10-11-10", None).unwrap(), [(0, 1, 10), (10, 11, 10)]);
        let ids =
            [IdRange { inside: 0, outside: 0, count: 1 }, IdRange { inside: 1, outside: 2, count: 1000 }];
        // The manual's own example.
        assert_eq!(read_in("@1-3-10", Some(&ids)).unwrap(), [(1, 4, 10)]);
        for bad in
            ["", "1", "1-2", "1-2-3-4", "a-1-1", "1--1", "+1-2-3", "4294967296-0-1", "@0-0-2", "@0-995-10"]
        {
            assert!(read_in(bad, Some(&ids)).is_err(), "{bad}");
        }
        assert!(read_in("@0-0-1", None).is_err());
    }
}
