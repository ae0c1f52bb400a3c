//! `commit`: what a container has changed becomes a layer, and with its image's layers below an image.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use tinyd_core::{
    Error, Kind, Result, State,
    config::{ContainerConfig, Port, Protocol, Signal},
    time::rfc3339,
    wire::Request,
};
use tinyd_image::{
    change,
    compose::{LayerWriter, NewLayer, compose},
    config::{Empty, History, ImageConfig, RunConfig},
    document::Descriptor,
    load::Loaded,
    platform::Platform,
    reference::Reference,
    store::Lease,
};
use tokio_util::sync::CancellationToken;

use super::{
    collect_soon,
    files::{Files, require_there},
    load::settle,
};
use crate::{
    Inner,
    api::{CommitOptions, ImageArrived},
    blocking,
    container::{Input, now},
    files as disk,
    handle::Handle,
    layout::Layout,
    record::Record,
};

/// What says, in the container's live directory, that it was frozen for this: the next daemon lets it go on.
const FROZEN: &str = "frozen";

/// Makes an image of a container.
pub(crate) async fn commit(inner: &Arc<Inner>, who: &str, options: CommitOptions) -> Result<ImageArrived> {
    let handle = inner.registry.find(who)?;
    let task = Arc::clone(inner);
    // A task of its own: a client that goes away must not leave the container frozen.
    let made = inner.tasks.spawn(async move {
        let name = handle.record.name.clone();
        let made = make(&task, handle, options).await;
        if made.is_err() {
            collect_soon(&task);
        }
        made.map_err(|error| error.context(format_args!("commit {name}")))
    });
    made.await.map_err(|_| crate::shutting_down())?
}

async fn make(inner: &Arc<Inner>, handle: Handle, options: CommitOptions) -> Result<ImageArrived> {
    let (planner, record) = (Arc::clone(inner), handle.record());
    let (plan, pause) = (options.clone(), options.pause);
    let draft = blocking(move || Draft::new(&planner, &record, &plan)).await?;
    let (draft, layer) = read_frozen(inner, &handle, draft, pause).await?;
    let finisher = Arc::clone(inner);
    blocking(move || draft.finish(&finisher, layer, &options)).await
}

/// Reads what is to become a layer, with the container frozen if it runs and that is wanted.
async fn read_frozen(
    inner: &Arc<Inner>,
    handle: &Handle,
    draft: Draft,
    pause: bool,
) -> Result<(Draft, Option<NewLayer>)> {
    // Who freezes a container lets it go on: two at once would not know of each other.
    let _one = inner.freezing.lock().await;
    let frozen = match pause {
        true => freeze(inner, handle).await?,
        false => false,
    };
    let (reader, record) = (Arc::clone(inner), handle.record());
    let is_live = matches!(handle.view().state, State::Running { .. });
    let view = handle.view();
    let read = blocking(move || {
        let files = Files::open(&reader, &record, &view)?;
        let layer = draft.read(&files, is_live, &reader.closing);
        require_there(&reader, &record)?;
        layer
    })
    .await;
    if frozen {
        thaw(inner, handle).await;
    }
    read
}

/// Whether it was frozen here: not one that is already, or does not run.
async fn freeze(inner: &Arc<Inner>, handle: &Handle) -> Result<bool> {
    if !matches!(handle.view().state, State::Running { .. }) {
        return Ok(false);
    }
    disk::write(&mark(&inner.layout, &handle.record), b"")?;
    match handle.ask(Input::Pause).await {
        Ok(()) => Ok(true),
        Err(error) => {
            unmark(&inner.layout, &handle.record);
            // It has ended just now, or somebody else has frozen it.
            if error.kind() == Kind::WrongState { Ok(false) } else { Err(error) }
        }
    }
}

async fn thaw(inner: &Arc<Inner>, handle: &Handle) {
    let thawed = match handle.ask(Input::Resume).await {
        // Its owner goes with the daemon, the container does not.
        Err(_) if inner.closing.is_cancelled() => thaw_without_owner(inner, &handle.record).await,
        // Somebody else has let it go on, or it has ended.
        Err(error) if matches!(error.kind(), Kind::WrongState | Kind::NotFound) => Ok(()),
        other => other,
    };
    match thawed {
        Ok(()) => unmark(&inner.layout, &handle.record),
        Err(error) => {
            tracing::warn!(container = %handle.record.id.short(), %error, "let a container go on after a commit");
        }
    }
}

async fn thaw_without_owner(inner: &Inner, record: &Record) -> Result<()> {
    inner.shim(&record.id)?.ask_done(&Request::Resume).await
}

