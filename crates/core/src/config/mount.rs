//! What is mounted into a container: `-v`, `--tmpfs`, `--device`.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    id::Name,
    size,
};

/// One mount that the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where, an absolute path in the container.
    pub target: String,
    /// Whether it, and every mount below it, is read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A file or directory of the host, absolute. A missing directory is made.
    Host(String),
    /// A named volume, which must exist.
    Volume(Name),
    /// Memory.
    Tmpfs {
        /// The most it holds, in bytes; half of the machine's memory when absent.
        #[serde(default)]
        size_bytes: Option<u64>,
        /// Its permission bits; 0o1777 when absent.
        #[serde(default)]
        mode: Option<u32>,
        /// Whether programs on it may be executed.
        #[serde(default)]
        exec: bool,
    },
}

impl Mount {
    /// Reads `HOST:CONTAINER[:ro|:rw]` or `VOLUME:CONTAINER[:ro|:rw]`.
    ///
    /// # Errors
    /// `InvalidArgument` of `field` with the part that is wrong and the rule.
    pub fn parse_volume(field: &str, text: &str) -> Result<Mount> {
        check_text(field, text)?;
        let shape = || {
            Error::invalid(
                field,
                format!(
                    "{text:?} is not a volume: HOST:CONTAINER[:ro] or NAME:CONTAINER[:ro], such as /srv/data:/data"
                ),
            )
        };
        let mut parts = text.split(':');
        let (source, target) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(shape)?);
        let mut read_only = false;
        for option in parts.next().into_iter().flat_map(|options| options.split(',')) {
            match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                other => {
                    return Err(Error::invalid(
                        field,
                        format!("{text:?}: {other:?} is not a volume option: ro or rw"),
                    ));
                }
            }
        }
        if parts.next().is_some() || source.is_empty() || target.is_empty() {
            return Err(shape());
        }
        let source = if source.starts_with('/') {
            MountSource::Host(source.to_owned())
        } else if source.contains('/') {
            return Err(Error::invalid(
                field,
                format!("{text:?}: the host path {source:?} is not absolute: it begins with /"),
            ));
        } else {
            MountSource::Volume(Name::parse(field, source)?)
        };
        Ok(Mount { source, target: check_target(field, text, target)?, read_only })
    }

    /// Reads `CONTAINER[:size=64m,mode=1777,exec,ro]`.
    ///
    /// # Errors
    /// `InvalidArgument` of `field` with the part that is wrong and the rule.
    pub fn parse_tmpfs(field: &str, text: &str) -> Result<Mount> {
        check_text(field, text)?;
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let (mut size_bytes, mut mode, mut exec, mut read_only) = (None, None, false, false);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", value)) => size_bytes = Some(size::parse_bytes(field, value)?),
                Some(("mode", value)) => {
                    mode =
                        Some(u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(
                            || {
                                Error::invalid(
                                    field,
                                    format!("{text:?}: {value:?} is not a mode: octal, such as 1777"),
                                )
                            },
                        )?);
                }
                None if option == "exec" => exec = true,
                None if option == "ro" => read_only = true,
                None if matches!(option, "noexec" | "rw" | "nosuid" | "nodev") => {}
                Some(_) | None => {
                    return Err(Error::invalid(
                        field,
                        format!(
                            "{text:?}: {option:?} is not a tmpfs option: size=, mode=, exec, noexec, ro, rw"
                        ),
                    ));
                }
            }
        }
        let target = check_target(field, text, target)?;
        Ok(Mount { source: MountSource::Tmpfs { size_bytes, mode, exec }, target, read_only })
    }
}

/// A device of the host in the container: `HOST[:CONTAINER[:rwm]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePair {
    /// The host's path.
    pub host: String,
    /// The container's path.
    pub container: String,
    /// Some of `r`, `w`, `m` (read, write, make).
    pub access: String,
}

