//! Capabilities: the default set, and what `--cap-add` and `--cap-drop` make of it.

use tinyd_core::{Error, Result};
pub(crate) use tinyd_sys::creds::CAPABILITIES as ALL;

/// Docker's default set less MKNOD, AUDIT_WRITE and NET_RAW.
pub(crate) const DEFAULT: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
];

/// The names of the capabilities in a set of bits.
pub(crate) fn from_bits(bits: u64) -> Vec<String> {
    let set = ALL.iter().enumerate().filter(|(number, _)| bits >> number & 1 == 1);
    set.map(|(_, name)| (*name).to_owned()).collect()
}

/// Reads `NET_ADMIN`, `cap_net_admin`, `ALL`.
fn parse(field: &str, text: &str) -> Result<Vec<&'static str>> {
    let upper = text.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(ALL.to_vec());
    }
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let known = ALL.iter().find(|name| name.strip_prefix("CAP_") == Some(bare));
    known.map(|name| vec![*name]).ok_or_else(|| {
        Error::invalid(field, format!("{text:?} is not a capability: a name such as NET_ADMIN, or ALL"))
    })
}

/// The set of a container. `can` is what the daemon can hand on, where that limits it; a capability that was asked for by name and
/// cannot be had is an error, `ALL` is all that can be had.
pub(crate) fn resolve(add: &[String], drop: &[String], can: Option<&[String]>) -> Result<Vec<String>> {
    let can = |name: &str| can.is_none_or(|can| can.iter().any(|has| has == name));
    let mut set: Vec<&str> = DEFAULT.to_vec();
    let mut drop_all = false;
    for text in drop {
        let dropped = parse("--cap-drop", text)?;
        drop_all |= dropped.len() > 1;
        set.retain(|name| !dropped.contains(name));
    }
    for text in add {
        let added = parse("--cap-add", text)?;
        if let [name] = added.as_slice()
            && !can(name)
        {
            return Err(Error::new(
                tinyd_core::Kind::Unsupported,
                format!("the daemon itself has not {name} and cannot hand it on"),
            )
            .of_field("--cap-add"));
        }
        set.extend(added);
    }
    if !drop_all {
        // What is dropped by name stays dropped, also from ALL.
        for text in drop {
            let dropped = parse("--cap-drop", text)?;
            set.retain(|name| !dropped.contains(name));
        }
    }
    Ok(ALL.iter().filter(|name| set.contains(name) && can(name)).map(|name| (*name).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        resolve(&own(add), &own(drop), None).unwrap()
    }

    #[test]
    fn the_default_set_is_exact() {
        assert_eq!(set(&[], &[]), DEFAULT);
        for absent in ["CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_NET_RAW", "CAP_SYS_ADMIN"] {
            assert!(!DEFAULT.contains(&absent));
        }
    }

    #[test]
    fn add_and_drop() {
        assert!(set(&["net_admin"], &[]).contains(&"CAP_NET_ADMIN".to_owned()));
        assert!(!set(&[], &["CAP_CHOWN"]).contains(&"CAP_CHOWN".to_owned()));
        assert_eq!(set(&["KILL"], &["ALL"]), ["CAP_KILL"]);
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]).len(), ALL.len() - 1);
        assert!(resolve(&["SUPER".into()], &[], None).unwrap_err().message().contains("SUPER"));
    }

    #[test]
    fn what_the_daemon_lacks_is_an_error_only_by_name() {
        let can = ["CAP_CHOWN".to_owned(), "CAP_KILL".to_owned()];
        assert!(resolve(&["SYS_RESOURCE".into()], &[], Some(&can)).is_err());
        assert_eq!(resolve(&["ALL".into()], &[], Some(&can)).unwrap(), ["CAP_CHOWN", "CAP_KILL"]);
    }

    #[test]
    fn bits_have_names() {
        assert_eq!(from_bits(1 << 40 | 1 << 21), ["CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"]);
    }
}
