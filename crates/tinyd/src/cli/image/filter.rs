//! Which images are listed: `--filter KEY=VALUE`, and a name.

use tinyd_core::{Error, Kind, Result};

use super::repository_and_tag;
use crate::pb;

/// Which images are listed. Those of one key are alternatives, different keys must all hold; labels must all be there.
#[derive(Debug, Default)]
pub(super) struct Filters {
    dangling: Option<bool>,
    labels: Vec<(String, Option<String>)>,
    references: Vec<String>,
    before: Option<String>,
    since: Option<String>,
}

impl Filters {
    /// Reads the words.
    ///
    /// # Errors
    /// `InvalidArgument` of `--filter`: an unknown key, or no truth.
    pub(super) fn parse(words: &[String], reference: Option<String>) -> Result<Filters> {
        let mut filters = Filters { references: reference.into_iter().collect(), ..Filters::default() };
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let text = value.to_owned();
            match key {
                "dangling" => filters.dangling = Some(truth(word, value)?),
                "label" => filters.labels.push(match value.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (text, None),
                }),
                "reference" => filters.references.push(text),
                "before" => filters.before = Some(text),
                "since" => filters.since = Some(text),
                _ => {
                    let rule = "dangling=, label=, reference=, before= or since=";
                    return Err(Error::invalid("--filter", format!("{word:?} is not a filter: {rule}")));
                }
            }
        }
        Ok(filters)
    }

    /// Those that are listed, with the names that are.
    ///
    /// # Errors
    /// `NotFound` of `--filter` when there is no image to compare with.
    pub(super) fn choose(&self, images: Vec<pb::ImageSummary>) -> Result<Vec<pb::ImageSummary>> {
        let made = |image: &Option<String>| {
            image.as_deref().map(|text| find(&images, text).map(|found| found.created_unix_nanos)).transpose()
        };
        let (before, since) = (made(&self.before)?, made(&self.since)?);
        let mut chosen: Vec<pb::ImageSummary> = images
            .iter()
            .filter(|image| {
                self.dangling.is_none_or(|dangling| image.names.is_empty() == dangling)
                    && before.is_none_or(|moment| image.created_unix_nanos < moment)
                    && since.is_none_or(|moment| image.created_unix_nanos > moment)
                    && self.labels.iter().all(|(key, value)| match image.labels.get(key) {
                        Some(has) => value.as_ref().is_none_or(|value| has == value),
                        None => false,
                    })
            })
            .cloned()
            .collect();
        if !self.references.is_empty() {
            for image in &mut chosen {
                image.names.retain(|name| self.references.iter().any(|pattern| is_meant(pattern, name)));
            }
            chosen.retain(|image| !image.names.is_empty());
        }
        Ok(chosen)
    }
}

fn truth(word: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::invalid("--filter", format!("{word:?} is neither true nor false"))),
    }
}

fn find<'a>(images: &'a [pb::ImageSummary], text: &str) -> Result<&'a pb::ImageSummary> {
    let hex = |image: &pb::ImageSummary| image.id.trim_start_matches("sha256:").to_owned();
    let found = images.iter().find(|image| {
        image.names.iter().any(|name| name == text || name.strip_suffix(":latest") == Some(text))
            || (!text.is_empty() && hex(image).starts_with(text.trim_start_matches("sha256:")))
    });
    found.ok_or_else(|| Error::new(Kind::NotFound, format!("No such image: {text}")).of_field("--filter"))
}

/// Whether a name is what a pattern says: of the repository alone, or with the tag.
fn is_meant(pattern: &str, name: &str) -> bool {
    fits(pattern.as_bytes(), name.as_bytes())
        || fits(pattern.as_bytes(), repository_and_tag(name).0.as_bytes())
}

/// `*` stands for anything but `/`, `?` for one such character.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), Some((first, behind))) => {
            fits(rest, text) || (*first != b'/' && fits(pattern, behind))
        }
        (Some((b'*', rest)), None) => fits(rest, text),
        (Some((b'?', rest)), Some((first, behind))) => *first != b'/' && fits(rest, behind),
        (Some((wanted, rest)), Some((first, behind))) => wanted == first && fits(rest, behind),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, names: &[&str], created: i64) -> pb::ImageSummary {
        pb::ImageSummary {
            id: format!("sha256:{id}"),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            created_unix_nanos: created,
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            ..Default::default()
        }
    }

    fn chosen(words: &[&str], reference: Option<&str>) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let all = vec![
            image("aa", &["redis:7", "redis:latest"], 3),
            image("bb", &["ghcr.io/a/b:1"], 2),
            image("cc", &[], 1),
        ];
        let chosen = Filters::parse(&words, reference.map(str::to_owned)).unwrap().choose(all).unwrap();
        chosen.into_iter().map(|image| format!("{} {}", &image.id[7..], image.names.join(","))).collect()
    }

    #[test]
    fn names_and_patterns() {
        assert_eq!(chosen(&[], Some("redis")), ["aa redis:7,redis:latest"]);
        assert_eq!(chosen(&[], Some("redis:7")), ["aa redis:7"]);
        assert_eq!(chosen(&["reference=r*s:?"], None), ["aa redis:7"]);
        assert_eq!(chosen(&["reference=ghcr.io/*/b"], None), ["bb ghcr.io/a/b:1"]);
        assert!(chosen(&["reference=ghcr.io/*"], None).is_empty());
    }

    #[test]
    fn the_other_keys() {
        assert_eq!(chosen(&["dangling=true"], None), ["cc "]);
        assert_eq!(chosen(&["dangling=false", "before=redis"], None), ["bb ghcr.io/a/b:1"]);
        assert_eq!(chosen(&["since=cc", "label=tier=front"], None).len(), 2);
        assert!(chosen(&["label=tier=back"], None).is_empty());
        for bad in ["x=1", "dangling=maybe"] {
            assert_eq!(Filters::parse(&[bad.to_owned()], None).unwrap_err().field(), Some("--filter"));
        }
    }
}
