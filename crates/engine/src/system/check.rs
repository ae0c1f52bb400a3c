//! `system check`: whether what is on disk is what containers, images, networks and volumes need. What can be put right is, when that is
//! asked for; nothing of a container that runs is touched.

use std::{collections::BTreeSet, path::Path};

use tinyd_core::{Name, Result, State, config::MountSource};
use tinyd_image::{
    check::{Checked, Holder, Look, Problem, check as check_store},
    tree,
};

use crate::{
    Inner,
    api::SystemChecked,
    container::id_of,
    files::{self, Durability},
    handle::Handle,
    images, networks,
    record::{Record, StateRecord},
    volumes,
};

/// Looks at everything.
pub(crate) fn check(inner: &Inner, look: Look) -> Result<SystemChecked> {
    let handles = inner.registry.all();
    let holders: Vec<Holder> = handles.iter().filter_map(holder).collect();
    let store = check_store(&inner.shelf.images, &holders, look, &|| inner.closing.is_cancelled())?;
    let mut check = Check { inner, look, problems: Vec::new() };
    for handle in &handles {
        check.container(handle)?;
    }
    check.directories()?;
    let volumes = check.volumes()?;
    check.networks()?;
    let Checked { images, contents, bytes, layers, mut problems } = store;
    problems.append(&mut check.problems);
    // While it cannot be told what is needed, nothing is collected.
    if look.repair && problems.iter().all(|problem| problem.is_repaired) {
        images::collect(inner)?;
    }
    Ok(SystemChecked { images, contents, bytes, layers, containers: handles.len() as u64, volumes, problems })
}

fn holder(handle: &Handle) -> Option<Holder> {
    let used = handle.record.image.as_ref()?;
    let is_alive = handle.view().state.is_alive();
    Some(Holder { name: handle.record.name.to_string(), chain: used.chain.clone(), is_alive })
}

struct Check<'a> {
    inner: &'a Inner,
    look: Look,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn found(
        &mut self,
        of: impl ToString,
        what: impl Into<String>,
        is_repaired: bool,
        remedy: impl Into<String>,
    ) {
        let (what, remedy) = (what.into(), remedy.into());
        self.problems.push(Problem { of: of.to_string(), what, is_repaired, remedy });
    }

    /// One that is put right by `repair`, in the words of `done`.
    fn repairable(
        &mut self,
        of: impl ToString,
        what: impl Into<String>,
        done: &str,
        repair: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if self.look.repair {
            repair()?;
            self.found(of, what, true, done);
        } else {
            self.found(of, what, false, format!("with --repair it is {done}"));
        }
        Ok(())
    }

    fn container(&mut self, handle: &Handle) -> Result<()> {
        let (layout, record) = (&self.inner.layout, &handle.record);
        let of = format!("container {}", record.name);
        // The daemon has it in memory.
        let what = match Record::read(layout, &record.id) {
            Ok(Some(_)) => None,
            Ok(None) => Some("its record is not there".to_owned()),
            Err(error) => Some(format!("its record cannot be read: {error}")),
        };
        if let Some(what) = what.filter(|_| is_there(self.inner, handle)) {
            self.repairable(&of, what, "written again", || record.write(layout, Durability::Synced))?;
        }
        let state = layout.container(&record.id).join("state.json");
        if let Err(error) = files::read_json::<StateRecord>(&state) {
            let written = handle.view().to_record();
            self.repairable(&of, format!("its state cannot be read: {error}"), "written again", || {
                written.write(layout, &record.id)
            })?;
        }
        for mount in &record.config.mounts {
            if let MountSource::Volume(name) = &mount.source
                && !layout.volume_data(name).is_dir()
            {
                let remedy = format!("`tinyd volume create {name}` makes an empty one");
                self.found(&of, format!("its volume {name} is not there"), false, remedy);
            }
        }
        if record.image.is_none() && !Path::new(&record.config.image).is_dir() {
            let what = format!("its image directory {:?} is not there", record.config.image);
            self.found(&of, what, false, "put it back, or remove the container");
        }
        Ok(())
    }

    /// Directories of containers that are none.
    fn directories(&mut self) -> Result<()> {
        let dir = self.inner.layout.containers();
        for name in files::names(&dir) {
            let id = id_of(&name);
            let is_known = |id: &_| self.inner.registry.lock().containers.contains_key(id);
            if id.as_ref().is_some_and(is_known) {
                continue;
            }
            let path = dir.join(&name);
            let of = format!("{path:?}");
            match id.map(|id| Record::read(&self.inner.layout, &id)) {
                // One that was made, or is being removed, meanwhile.
                Some(Ok(Some(_))) => {}
                _ if !path.exists() => {}
                Some(Err(error)) => {
                    let what = format!("the record of the container cannot be read: {error}");
                    let remedy = "its files are in there: take what you need, and remove the directory while the daemon does not run";
                    self.found(of, what, false, remedy);
                }
                Some(Ok(None)) | None => {
                    self.repairable(of, "it is no container", "removed", || tree::remove(&path))?;
                }
            }
        }
        Ok(())
    }

    /// How many volumes there are.
    fn volumes(&mut self) -> Result<u64> {
        let layout = &self.inner.layout;
        let mut count = 0;
        for name in files::names(&layout.volumes()) {
            let path = layout.volumes().join(&name);
            let Ok(name) = Name::parse("NAME", &name) else {
                self.found(format!("{path:?}"), "it is no volume", false, "look what it is, and remove it");
                continue;
            };
            count += 1;
            let of = format!("volume {name}");
            let what = match volumes::read(layout, &name) {
                Ok(Some(_)) if layout.volume_data(&name).is_dir() => continue,
                Ok(Some(_)) => "its directory is not there".to_owned(),
                // One that is being made, or has just gone.
                Ok(None) if !layout.volume_data(&name).is_dir() => continue,
                Ok(None) => "its record is not there".to_owned(),
                Err(error) => format!("its record cannot be read: {error}"),
            };
            self.repairable(of, what, "made again; its files are as they were, its labels are lost", || {
                volumes::make_again(self.inner, &name)
            })?;
        }
        Ok(count)
    }

    fn networks(&mut self) -> Result<()> {
        let layout = &self.inner.layout;
        let known: BTreeSet<String> =
            networks::list(self.inner).into_iter().map(|network| network.config.name.to_string()).collect();
        for name in files::names(&layout.networks()) {
            let path = layout.networks().join(&name);
            let of = format!("record {path:?}");
            let is_known = name.strip_suffix(".json").is_some_and(|name| known.contains(name));
            if is_known || name.starts_with('.') || !path.exists() {
                continue;
            }
            self.repairable(of, "it is that of no network", "removed; make the network again", || {
                tree::remove(&path)
            })?;
        }
        Ok(())
    }
}

/// Whether a container is still one: it may have been removed since.
fn is_there(inner: &Inner, handle: &Handle) -> bool {
    let view = handle.view();
    let is_leaving = handle.record.config.auto_remove && matches!(view.state, State::Stopped { .. });
    !view.gone && !is_leaving && inner.registry.lock().containers.contains_key(&handle.record.id)
}
