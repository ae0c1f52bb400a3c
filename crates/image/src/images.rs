//! The images of one store: found by what people call them, named, and forgotten. One lock, so that no two images have one name; the
//! records on disk are what counts, and this is what they say.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tinyd_core::{Error, Kind, Result};

use crate::{
    digest::Digest,
    reference::Reference,
    store::{ImageRecord, Store},
};

/// The fewest digits of an id that stand for it, as with containers.
const PREFIX_MIN: usize = 1;

/// The images of a store.
#[derive(Debug)]
pub struct Images {
    store: Store,
    all: Mutex<BTreeMap<Digest, ImageRecord>>,
}

/// What came in: documents that are in the store, and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The image's id.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Digest,
    /// The index that led to it.
    pub index: Option<Digest>,
    /// What it is called from now on; another image of that name loses it.
    pub names: Vec<Reference>,
    /// What a registry calls it.
    pub pinned: Option<Reference>,
    /// When, in nanoseconds since the epoch.
    pub at_unix_nanos: i64,
}

/// Who needs an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// A container, by its short id.
    pub container: String,
    /// Whether it runs.
    pub is_running: bool,
}

/// What is left of an image after a name was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// The image, when nothing calls it any more and it is gone.
    pub removed: Option<ImageRecord>,
}

impl Images {
    /// Reads what there is; and a line for each record that cannot be read, whose image is as if it were not there.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn open(store: Store) -> Result<(Images, Vec<String>)> {
        let (records, damaged) = store.all_images()?;
        let all = records.into_iter().map(|record| (record.id.clone(), record)).collect();
        Ok((Images { store, all: Mutex::new(all) }, damaged))
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, ImageRecord>> {
        // A record is replaced whole: whoever panicked has left none half.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<ImageRecord> {
        let mut all: Vec<ImageRecord> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| b.added_unix_nanos.cmp(&a.added_unix_nanos).then_with(|| a.id.cmp(&b.id)));
        all
    }

    /// Calls `look` with all of them, which nobody changes meanwhile.
    pub(crate) fn with_all<T>(&self, look: impl FnOnce(&[&ImageRecord]) -> T) -> T {
        let all = self.lock();
        look(&all.values().collect::<Vec<_>>())
    }

    /// The image that a user means: by a name, with tag or digest; or by its id or the beginning of that.
    ///
    /// # Errors
    /// `NotFound` when there is none, `InvalidArgument` when several begin so or it cannot be a name.
    pub fn find(&self, field: &str, text: &str) -> Result<ImageRecord> {
        find(&self.lock(), field, text).cloned()
    }

    /// Writes down an image that has come in.
    ///
    /// # Errors
    /// `Exhausted` when the disk is full, or the call and the errno.
    pub fn arrive(&self, arrival: Arrival) -> Result<ImageRecord> {
        let mut all = self.lock();
        let mut record = all.get(&arrival.id).cloned().unwrap_or_else(|| ImageRecord {
            id: arrival.id.clone(),
            manifests: Vec::new(),
            indexes: Default::default(),
            names: Default::default(),
            pinned: Default::default(),
            added_unix_nanos: arrival.at_unix_nanos,
        });
        record.manifests.retain(|manifest| *manifest != arrival.manifest);
        record.manifests.push(arrival.manifest.clone());
        record.indexes.extend(arrival.index);
        record.pinned.extend(arrival.pinned);
        for name in &arrival.names {
            self.take_name(&mut all, name, &arrival.id)?;
        }
        record.names.extend(arrival.names);
        self.store.put_image(&record)?;
        all.insert(arrival.id, record.clone());
        self.store.end_pull(&arrival.manifest)?;
        Ok(record)
    }

    /// Writes down what a registry calls an image from now on, if the image is still here.
    ///
    /// # Errors
    /// `Exhausted` when the disk is full, or the call and the errno.
    pub fn pin(&self, id: &Digest, pinned: Reference) -> Result<()> {
        let mut all = self.lock();
        let Some(mut record) = all.get(id).cloned() else { return Ok(()) };
        if record.pinned.insert(pinned) {
            self.store.put_image(&record)?;
            all.insert(id.clone(), record);
        }
        Ok(())
    }

    /// Gives the image that `text` means one more name, which another one loses.
    ///
    /// # Errors
    /// As [`Images::find`], and `InvalidArgument` when the name has a digest.
    pub fn tag(&self, text: &str, name: &Reference) -> Result<ImageRecord> {
        if name.digest().is_some() {
            return Err(Error::invalid(
                "TARGET",
                format!("{:?} has a digest: a tag is a name without", name.familiar()),
            ));
        }
        let mut all = self.lock();
        let mut record = find(&all, "SOURCE", text)?.clone();
        self.take_name(&mut all, name, &record.id)?;
        record.names.insert(name.clone());
        self.store.put_image(&record)?;
        all.insert(record.id.clone(), record.clone());
        Ok(record)
    }

    /// Takes a name away, or with an id all of them; an image that has no name left goes, unless `user` says who needs it. Its content is
    /// collected later.
    ///
    /// # Errors
    /// As [`Images::find`]; `WrongState` when a running container has it; also when another has it or an id has several names, unless `force`.
    pub fn forget(
        &self,
        text: &str,
        force: bool,
        user: impl FnOnce(&ImageRecord) -> Option<User>,
    ) -> Result<Forgotten> {
        let mut all = self.lock();
        let mut record = find(&all, "IMAGE", text)?.clone();
        let named = Reference::parse("IMAGE", text).ok().filter(|name| record.names.contains(name));
        let untagged: Vec<Reference> = match &named {
            Some(name) => vec![name.clone()],
            None if record.names.len() > 1 && !force => {
                return Err(conflict(
                    format_args!("delete {} (must be forced)", record.id.short()),
                    "image is referenced in multiple repositories",
                ));
            }
            None => record.names.iter().cloned().collect(),
        };
        let is_last = record.names.iter().all(|name| untagged.contains(name));
        if is_last && let Some(user) = user(&record) {
            refuse(&record, named.as_ref(), &user, force)?;
        }
        record.names.retain(|name| !untagged.contains(name));
        if !is_last {
            self.store.put_image(&record)?;
            all.insert(record.id.clone(), record);
            return Ok(Forgotten { untagged, removed: None });
        }
        self.store.remove_image(&record.id)?;
        all.remove(&record.id);
        Ok(Forgotten { untagged, removed: Some(record) })
    }

    /// Takes `name` from another image than `keeper`.
    fn take_name(
        &self,
        all: &mut BTreeMap<Digest, ImageRecord>,
        name: &Reference,
        keeper: &Digest,
    ) -> Result<()> {
        let holder = all.values().find(|record| record.names.contains(name) && record.id != *keeper);
        let Some(mut holder) = holder.cloned() else { return Ok(()) };
        holder.names.remove(name);
        self.store.put_image(&holder)?;
        all.insert(holder.id.clone(), holder);
        Ok(())
    }
}

