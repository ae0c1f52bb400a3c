//! What the daemon and a shim say to each other, over a unix stream socket.
//!
//! The socket is made, bound and listened on by the daemon, and given to the shim as standard input, so that a
//! connection made at once waits in the backlog. Every message is a frame: a [`FrameKind`], a length, a payload.
//! JSON frames carry [`Request`]s one way and [`Message`]s the other; bytes of streams go in frames of their own.
//! Descriptors travel (`SCM_RIGHTS`) with the first byte of the frame that names them; more than the kernel takes at a time (253)
//! go with the bytes after it. A client that shuts down its writing side is gone: the end of standard input has a frame of its own.
//!
//! A connection carries one conversation: requests are answered in order. Long ones get a connection of their own:
//! [`Request::Attach`] turns it into a two-way byte stream, [`Request::Watch`] into a stream of events, and after
//! [`Request::Exec`] the shim says [`Message::ExecExited`] when the process ends. A request that breaks the protocol is answered
//! with [`Message::Failed`] and the connection is closed.
//!
//! The shim ends when its container has ended, or could not be created or started; and when for ten seconds there is neither a
//! container nor a connection. A connection that closes before the answer means that: [`EXIT_FILE`] says how it ended, if it
//! was started. While the shim waits for slow readers (two seconds at most) [`Request::Status`] still tells the stopped state.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    config::Protocol,
    error::Error,
    id::ContainerId,
    oci,
    state::{Exit, State},
};

/// The version of these messages. A shim of an older daemon answers its own version to [`Request::Status`].
pub const VERSION: u32 = 1;

/// The longest JSON payload, in bytes.
pub const JSON_MAX_BYTES: u32 = 8 << 20;
/// The longest payload of a stream frame, in bytes.
pub const STREAM_MAX_BYTES: u32 = 64 << 10;
/// A frame's head: one byte kind, four bytes length (little endian).
pub const HEAD_BYTES: usize = 5;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A [`Request`] or [`Message`].
    Json = 0,
    /// Bytes for the process's standard input.
    Stdin = 1,
    /// Bytes of its standard output, or of its terminal.
    Stdout = 2,
    /// Bytes of its standard error.
    Stderr = 3,
    /// Standard input has ended (no payload).
    StdinEnd = 4,
}

/// A frame that breaks the rules of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// No such kind.
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    /// Longer than its kind may be.
    #[error("a frame of {0} bytes is too long")]
    TooLong(u32),
}

/// The head of a frame.
#[must_use]
pub fn head(kind: FrameKind, len: u32) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = len.to_le_bytes();
    [kind as u8, a, b, c, d]
}

/// Reads a frame's head.
///
/// # Errors
/// [`BadFrame`]: close the connection.
pub fn parse_head(head: [u8; HEAD_BYTES]) -> Result<(FrameKind, u32), BadFrame> {
    let [kind, a, b, c, d] = head;
    let len = u32::from_le_bytes([a, b, c, d]);
    let (kind, most) = match kind {
        0 => (FrameKind::Json, JSON_MAX_BYTES),
        1 => (FrameKind::Stdin, STREAM_MAX_BYTES),
        2 => (FrameKind::Stdout, STREAM_MAX_BYTES),
        3 => (FrameKind::Stderr, STREAM_MAX_BYTES),
        4 => (FrameKind::StdinEnd, 0),
        other => return Err(BadFrame::Kind(other)),
    };
    if len > most { Err(BadFrame::TooLong(len)) } else { Ok((kind, len)) }
}

/// A whole JSON frame.
///
/// # Errors
/// When the value cannot be written as JSON or is longer than [`JSON_MAX_BYTES`].
pub fn json_frame<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut frame = vec![0; HEAD_BYTES];
    serde_json::to_writer(&mut frame, value)?;
    let len = u32::try_from(frame.len() - HEAD_BYTES).ok().filter(|len| *len <= JSON_MAX_BYTES);
    let len = len.ok_or_else(|| serde::ser::Error::custom("message is too long"))?;
    frame[..HEAD_BYTES].copy_from_slice(&head(FrameKind::Json, len));
    Ok(frame)
}

