//! Whether the store is what its images need: every document and packed layer there and unchanged, every layer unpacked, nothing under a
//! name that is nobody's. What can be put right is, when that is asked for; what a running container has is not touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use tinyd_core::{Error, Kind, Result};

use crate::{
    assemble::{self, assemble},
    config::chain_ids,
    digest::Digest,
    document::MANIFEST_MAX_BYTES,
    images::{Arrival, Images},
    progress::nobody,
    store::{ImageRecord, Lease, Store},
    tree,
};

/// What helps where only the image itself does.
const BRING_AGAIN: &str = "load or pull the image again";

/// How it is looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Whether sizes are enough, and contents are not hashed.
    pub quick: bool,
    /// Whether what can be put right is.
    pub repair: bool,
}

/// The layers of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What the container is called in messages.
    pub name: String,
    /// Its stacks, the lowest first.
    pub chain: Vec<Digest>,
    /// Whether it has them mounted.
    pub is_alive: bool,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of what.
    pub of: String,
    /// What it is.
    pub what: String,
    /// Whether it has been put right.
    pub is_repaired: bool,
    /// What was done, or what can be.
    pub remedy: String,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Images.
    pub images: u64,
    /// Documents and packed layers.
    pub contents: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Looks at everything. `is_over` is asked between two things: whether to give up.
///
/// # Errors
/// `Unavailable` when it was given up, or the call and the errno of a directory that cannot be read.
pub fn check(images: &Images, holders: &[Holder], look: Look, is_over: &dyn Fn() -> bool) -> Result<Checked> {
    let lease = images.store().lease();
    let mut check = Check {
        images,
        store: images.store(),
        lease: &lease,
        holders,
        look,
        is_over,
        contents: BTreeMap::new(),
        layers: BTreeMap::new(),
        checked: Checked::default(),
    };
    check.records()?;
    for record in images.list() {
        check.image(&record)?;
    }
    for holder in holders {
        check.holder(holder)?;
    }
    check.strangers()?;
    Ok(check.checked)
}

struct Check<'a> {
    images: &'a Images,
    store: &'a Store,
    lease: &'a Lease,
    holders: &'a [Holder],
    look: Look,
    is_over: &'a dyn Fn() -> bool,
    /// What is wrong with a content, looked at once.
    contents: BTreeMap<Digest, Option<String>>,
    /// What is wrong with a layer.
    layers: BTreeMap<Digest, Option<String>>,
    checked: Checked,
}

