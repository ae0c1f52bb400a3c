//! The tags of a repository, page by page (distribution specification, "Listing Tags").

use std::{collections::BTreeSet, sync::Arc};

use http::{Method, StatusCode, Uri, header};
use serde::Deserialize;
use tinyd_core::{Error, Kind, Result};

use super::{
    error::{Failure, shown},
    exchange::{Answer, wrong},
    location::{self, Origin, with_parameter},
    place::{Place, Request},
    places::{Need, Places},
};
use crate::reference::Reference;

/// How many tags a page is asked to have.
const PAGE: &str = "1000";
/// The most pages that are asked for.
const PAGES_MAX: usize = 1000;
/// The most bytes of a page: tags have at most 128.
const PAGE_MAX_BYTES: u64 = 4 << 20;
/// The most tags of a repository.
const TAGS_MAX: usize = 100_000;

/// All tags of the repository of `reference`, each as a reference, in order.
pub(super) async fn list(places: &Arc<Places>, reference: &Reference) -> Result<Vec<Reference>> {
    let mut asking = places.asking(Need::Resolve);
    loop {
        let at = asking.place().await?;
        match pages(asking.at(at)).await {
            Ok(tags) => return tags.iter().map(|tag| named(reference, tag)).collect(),
            Err(failure) => asking.failed(at, failure, false),
        }
    }
}

async fn pages(place: &Place) -> Result<BTreeSet<String>, Failure> {
    let mut all = BTreeSet::new();
    let mut next = Some(with_parameter(&place.address("tags/list")?, "n", PAGE)?);
    for _ in 0..PAGES_MAX {
        let Some(uri) = next else { return Ok(all) };
        let mut answer = place.take(Request::new(Method::GET, uri.clone()), &[StatusCode::OK]).await?;
        let page = read(&answer.whole(PAGE_MAX_BYTES).await?)?;
        let before = all.len();
        all.extend(page);
        if all.len() > TAGS_MAX {
            return Err(wrong(format!("the repository has more than {TAGS_MAX} tags")));
        }
        next = follow(&answer, &uri)?;
        if next.is_some() && all.len() == before {
            return Err(wrong("a page of tags has none that is new, and there is to be another one".into()));
        }
    }
    Err(wrong(format!("the tags have more than {PAGES_MAX} pages")))
}

fn read(page: &[u8]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Page {
        /// `null` when there is none.
        tags: Option<Vec<String>>,
    }
    let bad = |error| Error::new(Kind::InvalidArgument, format!("read the list of tags: {error}"));
    let page: Page = serde_json::from_slice(page).map_err(bad)?;
    Ok(page.tags.unwrap_or_default())
}

/// The next page (RFC 8288). It is asked for with what the registry wants to see, so it must be the registry's.
fn follow(answer: &Answer, asked: &Uri) -> Result<Option<Uri>> {
    let next = answer.header(header::LINK).and_then(next_of);
    let Some(to) = next else { return Ok(None) };
    let next = location::resolve(asked, &to)?;
    if Origin::of(&next)? != Origin::of(asked)? {
        let message = format!("the next page of tags is said to be at another host: {:?}", shown(&to, 200));
        return Err(Error::new(Kind::InvalidArgument, message));
    }
    Ok(Some(next))
}

/// The target of `<…>; rel="next"`.
fn next_of(link: &str) -> Option<String> {
    link.split(',').find_map(|one| {
        let (target, parameters) = one.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |parameter: &str| {
            let parameter = parameter.trim().replace(' ', "");
            parameter.eq_ignore_ascii_case("rel=\"next\"") || parameter.eq_ignore_ascii_case("rel=next")
        };
        parameters.split(';').any(is_next).then(|| target.to_owned())
    })
}

/// A tag is a stranger's word: one that is none is refused.
fn named(reference: &Reference, tag: &str) -> Result<Reference> {
    let name = format!("{}/{}:{tag}", reference.registry(), reference.repository());
    name.parse().map_err(|_| {
        Error::new(Kind::InvalidArgument, format!("the registry lists a tag {:?}", shown(tag, 200)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_what_the_link_says() {
        for (link, next) in [
            (r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, Some("/v2/a/tags/list?last=b&n=2")),
            (r#"<x>; rel="prev", <y>; title="a"; rel=next"#, Some("y")),
            (r#"<x>; rel="prev""#, None),
            ("x", None),
        ] {
            assert_eq!(next_of(link).as_deref(), next, "{link}");
        }
    }

    #[test]
    fn a_tag_that_is_none_is_refused() {
        let reference: Reference = "a.example/b".parse().unwrap();
        assert_eq!(named(&reference, "7").unwrap().to_string(), "a.example/b:7");
        for bad in ["", "a/b", "-x", "\u{1b}[2J", "x@sha256:1"] {
            assert!(named(&reference, bad).is_err(), "{bad:?}");
        }
        assert_eq!(read(br#"{"name":"a","tags":null}"#).unwrap(), Vec::<String>::new());
    }
}
