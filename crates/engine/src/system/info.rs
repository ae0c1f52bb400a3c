//! `system info`: facts about daemon and host.

use tinyd_core::State;

use crate::{Inner, api::Info};

/// What is on by default.
const SECURITY: [&str; 5] = ["userns", "seccomp", "capabilities", "masked-paths", "cgroupns"];

/// Facts about daemon and host.
pub(crate) fn info(inner: &Inner) -> Info {
    let mut counts = (0, 0, 0);
    for handle in inner.registry.all() {
        match handle.view().state {
            State::Running { .. } => counts.0 += 1,
            State::Paused { .. } => counts.1 += 1,
            State::Created | State::Stopped { .. } => counts.2 += 1,
        }
    }
    let host = &inner.host;
    let on = SECURITY.iter().filter(|name| host.has_userns || **name != "userns");
    Info {
        storage_driver: inner.driver.name().to_owned(),
        cgroup_version: inner.cgroups.version().to_owned(),
        cgroup_controllers: inner.cgroups.controllers(),
        kernel: host.kernel.clone(),
        hostname: host.hostname.clone(),
        architecture: host.architecture.clone(),
        cpus: u32::try_from(host.cpus.len()).unwrap_or(u32::MAX),
        memory_bytes: host.memory_bytes,
        counts,
        warnings: [inner.warnings.clone(), inner.net.warnings(), host.lacks()].concat(),
        security: on.map(|name| (*name).to_owned()).collect(),
    }
}