impl Check<'_> {
    fn go_on(&self) -> Result<()> {
        match (self.is_over)() {
            true => Err(Error::new(Kind::Unavailable, "the daemon is shutting down")),
            false => Ok(()),
        }
    }

    fn found(&mut self, of: &str, what: String, is_repaired: bool, remedy: impl Into<String>) {
        let (of, remedy) = (of.to_owned(), remedy.into());
        self.checked.problems.push(Problem { of, what, is_repaired, remedy });
    }

    /// What is written about images is what is known of them.
    fn records(&mut self) -> Result<()> {
        for record in self.images.list() {
            let what = match self.store.image(&record.id) {
                Ok(Some(_)) => continue,
                Ok(None) => "its record is not there".to_owned(),
                Err(error) => format!("its record cannot be read: {error}"),
            };
            let of = told(&record);
            if !self.still_there(&record) {
                continue;
            }
            if self.look.repair {
                self.store.put_image(&record)?;
            }
            self.found(&of, what, self.look.repair, repaired(self.look, "written again"));
        }
        for (path, why) in self.store.unreadable_images()? {
            let id = named(&path, ".json");
            if id.as_ref().is_some_and(|id| self.images.list().iter().any(|record| record.id == *id)) {
                continue;
            }
            let of = format!("record {path:?}");
            let found = match &id {
                Some(id) => self.store.manifests_of(id)?,
                None => Vec::new(),
            };
            if found.is_empty() {
                if self.look.repair {
                    tree::remove(&path)?;
                }
                let remedy = repaired(self.look, "removed");
                self.found(&of, why, self.look.repair, format!("{remedy}; {BRING_AGAIN}"));
                continue;
            }
            if self.look.repair {
                self.find_again(id.as_ref(), found)?;
            }
            let done = "written again without the image's names, which `tinyd tag` gives";
            self.found(&of, why, self.look.repair, repaired(self.look, done));
        }
        Ok(())
    }

    /// Writes down an image whose documents are there.
    fn find_again(&self, id: Option<&Digest>, manifests: Vec<Digest>) -> Result<()> {
        let Some(id) = id else { return Ok(()) };
        for manifest in manifests {
            self.images.arrive(Arrival {
                id: id.clone(),
                manifest,
                index: None,
                names: Vec::new(),
                pinned: None,
                at_unix_nanos: tinyd_core::time::unix_nanos(std::time::SystemTime::now()),
            })?;
        }
        Ok(())
    }

    /// An image may have been removed since the list was made: then nothing of it is missing.
    fn still_there(&self, record: &ImageRecord) -> bool {
        self.images.find("IMAGE", &record.id.to_string()).is_ok()
    }

    fn image(&mut self, record: &ImageRecord) -> Result<()> {
        self.checked.images += 1;
        let of = told(record);
        for manifest in &record.manifests {
            self.lease.pin(manifest);
            self.lease.pin(&record.id);
            let mut is_whole = self.content(record, &of, manifest, None)?;
            is_whole &= self.content(record, &of, &record.id, None)?;
            if !is_whole {
                continue;
            }
            let (document, config) = match assemble::read(self.store, manifest) {
                Ok(read) => read,
                Err(error) => {
                    self.found(&of, error.to_string(), false, BRING_AGAIN);
                    continue;
                }
            };
            for layer in &document.layers {
                self.lease.pin(&layer.digest);
                is_whole &= self.content(record, &of, &layer.digest, Some(layer.size))?;
            }
            let chain = chain_ids(&config.rootfs.diff_ids);
            self.stack(&of, &chain, is_whole.then_some(manifest))?;
        }
        Ok(())
    }

    /// Looks at a content, which several images may have; whether it is as it should be.
    fn content(
        &mut self,
        record: &ImageRecord,
        of: &str,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<bool> {
        self.go_on()?;
        let what = match self.contents.get(digest) {
            Some(known) => known.clone(),
            None => {
                let what = self.look_at_content(digest, size);
                self.contents.insert(digest.clone(), what.clone());
                what
            }
        };
        let Some(what) = what else { return Ok(true) };
        if !self.still_there(record) {
            return Ok(false);
        }
        let is_there = self.store.blob_size(digest).is_some();
        let remedy = match (is_there, self.look.repair) {
            // It would be taken for whole when the image comes again.
            (true, true) => {
                self.store.remove_blob(digest)?;
                format!("removed; {BRING_AGAIN}")
            }
            (true, false) => format!("--repair removes it; then {BRING_AGAIN}"),
            (false, _) => BRING_AGAIN.to_owned(),
        };
        self.found(of, what, false, remedy);
        Ok(false)
    }

    fn look_at_content(&mut self, digest: &Digest, size: Option<u64>) -> Option<String> {
        let Some(found) = self.store.blob_size(digest) else {
            return Some(format!("content {digest} is not in the store"));
        };
        self.checked.contents += 1;
        self.checked.bytes += found;
        if let Some(size) = size.filter(|size| *size != found) {
            return Some(format!("content {digest} has {found} bytes, and its manifest says {size}"));
        }
        // Documents are small.
        if self.look.quick && size.is_some() {
            return None;
        }
        self.store.verify_blob(digest).err().map(|error| error.message().to_owned())
    }

    fn holder(&mut self, holder: &Holder) -> Result<()> {
        holder.chain.iter().for_each(|chain_id| self.lease.pin(chain_id));
        self.stack(&format!("container {}", holder.name), &holder.chain, None)
    }

    /// Looks at the layers of a stack. With the manifest of an image that is whole, those that are not there are unpacked again.
    fn stack(&mut self, of: &str, chain: &[Digest], manifest: Option<&Digest>) -> Result<()> {
        let mut wrong = Vec::new();
        for chain_id in chain {
            self.go_on()?;
            self.lease.pin(chain_id);
            let what = match self.layers.get(chain_id) {
                Some(known) => known.clone(),
                None => {
                    self.checked.layers += 1;
                    let what = self.look_at_layer(chain_id);
                    self.layers.insert(chain_id.clone(), what.clone());
                    what
                }
            };
            wrong.extend(what.map(|what| (chain_id, what)));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let unpacked = self.unpack_again(&wrong, manifest);
        for (chain_id, what) in wrong {
            match &unpacked {
                Ok(remedy) => {
                    self.layers.insert(chain_id.clone(), None);
                    self.found(of, what, true, remedy.clone());
                }
                Err(remedy) => self.found(of, what, false, remedy.clone()),
            }
        }
        Ok(())
    }

    fn look_at_layer(&self, chain_id: &Digest) -> Option<String> {
        match self.store.layer(chain_id) {
            Ok(Some(record)) if record.chain_id != *chain_id => {
                Some(format!("the record of layer {chain_id} is that of {}", record.chain_id))
            }
            Ok(Some(_)) if !self.store.layer_files(chain_id).is_dir() => {
                Some(format!("layer {chain_id} has no files"))
            }
            Ok(Some(_)) => None,
            Ok(None) => Some(format!("layer {chain_id} is not unpacked")),
            Err(error) => Some(format!("the record of layer {chain_id} cannot be read: {error}")),
        }
    }

    /// Unpacks layers again: what was done, or what stands in the way.
    fn unpack_again(&self, wrong: &[(&Digest, String)], manifest: Option<&Digest>) -> Result<String, String> {
        let Some(manifest) = manifest else { return Err(BRING_AGAIN.to_owned()) };
        let is_mounted = |holder: &&Holder| {
            holder.is_alive && wrong.iter().any(|(chain_id, _)| holder.chain.contains(chain_id))
        };
        if let Some(holder) = self.holders.iter().find(is_mounted) {
            return Err(format!("stop container {}, which has it, and check with --repair", holder.name));
        }
        if !self.look.repair {
            return Err("--repair unpacks it again".to_owned());
        }
        let again = || -> Result<()> {
            for (chain_id, _) in wrong {
                if let Some(doomed) = self.store.retire_layer(chain_id)? {
                    tree::remove(&doomed)?;
                }
            }
            assemble(self.lease, manifest, &nobody).map(drop)
        };
        again().map(|()| "unpacked again".to_owned()).map_err(|error| format!("unpack it again: {error}"))
    }

    /// What is there under a name that nobody has given, or has no record.
    fn strangers(&mut self) -> Result<()> {
        let known: BTreeSet<Digest> = self.layers.keys().cloned().collect();
        for path in self.store.strangers(&known)? {
            if self.look.repair {
                tree::remove(&path)?;
            }
            let of = format!("{path:?}");
            let what = "it is nothing that the store knows".to_owned();
            self.found(&of, what, self.look.repair, repaired(self.look, "removed"));
        }
        Ok(())
    }
}

fn repaired(look: Look, done: &str) -> String {
    if look.repair { done.to_owned() } else { format!("with --repair it is {done}") }
}

fn told(record: &ImageRecord) -> String {
    match record.names.first() {
        Some(name) => format!("image {}", name.familiar()),
        None => format!("image {}", record.id.short()),
    }
}

impl Store {
    /// The manifests of a configuration, found by reading every content that may be one.
    fn manifests_of(&self, id: &Digest) -> Result<Vec<Digest>> {
        let mut all = Vec::new();
        for digest in self.all_blobs()? {
            if self.blob_size(&digest).is_none_or(|size| size > MANIFEST_MAX_BYTES) {
                continue;
            }
            if let Ok((manifest, _)) = assemble::read(self, &digest)
                && manifest.config.digest == *id
            {
                all.push(digest);
            }
        }
        Ok(all)
    }

    /// Records of images that cannot be read, and why.
    pub(crate) fn unreadable_images(&self) -> Result<Vec<(PathBuf, String)>> {
        let is_record = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
        let paths = self.entries("images")?.into_iter().filter(is_record);
        let tried = paths.map(|path| {
            let read = std::fs::read(&path).map_err(|source| source.to_string());
            let read = read.and_then(|bytes| {
                serde_json::from_slice::<ImageRecord>(&bytes).map_err(|source| source.to_string())
            });
            (path, read)
        });
        Ok(tried.filter_map(|(path, read)| Some((path, read.err()?))).collect())
    }

    /// Entries of the store's directories that are neither on their way nor what a digest names; and layers without a record that are
    /// none of those that were looked at.
    fn strangers(&self, known: &BTreeSet<Digest>) -> Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        for path in self.entries("layers")? {
            let Some(digest) = named(&path, "") else {
                all.push(path);
                continue;
            };
            // One that was made or removed meanwhile is none.
            if !known.contains(&digest) && matches!(self.layer(&digest), Ok(None)) && path.exists() {
                all.push(path);
            }
        }
        for path in self.entries("images")? {
            if named(&path, ".json").is_none() {
                all.push(path);
            }
        }
        for algorithm in ["sha256", "sha512"] {
            for path in self.entries(&format!("blobs/{algorithm}"))? {
                let hex = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if format!("{algorithm}:{hex}").parse::<Digest>().is_err() {
                    all.push(path);
                }
            }
        }
        Ok(all)
    }

    /// What is in one of the store's directories, but for what is on its way.
    fn entries(&self, dir: &str) -> Result<Vec<PathBuf>> {
        let dir = self.place(dir);
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(crate::failed(format_args!("read directory {dir:?}"), source)),
        };
        let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        all.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
        all.sort();
        Ok(all)
    }
}

