//! `start`: in the order of architecture.md §3. Each step pushes its undo beside it; a failure leaves nothing behind.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    sync::Arc,
};

use tinyd_core::{
    Error, Event, Kind, Result, State,
    config::{MountSource, UsernsChoice},
    wire::{Plan, Request, Rootfs},
};
use tinyd_net::Listener;

use crate::{
    Inner,
    api::{self, AttachOptions, Attachment},
    attach, blocking,
    container::{Input, Live, Owner, follow, wrong_state},
    etc::Etc,
    failpoint::fail,
    files::make_private_dir,
    handle::Handle,
    images, net_plan,
    record::{self, Endpoint, Record},
    registry::USERNS_SIZE,
    shim::{self, Shim},
    spec::{self, Bind, HostDevice, Inputs},
    undo::Undo,
    users::{self, Identity},
};

/// How the runtime says that a file system has no idmapped mounts.
const CANNOT_MAP: &str = "cannot map ids";

/// How to start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StartOptions {
    /// Whether somebody joins the streams before the program's first byte.
    pub(crate) attach: Option<AttachOptions>,
}

/// A container that runs.
#[derive(Debug)]
pub(crate) struct Started {
    /// What could not be done and was not asked for by name.
    pub(crate) warnings: Vec<String>,
    /// Its streams, when somebody joined.
    pub(crate) streams: Option<attach::Streams>,
}

/// Starts a container that is created or stopped.
pub(crate) async fn start(inner: &Arc<Inner>, who: &str) -> Result<api::Created> {
    let handle = inner.registry.find(who)?;
    let started = start_handle(&handle, None).await?;
    Ok(api::Created { id: handle.record.id.clone(), warnings: started.warnings })
}

/// Joins a container's streams, then starts it.
pub(crate) async fn start_attached(
    inner: &Arc<Inner>,
    who: &str,
    options: AttachOptions,
) -> Result<Attachment> {
    let handle = inner.registry.find(who)?;
    let started = start_handle(&handle, Some(options)).await?;
    attach::attachment(handle, started)
}

/// Asks the owner to start.
pub(crate) async fn start_handle(handle: &Handle, attach: Option<AttachOptions>) -> Result<Started> {
    handle.ask(|reply| Input::Start(StartOptions { attach }, reply)).await
}

/// What is on the host's side of a container before its shim makes it.
#[derive(Debug)]
struct Ground {
    rootfs: Rootfs,
    user: Identity,
    binds: Vec<Bind>,
    devices: Vec<HostDevice>,
    listeners: Vec<Listener>,
    warnings: Vec<String>,
}

impl Owner {
    pub(crate) async fn start(&mut self, options: StartOptions) -> Result<Started> {
        match self.state() {
            State::Created | State::Stopped { .. } => {}
            state @ (State::Running { .. } | State::Paused { .. }) => {
                return Err(wrong_state(&self.record, "start", state));
            }
        }
        self.settle().await?;
        let host_userns = self.view.borrow().host_userns;
        let mut started = self.attempt(options, host_userns).await;
        if let Err(error) = &started
            && self.may_fall_back(error)
        {
            let warning = format!(
                "the host's user namespace is used, root inside is root outside less the dropped capabilities: {}",
                error.message()
            );
            tracing::warn!(container = %self.record.id.short(), "{warning}");
            let (record, dir) = (Arc::clone(&self.record), self.inner.layout.container(&self.record.id));
            // What was made for the other user ids.
            blocking(move || tinyd_image::driver(&record.storage)?.remove(&dir)).await?;
            started = self.attempt(options, true).await;
            if let Ok(started) = &mut started {
                started.warnings.push(warning);
            }
        }
        let mut started =
            started.map_err(|error| error.context(format_args!("start {}", self.record.name)))?;
        self.view.send_modify(|view| view.warnings.clone_from(&started.warnings));
        started.warnings.splice(0..0, self.record.warnings.iter().cloned());
        self.log_refusal(self.save_live());
        Ok(started)
    }

    /// Whether a container that was to have a user namespace if possible, and has not run with one yet, can do without: the image's
    /// file system cannot be mounted with other ids.
    fn may_fall_back(&self, error: &Error) -> bool {
        let view = self.view.borrow();
        error.kind() == Kind::Unsupported
            && error.message().contains(CANNOT_MAP)
            && self.record.config.security.userns == UsernsChoice::Default
            && self.record.userns_base.is_some()
            && !view.host_userns
            && view.starts == 0
    }