fn mark(layout: &Layout, record: &Record) -> PathBuf {
    layout.live_of(&record.id).join(FROZEN)
}

fn unmark(layout: &Layout, record: &Record) {
    // With the container's end its directory goes too.
    let _ = disk::remove(&mark(layout, record));
}

/// Whether an earlier daemon has frozen the container for a commit that did not come to its end. It is told once.
pub(crate) fn was_frozen(layout: &Layout, record: &Record) -> bool {
    let was = mark(layout, record).exists();
    unmark(layout, record);
    was
}

/// What is known of the image before its layer is.
#[derive(Debug)]
struct Draft {
    /// Keeps everything that it needs.
    lease: Lease,
    config: ImageConfig,
    /// The layers below; `None` when the whole tree becomes one.
    below: Option<Vec<Descriptor>>,
    created_by: String,
    names: Vec<Reference>,
    notes: Vec<String>,
}

impl Draft {
    fn new(inner: &Inner, record: &Record, options: &CommitOptions) -> Result<Draft> {
        let names = names(&options.name)?;
        let lease = inner.shelf.store().lease();
        let (base, note) = base(inner, record, &lease)?;
        let image = base.as_ref().map(|(config, _)| &config.config);
        let mut run = run_config(&record.config, image);
        change::apply(&mut run, &options.changes)?;
        let (config, below) = match base {
            Some((config, below)) => (config, Some(below)),
            None => (ImageConfig { platform: Platform::host(), ..ImageConfig::default() }, None),
        };
        let author = Some(options.author.clone()).filter(|author| !author.is_empty());
        let config = ImageConfig { author, config: run, ..config };
        let created_by = record.argv().join(" ");
        Ok(Draft { lease, config, below, created_by, names, notes: note.into_iter().collect() })
    }

    /// Packs what the container has changed, or all that it has.
    fn read(
        mut self,
        files: &Files,
        is_live: bool,
        closing: &CancellationToken,
    ) -> Result<(Draft, Option<NewLayer>)> {
        if self.below.is_some() && !files.has_changes_apart() {
            self.below = None;
            self.notes.push("the storage driver copy keeps no changes apart: the image is one layer".into());
        }
        let lease = &self.lease;
        let mut out = UntilClosed { layer: LayerWriter::new(lease)?, closing };
        let packed = match self.below {
            Some(_) => files.write_changes(&mut out, is_live)?,
            None => files.write_all(&mut out, is_live)?,
        };
        if packed.skipped > 0 {
            let what = if is_live { "sockets, or gone meanwhile" } else { "sockets" };
            self.notes.push(format!("{} entries were left out: {what}", packed.skipped));
        }
        // The root alone is no change.
        let is_empty = self.below.is_some() && packed.entries <= 1;
        let layer = if is_empty { None } else { Some(out.layer.finish()?) };
        Ok((self, layer))
    }

    fn finish(self, inner: &Inner, layer: Option<NewLayer>, options: &CommitOptions) -> Result<ImageArrived> {
        let Draft { lease, mut config, below, created_by, names, notes } = self;
        if below.is_none() {
            config.history.clear();
            config.rootfs.diff_ids.clear();
        }
        let step = History {
            created: Some(rfc3339(now())),
            created_by,
            author: options.author.clone(),
            comment: options.message.clone(),
            empty_layer: false,
        };
        let manifest = compose(&lease, config, &below.unwrap_or_default(), step, layer)?;
        let mut arrived = settle(inner, &lease, Loaded { manifest, index: None, names }, &|_| {})?;
        arrived.notes.splice(0..0, notes);
        Ok(arrived)
    }
}

/// The name of an image that is made here, if it has one.
pub(super) fn names(text: &str) -> Result<Vec<Reference>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let name = Reference::parse("NAME", text)?;
    if name.digest().is_some() {
        return Err(Error::invalid("NAME", format!("{text:?} has a digest: a name is one without")));
    }
    Ok(vec![name])
}

/// The image below, kept by `lease`; `None` for a directory of the host, and, with a word about it, when the image is gone.
type Base = (ImageConfig, Vec<Descriptor>);

