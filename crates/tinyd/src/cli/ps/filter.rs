//! `--filter KEY=VALUE`: those of one key are alternatives, different keys must all hold; labels must all be there.

use tinyd_core::{Error, Result};

use crate::{
    cli::views::{health_word, status_word},
    pb,
};

/// Which containers are shown.
#[derive(Debug, Default)]
pub(super) struct Filters {
    names: Vec<String>,
    ids: Vec<String>,
    states: Vec<String>,
    health: Vec<String>,
    networks: Vec<String>,
    labels: Vec<(String, Option<String>)>,
}

/// The states that may be asked for.
const STATES: [&str; 4] = ["created", "running", "paused", "exited"];
/// The kinds of health that may be asked for.
const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

impl Filters {
    /// Reads the words.
    ///
    /// # Errors
    /// `InvalidArgument` of `--filter`: an unknown key or state.
    pub(super) fn parse(words: &[String]) -> Result<Filters> {
        let mut filters = Filters::default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let value = value.to_owned();
            match key {
                "name" => filters.names.push(value),
                "id" => filters.ids.push(value),
                "network" => filters.networks.push(value),
                "status" => filters.states.push(state(word, &value)?),
                "health" => filters.health.push(one_of(&HEALTH, "health", word, value)?),
                "label" => filters.labels.push(match value.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (value, None),
                }),
                _ => {
                    let rule = "name=, id=, status=, health=, label= or network=";
                    return Err(Error::invalid("--filter", format!("{word:?} is not a filter: {rule}")));
                }
            }
        }
        Ok(filters)
    }

    /// Whether containers that do not run are asked for by their state.
    pub(super) fn ask_for_all(&self) -> bool {
        !self.states.is_empty()
    }

    /// Whether a container is shown.
    pub(super) fn admit(&self, container: &pb::ContainerSummary) -> bool {
        let one_of = |wanted: &[String], holds: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|value| holds(value))
        };
        let state = container.state.as_ref().map_or("unknown", |state| status_word(state.status()));
        one_of(&self.names, &|name| container.name.contains(name))
            && one_of(&self.ids, &|id| container.id.starts_with(id))
            && one_of(&self.states, &|wanted| state == wanted)
            && one_of(&self.health, &|wanted| {
                health_word(container.state.unwrap_or_default().health()) == wanted
            })
            && one_of(&self.networks, &|network| container.network == network)
            && self.labels.iter().all(|(key, value)| match container.labels.get(key) {
                Some(has) => value.as_ref().is_none_or(|value| has == value),
                None => false,
            })
    }
}

fn state(word: &str, value: &str) -> Result<String> {
    let known = if value == "stopped" { "exited" } else { value };
    one_of(&STATES, "a state", word, known.to_owned())
}

fn one_of(known: &[&str], what: &str, word: &str, value: String) -> Result<String> {
    if known.contains(&value.as_str()) {
        return Ok(value);
    }
    Err(Error::invalid("--filter", format!("{word:?} is not {what}: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(words: &[&str]) -> bool {
        let container = pb::ContainerSummary {
            id: "abcdef".into(),
            name: "web-1".into(),
            network: "mynet".into(),
            state: Some(pb::State { status: pb::Status::Stopped.into(), ..Default::default() }),
            labels: [("tier".to_owned(), "front".to_owned())].into_iter().collect(),
            ..Default::default()
        };
        Filters::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
            .unwrap()
            .admit(&container)
    }

    #[test]
    fn one_key_is_or_and_several_are_and() {
        for yes in [
            &[][..],
            &["name=web"],
            &["name=db", "name=web"],
            &["id=abc", "status=exited"],
            &["status=stopped"],
            &["health=none"],
            &["label=tier"],
            &["label=tier=front", "network=mynet"],
        ] {
            assert!(admits(yes), "{yes:?}");
        }
        for no in [
            &["name=db"][..],
            &["name=web", "status=running"],
            &["label=tier=back"],
            &["label=other"],
            &["id=bcd"],
            &["health=healthy"],
        ] {
            assert!(!admits(no), "{no:?}");
        }
    }

    #[test]
    fn a_filter_that_is_none_is_told() {
        for bad in ["colour=red", "name", "status=alive", "health=good"] {
            let outcome = Filters::parse(&[bad.to_owned()]);
            // `name` alone is an empty piece of a name: every container has it.
            assert_eq!(outcome.is_err(), bad != "name", "{bad}");
        }
    }
}