    async fn attempt(&mut self, options: StartOptions, host_userns: bool) -> Result<Started> {
        let mut undo = Undo::default();
        self.run += 1;
        match self.steps(&mut undo, options, host_userns).await {
            Ok(started) => {
                undo.keep();
                Ok(started)
            }
            Err(error) => {
                self.live = None;
                undo.run().await;
                self.view.send_modify(|view| view.holds_ports = false);
                Err(error)
            }
        }
    }

    async fn steps(&mut self, undo: &mut Undo, options: StartOptions, host_userns: bool) -> Result<Started> {
        let inner = Arc::clone(&self.inner);
        let record = Arc::clone(&self.record);
        let userns = record.userns(host_userns);
        let step = |name: &str| fail(&inner.config.failpoint, name);

        self.claim_ports()?;
        let (ground, shim) = tokio::join!(self.ground(userns), self.spawn_shim());
        if let Ok(shim) = &shim {
            undo.push("end the supervisor", discard(Arc::clone(&inner), Arc::clone(&record), shim.clone()));
        }
        let (ground, shim) = (ground?, shim?);
        step("engine.shim")?;

        let plan = self.plan(&ground, userns, options)?;
        let forwards: Vec<BorrowedFd<'_>> =
            ground.listeners.iter().map(|listener| listener.fd.as_fd()).collect();
        let mut created = shim.create(plan, &forwards).await?;
        step("engine.create")?;

        let joined = self.join_network(created.network.take());
        let (joined, followed) = tokio::join!(joined, follow(&shim, self.run, self.inbox.clone()));
        undo.push("leave the network", leave_network(Arc::clone(&inner), Arc::clone(&record)));
        joined?;
        let (_, follower) = followed?;
        step("engine.publish")?;

        let streams = match options.attach {
            Some(options) => Some(attach::Streams::join(&shim, options).await?),
            None => None,
        };
        let at_unix_nanos = shim::start(&mut created.conn).await?;
        step("engine.start")?;
        self.view.send_modify(|view| {
            view.oom = false;
            view.starts += 1;
            view.host_userns = host_userns;
        });
        self.live = Some(Live { shim, follower, _doctor: self.doctor() });
        step("engine.running")?;
        self.on(Event::Started { pid: created.pid, at_unix_nanos })?;
        let warnings = ground.warnings.into_iter().chain(created.warnings).collect();
        Ok(Started { warnings, streams })
    }

    /// Takes the published ports among the containers; the host's other programs are asked when the sockets are made.
    fn claim_ports(&self) -> Result<()> {
        if self.record.config.ports.is_empty() {
            return Ok(());
        }
        let tables = self.inner.registry.lock();
        tables.check_ports(&self.record.id, &self.record.config.ports)?;
        self.view.send_modify(|view| view.holds_ports = true);
        Ok(())
    }

    async fn spawn_shim(&self) -> Result<Shim> {
        let (inner, id) = (Arc::clone(&self.inner), self.record.id.clone());
        blocking(move || inner.launcher.spawn(&id, &inner.layout.live_of(&id))).await
    }

    async fn ground(&self, userns: Option<u32>) -> Result<Ground> {
        let (inner, record) = (Arc::clone(&self.inner), Arc::clone(&self.record));
        blocking(move || lay_ground(&inner, &record, userns)).await
    }

    fn plan(&self, ground: &Ground, userns: Option<u32>, options: StartOptions) -> Result<Plan> {
        let (inner, record) = (&self.inner, &self.record);
        let cgroup = inner.layout.cgroup(&record.id);
        let inputs = Inputs {
            record,
            host: &inner.host,
            userns,
            user: &ground.user,
            dir: &inner.layout.container(&record.id),
            etc: &inner.layout.live_of(&record.id),
            cgroup: &cgroup,
            netns: self.shared_netns()?,
            binds: &ground.binds,
            devices: &ground.devices,
            size: options.attach.and_then(|attach| attach.size),
        };
        let failpoint = &inner.config.failpoint;
        Ok(Plan {
            id: record.id.clone(),
            spec: spec::spec(&inputs)?,
            rootfs: ground.rootfs.clone(),
            seccomp: spec::seccomp(record, &inner.host, userns)?,
            log_path: Some(inner.layout.log(&record.id)),
            stdin_open: record.config.stdin_open,
            init: record.config.init,
            run_dir: inner.layout.live_of(&record.id),
            forwards: net_plan::forwards(record, &ground.listeners),
            failpoint: if failpoint.starts_with("engine.") { String::new() } else { failpoint.clone() },
        })
    }

