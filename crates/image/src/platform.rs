//! Platforms: which of an index's images is for this machine (OCI image specification, "Image Index").

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tinyd_core::{Error, Result};

/// What an image is for. The words are Go's, as everywhere in OCI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v7` of `arm`; "" when there is but one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Of Windows.
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
}

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn host() -> Platform {
        normal("linux", std::env::consts::ARCH, "")
    }

    /// How well an image for `self` runs where `wanted` is wanted: the greater the better; `None` when it does not.
    #[must_use]
    pub fn fits(&self, wanted: &Platform) -> Option<u8> {
        let have = normal(&self.os, &self.architecture, &self.variant);
        if have.os != wanted.os || have.architecture != wanted.architecture {
            return None;
        }
        if have.variant == wanted.variant {
            return Some(u8::MAX);
        }
        // `amd64` without a variant is v1, and a machine runs what is for an older one.
        let level = |variant: &str| match variant {
            "" => Some(0),
            _ => variant.strip_prefix('v').and_then(|digits| digits.parse::<u8>().ok()),
        };
        let (have, most) = (level(&have.variant)?, level(&wanted.variant)?);
        (have <= most).then_some(have)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// `linux/arm64`, `linux/arm/v7`, `arm64`.
    fn from_str(text: &str) -> Result<Platform> {
        let word = |word: &&str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        let words: Vec<&str> = text.split('/').collect();
        match words.as_slice() {
            words if !words.iter().all(word) => Err(()),
            [architecture] => Ok(normal("linux", architecture, "")),
            [os, architecture] => Ok(normal(os, architecture, "")),
            [os, architecture, variant] => Ok(normal(os, architecture, variant)),
            _ => Err(()),
        }
        .map_err(|()| {
            Error::invalid(
                "--platform",
                format!("{text:?} is not a platform such as linux/amd64 or linux/arm/v7"),
            )
        })
    }
}

/// One spelling of each (containerd/platforms `database.go`).
fn normal(os: &str, architecture: &str, variant: &str) -> Platform {
    let (os, architecture, variant) =
        (os.to_ascii_lowercase(), architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", other) => ("amd64", other),
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
        ("aarch64", other) => ("arm64", other),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        ("powerpc64le", _) => ("ppc64le", ""),
        other => other,
    };
    Platform {
        os,
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
        os_version: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn many_spellings_are_one_platform() {
        for (text, shown) in [
            ("amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("Linux/AARCH64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("armhf", "linux/arm/v7"),
            ("linux/arm", "linux/arm/v7"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(platform(text).to_string(), shown);
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64"] {
            assert_eq!(bad.parse::<Platform>().unwrap_err().field(), Some("--platform"), "{bad:?}");
        }
        assert_eq!(Platform::host().os, "linux");
    }

    #[test]
    fn an_older_variant_runs_and_a_newer_one_does_not() {
        let wanted = platform("linux/arm/v7");
        assert!(platform("linux/arm/v6").fits(&wanted) < wanted.fits(&wanted));
        assert!(platform("linux/arm/v6").fits(&wanted) > platform("linux/arm/v5").fits(&wanted));
        assert_eq!(platform("linux/arm/v8").fits(&wanted), None);
        assert_eq!(platform("linux/arm64").fits(&wanted), None);
        assert_eq!(platform("linux/amd64/v3").fits(&platform("amd64")), None);
        assert_eq!(platform("linux/amd64").fits(&platform("linux/amd64/v2")), Some(0));
    }
}