/// What the daemon asks of a shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Make the container up to, but not including, its program. Once per shim. Answer: [`Message::Created`]; after
    /// [`Message::Failed`] nothing is left and the shim ends.
    ///
    /// With the frame come the listening sockets of [`Plan::forwards`], in that order.
    Create(Box<Plan>),
    /// Let the program go. Answer: [`Message::Started`], or [`Message::Failed`] with
    /// [`Kind::CommandNotFound`](crate::Kind::CommandNotFound) and its like; then the container is gone, the shim ends, and attached connections close without a [`Message::Exited`].
    Start,
    /// Run one more process inside a container that runs. Answer: [`Message::ExecStarted`]; later [`Message::ExecExited`]. One
    /// process at a time for each connection; it goes on when the connection closes.
    ///
    /// Without a terminal, three descriptors come with the frame: its standard input, output and error.
    Exec(Box<ExecPlan>),
    /// Send a signal to the process of this connection's [`Request::Exec`], once it runs its program; no answer, and nothing happens
    /// when there is none.
    SignalExec {
        /// 1 to 64.
        number: i32,
    },
    /// Send a signal to the first process, through its pidfd. Answer: [`Message::Done`]. SIGKILL thaws a paused container, so that
    /// it takes effect.
    Signal {
        /// 1 to 64.
        number: i32,
    },
    /// Send SIGKILL to every process of the container. Answer: [`Message::Done`].
    KillAll,
    /// Freeze the cgroup; the answer comes when it is frozen. Answer: [`Message::Done`].
    Pause,
    /// Thaw it. Answer: [`Message::Done`].
    Resume,
    /// Answer: [`Message::Status`].
    Status,
    /// Set the size of the container's terminal. Answer: [`Message::Done`].
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Join the container's streams. Answer: [`Message::Done`]; then stdout and stderr frames come, and stdin frames go
    /// when asked for. The last is [`Message::Exited`], after every byte of output.
    /// [`Request::Resize`] is taken here too, without an answer. From [`Message::Created`] on, so that no byte is missed. While one
    /// attached client does not read, the container's output waits: for all of them, and for the log.
    Attach {
        /// Whether this client's bytes are standard input. Without it stdin frames are ignored.
        stdin: bool,
    },
    /// Answer: [`Message::Status`], then every [`Message::Status`] that follows, the last with a stopped state; then the
    /// shim ends and the connection closes.
    Watch,
    /// The container's processes. Answer: [`Message::Processes`].
    Processes,
    /// Kill what runs, take everything down, end. Answer: [`Message::Done`], after everything is gone. For a container that was
    /// created and will not start, and for `rm -f`. A container that runs ends as always: [`EXIT_FILE`] is written, those
    /// who watch and are attached are told.
    Destroy,
}

/// What a shim says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The container waits before its program.
    ///
    /// Two descriptors come with the frame, unless the plan joins a network namespace or the host's: its network
    /// namespace, and a `NETLINK_ROUTE` socket that was made inside it.
    Created {
        /// The first process, as the host counts.
        pid: i32,
        /// What could not be done and was not asked for by name, one line each.
        warnings: Vec<String>,
    },
    /// The program runs.
    Started {
        /// When, in nanoseconds since the epoch.
        at_unix_nanos: i64,
    },
    /// The process runs. With a terminal, the master side comes with the frame.
    ExecStarted {
        /// The process, as the host counts.
        pid: i32,
    },
    /// The process of this connection's [`Request::Exec`] has ended.
    ExecExited {
        /// 0 to 255; 128+n when signal n ended it.
        code: u8,
    },
    /// The container's first process has ended; the last message of an attached connection.
    Exited(Exit),
    /// Where the container is.
    Status(Status),
    /// Its processes.
    Processes {
        /// As the host counts.
        pids: Vec<i32>,
    },
    /// Done.
    Done,
    /// Not done, and why. Nothing of the attempt is left.
    Failed(Error),
}

/// Where a container is, as its shim knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`] of the shim.
    pub version: u32,
    /// Its state; `None` before [`Request::Create`] has been answered.
    pub state: Option<State>,
    /// Whether the kernel has killed one of its processes for memory.
    pub oom: bool,
}

