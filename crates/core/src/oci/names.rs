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
    text: String,
    /// Where each name ends in the text.
    ends: Vec<u32>,
}

impl Names {
    /// Each name.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let ends = self.ends.iter().map(|end| *end as usize);
        let starts = [0].into_iter().chain(ends.clone());
        starts.zip(ends).map(|(start, end)| self.text.get(start..end).unwrap_or_default())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        // No document is that long.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
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
    }
}
