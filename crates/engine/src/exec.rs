//! `exec`: one more process in a container that runs. Its streams are pipes, or a terminal, that the daemon holds the other ends of.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    termios::{Winsize, tcsetwinsize},
};
use tinyd_core::{
    Error, Exit, Kind, Result, State,
    wire::{ExecPlan, Message, Request, Seccomp},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Inner,
    api::{Attachment, ExecConfig, Input, Output, WindowSize},
    attach::{INPUT, OUTPUT},
    blocking, check,
    conn::{Conn, ConnWriter, out_of_turn},
    container::now,
    files::failed,
    handle::Handle,
    pump::{Stream, Wrap},
    registry::USERNS_SIZE,
    spec, users,
};

/// Runs one more process inside.
pub(crate) async fn exec(inner: &Arc<Inner>, who: &str, exec: ExecConfig) -> Result<Attachment> {
    let handle = inner.registry.find(who)?;
    match run(inner, &handle, exec).await {
        // What breaks is in most cases the container, which ends in the middle.
        Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Internal) => {
            Err(handle.ended_meanwhile("exec in", error).await)
        }
        Err(error) => Err(error.context(format_args!("exec in {}", handle.record.name))),
        attached => attached,
    }
}

/// The same, in a container that was found.
pub(crate) async fn run(inner: &Arc<Inner>, handle: &Handle, exec: ExecConfig) -> Result<Attachment> {
    check::check_exec(&exec)?;
    if let state @ State::Paused { .. } = handle.require_alive("exec in")? {
        return Err(handle.wrong_state("exec in", state));
    }
    let plan = plan(inner, handle, &exec).await?;
    let shim = inner.shim(&handle.record.id)?;
    let mut conn = shim.connect().await?;
    let (theirs, ours) = if exec.tty { (Vec::new(), None) } else { streams(&exec)? };
    let theirs_borrowed: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
    let (message, fds) = conn.ask(&Request::Exec(Box::new(plan)), &theirs_borrowed).await?;
    let Message::ExecStarted { pid } = message else { return Err(out_of_turn(&message)) };
    // As long as we hold them too, no end of file comes.
    drop(theirs);
    let ends = match (ours, fds.into_iter().next()) {
        (Some(ends), _) => ends,
        (None, Some(terminal)) => Ends::terminal(terminal, exec.size)?,
        (None, None) => return Err(Error::new(Kind::Internal, "the supervisor sent no terminal")),
    };
    let (to_client, output) = mpsc::channel(OUTPUT);
    let (input, from_client) = mpsc::channel(INPUT);
    let (conn, writer) = conn.split()?;
    let feeding = tokio::spawn(feed(ends.input, from_client, ends.terminal.clone(), writer));
    let detach = exec.detach;
    tokio::spawn(async move {
        relay(conn, ends.output, to_client, detach).await;
        // It may be waiting for a process that reads no more, with its input or terminal in hand.
        feeding.abort();
    });
    Ok(Attachment { id: handle.record.id.clone(), warnings: Vec::new(), tty: exec.tty, pid, output, input })
}

async fn plan(inner: &Arc<Inner>, handle: &Handle, exec: &ExecConfig) -> Result<ExecPlan> {
    let (inner, record, exec) = (Arc::clone(inner), handle.record(), exec.clone());
    let userns = record.userns(handle.view.borrow().host_userns);
    blocking(move || {
        let user = exec.user.as_ref().or(record.config.user.as_ref());
        let user = users::identify(user, &inner.roots(&record, userns)?, userns.map(|_| USERNS_SIZE))?;
        let process = spec::exec_process(&record, &inner.host, userns, &user, &exec)?;
        let seccomp = match exec.privileged {
            true => Seccomp::Unconfined,
            false => spec::seccomp(&record, &inner.host, userns)?,
        };
        Ok(ExecPlan { process, seccomp })
    })
    .await
}

/// The daemon's ends of a process's streams.
struct Ends {
    input: Option<Arc<Stream>>,
    output: Vec<(Arc<Stream>, Wrap)>,
    terminal: Option<Arc<Stream>>,
}

