//! Images as the engine has them: one file for each thing that is done with them. What they are, and how they are kept, is
//! `tinyd_image`'s; here they meet containers and clients.

mod base;
mod collect;
mod commit;
mod export;
mod facts;
mod files;
mod fill;
mod import;
mod inspect;
mod list;
mod load;
mod pipe;
mod prune;
mod remove;
mod save;
mod settle;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use tinyd_core::Result;
use tinyd_image::{digest::Digest, images::Images, reference::Reference, store::Store};

pub(crate) use self::{
    base::{Base, UsedImage, base, layers_of},
    collect::{collect, collect_soon},
    commit::{commit, was_frozen},
    export::export,
    facts::Facts,
    fill::fill_volumes,
    import::import,
    inspect::{history, inspect},
    list::list,
    load::{load, told},
    prune::{prune, prune_if},
    remove::remove,
    save::save,
};
use crate::{Inner, blocking};

/// The images, and what is remembered of them.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// The images.
    pub(crate) images: Images,
    /// What their documents say, by their manifests.
    facts: Mutex<BTreeMap<Digest, Arc<facts::Facts>>>,
    /// Held by whoever collects: one at a time is enough.
    collecting: Mutex<()>,
}

impl Shelf {
    /// Opens the store of images below the data root, which this daemon alone has.
    pub(crate) fn open(root: &Path) -> Result<Shelf> {
        let (images, damaged) = Images::open(Store::open(root)?)?;
        for line in damaged {
            tracing::error!(
                "the record of an image cannot be read; it is as if it were not there, and nothing is collected until `tinyd system check --repair`: {line}"
            );
        }
        Ok(Shelf { images, facts: Mutex::default(), collecting: Mutex::default() })
    }

    /// Where they are kept.
    pub(crate) const fn store(&self) -> &Store {
        self.images.store()
    }
}

/// Gives an image another name.
pub(crate) async fn tag(inner: &Arc<Inner>, image: String, name: String) -> Result<String> {
    let inner = Arc::clone(inner);
    blocking(move || {
        let name = Reference::parse("TARGET_IMAGE", &name)?;
        inner.shelf.images.tag(&image, &name).map(|record| record.id.to_string())
    })
    .await
}

/// Names as people write them.
fn familiar<'a>(names: impl IntoIterator<Item = &'a Reference>) -> Vec<String> {
    names.into_iter().map(Reference::familiar).collect()
}