/// Everything a shim needs to know to make a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The container.
    pub id: ContainerId,
    /// The container as an OCI configuration. `root.path` is where the root would be seen; [`Plan::rootfs`] says what
    /// it is made of. Besides the specification's mount options, `x-tinyd.idmap` is `idmap` where the file system can
    /// do it, and a warning where it cannot.
    pub spec: oci::Spec,
    /// What the root is made of.
    pub rootfs: Rootfs,
    /// Which system call filter; `spec.linux.seccomp` is not looked at.
    pub seccomp: Seccomp,
    /// Where the log goes; no log when absent.
    pub log_path: Option<PathBuf>,
    /// Whether standard input stays open for attached clients; it is `/dev/null` otherwise (unless there is a terminal).
    pub stdin_open: bool,
    /// Whether a small init is process 1.
    pub init: bool,
    /// A directory on a tmpfs, this container's alone: the exit status goes there, see [`EXIT_FILE`].
    pub run_dir: PathBuf,
    /// Ports that the shim forwards itself: connections to the listening socket go to the target. That is how
    /// `localhost` and IPv6 reach a published port; everything else goes through nftables.
    pub forwards: Vec<Forward>,
    /// Which step fails, for tests: one of [`FAILPOINTS`]. Empty in life.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failpoint: String,
}

/// What [`Plan::failpoint`] may be, in the order in which the steps come. Each fails `Create` or `Start`, with
/// [`Kind::Internal`](crate::Kind::Internal).
pub const FAILPOINTS: [&str; 10] =
    ["cgroup", "clone", "idmap", "rootfs", "mounts", "pivot", "creds", "shim.created", "shim.start", "exec"];

/// The name, in [`Plan::run_dir`], of the file that holds the [`Exit`] as JSON. It is written, by rename, before anyone is
/// told.
pub const EXIT_FILE: &str = "exit.json";
/// The name, in [`Plan::run_dir`], of the shim's socket.
pub const SOCKET_FILE: &str = "shim.sock";
/// The name, in [`Plan::run_dir`], of the file that holds the shim's [`ShimRecord`] as JSON, written by the daemon.
pub const SHIM_FILE: &str = "shim.json";

/// How a later daemon recognises a shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    /// The shim's process.
    pub pid: i32,
    /// Its start time, field 22 of `/proc/PID/stat`: a pid is believed only with it.
    pub start_time: u64,
}

/// What a root file system is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// overlayfs.
    Overlay {
        /// Read-only layers, the uppermost first.
        lower: Vec<PathBuf>,
        /// The container's own layer.
        upper: PathBuf,
        /// overlayfs's work directory, on the same file system as `upper`.
        work: PathBuf,
    },
    /// aufs, where the kernel has it.
    Aufs {
        /// The `br=` option, as aufs(5) spells it.
        branches: String,
    },
    /// A directory that is the container's own.
    Directory {
        /// Where.
        path: PathBuf,
    },
}

/// Which system call filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// The runtime's built-in default profile, for the capabilities of the process.
    Default,
    /// None.
    Unconfined,
    /// This one.
    Profile(oci::Seccomp),
}

/// One forwarded port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// TCP or UDP. The listening socket comes with the frame.
    pub protocol: Protocol,
    /// The container's address and port.
    pub target: SocketAddr,
}

/// One more process in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// The process.
    pub process: oci::Process,
    /// Which system call filter: as the container's.
    pub seccomp: Seccomp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back() {
        let frame = json_frame(&Request::Status).unwrap();
        let head: [u8; HEAD_BYTES] = frame[..HEAD_BYTES].try_into().unwrap();
        let (kind, len) = parse_head(head).unwrap();
        assert_eq!((kind, len as usize), (FrameKind::Json, frame.len() - HEAD_BYTES));
        assert_eq!(serde_json::from_slice::<Request>(&frame[HEAD_BYTES..]).unwrap(), Request::Status);
    }

    #[test]
    fn a_frame_that_breaks_the_rules_is_refused() {
        assert_eq!(parse_head([9, 0, 0, 0, 0]), Err(BadFrame::Kind(9)));
        assert_eq!(
            parse_head(head(FrameKind::Stdin, STREAM_MAX_BYTES + 1)),
            Err(BadFrame::TooLong(STREAM_MAX_BYTES + 1))
        );
        assert!(parse_head(head(FrameKind::StdinEnd, 1)).is_err());
    }

    #[test]
    fn messages_read_back() {
        let exit = Exit { code: 137, signal: Some(9), oom: true, at_unix_nanos: 5 };
        for message in [
            Message::Done,
            Message::Exited(exit),
            Message::Failed(Error::invalid("--mem", "no")),
            Message::Status(Status {
                version: VERSION,
                state: Some(State::Stopped { exit, since_unix_nanos: 1 }),
                oom: true,
            }),
        ] {
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message, "{text}");
        }
    }
}
