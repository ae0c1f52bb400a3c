//! A daemon's life: check, listen, open the engine, serve, end.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use tinyd_core::{Error, Kind};
use tinyd_engine::{
    Engine,
    api::{Config, StorageChoice},
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Error as TransportError, Server},
};

use super::{
    accept::{Door, Hall, accept},
    connection::Connection,
    gate::Gate,
    listen::Plan,
    log,
    notices::Notices,
    notify,
    options::{DaemonOptions, Storage},
};
use crate::api::{self, Api};

/// Connections in all, and from one origin.
const CONNECTIONS: (usize, usize) = (1024, 512);
/// Connections that are admitted and not yet served.
const ADMITTED_MAX: usize = 16;
/// How long a client may take for a TLS handshake, and then for its first words of HTTP/2.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Calls under way on one connection.
const STREAMS_MAX: u32 = 256;
/// How much of a client's input may be under way: for one call, and on one connection, in bytes.
const WINDOWS: (u32, u32) = (128 << 10, 512 << 10);
/// The longest header list of a request, in bytes.
const HEADERS_MAX: u32 = 16 << 10;
/// How long without a sign of life until a client is asked for one, and how long it has to answer.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long calls under way have to finish when the daemon ends.
const GRACE: Duration = Duration::from_secs(10);
/// Threads are few and small: the daemon waits, it does not compute.
const WORKERS: usize = 2;
const BLOCKING_MAX: usize = 64;
const STACK_BYTES: usize = 512 << 10;
/// Memory arenas of the C library: one for each thread is its default, and more memory than speed here.
const ARENAS: i32 = 2;
/// Open files the daemon asks for, as far as it may: every connection and every container takes some.
const OPEN_FILES: u64 = 65_536;

/// Runs a daemon until SIGTERM or SIGINT.
///
/// # Errors
/// What stands in its way, before it has said that it is ready; or that it cannot serve any more.
pub(crate) fn serve(options: DaemonOptions) -> anyhow::Result<()> {
    let began = Instant::now();
    log::init(options.log_level, options.log_format);
    tinyd_sys::process::limit_arenas(ARENAS);
    let open_files = raise_open_files();
    runtime()?.block_on(live(options, open_files, began))
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_stack_size(STACK_BYTES)
        .thread_name("tinyd")
        .enable_all()
        .build()
        .context("start the runtime")
}

async fn live(options: DaemonOptions, open_files: (u64, u64), began: Instant) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let plan = Plan::make(&options)?;
    plan.require_free()?;
    let mut doors = plan.open_ports()?;
    let engine = Engine::open(config(&options, open_files)?).await?;
    plan.open_run_dir(&options.run_dir)?;
    doors.extend(plan.open_sockets()?);

    let ending = CancellationToken::new();
    let api =
        Api { engine: engine.clone(), ending: ending.clone(), root: options.root, run_dir: options.run_dir };
    let routes = api.routes().await.context("describe the services")?;
    let (admitted, connections) = mpsc::channel(ADMITTED_MAX);
    let gate = Gate::new(CONNECTIONS.0, CONNECTIONS.1);
    let refusals = Notices::new("refused a connection");
    open(doors, &Hall { gate, admitted, patience: HANDSHAKE, refusals, ending: ending.clone() });
    let served = tokio::spawn(answer(routes, connections, ending.clone()));
    tracing::info!(ready_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), "ready");
    notify::tell(notify::READY);

    let signal = signals.first().await;
    tracing::info!(signal, "ending; containers run on");
    notify::tell(notify::STOPPING);
    ending.cancel();
    let outcome = timeout(GRACE, served).await;
    remove(&plan.sockets);
    engine.close().await;
    match outcome {
        Ok(served) => Ok(served.context("serve")?.context("serve")?),
        Err(_) => {
            tracing::warn!("calls were still under way after {} s", GRACE.as_secs());
            Ok(())
        }
    }
}

/// Lets connections in at every door.
pub(super) fn open(doors: Vec<Door>, hall: &Hall) {
    for door in doors {
        tracing::info!("listening on {door}");
        tokio::spawn(accept(door, hall.clone()));
    }
}

/// Serves connections until the daemon ends and calls under way are over.
pub(super) async fn answer(
    routes: Routes,
    connections: mpsc::Receiver<io::Result<Connection>>,
    ending: CancellationToken,
) -> Result<(), TransportError> {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .http2_max_header_list_size(HEADERS_MAX)
        .layer(api::report())
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), ending.cancelled_owned())
        .await
}

/// What the engine is told.
fn config(options: &DaemonOptions, open_files: (u64, u64)) -> anyhow::Result<Config> {
    Ok(Config {
        root: options.root.clone(),
        run_dir: options.run_dir.clone(),
        tinyrun: tinyrun(options.tinyrun.clone())?,
        storage: match options.storage {
            Storage::Overlay => StorageChoice::Overlay,
            Storage::Aufs => StorageChoice::Aufs,
            Storage::Copy => StorageChoice::Copy,
        },
        default_subnet: options.default_subnet.clone(),
        open_files: Some(open_files),
        failpoint: std::env::var("TINYD_FAIL").unwrap_or_default(),
    })
}

/// The runtime: the one that was named, else the one beside this program, else the first on PATH.
fn tinyrun(named: Option<PathBuf>) -> tinyd_core::Result<PathBuf> {
    if let Some(path) = named {
        let refused = |why: &str| Err(Error::invalid("--tinyrun", format!("{}: {why}", path.display())));
        return match path.metadata() {
            Ok(there) if there.is_file() => Ok(path),
            Ok(_) => refused("it is not a file"),
            Err(error) => refused(&error.to_string()),
        };
    }
    let beside = std::env::current_exe().ok().map(|this| this.with_file_name("tinyrun"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("tinyrun"));
    beside.into_iter().chain(on_path).find(|file| file.is_file()).ok_or_else(|| {
        Error::new(Kind::NotFound, "tinyrun is neither beside this program nor on PATH").of_field("--tinyrun")
    })
}

/// The signals that end a daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn first(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn remove(sockets: &[PathBuf]) {
    for path in sockets {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(%error, path = %path.display(), "cannot remove the socket");
        }
    }
}

/// Asks for as many open files as the kernel lets this process have, within reason. Returns the limits, soft and hard, as they were.
fn raise_open_files() -> (u64, u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    if limit.current.is_some_and(|current| current < wanted) {
        // The old limit serves too, with fewer connections.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}