impl Ends {
    fn terminal(master: OwnedFd, size: Option<WindowSize>) -> Result<Ends> {
        let master = Arc::new(Stream::open(master)?);
        if let Some(size) = size {
            resize(&master, size);
        }
        Ok(Ends {
            input: Some(Arc::clone(&master)),
            output: vec![(Arc::clone(&master), Output::Stdout)],
            terminal: Some(master),
        })
    }
}

/// Pipes, or `/dev/null` for what nobody wants: the process's three ends, and ours.
fn streams(exec: &ExecConfig) -> Result<(Vec<OwnedFd>, Option<Ends>)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed("pipe2", errno));
    let null = || {
        let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
        open.map(OwnedFd::from).map_err(|source| failed("open(\"/dev/null\")", source))
    };
    if exec.detach {
        let ends = Ends { input: None, output: Vec::new(), terminal: None };
        return Ok((vec![null()?, null()?, null()?], Some(ends)));
    }
    let (stdin, input) = match exec.stdin {
        true => {
            let (read, write) = pipe()?;
            (read, Some(Arc::new(Stream::open(write)?)))
        }
        false => (null()?, None),
    };
    let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
    let output: Vec<(Arc<Stream>, Wrap)> =
        vec![(Arc::new(Stream::open(out)?), Output::Stdout), (Arc::new(Stream::open(err)?), Output::Stderr)];
    Ok((vec![stdin, stdout, stderr], Some(Ends { input, output, terminal: None })))
}

fn resize(terminal: &Stream, size: WindowSize) {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal that is gone has no size.
    let _ = tcsetwinsize(terminal.as_fd(), size);
}

/// From the client to the process.
async fn feed(
    mut input: Option<Arc<Stream>>,
    mut from_client: mpsc::Receiver<Input>,
    terminal: Option<Arc<Stream>>,
    mut supervisor: ConnWriter,
) {
    const END_OF_TRANSMISSION: &[u8] = b"\x04";
    while let Some(message) = from_client.recv().await {
        match (message, &input) {
            (Input::Data(bytes), Some(stream)) => {
                if stream.write_all(&bytes).await.is_err() {
                    // It reads no more.
                    input = None;
                }
            }
            (Input::End, Some(stream)) => {
                if terminal.is_some() {
                    let _ = stream.write_all(END_OF_TRANSMISSION).await;
                }
                input = None;
            }
            (Input::Resize(size), _) => {
                if let Some(terminal) = &terminal {
                    resize(terminal, size);
                }
            }
            (Input::Signal(number), _) => {
                // One that comes too late is for nobody.
                let _ = supervisor.tell(&Request::SignalExec { number }).await;
            }
            (Input::Data(_) | Input::End, None) => {}
        }
    }
}

/// From the process to the client; its end comes after its last byte.
async fn relay(
    mut conn: Conn,
    output: Vec<(Arc<Stream>, Wrap)>,
    to_client: mpsc::Sender<Output>,
    detach: bool,
) {
    let ended = CancellationToken::new();
    let pumps: Vec<_> = output
        .into_iter()
        .map(|(stream, wrap)| {
            let (to_client, ended) = (to_client.clone(), ended.clone());
            tokio::spawn(async move { stream.pump(wrap, &to_client, &ended, detach).await })
        })
        .collect();
    if detach {
        // Nobody listens; the conversation stays until the process has ended, for it is the shim's way to tell.
        drop(to_client);
        let _ = conn.receive_message().await;
        ended.cancel();
        return;
    }
    let last = tokio::select! {
        last = conn.receive_message() => last,
        () = to_client.closed() => {
            // The pipes and the terminal close with the pumps: the process learns that nobody reads.
            pumps.iter().for_each(tokio::task::JoinHandle::abort);
            return;
        }
    };
    ended.cancel();
    for pump in pumps {
        let _ = pump.await;
    }
    let last = match last {
        Ok((Message::ExecExited { code }, _)) => {
            Output::Exited(Exit { code, signal: None, oom: false, at_unix_nanos: now() })
        }
        Ok((Message::Failed(error), _)) | Err(error) => Output::Failed(error),
        Ok((other, _)) => Output::Failed(out_of_turn(&other)),
    };
    let _ = to_client.send(last).await;
}
