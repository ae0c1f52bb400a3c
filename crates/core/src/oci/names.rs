//! The names of a system call rule as one text: a profile has hundreds, and each as a string of its own would cost every start of a
//! container an allocation and every few dozen a page of memory.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

/// A list of names, in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Each name behind its length, which is two characters: one block that only grows stays where it is, and two that grow in turn
    /// would leave copies behind.
    text: String,
    count: usize,
}

/// A length is written in digits of this base: characters that exist, and that are one byte where names are as short as they are.
const BASE: usize = 0x4000;

impl Names {
    /// Each name.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.text.as_str();
        std::iter::from_fn(move || {
            let mut digits = rest.chars();
            let length = digits.next()? as usize * BASE + digits.next()? as usize;
            let (name, after) = digits.as_str().split_at_checked(length)?;
            rest = after;
            Some(name)
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, name: &str) {
        // No document is so long that there is no such character.
        let digit = |value: usize| u32::try_from(value).ok().and_then(char::from_u32).unwrap_or('\0');
        self.text.extend([digit(name.len() / BASE), digit(name.len() % BASE)]);
        self.text.push_str(name);
        self.count += 1;
    }
}

impl<S: AsRef<str>> FromIterator<S> for Names {
    fn from_iter<I: IntoIterator<Item = S>>(from: I) -> Names {
        let mut names = Names::default();
        from.into_iter().for_each(|name| names.push(name.as_ref()));
        names
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Names, D::Error> {
        deserializer.deserialize_seq(Reader)
    }
}

/// A name that is not copied where it need not be.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
        let mut names = Names::default();
        while let Some(Name(name)) = list.next_element()? {
            names.push(&name);
        }
        names.text.shrink_to_fit();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_as_a_list() {
        for text in [r#"["read","","a\"\nb","wörd"]"#, "[]"] {
            let names: Names = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&names).unwrap(), text);
            // From what is not a text, too.
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::from_value::<Names>(value).unwrap(), names);
            assert_eq!(names.iter().collect::<Names>(), names);
        }
        let names: Names = ["ab", "", "c"].into_iter().collect();
        assert_eq!((names.iter().collect::<Vec<_>>(), names.len()), (vec!["ab", "", "c"], 3));
        // Not the same text in other pieces.
        assert_ne!(names, ["a", "b", "c"].into_iter().collect());
        assert!(serde_json::from_str::<Names>(r#"["a",7]"#).is_err());
        // Lengths of which one, the other, or both digits are more than a byte, and what looks like one.
        let long = [127, 128, BASE - 1, BASE, 3 * BASE + 7].map(|length| "\0".repeat(length));
        assert!(long.iter().collect::<Names>().iter().eq(&long));
    }
}
