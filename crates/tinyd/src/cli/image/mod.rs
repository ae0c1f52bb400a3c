//! `tinyd image`: what containers are made from. `images`, `rmi`, `tag`, `load`, `save`, `import` and `history` are these too.

mod filter;
pub(super) mod history;
pub(super) mod import;
pub(super) mod inspect;
mod layout;
pub(super) mod load;
pub(super) mod ls;
pub(super) mod progress;
pub(super) mod prune;
pub(super) mod pull;
pub(super) mod push;
pub(super) mod rm;
pub(super) mod save;
pub(super) mod tag;
pub(super) mod transfer;

/// What Docker writes where an image has no name or no digest.
const NONE: &str = "<none>";

/// A name in two: `ghcr.io/a/b`, `7`.
fn repository_and_tag(name: &str) -> (&str, &str) {
    // A colon before a slash is a registry's port.
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        Some(_) | None => (name, NONE),
    }
}

/// The digits of an image's id that people are shown; `whole` is all of it, as Docker writes it.
fn shown_id(id: &str, whole: bool) -> &str {
    if whole { id } else { super::text::short_id(id.split_once(':').map_or(id, |(_, hex)| hex)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_repository_and_tag() {
        assert_eq!(repository_and_tag("redis:7"), ("redis", "7"));
        assert_eq!(repository_and_tag("localhost:5000/a/b:1.0"), ("localhost:5000/a/b", "1.0"));
        assert_eq!(repository_and_tag("localhost:5000/a"), ("localhost:5000/a", NONE));
    }
}
