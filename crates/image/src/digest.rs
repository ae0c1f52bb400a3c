//! Digests: the names of content (OCI image specification, "Descriptors: Digests"). What has one was counted and hashed first.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use tinyd_core::{Error, Result};

/// The algorithms that the specification registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// What everybody uses.
    Sha256,
    /// Registered, and used by few.
    Sha512,
}

impl Algorithm {
    /// As it is spelt before the colon.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    const fn hex_length(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A checked digest such as `sha256:e3b0c442…`: a known algorithm and its number of lower-case hexadecimal digits. Safe as a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// The digest of bytes that are at hand.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Before the colon.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Behind the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The twelve digits by which people call it.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Digest> {
        let rule = |why: &str| Error::invalid("digest", format!("{text:?} {why}"));
        let Some((name, hex)) = text.split_once(':') else {
            return Err(rule("is not a digest such as sha256:, followed by 64 hexadecimal digits"));
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(rule("has an algorithm that is not known: sha256 or sha512")),
        };
        let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if hex.len() != algorithm.hex_length() || !hex.bytes().all(is_hex) {
            return Err(rule(&format!("has not {} hexadecimal digits", algorithm.hex_length())));
        }
        Ok(Digest { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Digest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Hashes what goes by.
#[derive(Clone, Debug)]
pub struct Hasher(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Sha256 => Kind::Sha256(Sha256::new()),
            Algorithm::Sha512 => Kind::Sha512(Sha512::new()),
        })
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Kind::Sha256(hasher) => hasher.update(bytes),
            Kind::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all that was seen.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            Kind::Sha256(hasher) => digest(Algorithm::Sha256, &hasher.finalize()),
            Kind::Sha512(hasher) => digest(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Digest { algorithm, hex: digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_something_have_the_digests_of_the_standard() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(Digest::of(b"abc").short(), "ba7816bf8f01");
        let mut long = Hasher::new(Algorithm::Sha512);
        long.update(b"a");
        long.update(b"bc");
        let long = long.finish();
        assert!(long.to_string().starts_with("sha512:ddaf35a193617aba"), "{long}");
        assert_eq!(long.to_string().parse::<Digest>().unwrap(), long);
    }

    #[test]
    fn what_is_no_digest_says_why() {
        let digits = "0".repeat(64);
        for (bad, rule) in [
            ("", "not a digest"),
            (digits.as_str(), "not a digest"),
            (&format!("md5:{digits}"), "algorithm"),
            (&format!("sha256:{}", &digits[1..]), "64"),
            (&format!("sha256:{}A", &digits[1..]), "64"),
            (&format!("sha256:../{}", &digits[3..]), "64"),
            (&format!("sha512:{digits}"), "128"),
        ] {
            let error = bad.parse::<Digest>().unwrap_err();
            assert!(error.message().contains(rule), "{bad:?}: {error}");
        }
    }
}
