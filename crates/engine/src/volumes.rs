//! Named volumes: a directory each, with the files in `_data`. Who uses one is derived from the containers' records.

use std::{
    collections::BTreeMap, fs::DirBuilder, io::ErrorKind, os::unix::fs::DirBuilderExt, path::PathBuf,
    sync::PoisonError,
};

use tinyd_core::{
    ContainerId, Error, Kind, Name, Result,
    config::{MountSource, VolumeConfig},
};
use tinyd_image::tree;

use crate::{
    Inner,
    api::{Pruned, VolumeView},
    check,
    container::now,
    files::{self, Durability, failed},
    handle::Handle,
    layout::Layout,
    record::Record,
};

const RECORD: &str = "volume.json";
/// Docker's label of volumes that nobody named.
const OWN_LABEL: &str = "com.docker.volume.anonymous";

/// Makes a volume, or finds it.
pub(crate) fn create(
    inner: &Inner,
    name: Option<Name>,
    labels: BTreeMap<String, String>,
) -> Result<VolumeView> {
    check::check_labels(&labels)?;
    let name = match name {
        Some(name) => name,
        None => random_name()?,
    };
    find_or_make(inner, &name, labels)?;
    inspect(inner, name.as_str())
}

/// Where the files of a volume are that a container asks for. It must be there: a mistyped name, or a relative path, would
/// otherwise be an empty volume that nobody looks for.
pub(crate) fn files_of(inner: &Inner, name: &Name) -> Result<PathBuf> {
    match read(&inner.layout, name)? {
        Some(_) => Ok(inner.layout.volume_data(name)),
        None => Err(Error::new(
            Kind::NotFound,
            format!(
                "\"{name}\" is not an absolute host path, and no volume is called so: `tinyd volume create {name}` makes one"
            ),
        )
        .of_field("-v")),
    }
}

/// Makes the volume that an image asked for, under the name that was chosen for it.
pub(crate) fn make_own(inner: &Inner, name: &Name) -> Result<()> {
    find_or_make(inner, name, BTreeMap::from([(OWN_LABEL.to_owned(), String::new())]))
}

/// Takes their names from the volumes that a container's image asked for, unless another container has taken one. The container
/// still has its own name: whoever hears that it is gone finds none of them, and a crash leaves none that nobody owns. What is
/// returned is for [`delete`].
pub(crate) fn retire_own(inner: &Inner, record: &Record) -> Result<Vec<PathBuf>> {
    let mut doomed = Vec::new();
    for name in &record.own_volumes {
        match retire(inner, name, Some(&record.id)) {
            Ok(path) => doomed.push(path),
            Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(doomed)
}

/// Deletes what has no name any more.
pub(crate) fn delete(doomed: &[PathBuf]) -> Result<()> {
    doomed.iter().try_for_each(|path| tree::remove(path))
}

/// Whether nobody has named a volume: it was made for an image.
pub(crate) fn is_unnamed(volume: &VolumeView) -> bool {
    volume.labels.contains_key(OWN_LABEL)
}

/// Makes what is missing of a volume whose files are there, or whose record is.
pub(crate) fn make_again(inner: &Inner, name: &Name) -> Result<()> {
    let _one = inner.volumes.lock().unwrap_or_else(PoisonError::into_inner);
    let labels = read(&inner.layout, name).ok().flatten().map(|config| config.labels).unwrap_or_default();
    make(&inner.layout, name, labels)
}

/// Two clients may make the same volume at once: one makes it.
fn find_or_make(inner: &Inner, name: &Name, labels: BTreeMap<String, String>) -> Result<()> {
    let _one = inner.volumes.lock().unwrap_or_else(PoisonError::into_inner);
    match read(&inner.layout, name)? {
        Some(_) => Ok(()),
        None => make(&inner.layout, name, labels),
    }
}

/// The files' directory first, the record last: without a record there is no volume.
fn make(layout: &Layout, name: &Name, labels: BTreeMap<String, String>) -> Result<()> {
    files::make_private_dir(&layout.volume(name))?;
    let data = layout.volume_data(name);
    match DirBuilder::new().mode(0o755).create(&data) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
            return Err(failed(format_args!("mkdir({data:?})"), source));
        }
        Ok(()) | Err(_) => {}
    }
    let config = VolumeConfig { name: name.clone(), labels, created_unix_nanos: now() };
    files::write_json(&layout.volume(name).join(RECORD), &config, Durability::Synced)
}