    /// The network namespace of the container whose network this one shares, which must run.
    fn shared_netns(&self) -> Result<Option<String>> {
        let Endpoint::Container(other) = &self.record.endpoint else { return Ok(None) };
        let pid = self.inner.registry.find(other.as_str()).ok().and_then(|other| other.view().state.pid());
        let pid = pid.ok_or_else(|| {
            Error::new(
                Kind::WrongState,
                format!("container {}, whose network it shares, does not run", other.short()),
            )
            .of_field("--net")
        })?;
        Ok(Some(format!("/proc/{pid}/ns/net")))
    }

    async fn join_network(
        &self,
        network: Option<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)>,
    ) -> Result<()> {
        fail(&self.inner.config.failpoint, "engine.network")?;
        let (inner, record) = (Arc::clone(&self.inner), Arc::clone(&self.record));
        match (&self.record.endpoint, network) {
            (Endpoint::Bridge { network: name, .. }, Some((netns, route))) => {
                let endpoint = {
                    let tables = inner.registry.lock();
                    net_plan::endpoint(&tables, &record, name)?
                };
                blocking(move || inner.net.attach(&endpoint, netns.as_fd(), route)).await
            }
            (Endpoint::None, Some((_, route))) => blocking(move || inner.net.loopback_up(route)).await,
            (Endpoint::Host | Endpoint::Container(_), _) => Ok(()),
            (Endpoint::Bridge { .. } | Endpoint::None, None) => {
                Err(Error::new(Kind::Internal, "the supervisor sent no network namespace"))
            }
        }
    }

    /// Writes down that it runs, where a reboot takes it.
    pub(crate) fn save_live(&self) -> Result<()> {
        let written = self.view.borrow().to_record();
        written.write_live(&self.inner.layout, &self.record.id)
    }
}

/// Everything on the host's side that takes files and sockets. Blocks.
fn lay_ground(inner: &Inner, record: &Record, userns: Option<u32>) -> Result<Ground> {
    let step = |name: &str| fail(&inner.config.failpoint, name);
    let dir = inner.layout.container(&record.id);
    let image = images::layers_of(inner, record)?;
    // The driver that it was made with, whatever the daemon's is now.
    let prepared = tinyd_image::driver(&record.storage)?.prepare(&dir, &image, userns)?;
    step("engine.rootfs")?;
    let user = users::identify(
        record.config.user.as_ref(),
        &users::roots(&prepared.rootfs),
        userns.map(|_| USERNS_SIZE),
    )?;
    let shared = match &record.endpoint {
        Endpoint::Container(other) => Some(inner.layout.live_of(other)),
        Endpoint::Bridge { .. } | Endpoint::Host | Endpoint::None => None,
    };
    let etc = Etc::plan(record, &inner.host, shared.as_deref());
    let live = inner.layout.live_of(&record.id);
    make_private_dir(&live)?;
    etc.write(&live, userns)?;
    let listeners = tinyd_net::reserve(&record.config.ports)?;
    step("engine.ports")?;
    Ok(Ground {
        rootfs: prepared.rootfs,
        user,
        binds: binds(inner, record)?,
        devices: crate::devices::of(&record.config.security)?,
        listeners,
        warnings: prepared.notes.into_iter().chain(etc.warning).collect(),
    })
}

/// Volumes and host directories, which are made if they are missing.
fn binds(inner: &Inner, record: &Record) -> Result<Vec<Bind>> {
    let mut binds = Vec::new();
    for mount in &record.config.mounts {
        let source = match &mount.source {
            MountSource::Host(path) => {
                crate::check::make_host_dir(path)?;
                PathBuf::from(path)
            }
            MountSource::Volume(name) => crate::volumes::files_of(inner, name)?,
            MountSource::Tmpfs { .. } => continue,
        };
        binds.push(Bind { source, target: mount.target.clone(), read_only: mount.read_only });
    }
    Ok(binds)
}

/// Ends a shim whose container is not to run, and takes away what it may have left.
async fn discard(inner: Arc<Inner>, record: Arc<Record>, shim: Shim) -> Result<()> {
    // One that has ended by itself is what is wanted.
    let _ = shim.ask_done(&Request::Destroy).await;
    let (reaper, id) = (Arc::clone(&inner), record.id.clone());
    blocking(move || {
        shim.kill();
        reaper.cgroups.reap(&reaper.layout.cgroup(&id))?;
        record::forget_run(&reaper.layout, &id)
    })
    .await
}

async fn leave_network(inner: Arc<Inner>, record: Arc<Record>) -> Result<()> {
    match record.ip() {
        Some(_) => blocking(move || inner.net.detach(&record.id)).await,
        None => Ok(()),
    }
}
