//! NOTIFY_SOCKET: a service manager is told by whoever starts the container that its program is ready. The container has a socket of
//! its own at /run/notify, and only the word that it is ready goes on to the manager's.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{Mode, OFlags},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
        SocketFlags, SocketType,
    },
    pipe::PipeFlags,
};
use tinyd_core::{Result, oci};

use crate::launch::kernel;

/// Its directory, below the record's and inside.
const INSIDE: &str = "/run/notify";
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// How long the manager may take to read, in seconds; systemd's own patience.
const BARRIER_SECS: i64 = 30;

/// The manager's socket, when this process has one.
pub(super) fn manager() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty())
}

/// Gives a container that is about to be made its place for a socket, when a manager wants to know.
///
/// # Errors
/// When the directory cannot be made.
pub(super) fn prepare(record: &Path, spec: &mut oci::Spec) -> Result<()> {
    if manager().is_none() {
        return Ok(());
    }
    let dir = record.join(DIRECTORY);
    let failed = |error: std::io::Error| kernel(&format!("make {}", dir.display()), &error);
    std::fs::create_dir(&dir).map_err(failed)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    spec.mounts.push(oci::Mount {
        destination: INSIDE.into(),
        source: Some(dir.display().to_string()),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec(),
        ..oci::Mount::default()
    });
    if let Some(process) = &mut spec.process {
        process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
    }
    Ok(())
}

/// The container's socket, held by whoever starts it.
#[derive(Debug)]
pub(super) struct Notify {
    socket: OwnedFd,
    manager: String,
}

impl Notify {
    /// Opens the socket of a container that has a place for one.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn open(record: &Path) -> Result<Option<Notify>> {
        let dir = record.join(DIRECTORY);
        let Some(manager) = manager().filter(|_| dir.is_dir()) else { return Ok(None) };
        let socket = bind(&dir).map_err(|error| kernel("open the notify socket", &error))?;
        Ok(Some(Notify { socket, manager }))
    }

    /// The socket, to be waited for.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits until the program is ready, or has ended, and tells the manager whom to look after from then on.
    ///
    /// # Errors
    /// The manager cannot be told.
    pub(super) fn wait(&self, pid: i32, first: BorrowedFd<'_>) -> Result<()> {
        loop {
            let mut fds =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::from_borrowed_fd(first, PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(kernel("poll(notify)", &error)),
            }
            let [told, ended] = fds.map(|fd| !fd.revents().is_empty());
            if told && self.forward(Some(pid))? {
                return Ok(());
            }
            if ended && !told {
                return Ok(());
            }
        }
    }

    /// Hands one message on, if it says that the program is ready; whether it does.
    ///
    /// # Errors
    /// The manager cannot be told.
    pub(super) fn forward(&self, pid: Option<i32>) -> Result<bool> {
        let mut bytes = [0; 4096];
        let len = match rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((len, _)) => len,
            Err(_) => return Ok(false),
        };
        let text = bytes.get(..len).unwrap_or_default();
        let Some(ready) = text.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY=")) else {
            return Ok(false);
        };
        self.tell(ready, pid).map_err(|error| kernel("tell NOTIFY_SOCKET", &error))?;
        Ok(true)
    }

    fn tell(&self, ready: &[u8], pid: Option<i32>) -> rustix::io::Result<()> {
        let socket = datagrams()?;
        let address = match self.manager.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
            None => SocketAddrUnix::new(self.manager.as_str())?,
        };
        rustix::net::connect(&socket, &address)?;
        rustix::net::send(&socket, ready, SendFlags::NOSIGNAL)?;
        let Some(pid) = pid else { return Ok(()) };
        rustix::net::send(&socket, format!("MAINPID={pid}").as_bytes(), SendFlags::NOSIGNAL)?;
        barrier(&socket)
    }
}

/// Waits until the manager has read what was sent: it looks the sender up, who is about to end.
fn barrier(socket: &OwnedFd) -> rustix::io::Result<()> {
    let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let fds = [theirs.as_fd()];
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::NOSIGNAL)?;
    drop(theirs);
    let patience = rustix::time::Timespec { tv_sec: BARRIER_SECS, tv_nsec: 0 };
    let mut closed = [PollFd::new(&ours, PollFlags::empty())];
    rustix::event::poll(&mut closed, Some(&patience)).map(drop)
}

fn datagrams() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// Binds by descriptor: an address holds no more than 107 bytes, and the directory's path may be longer.
fn bind(dir: &Path) -> rustix::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let socket = datagrams()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let near = rustix::fs::open(dir, flags, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", near.as_raw_fd()));
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    // Whoever the program runs as may write.
    rustix::fs::chmod(&path, Mode::from_raw_mode(0o777))?;
    Ok(socket)
}
