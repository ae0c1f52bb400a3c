//! Where this process is in the hierarchies, and where somebody who is not root can make cgroups: near there, as far as that has been
//! handed to it.

use std::path::Path;

use tinyd_core::{Error, Kind, Result};
use tinyd_sys::cgroup::{Dir, Layout, ROOT};

use super::{tree::told, v2_mount};

/// Where this process is, as /proc tells it: a line per hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Own(String);

impl Own {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub(crate) fn read() -> Result<Own> {
        const FILE: &str = "/proc/self/cgroup";
        let text = std::fs::read_to_string(FILE);
        text.map(Own).map_err(|error| Error::new(Kind::Internal, format!("read {FILE}: {error}")))
    }

    /// Whether there is no hierarchy but v2's.
    #[must_use]
    pub(crate) fn is_unified(&self) -> bool {
        self.0.lines().count() == 1
    }

    /// Where it is below the root of a hierarchy (`memory`, `cpu,cpuacct`, `systemd`; `unified` for v2's). None for one that is above
    /// the root that is seen.
    #[must_use]
    pub(crate) fn below(&self, hierarchy: &str) -> Option<&str> {
        let mut lines = self.0.lines().filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let name = controllers.strip_prefix("name=").unwrap_or(controllers);
            Some((if name.is_empty() { "unified" } else { name }, path.trim_start_matches('/')))
        });
        let (_, path) = lines.find(|(name, _)| *name == hierarchy)?;
        (!path.split('/').any(|part| part == "..")).then_some(path)
    }
}

/// The path of a cgroup `name` that this process may make: on v1 below its own, by the first hierarchy in which that is its to use; on
/// v2 beside its own, since no controller is handed down from one that has processes, else below it. Where nothing is handed to it
/// the path is one that it may not make.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn near(name: &str) -> Result<String> {
    near_in(Path::new(ROOT), &Own::read()?, name)
}

fn near_in(root: &Path, own: &Own, name: &str) -> Result<String> {
    let layout = Layout::detect(root).map_err(told)?;
    let is_ours = |dir: &Path| Dir::open(dir).is_ok_and(|dir| dir.is_writable());
    let base = match v2_mount(&layout) {
        Ok(Some(mount)) => own.below("unified").and_then(|own| {
            let beside = Path::new(own).parent().and_then(Path::to_str);
            beside.into_iter().chain([own]).find(|base| is_ours(&mount.join(base)))
        }),
        Ok(None) => layout.v1.iter().find_map(|mount| {
            let own = own.below(&mount.path.file_name()?.to_string_lossy())?;
            is_ours(&mount.path.join(own)).then_some(own)
        }),
        Err(_) => None,
    };
    let base = base.unwrap_or_default();
    let slash = if base.is_empty() { "" } else { "/" };
    Ok(format!("/{base}{slash}{}", name.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_process_is() {
        let own =
            Own("9:name=systemd:/user.slice\n4:cpu,cpuacct:/a/b\n3:memory:/\n2:pids:/../x\n0::/u\n".into());
        assert!(!own.is_unified());
        assert_eq!(own.below("systemd"), Some("user.slice"));
        assert_eq!(own.below("cpu,cpuacct"), Some("a/b"));
        assert_eq!(own.below("memory"), Some(""));
        assert_eq!(own.below("unified"), Some("u"));
        assert_eq!(own.below("pids"), None);
        assert_eq!(own.below("devices"), None);
    }
}
