//! Identities, checked once and then trusted: a container's id and the names people give.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A container's id: 64 lower-case hexadecimal digits, as Docker's. Made from random bytes by the engine.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// How many digits people are shown.
    pub const SHORT: usize = 12;

    /// The id that stands for these random bytes.
    #[must_use]
    pub fn from_bytes(random: [u8; 32]) -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in random {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        ContainerId(text)
    }

    /// Checks that `text` is an id.
    ///
    /// # Errors
    /// `InvalidArgument` unless it is 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(ContainerId(text.to_owned()))
        } else {
            Err(Error::invalid("id", format!("{text:?} is not a container id of 64 hexadecimal digits")))
        }
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, as shown in tables and used as the hostname.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..Self::SHORT]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContainerId({})", self.short())
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        ContainerId::parse(&text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

/// A name that a person gave to a container, network or volume: Docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most
/// 128 bytes. Such a name is safe as a file name and in a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The longest name, in bytes.
    pub const MAX: usize = 128;

    /// Checks that `text` is a name; `field` is what the user wrote it under.
    ///
    /// # Errors
    /// `InvalidArgument` with the rule that it breaks.
    pub fn parse(field: &str, text: &str) -> Result<Self> {
        let start = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if text.len() > Self::MAX {
            return Err(Error::invalid(
                field,
                format!("a name of {} bytes is too long: at most {}", text.len(), Self::MAX),
            ));
        }
        if start && rest {
            Ok(Name(text.to_owned()))
        } else {
            Err(Error::invalid(
                field,
                format!(
                    "{text:?} is not a name: letters, digits, '_', '.' and '-', beginning with a letter or digit"
                ),
            ))
        }
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Name::parse("name", &text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["a", "web-1", "A_b.c", "0"] {
            assert!(Name::parse("--name", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".hidden", "a/b", "a\nb", "a b", "é", "a\0", &"x".repeat(129)] {
            let error = Name::parse("--name", bad).unwrap_err();
            assert_eq!(error.field(), Some("--name"), "{bad:?}");
        }
    }

    #[test]
    fn an_id_is_made_of_random_bytes_and_reads_back() {
        let id = ContainerId::from_bytes([0xab; 32]);
        assert_eq!(id.short(), "abababababab");
        assert_eq!(ContainerId::parse(id.as_str()).unwrap(), id);
        assert!(ContainerId::parse("ABAB").is_err());
        assert!(ContainerId::parse("../../etc").is_err());
    }
}