impl DevicePair {
    /// Reads `HOST[:CONTAINER[:rwm]]`.
    ///
    /// # Errors
    /// `InvalidArgument` of `field` with the part that is wrong and the rule.
    pub fn parse(field: &str, text: &str) -> Result<DevicePair> {
        check_text(field, text)?;
        let is_access =
            |part: &str| !part.is_empty() && part.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, access) = match parts.as_slice() {
            [host] => (*host, *host, "rwm"),
            [host, access] if is_access(access) => (*host, *host, *access),
            [host, container] => (*host, *container, "rwm"),
            [host, container, access] if is_access(access) => (*host, *container, *access),
            _ => {
                return Err(Error::invalid(
                    field,
                    format!(
                        "{text:?} is not a device: HOST[:CONTAINER[:rwm]], such as /dev/fuse:/dev/fuse:rw"
                    ),
                ));
            }
        };
        for path in [host, container] {
            if !path.starts_with("/dev/") {
                return Err(Error::invalid(field, format!("{text:?}: {path:?} is not a path below /dev")));
            }
            check_target(field, text, path)?;
        }
        Ok(DevicePair { host: host.to_owned(), container: container.to_owned(), access: access.to_owned() })
    }
}

fn check_text(field: &str, text: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(field, format!("{text:?} has a control character")));
    }
    Ok(())
}

/// An absolute path in the container, other than `/`, without `..`; returned without doubled or trailing slashes.
fn check_target(field: &str, text: &str, target: &str) -> Result<String> {
    if !target.starts_with('/') {
        return Err(Error::invalid(
            field,
            format!("{text:?}: the container path {target:?} is not absolute: it begins with /"),
        ));
    }
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(Error::invalid(field, format!("{text:?}: the container path {target:?} has a .. in it")));
    }
    if parts.is_empty() {
        return Err(Error::invalid(field, format!("{text:?}: the container's / cannot be mounted over")));
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_a_volume() {
        let host = Mount::parse_volume("-v", "/root/vol:/root/vol").unwrap();
        assert_eq!(host.source, MountSource::Host("/root/vol".into()));
        assert!(!host.read_only);
        let named = Mount::parse_volume("-v", "data:/var//lib/data/:ro").unwrap();
        assert_eq!(named.source, MountSource::Volume(Name::parse("", "data").unwrap()));
        assert_eq!(named.target, "/var/lib/data");
        assert!(named.read_only);
    }

    #[test]
    fn a_bad_volume_says_which_rule() {
        for (bad, rule) in [
            ("/a", "HOST:CONTAINER"),
            ("relative:x", "not absolute"),
            ("./relative:/x", "not absolute"),
            ("/a:/b:rx", "ro or rw"),
            ("/a:/b:ro:z", "HOST:CONTAINER"),
            (":/b", "HOST:CONTAINER"),
            ("/a:", "HOST:CONTAINER"),
            ("/a:/", "cannot be mounted over"),
            ("/a:/b/../../etc", ".."),
            ("/a\n:/b", "control character"),
            ("..:/b", "not a name"),
        ] {
            let error = Mount::parse_volume("-v", bad).unwrap_err();
            assert!(error.message().contains(rule), "{bad}: {error}");
        }
    }

    #[test]
    fn the_spellings_of_a_tmpfs() {
        let tmpfs = Mount::parse_tmpfs("--tmpfs", "/run:size=64m,mode=700,exec").unwrap();
        assert_eq!(
            tmpfs.source,
            MountSource::Tmpfs { size_bytes: Some(64 << 20), mode: Some(0o700), exec: true }
        );
        assert!(Mount::parse_tmpfs("--tmpfs", "run").is_err());
        assert!(Mount::parse_tmpfs("--tmpfs", "/run:siz=1").is_err());
    }

    #[test]
    fn the_spellings_of_a_device() {
        assert_eq!(DevicePair::parse("--device", "/dev/fuse").unwrap().access, "rwm");
        assert_eq!(DevicePair::parse("--device", "/dev/fuse:r").unwrap().access, "r");
        assert_eq!(DevicePair::parse("--device", "/dev/sda:/dev/xvda:rw").unwrap().container, "/dev/xvda");
        for bad in ["fuse", "/dev/a:/dev/b:x", "/dev/../etc/passwd", "/etc/passwd"] {
            assert!(DevicePair::parse("--device", bad).is_err(), "{bad}");
        }
    }
}