/// The digest that a file's name is, before `suffix`.
fn named(path: &std::path::Path, suffix: &str) -> Option<Digest> {
    let name = path.file_name()?.to_str()?.strip_suffix(suffix)?;
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{assemble::tests::image, images::Arrival, layer::tests::archive, store::tests::Scratch};

    struct Made {
        images: Images,
        manifest: Digest,
        chain: Vec<Digest>,
    }

    fn made(scratch: &Scratch) -> Made {
        let store = &scratch.store;
        let (images, _) = Images::open(store.clone()).unwrap();
        let lease = store.lease();
        let manifest = image(store, &[archive("low", b"x"), archive("high", b"y")], "linux");
        let ready = assemble(&lease, &manifest, &nobody).unwrap();
        let arrival = Arrival {
            id: ready.id,
            manifest: manifest.clone(),
            index: None,
            names: vec!["app".parse().unwrap()],
            pinned: None,
            at_unix_nanos: 1,
        };
        images.arrive(arrival).unwrap();
        Made { images, manifest, chain: ready.chain }
    }

    fn look(made: &Made, quick: bool, repair: bool) -> Checked {
        check(&made.images, &[], Look { quick, repair }, &|| false).unwrap()
    }

    /// What is found without and with repair, and whether it was put right.
    fn found(made: &Made) -> (String, bool) {
        let before = look(made, false, false);
        assert!(before.problems.iter().all(|problem| !problem.is_repaired), "{before:?}");
        let after = look(made, false, true);
        let whats = |checked: &Checked| {
            checked.problems.iter().map(|problem| problem.what.clone()).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(whats(&before), whats(&after));
        (whats(&after), look(made, false, false).problems.is_empty())
    }

    #[test]
    fn nothing_is_wrong_with_what_is_whole() {
        let scratch = Scratch::new("check-whole");
        let made = made(&scratch);
        let checked = look(&made, false, false);
        assert_eq!((checked.images, checked.contents, checked.layers), (1, 4, 2));
        assert!(checked.problems.is_empty() && checked.bytes > 1000, "{checked:?}");
    }

    #[test]
    fn layers_are_unpacked_again_unless_somebody_runs_on_them() {
        let scratch = Scratch::new("check-layers");
        let (store, made) = (&scratch.store, made(&scratch));
        let files = store.layer_files(&made.chain[1]);
        let damages: [&dyn Fn(); 3] =
            [&|| tree::remove(files.parent().unwrap()).unwrap(), &|| tree::remove(&files).unwrap(), &|| {
                fs::write(files.parent().unwrap().join("layer.json"), "{").unwrap()
            }];
        for (damage, rule) in damages.iter().zip(["is not unpacked", "has no files", "cannot be read"]) {
            damage();
            let holder = Holder { name: "web".into(), chain: made.chain.clone(), is_alive: true };
            let held = check(&made.images, &[holder], Look { quick: true, repair: true }, &|| false).unwrap();
            assert!(held.problems[0].remedy.contains("stop container web"), "{held:?}");
            let (what, is_right) = found(&made);
            assert!(what.contains(rule) && is_right, "{what}");
            assert_eq!(fs::read(files.join("high")).unwrap(), b"y");
        }
    }

    #[test]
    fn contents_that_have_changed_go_so_that_they_can_come_again() {
        let scratch = Scratch::new("check-contents");
        let (store, made) = (&scratch.store, made(&scratch));
        let layer = assemble::read(store, &made.manifest).unwrap().0.layers[1].digest.clone();
        let path = store.blob_path(&layer);
        let whole = fs::read(&path).unwrap();
        let mut other = whole.clone();
        other[20] ^= 1;
        fs::write(&path, &other).unwrap();
        assert!(look(&made, true, false).problems.is_empty(), "a size is not enough to tell");
        let (what, is_right) = found(&made);
        assert!(what.contains("has changed on disk") && !is_right && !path.exists(), "{what}");
        assert!(look(&made, true, true).problems[0].what.contains("is not in the store"));
        store.put_blob(&whole).unwrap();
        assert!(look(&made, false, false).problems.is_empty());
        fs::write(store.blob_path(&made.manifest), "{}").unwrap();
        let (what, is_right) = found(&made);
        assert!(what.contains("has changed on disk") && !is_right, "{what}");
    }

    #[test]
    fn records_and_strangers_are_put_right() {
        let scratch = Scratch::new("check-records");
        let (store, made) = (&scratch.store, made(&scratch));
        let id = made.images.find("", "app").unwrap().id;
        let record = store.place("images").join(format!("sha256-{}.json", id.hex()));
        fs::write(&record, "{").unwrap();
        let (what, is_right) = found(&made);
        assert!(what.contains("cannot be read") && is_right, "{what}");
        assert!(store.image(&id).unwrap().is_some());
        let lost = Digest::of(b"lost");
        for path in ["layers/foreign", "blobs/sha256/foreign", "images/foreign.txt"] {
            fs::write(store.place(path), "x").unwrap();
        }
        fs::create_dir(store.place("layers").join(format!("sha256-{}", lost.hex()))).unwrap();
        fs::write(store.place("images").join(format!("sha256-{}.json", lost.hex())), "{").unwrap();
        let (what, is_right) = found(&made);
        assert!(is_right && what.matches("nothing that the store knows").count() == 4, "{what}");
    }

    #[test]
    fn an_image_whose_record_is_lost_is_kept_and_found_again() {
        let scratch = Scratch::new("check-lost");
        let (store, made) = (&scratch.store, made(&scratch));
        let id = made.images.find("", "app").unwrap().id;
        fs::write(store.place("images").join(format!("sha256-{}.json", id.hex())), "{").unwrap();
        // The next daemon does not know it, and must not take its content for nobody's.
        let (images, damaged) = Images::open(store.clone()).unwrap();
        assert_eq!((images.list().len(), damaged.len()), (0, 1));
        let error = crate::gc::collect(&images, BTreeSet::new).unwrap_err();
        assert!(error.message().contains("system check"), "{error}");
        assert_eq!(store.all_blobs().unwrap().len(), 4);
        let (what, is_right) = found(&Made { images, ..made });
        assert!(is_right, "{what}");
        let (images, _) = Images::open(store.clone()).unwrap();
        assert_eq!(images.find("", &id.to_string()).unwrap().manifests.len(), 1);
        assert_eq!(crate::gc::collect(&images, BTreeSet::new).unwrap(), crate::gc::Collected::default());
    }

    #[test]
    fn it_can_be_given_up() {
        let scratch = Scratch::new("check-over");
        let made = made(&scratch);
        let error = check(&made.images, &[], Look::default(), &|| true).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
    }
}
