//! `mounts add` and `mounts remove`: other mounts for a container that runs.

use std::path::Path;

use tinyd_core::{Error, Result, oci};

use super::{create::parse, root::Root, seal, state::observe};
use crate::{
    caller::Caller,
    cgroup::Cgroup,
    exec::{PATIENCE, Target},
    hooks,
    launch::{Fds, kernel, mounts},
};

/// What is done with the mounts of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountsChange {
    /// They are made.
    Add,
    /// They are taken away.
    Remove,
}

/// Changes a container's mounts; `file` has a list of them, or an object with `mounts`, as a configuration has. Returns warnings.
///
/// # Errors
/// `WrongState` unless it has a process, `InvalidArgument` for the file; what the kernel refused.
pub fn change_mounts(root: &Root, id: &str, change: MountsChange, file: &Path) -> Result<Vec<String>> {
    let caller = Caller::of_this_process()?;
    // A process of this program is going to be in the container's namespaces.
    seal::require_unwritable_image(caller)?;
    let place = root.place(id)?;
    let _lock = place.lock()?;
    let seen = observe(&place)?;
    let Some((pidfd, first)) = seen.first() else {
        return Err(seen.refused(id, "container not running"));
    };
    let wanted = read(file)?;
    let spec = place.spec()?;
    let state = hooks::state(id, &seen.record.bundle, &spec);
    let target = Target {
        pid: first.pid,
        pidfd,
        // It may be frozen, and who joined it would be too.
        cgroup: &Cgroup::nowhere(),
        spec: &spec,
        state: &state,
        fds: Fds::default(),
        patience: Some(PATIENCE),
        caller,
    };
    match change {
        MountsChange::Add => mounts::add(target, &seen.record.bundle, &wanted),
        MountsChange::Remove => mounts::remove(target, &wanted).map(|()| Vec::new()),
    }
}

fn read(file: &Path) -> Result<Vec<oci::Mount>> {
    let bytes = std::fs::read(file).map_err(|error| kernel(&format!("read {}", file.display()), &error))?;
    let is_list = bytes.trim_ascii_start().first() == Some(&b'[');
    // Read as a configuration's: a reader of the list alone would be more program.
    let whole = if is_list { [b"{\"mounts\":", bytes.as_slice(), b"}"].concat() } else { bytes };
    let (spec, _) =
        parse(whole).map_err(|error| Error::invalid(file.display().to_string(), error.to_string()))?;
    Ok(spec.mounts)
}
