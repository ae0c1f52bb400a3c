//! What an ordinary user's containers need another way: ids beyond its own are mapped by the programs newuidmap and newgidmap, which
//! look into /etc/subuid and /etc/subgid for what it may have.

use std::{
    ffi::CString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::Access;
use tinyd_core::{Error, Kind, Result};
use tinyd_sys::ns::{self, IdRange, Proc};

use super::step;
use crate::{
    caller::Caller,
    hooks,
    plan::{Plan, hooks::Hook, mounts::Idmap, namespaces::IdMaps},
};

/// How long one of the programs may take: they may ask another machine for a user's ids.
const PATIENCE: Duration = Duration::from_secs(10);

/// Says what only root can give.
///
/// # Errors
/// `InvalidArgument` without a user namespace, `Unsupported` for mounts with ids of their own.
pub(super) fn require(plan: &Plan, caller: Caller) -> Result<()> {
    let has_users = plan.namespaces.ids.is_some() || plan.namespaces.joined_user().is_some();
    if caller == Caller::User && !has_users {
        let rule =
            "who is not root needs a user namespace and linux.uidMappings (see tinyrun spec --rootless)";
        return Err(Error::invalid("linux.namespaces", rule));
    }
    if !caller.opens_inside(&plan.namespaces) {
        return Ok(());
    }
    let mapped = plan.sources.iter().find(|source| match source.idmap {
        Idmap::No => false,
        Idmap::Container { required, .. } => required,
        Idmap::Own { .. } => true,
    });
    mapped.map_or(Ok(()), |source| {
        let rule = "only root can mount with other ids";
        Err(Error::new(Kind::Unsupported, rule).of_field(source.field.as_str()))
    })
}

/// Maps the ids of process `pid`'s new user namespace, for an ordinary user.
///
/// # Errors
/// What is missing: the programs, or the user's right to an id.
pub(super) fn map(proc: &Proc, pid: i32, ids: &IdMaps) -> Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if is_only(&ids.uids, user) {
        ns::write_id_map(proc, pid, "uid_map", &ids.uids).map_err(step("map ids"))?;
    } else {
        ask("newuidmap", ("linux.uidMappings", "/etc/subuid"), pid, &ids.uids)?;
    }
    if is_only(&ids.gids, group) {
        // Who could leave groups could get where a group is kept out; the kernel wants that given up first.
        ns::deny_setgroups(proc, pid).map_err(step("map ids"))?;
        ns::write_id_map(proc, pid, "gid_map", &ids.gids).map_err(step("map ids"))
    } else {
        ask("newgidmap", ("linux.gidMappings", "/etc/subgid"), pid, &ids.gids)
    }
}

/// One's own id, which anybody may map.
fn is_only(ranges: &[IdRange], own: u32) -> bool {
    matches!(ranges, [IdRange { outside, count: 1, .. }] if *outside == own)
}

/// Has one of the programs write a map.
fn ask(program: &str, (field, file): (&str, &str), pid: i32, ranges: &[IdRange]) -> Result<()> {
    let path = find(program).ok_or_else(|| {
        let rule =
            format!("ids beyond one's own take {program}, which is not in PATH (Debian: package uidmap)");
        Error::new(Kind::Unsupported, rule).of_field(field)
    })?;
    let numbers = ranges.iter().flat_map(|range| [range.inside, range.outside, range.count]);
    let words = [program.to_owned(), pid.to_string()].into_iter();
    let words = words.chain(numbers.map(|number| number.to_string()));
    // Neither a number nor a path that was just looked at has a NUL.
    let args = words.map(|word| CString::new(word).unwrap_or_default()).collect();
    let path = CString::new(path.into_os_string().into_vec()).unwrap_or_default();
    let hook = Hook {
        field: field.to_owned(),
        path,
        args,
        env: Vec::new(),
        timeout: Some(PATIENCE),
        output: [None, None],
    };
    hooks::run(&hook, b"", &|| Ok(())).map_err(|error| {
        let rule = format!("{program}: {}: a user's own ranges are in {file}", error.message());
        Error::invalid(field, rule)
    })
}

/// Where a program of the host is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let paths = std::env::split_paths(&dirs).map(|dir| dir.join(program));
    paths.filter(|path| path.is_absolute()).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}