/// What is written about a volume; `None` when there is none.
pub(crate) fn read(layout: &Layout, name: &Name) -> Result<Option<VolumeConfig>> {
    files::read_json(&layout.volume(name).join(RECORD))
}

/// A name that nobody has chosen.
pub(crate) fn random_name() -> Result<Name> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Kind::Internal, format!("read random bytes: {error}")))?;
    Name::parse("NAME", ContainerId::from_bytes(bytes).as_str())
}

/// All volumes, by name.
pub(crate) fn list(inner: &Inner) -> Result<Vec<VolumeView>> {
    let mut names = files::names(&inner.layout.volumes());
    names.sort();
    let containers = inner.registry.all();
    let mut all = Vec::new();
    for name in names.iter().filter_map(|name| Name::parse("NAME", name).ok()) {
        all.extend(read(&inner.layout, &name)?.map(|config| view(&inner.layout, config, &containers)));
    }
    Ok(all)
}

/// One volume.
pub(crate) fn inspect(inner: &Inner, name: &str) -> Result<VolumeView> {
    let name = check::parse_name("VOLUME", "volume", name)?;
    let config = read(&inner.layout, &name)?.ok_or_else(|| no_volume(&name))?;
    Ok(view(&inner.layout, config, &inner.registry.all()))
}

/// Removes one that no container has.
pub(crate) fn remove(inner: &Inner, name: &str) -> Result<()> {
    let name = check::parse_name("VOLUME", "volume", name)?;
    read(&inner.layout, &name)?.ok_or_else(|| no_volume(&name))?;
    tree::remove(&retire(inner, &name, None)?)
}

/// Gives the directory of a volume that no container but `leaving` has a name that stands for nothing; that name.
fn retire(inner: &Inner, name: &Name, leaving: Option<&ContainerId>) -> Result<PathBuf> {
    // Under the lock no new container can claim it between the look and the rename.
    let tables = inner.registry.lock();
    let mut users = users(name, tables.containers.values());
    users.retain(|id| Some(id) != leaving);
    if !users.is_empty() {
        let told: Vec<&str> = users.iter().map(ContainerId::short).collect();
        return Err(Error::new(Kind::WrongState, format!("volume {name} is in use by {}", told.join(", "))));
    }
    let (from, trash) = (inner.layout.volume(name), inner.layout.trash());
    let to = trash.join(format!("volume-{name}-{}", now()));
    match std::fs::rename(&from, &to) {
        Ok(()) => Ok(to),
        Err(source) if source.kind() == ErrorKind::NotFound => Err(no_volume(name)),
        Err(source) => Err(failed(format_args!("rename({from:?})"), source)),
    }
}

/// Removes those that no container has.
pub(crate) fn prune(inner: &Inner) -> Result<Pruned> {
    prune_if(inner, |_| true)
}

/// The same, of those that `is_chosen` only.
pub(crate) fn prune_if(inner: &Inner, is_chosen: impl Fn(&VolumeView) -> bool) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    let all = list(inner)?.into_iter();
    for volume in all.filter(|volume| volume.used_by.is_empty() && is_chosen(volume)) {
        let bytes = tree::disk_usage(&volume.mountpoint);
        match remove(inner, &volume.name) {
            Ok(()) => {
                pruned.removed.push(volume.name);
                pruned.freed_bytes += bytes;
            }
            // Somebody has taken it meanwhile.
            Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pruned)
}

fn view(layout: &Layout, config: VolumeConfig, containers: &[Handle]) -> VolumeView {
    VolumeView {
        mountpoint: layout.volume_data(&config.name),
        used_by: users(&config.name, containers.iter()),
        name: config.name.to_string(),
        labels: config.labels,
        created_unix_nanos: config.created_unix_nanos,
    }
}

fn users<'a>(name: &Name, containers: impl Iterator<Item = &'a Handle>) -> Vec<ContainerId> {
    let has = |handle: &&Handle| {
        let mounts = &handle.record.config.mounts;
        mounts.iter().any(|mount| matches!(&mount.source, MountSource::Volume(volume) if volume == name))
    };
    containers.filter(has).map(|handle| handle.record.id.clone()).collect()
}

fn no_volume(name: &Name) -> Error {
    Error::new(Kind::NotFound, format!("no volume is called {:?}", name.as_str())).of_field("VOLUME")
}