/// Refuses to let an image go that somebody needs, in Docker's words: scripts look for them.
fn refuse(record: &ImageRecord, named: Option<&Reference>, user: &User, force: bool) -> Result<()> {
    let (id, container) = (record.id.short(), &user.container);
    match (user.is_running, named) {
        (true, _) => Err(conflict(
            format_args!("delete {id} (cannot be forced)"),
            &format!("image is being used by running container {container}"),
        )),
        (false, _) if force => Ok(()),
        (false, Some(name)) => Err(conflict(
            format_args!("remove repository reference {:?} (must force)", name.familiar()),
            &format!("container {container} is using its referenced image {id}"),
        )),
        (false, None) => Err(conflict(
            format_args!("delete {id} (must be forced)"),
            &format!("image is being used by stopped container {container}"),
        )),
    }
}

fn conflict(what: std::fmt::Arguments<'_>, why: &str) -> Error {
    Error::new(Kind::WrongState, format!("conflict: unable to {what} - {why}"))
}

fn find<'a>(all: &'a BTreeMap<Digest, ImageRecord>, field: &str, text: &str) -> Result<&'a ImageRecord> {
    // A name comes before an id, as with Docker: `cafe` may be both.
    let name = Reference::parse(field, text);
    if let Ok(name) = &name
        && let Some(record) = all.values().find(|record| is_called(record, name))
    {
        return Ok(record);
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_prefix = (PREFIX_MIN..=64).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    if is_prefix {
        let mut begin_so = all.values().filter(|record| record.id.hex().starts_with(digits));
        match (begin_so.next(), begin_so.next()) {
            (Some(only), None) => return Ok(only),
            (Some(_), Some(_)) => {
                return Err(Error::invalid(
                    field,
                    format!("several images have an id that begins with {digits:?}"),
                ));
            }
            (None, _) => {}
        }
    }
    match name {
        Err(error) if !is_prefix => Err(error),
        // Docker's words: scripts look for them.
        _ => Err(Error::new(Kind::NotFound, format!("No such image: {text}"))),
    }
}