fn base(inner: &Inner, record: &Record, lease: &Lease) -> Result<(Option<Base>, Option<String>)> {
    let Some(used) = &record.image else { return Ok((None, None)) };
    let shelf = &inner.shelf;
    let gone = || {
        let note =
            format!("its image {} is gone: the new one is one layer, with the whole tree", used.id.short());
        Ok((None, Some(note)))
    };
    let Ok(image) = shelf.images.find("IMAGE", &used.id.to_string()) else { return gone() };
    let facts = shelf.facts(&image)?;
    lease.pin(&facts.digest);
    for part in std::iter::once(&facts.manifest.config).chain(&facts.manifest.layers) {
        lease.pin(&part.digest);
    }
    // Only now, when nothing can be collected any more.
    if shelf.images.find("IMAGE", &used.id.to_string()).is_err() {
        return gone();
    }
    for layer in &facts.manifest.layers {
        if shelf.store().blob_size(&layer.digest).is_none() {
            let message = format!(
                "content {} of image {} is not in the store: see tinyd system check",
                layer.digest,
                used.id.short()
            );
            return Err(Error::new(Kind::Internal, message));
        }
    }
    Ok((Some((facts.config.clone(), facts.manifest.layers.clone())), None))
}

/// What a container of the new image is like: what this one is like. What its builder would do is not asked again.
fn run_config(container: &ContainerConfig, image: Option<&RunConfig>) -> RunConfig {
    let image = image.cloned().unwrap_or_default();
    let mut exposed_ports = image.exposed_ports;
    exposed_ports.extend(container.ports.iter().map(|port| (exposed(port), Empty {})));
    RunConfig {
        user: container.user.as_ref().map(ToString::to_string).unwrap_or_default(),
        exposed_ports,
        env: container.env.clone(),
        entrypoint: container.entrypoint.clone().unwrap_or_default(),
        cmd: container.command.clone(),
        volumes: image.volumes,
        working_dir: container.workdir.clone().unwrap_or_default(),
        labels: container.labels.clone(),
        stop_signal: container.stop_signal.map_or_else(String::new, |signal| {
            // In the image's own words, unless it is another.
            let is_images = Signal::parse("STOPSIGNAL", &image.stop_signal).is_ok_and(|own| own == signal);
            if is_images { image.stop_signal } else { signal.to_string() }
        }),
        healthcheck: image.healthcheck,
        shell: image.shell,
        on_build: Vec::new(),
    }
}

fn exposed(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}/{protocol}", port.container)
}

/// Takes the layer until the daemon ends.
struct UntilClosed<'a> {
    layer: LayerWriter<'a>,
    closing: &'a CancellationToken,
}

impl Write for UntilClosed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closing.is_cancelled() {
            return Err(io::Error::other("the daemon is shutting down"));
        }
        self.layer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.layer.flush()
    }
}

#[cfg(test)]
mod tests {
    use tinyd_core::config::User;

    use super::*;

    #[test]
    fn the_new_image_is_like_the_container() {
        let image: RunConfig = serde_json::from_str(
            r#"{ "Cmd": ["serve"], "Volumes": { "/data": {} }, "ExposedPorts": { "80/tcp": {} }, "StopSignal": "QUIT", "OnBuild": ["RUN x"], "Shell": ["/bin/bash"] }"#,
        )
        .unwrap();
        let container = ContainerConfig {
            command: vec!["other".into()],
            env: vec!["A=1".into()],
            user: Some(User::parse("-u", "1000:50").unwrap()),
            workdir: Some("/srv".into()),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            stop_signal: Some(Signal::parse("", "SIGQUIT").unwrap()),
            ports: vec![Port::parse("-p", "8080:53/udp").unwrap()],
            ..ContainerConfig::default()
        };
        let made = run_config(&container, Some(&image));
        assert_eq!((made.cmd.as_slice(), made.entrypoint.len()), (&["other".to_owned()][..], 0));
        assert_eq!(
            (made.user.as_str(), made.working_dir.as_str(), made.stop_signal.as_str()),
            ("1000:50", "/srv", "QUIT")
        );
        assert_eq!(made.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!((made.volumes.len(), made.on_build.len(), made.shell.len()), (1, 0, 1));
        let other = ContainerConfig { stop_signal: Some(Signal::TERM), ..container };
        assert_eq!(run_config(&other, Some(&image)).stop_signal, "SIGTERM");
        assert_eq!(run_config(&other, None).cmd, ["other"]);
    }

    #[test]
    fn a_name_has_no_digest() {
        assert!(names("").unwrap().is_empty());
        assert_eq!(names("app").unwrap()[0].familiar(), "app:latest");
        let digest = format!("app@sha256:{}", "0".repeat(64));
        assert!(names(&digest).unwrap_err().message().contains("has a digest"));
        assert_eq!(names("A B").unwrap_err().field(), Some("NAME"));
    }
}
