//! From `linux.cgroupsPath` to systemd's words for it: the slice, the unit, and the directory that systemd will make for them. Decides
//! only; asks nobody. The rules are runc's.

use tinyd_core::{Error, Result};

const FIELD: &str = "linux.cgroupsPath";
/// The longest name that systemd takes, in bytes.
const NAME_MAX: usize = 255;

/// What a container's unit is called and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cgroup) struct Names {
    /// The unit: a scope, or a slice when the name says so.
    pub unit: String,
    /// The slice that it belongs to.
    pub slice: String,
    /// Its cgroup below systemd's own.
    pub path: String,
}

impl Names {
    /// Reads `slice:prefix:name`. No path at all is a scope `tinyrun-ID` in the slice that is usual for root or an ordinary user.
    ///
    /// # Errors
    /// `InvalidArgument`: not three parts, no slice, or a name that systemd does not take.
    pub(in crate::cgroup) fn parse(given: Option<&str>, id: &str, user: bool) -> Result<Names> {
        let usual = if user { "user.slice" } else { "system.slice" };
        let (slice, prefix, name) = match given {
            None => (usual, "tinyrun", id),
            Some(path) => parts(path).ok_or_else(|| {
                let rule = "with systemd it has to be slice:prefix:name, such as system.slice:tinyrun:web";
                Error::invalid(FIELD, format!("{path:?}: {rule}"))
            })?,
        };
        let slice = if slice.is_empty() { usual } else { slice };
        let above = expand(slice)?;
        if name.ends_with(".slice") {
            return Ok(Names { unit: name.to_owned(), slice: slice.to_owned(), path: expand(name)? });
        }
        let unit = if name.ends_with(".scope") { name.to_owned() } else { format!("{prefix}-{name}.scope") };
        check(&unit)?;
        let path = format!("{}/{unit}", above.trim_end_matches('/'));
        Ok(Names { unit, slice: slice.to_owned(), path })
    }

    /// Whether it is a slice, into which systemd puts no process itself.
    pub(super) fn is_slice(unit: &str) -> bool {
        unit.ends_with(".slice")
    }
}

fn parts(path: &str) -> Option<(&str, &str, &str)> {
    let (slice, rest) = path.split_once(':')?;
    let (prefix, name) = rest.split_once(':')?;
    (!name.is_empty() && !name.contains(':')).then_some((slice, prefix, name))
}

/// Where a slice's cgroup is: `a-b.slice` is in `a.slice`.
fn expand(slice: &str) -> Result<String> {
    let bad = || Error::invalid(FIELD, format!("{slice:?} is not the name of a slice such as machine.slice"));
    let stem = slice.strip_suffix(".slice").filter(|stem| !stem.is_empty()).ok_or_else(bad)?;
    check(slice)?;
    if stem == "-" {
        return Ok("/".to_owned());
    }
    let (mut path, mut prefix) = (String::new(), String::new());
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(bad());
        }
        path.push_str(&format!("/{prefix}{part}.slice"));
        prefix.push_str(&format!("{part}-"));
    }
    Ok(path)
}

/// What systemd takes as a unit's name. It escapes the names of units whose directories would be files of the kernel's.
fn check(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let escaped = name.starts_with("cgroup.") || name.starts_with(['_', '.']);
    if name.len() <= NAME_MAX && name.bytes().all(plain) && !escaped {
        return Ok(());
    }
    let rule = "letters, digits and : - _ . \\ @, at most 255 of them, beginning with neither _ nor .";
    Err(Error::invalid(FIELD, format!("{name:?} is not a unit's name: {rule}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(given: &str) -> Result<String> {
        Names::parse(Some(given), "id", false).map(|names| names.path)
    }

    #[test]
    fn three_parts_name_a_scope_in_a_slice() {
        let names = Names::parse(Some("machine.slice:libpod:web"), "id", false).unwrap();
        assert_eq!((names.unit.as_str(), names.slice.as_str()), ("libpod-web.scope", "machine.slice"));
        assert_eq!(names.path, "/machine.slice/libpod-web.scope");
        assert_eq!(
            path("user-1000-x.slice:p:n").unwrap(),
            "/user.slice/user-1000.slice/user-1000-x.slice/p-n.scope"
        );
        assert_eq!(path("-.slice:p:n").unwrap(), "/p-n.scope");
        assert_eq!(path("a.slice:p:n.scope").unwrap(), "/a.slice/n.scope");
    }

    #[test]
    fn what_is_left_out_is_usual() {
        let usual = |given, user| Names::parse(given, "id", user).unwrap().path;
        assert_eq!(usual(None, false), "/system.slice/tinyrun-id.scope");
        assert_eq!(usual(None, true), "/user.slice/tinyrun-id.scope");
        assert_eq!(usual(Some(":p:n"), false), "/system.slice/p-n.scope");
        assert_eq!(usual(Some(":p:n"), true), "/user.slice/p-n.scope");
    }

    #[test]
    fn a_name_may_be_a_slice() {
        let names = Names::parse(Some("a.slice:p:a-b.slice"), "id", false).unwrap();
        assert_eq!((names.unit.as_str(), names.path.as_str()), ("a-b.slice", "/a.slice/a-b.slice"));
        assert!(Names::is_slice(&names.unit));
    }

    #[test]
    fn what_is_no_slice_or_name_is_refused() {
        let slices = ["a", ".slice", "a--b.slice", "-a.slice", "a-.slice", "a/b.slice", "..slice", "a.scope"];
        for bad in slices {
            let error = path(&format!("{bad}:p:n")).unwrap_err();
            assert_eq!(error.field(), Some(FIELD), "{bad}");
        }
        for bad in [
            "",
            "/a/b",
            "a.slice",
            "a.slice:p",
            "a.slice:p:",
            "a.slice:p:n:m",
            "a.slice:p:n/m",
            "a.slice:p:n+",
        ] {
            assert_eq!(path(bad).unwrap_err().field(), Some(FIELD), "{bad}");
        }
        assert!(path(&format!("a.slice:p:{}", "n".repeat(300))).is_err());
        assert!(path("a.slice:_p:n").is_err(), "systemd escapes it, and the directory would be another");
    }

    proptest! {
        /// Whatever is written there: the directory is below the root, and its last name is the unit's.
        #[test]
        fn a_path_never_leads_out(given in "[a-z.:/\\-]{0,40}") {
            if let Ok(names) = Names::parse(Some(&given), "id", false) {
                let last = format!("/{}", names.unit);
                prop_assert!(names.path.starts_with('/') && names.path.ends_with(&last));
                prop_assert!(names.path.split('/').all(|part| part != "." && part != ".."));
            }
        }
    }
}
