//! Who a process runs as: `-u name|uid[:group|gid]`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A user and perhaps a group, as written: names are looked up in the container's own files, numbers never are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct User {
    /// A name or a number.
    pub user: NameOrId,
    /// A name or a number.
    pub group: Option<NameOrId>,
}

/// A name to look up, or a number to take as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOrId {
    /// 0 to 2³¹-1.
    Id(u32),
    /// A name.
    Name(String),
}

impl User {
    /// Reads `name|uid[:group|gid]`.
    ///
    /// # Errors
    /// `InvalidArgument` of `field`: a number above 2³¹-1, an empty part, a control character.
    pub fn parse(field: &str, text: &str) -> Result<User> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        Ok(User {
            user: NameOrId::parse(field, user)?,
            group: group.map(|group| NameOrId::parse(field, group)).transpose()?,
        })
    }
}

impl NameOrId {
    fn parse(field: &str, text: &str) -> Result<NameOrId> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // Parsed as a number or refused: never wrapped and never looked up as a name.
            let id = text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok());
            return id.map(NameOrId::Id).ok_or_else(|| {
                Error::invalid(
                    field,
                    format!("{text} is out of range for a user or group id: 0 to 2147483647"),
                )
            });
        }
        let plain = !text.is_empty()
            && !text.starts_with('-')
            && text.len() <= 256
            && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b':' | b'/' | b','));
        if plain {
            return Ok(NameOrId::Name(text.to_owned()));
        }
        Err(Error::invalid(
            field,
            format!("{text:?} is not a user or group: a name or a number, such as www-data or 1000:1000"),
        ))
    }
}

impl fmt::Display for NameOrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameOrId::Id(id) => write!(f, "{id}"),
            NameOrId::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.user)?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

impl TryFrom<String> for User {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        User::parse("user", &text)
    }
}

impl From<User> for String {
    fn from(user: User) -> String {
        user.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_wrapped_and_never_a_name() {
        assert_eq!(User::parse("-u", "1000:50").unwrap().to_string(), "1000:50");
        for bad in ["4294967296", "2147483648", "99999999999999999999"] {
            assert!(User::parse("-u", bad).unwrap_err().message().contains("2147483647"), "{bad}");
        }
    }

    #[test]
    fn names_are_plain() {
        assert_eq!(User::parse("-u", "www-data").unwrap().user, NameOrId::Name("www-data".into()));
        for bad in ["", ":", "a:", ":b", "a b", "-1", "a\n", "a:b:c"] {
            assert!(User::parse("-u", bad).is_err(), "{bad:?}");
        }
    }
}