/// Whether a name means an image; one with a digest means what has that digest, whatever its tag.
fn is_called(record: &ImageRecord, name: &Reference) -> bool {
    let Some(digest) = name.digest() else { return record.names.contains(name) };
    let is_content = record.manifests.contains(digest) || record.indexes.contains(digest);
    let same_place =
        |other: &Reference| other.registry() == name.registry() && other.repository() == name.repository();
    is_content && record.names.iter().chain(&record.pinned).any(same_place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    fn name(text: &str) -> Reference {
        text.parse().unwrap()
    }

    fn arrival(content: &str, names: &[&str]) -> Arrival {
        Arrival {
            id: Digest::of(content.as_bytes()),
            manifest: Digest::of(format!("manifest of {content}").as_bytes()),
            index: None,
            names: names.iter().map(|text| name(text)).collect(),
            pinned: None,
            at_unix_nanos: 1,
        }
    }

    fn open(scratch: &Scratch) -> Images {
        let (images, damaged) = Images::open(scratch.store.clone()).unwrap();
        assert!(damaged.is_empty());
        images
    }

    const NOBODY: fn(&ImageRecord) -> Option<User> = |_| None;

    #[test]
    fn an_image_is_found_by_all_that_it_is_called() {
        let scratch = Scratch::new("find");
        let images = open(&scratch);
        let pinned = name("ghcr.io/a/b").with_digest(arrival("one", &[]).manifest);
        let one = images
            .arrive(Arrival { pinned: Some(pinned.clone()), ..arrival("one", &["redis:7", "redis"]) })
            .unwrap();
        let id = one.id.to_string();
        for text in
            ["redis", "docker.io/library/redis:7", &id, one.id.hex(), one.id.short(), &pinned.to_string()]
        {
            assert_eq!(images.find("IMAGE", text).unwrap(), one, "{text}");
        }
        let elsewhere = format!("ghcr.io/other/b@{}", one.manifests[0]);
        for (text, kind) in [
            ("redis:8", Kind::NotFound),
            ("ffffffffffff", Kind::NotFound),
            (elsewhere.as_str(), Kind::NotFound),
            ("Redis", Kind::InvalidArgument),
        ] {
            assert_eq!(images.find("IMAGE", text).unwrap_err().kind(), kind, "{text}");
        }
        // As the next daemon finds it.
        assert_eq!(open(&scratch).list(), [one]);
    }

    #[test]
    fn the_beginning_of_several_ids_is_none() {
        let scratch = Scratch::new("ambiguous");
        let images = open(&scratch);
        let mut seen = BTreeMap::new();
        for number in 0..17 {
            let record = images.arrive(arrival(&number.to_string(), &[])).unwrap();
            *seen.entry(record.id.hex()[..1].to_owned()).or_insert(0) += 1;
        }
        let shared = seen.iter().find(|(_, count)| **count > 1).unwrap().0;
        let error = images.find("IMAGE", shared).unwrap_err();
        assert!(error.message().contains("several images"), "{error}");
    }

    #[test]
    fn a_name_has_one_image() {
        let scratch = Scratch::new("names");
        let images = open(&scratch);
        let old = images.arrive(arrival("old", &["app", "app:1"])).unwrap();
        let new = images.arrive(arrival("new", &["app"])).unwrap();
        assert_eq!(images.find("IMAGE", "app").unwrap().id, new.id);
        assert_eq!(images.find("IMAGE", "app:1").unwrap().id, old.id);
        images.tag("app:1", &name("app")).unwrap();
        assert_eq!(images.find("IMAGE", "app").unwrap().id, old.id);
        // The other one has no name left, and is there by its id.
        assert!(images.find("IMAGE", new.id.short()).unwrap().names.is_empty());
        let digest = name("app").with_digest(new.id);
        assert!(images.tag("app:1", &digest).unwrap_err().message().contains("digest"));
        assert_eq!(open(&scratch).list(), images.list());
    }

    #[test]
    fn what_comes_in_again_is_the_same_image() {
        let scratch = Scratch::new("again");
        let images = open(&scratch);
        images.arrive(arrival("one", &["a"])).unwrap();
        let zstd = Digest::of(b"the same layers, packed with zstd");
        let again = Arrival { manifest: zstd.clone(), at_unix_nanos: 9, ..arrival("one", &["b"]) };
        let record = images.arrive(again).unwrap();
        assert_eq!((record.manifests.len(), record.names.len(), record.added_unix_nanos), (2, 2, 1));
        assert_eq!(record.manifests.last(), Some(&zstd));
    }

    #[test]
    fn what_a_registry_calls_an_image_that_is_gone_is_forgotten() {
        let scratch = Scratch::new("pin");
        let images = open(&scratch);
        let one = images.arrive(arrival("one", &["a"])).unwrap();
        let pinned = name("host.example/a").with_digest(one.manifests[0].clone());
        images.pin(&one.id, pinned.clone()).unwrap();
        images.pin(&Digest::of(b"gone"), pinned.clone()).unwrap();
        assert_eq!(images.list().len(), 1);
        assert_eq!(images.find("IMAGE", &pinned.to_string()).unwrap().id, one.id);
        assert_eq!(open(&scratch).list(), images.list());
    }

    #[test]
    fn the_last_name_takes_the_image_along_unless_it_is_needed() {
        let scratch = Scratch::new("forget");
        let images = open(&scratch);
        let one = images.arrive(arrival("one", &["a", "b"])).unwrap();
        let stopped = |_: &ImageRecord| Some(User { container: "web".to_owned(), is_running: false });
        let running = |_: &ImageRecord| Some(User { container: "web".to_owned(), is_running: true });
        // Of several names one may always go.
        let gone = images.forget("a", false, running).unwrap();
        assert_eq!(gone, Forgotten { untagged: vec![name("a")], removed: None });
        let error = images.forget("b", false, stopped).unwrap_err();
        assert_eq!(error.kind(), Kind::WrongState);
        assert!(error.message().contains("container web is using its referenced image"), "{error}");
        let error = images.forget("b", true, running).unwrap_err();
        assert!(error.message().contains("image is being used by running container web"), "{error}");
        images.tag("b", &name("c")).unwrap();
        let error = images.forget(one.id.short(), false, NOBODY).unwrap_err();
        assert!(error.message().contains("referenced in multiple repositories"), "{error}");
        let gone = images.forget(one.id.short(), true, stopped).unwrap();
        assert_eq!((gone.untagged.len(), gone.removed.unwrap().id), (2, one.id));
        assert!(images.list().is_empty() && open(&scratch).list().is_empty());
    }
}
