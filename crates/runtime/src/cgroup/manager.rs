//! Who makes containers' cgroups: this program itself, systemd, or nobody.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who makes a container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// This program, in the file system of cgroups.
    #[default]
    Cgroupfs,
    /// systemd, which is asked over D-Bus.
    Systemd,
    /// Nobody: the container stays in its caller's cgroup, and nothing limits it.
    Disabled,
}

impl CgroupManager {
    /// Every manager and its name on the command line.
    const WORDS: [(&str, CgroupManager); 3] = [
        ("cgroupfs", CgroupManager::Cgroupfs),
        ("systemd", CgroupManager::Systemd),
        ("disabled", CgroupManager::Disabled),
    ];
}

impl FromStr for CgroupManager {
    type Err = String;

    fn from_str(word: &str) -> Result<CgroupManager, String> {
        let known = CgroupManager::WORDS.iter().find(|(known, _)| *known == word);
        let bad = || format!("{word:?} is not one of cgroupfs, systemd, disabled");
        known.map(|(_, manager)| *manager).ok_or_else(bad)
    }
}
