//! What this machine is, read once when the engine opens: CPUs, capabilities, the kernel's version.

use std::{collections::BTreeMap, path::Path};

use crate::spec::caps;

/// Facts that do not change while the daemon runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// The CPUs that are online.
    pub(crate) cpus: Vec<u32>,
    /// The machine's name for seccomp profiles and people: `x86_64`.
    pub(crate) architecture: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The host's name.
    pub(crate) hostname: String,
    /// Which boot of the machine this is.
    pub(crate) boot_id: String,
    /// Memory in bytes.
    pub(crate) memory_bytes: u64,
    /// The capabilities that the daemon has and can hand on, by `CAP_` name.
    pub(crate) capabilities: Vec<String>,
    /// The most that can be given of a limit of setrlimit(2), by its name in `--ulimit`; what is not here has no bound.
    pub(crate) ulimits: BTreeMap<&'static str, u64>,
    /// Whether the kernel speaks IPv6.
    pub(crate) has_ipv6: bool,
    /// Whether the kernel lets the daemon make user namespaces.
    pub(crate) has_userns: bool,
    /// The limits of open files, soft and hard, that containers get by default.
    pub(crate) open_files: Option<(u64, u64)>,
    /// Files of the CPUs' thermal counters that must not be read inside.
    pub(crate) thermal: Vec<String>,
}

impl Host {
    /// Reads them.
    pub(crate) fn read() -> Host {
        let uname = rustix::system::uname();
        let cpus = parse_list(&text("/sys/devices/system/cpu/online")).filter(|cpus| !cpus.is_empty());
        let cpus = cpus.unwrap_or_else(|| {
            let count = std::thread::available_parallelism().map_or(1, usize::from);
            (0..u32::try_from(count).unwrap_or(1)).collect()
        });
        let info = rustix::system::sysinfo();
        let capabilities = capabilities(&text("/proc/self/status"));
        Host {
            ulimits: ulimits(&capabilities),
            open_files: None,
            thermal: thermal(&cpus),
            cpus,
            architecture: uname.machine().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            boot_id: text("/proc/sys/kernel/random/boot_id").trim().to_owned(),
            memory_bytes: u64::from(info.mem_unit) * info.totalram,
            capabilities,
            has_ipv6: Path::new("/proc/sys/net/ipv6").exists(),
            has_userns: Path::new("/proc/self/ns/user").exists()
                && text("/proc/sys/user/max_user_namespaces").trim() != "0",
        }
    }

    /// What this host lacks and what is done instead, one line each.
    pub(crate) fn lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        if !self.has_userns {
            lacks.push(
                "no user namespaces: root in a container is root on the host, less the dropped capabilities"
                    .into(),
            );
        }
        let missing: Vec<&str> = caps::ALL
            .iter()
            .filter(|name| !self.capabilities.iter().any(|has| has == *name))
            .copied()
            .collect();
        if !missing.is_empty() {
            lacks.push(format!(
                "the daemon has not {}: containers in the host's user namespace have not either",
                missing.join(", ")
            ));
        }
        lacks
    }

    /// The kernel's version as two numbers.
    pub(crate) fn kernel_version(&self) -> (u32, u32) {
        let mut parts = self.kernel.split(['.', '-']).map_while(|part| part.parse().ok());
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Reads the kernel's list format, `0-3,7`.
pub(crate) fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u32>().ok()).flatten().filter(|n| *n < 65_536)
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

fn thermal(cpus: &[u32]) -> Vec<String> {
    let paths = cpus.iter().map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    paths.filter(|path| Path::new(path).exists()).collect()
}

/// Up to the daemon's own hard limits; with CAP_SYS_RESOURCE up to what the kernel has.
fn ulimits(capabilities: &[String]) -> BTreeMap<&'static str, u64> {
    use rustix::process::{Resource, getrlimit};
    if capabilities.iter().any(|has| has == "CAP_SYS_RESOURCE") {
        let files = text("/proc/sys/fs/nr_open").trim().parse();
        return files.map(|most| ("nofile", most)).into_iter().collect();
    }
    let own = [
        ("as", Resource::As),
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("locks", Resource::Locks),
        ("memlock", Resource::Memlock),
        ("msgqueue", Resource::Msgqueue),
        ("nice", Resource::Nice),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("rss", Resource::Rss),
        ("rtprio", Resource::Rtprio),
        ("rttime", Resource::Rttime),
        ("sigpending", Resource::Sigpending),
        ("stack", Resource::Stack),
    ];
    own.into_iter().filter_map(|(name, resource)| Some((name, getrlimit(resource).maximum?))).collect()
}

/// What is both permitted and in the bounding set.
fn capabilities(status: &str) -> Vec<String> {
    let set = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    caps::from_bits(set("CapPrm:") & set("CapBnd:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_list("0-2,5\n").unwrap(), [0, 1, 2, 5]);
        for bad in ["", "a", "2-1", "0-", "-1", "1,,2", "0-99999999"] {
            assert!(parse_list(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn capabilities_are_those_that_can_be_handed_on() {
        let caps = capabilities("CapPrm:\t0000000000000003\nCapBnd:\t0000000000000001\n");
        assert_eq!(caps, ["CAP_CHOWN"]);
    }

    #[test]
    fn versions_have_two_numbers() {
        let version = |kernel: &str| Host { kernel: kernel.into(), ..Host::default() }.kernel_version();
        assert_eq!(version("6.18.44-fc-v782"), (6, 18));
        assert_eq!(version("6.1-rc2"), (6, 1));
    }
}
