//! Which sysctls a container may set: only those of a namespace of its own.

use std::path::PathBuf;

use tinyd_core::{Error, Result};
use tinyd_sys::ns::flag;

use super::namespaces::Namespaces;

/// A value to write below /proc/sys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Its name as written.
    pub name: String,
    /// Its file, relative to /proc.
    pub path: PathBuf,
    /// What is written.
    pub value: String,
    /// The `CLONE_NEW…` flag of the namespace that it belongs to.
    pub owner: u64,
    /// Whether a kernel without it is only worth a warning: IPv6 is switched off where it does not exist.
    pub optional: bool,
}

/// Names of the IPC namespace.
const IPC: [&str; 9] = [
    "kernel.auto_msgmni",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Reads `linux.sysctl`.
///
/// # Errors
/// `InvalidArgument` for a name of no namespace, or of one that is the host's.
pub fn plan<'a>(
    sysctls: impl IntoIterator<Item = (&'a String, &'a String)>,
    namespaces: &Namespaces,
) -> Result<Vec<Sysctl>> {
    sysctls.into_iter().map(|(name, value)| one(name, value, namespaces)).collect()
}

fn one(name: &str, value: &str, namespaces: &Namespaces) -> Result<Sysctl> {
    let field = || format!("linux.sysctl[{name:?}]");
    let path = path_of(name).ok_or_else(|| Error::invalid(field(), "it is not the name of a sysctl"))?;
    let dotted = path.replace('/', ".");
    let Some((owner, word)) = owner(&dotted) else {
        return Err(Error::invalid(
            field(),
            "it belongs to the host: only sysctls of a namespace can be set",
        ));
    };
    if !namespaces.has(owner) {
        return Err(Error::invalid(
            field(),
            format!("it belongs to the host's {word} namespace, which is shared"),
        ));
    }
    if value.contains('\0') {
        return Err(Error::invalid(field(), "its value has a NUL"));
    }
    Ok(Sysctl {
        name: name.to_owned(),
        path: PathBuf::from(format!("sys/{path}")),
        value: value.to_owned(),
        owner,
        optional: dotted.starts_with("net.ipv6."),
    })
}

/// The file of a name, as sysctl(8) reads it: the first separator decides, `net.ipv4.conf.eth0/1.forwarding` names `eth0.1`.
fn path_of(name: &str) -> Option<String> {
    let first = name.find(['.', '/'])?;
    let slashes = name.as_bytes().get(first) == Some(&b'/');
    let path: String = name
        .chars()
        .map(|char| match char {
            '.' if !slashes => '/',
            '/' if !slashes => '.',
            other => other,
        })
        .collect();
    let plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (plain && path.bytes().all(|byte| byte.is_ascii_graphic())).then_some(path)
}

/// The namespace that a sysctl belongs to.
fn owner(dotted: &str) -> Option<(u64, &'static str)> {
    if dotted.starts_with("net.") {
        return Some((flag::NET, "network"));
    }
    if IPC.contains(&dotted) || dotted.starts_with("fs.mqueue.") {
        return Some((flag::IPC, "ipc"));
    }
    // The hostname has a field of its own in the configuration.
    (dotted == "kernel.domainname").then_some((flag::UTS, "uts"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> Namespaces {
        Namespaces { new: flag::NET | flag::IPC | flag::UTS, ..Namespaces::default() }
    }

    #[test]
    fn names_become_files() {
        let found = one("net.ipv4.ip_forward", "1", &all()).unwrap();
        assert_eq!(found.path, PathBuf::from("sys/net/ipv4/ip_forward"));
        assert_eq!(
            one("net/ipv4/conf/eth0.1/forwarding", "1", &all()).unwrap().path,
            one("net.ipv4.conf.eth0/1.forwarding", "1", &all()).unwrap().path
        );
        assert!(one("net.ipv6.conf.all.disable_ipv6", "1", &all()).unwrap().optional);
    }

    #[test]
    fn the_hosts_sysctls_are_refused() {
        for name in
            ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.hostname", "kernel.shmmax2", "x"]
        {
            assert!(one(name, "1", &all()).is_err(), "{name}");
        }
        let shared = one("net.core.somaxconn", "1", &Namespaces::default()).unwrap_err();
        assert!(shared.message().contains("shared"), "{shared}");
    }

    proptest! {
        #[test]
        fn no_name_leaves_proc_sys(name in "(net|kernel|fs)?[./a-z]{0,30}") {
            if let Ok(found) = one(&name, "1", &all()) {
                let safe = found.path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(safe);
            }
        }
    }
}
