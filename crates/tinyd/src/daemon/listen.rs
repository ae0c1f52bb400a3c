//! Opens the places to listen at: a unix socket with the right owner and mode before anybody can connect, TCP ports with TLS. A
//! socket that an earlier daemon left is taken away; one that a daemon listens on is not.

#![expect(clippy::wildcard_enum_match_arm, reason = "the libraries' enums of errors are open")]

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tinyd_core::{Error, Kind, Result};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::{
    accept::Door,
    options::{DaemonOptions, Listen},
    peer::{Allowed, group_id},
};
use crate::tls::{self, Files, PemFile};

/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;
/// The group that may use the socket when no other is named, and the only one that may be missing.
const GROUP: &str = "tinyd";
/// The socket's name in the run directory.
const SOCKET: &str = "tinyd.sock";

/// Where a daemon listens, checked, before anything is opened.
pub(super) struct Plan {
    /// Sockets, the run directory's first.
    pub(super) sockets: Vec<PathBuf>,
    /// Ports, and whether they take TLS.
    ports: Vec<SocketAddr>,
    acceptor: Option<TlsAcceptor>,
    /// Who may use the sockets.
    allowed: Allowed,
}

impl Plan {
    /// Reads the options, the TLS files and the group.
    ///
    /// # Errors
    /// `InvalidArgument` of the option that is missing or wrong.
    pub(super) fn make(options: &DaemonOptions) -> Result<Plan> {
        let mut plan = Plan {
            sockets: vec![options.run_dir.join(SOCKET)],
            ports: Vec::new(),
            acceptor: None,
            allowed: Allowed {
                uid: rustix::process::geteuid().as_raw(),
                gid: group(options.group.as_deref())?,
            },
        };
        for place in &options.listen {
            match place {
                Listen::Unix(path) if plan.sockets.contains(path) => {}
                Listen::Unix(path) => plan.sockets.push(path.clone()),
                Listen::Tcp(address) => plan.ports.push(*address),
            }
        }
        plan.acceptor = acceptor(options, &plan.ports)?;
        Ok(plan)
    }

    /// Refuses to go on where another daemon listens: it must not lose its socket, nor its containers to our recovery.
    ///
    /// # Errors
    /// `AlreadyExists` with the socket.
    pub(super) fn require_free(&self) -> Result<()> {
        for path in &self.sockets {
            if UnixStream::connect(path).is_ok() {
                let taken = format!("another daemon listens on unix://{}", path.display());
                return Err(Error::new(Kind::AlreadyExists, taken));
            }
        }
        Ok(())
    }

    /// Opens the ports.
    ///
    /// # Errors
    /// `AlreadyExists` for a port in use; `Internal` with the call.
    pub(super) fn open_ports(&self) -> Result<Vec<Door>> {
        let open = |address: &SocketAddr| {
            let listener = port(*address).map_err(|error| {
                let kind = match error.kind() {
                    io::ErrorKind::AddrInUse => Kind::AlreadyExists,
                    io::ErrorKind::AddrNotAvailable => Kind::InvalidArgument,
                    io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
                    _ => Kind::Internal,
                };
                Error::new(kind, format!("listen on tcp://{address}: {error}")).of_field("--listen")
            })?;
            Ok(Door::Tcp(listener, self.acceptor.clone()))
        };
        self.ports.iter().map(open).collect()
    }

    /// Opens the sockets, once the run directory is there.
    ///
    /// # Errors
    /// `AlreadyExists` when something that is no socket has the path; `Internal` with the call.
    pub(super) fn open_sockets(&self) -> Result<Vec<Door>> {
        let open = |path: &PathBuf| {
            let listener = socket(path, self.allowed.gid).map_err(|error| {
                Error::new(Kind::Internal, format!("listen on unix://{}: {error}", path.display()))
                    .of_field("--listen")
            })?;
            Ok(Door::Unix(listener, self.allowed))
        };
        self.sockets.iter().map(open).collect()
    }

    /// Lets the group reach its socket through the run directory, which is otherwise the daemon's alone.
    ///
    /// # Errors
    /// `Internal` with the directory.
    pub(super) fn open_run_dir(&self, run_dir: &Path) -> Result<()> {
        let Some(gid) = self.allowed.gid else { return Ok(()) };
        chown(run_dir, None, Some(gid))
            .and_then(|()| fs::set_permissions(run_dir, PermissionsExt::from_mode(0o710)))
            .map_err(|error| {
                Error::new(Kind::Internal, format!("open {run_dir:?} to the group {gid}: {error}"))
            })
    }
}

/// The group's id: by name, or by number.
fn group(wanted: Option<&str>) -> Result<Option<u32>> {
    let name = wanted.unwrap_or(GROUP);
    let file = fs::read_to_string("/etc/group").unwrap_or_default();
    let id = group_id(&file, name).or_else(|| name.parse().ok());
    match (id, wanted) {
        (None, Some(name)) => {
            Err(Error::invalid("--group", format!("there is no group {name:?} in /etc/group")))
        }
        (id, _) => Ok(id),
    }
}

/// TLS for the ports: all three files, or none and said to be insecure.
fn acceptor(options: &DaemonOptions, ports: &[SocketAddr]) -> Result<Option<TlsAcceptor>> {
    if ports.is_empty() {
        return Ok(None);
    }
    let given =
        [("--tls-ca", &options.tls_ca), ("--tls-cert", &options.tls_cert), ("--tls-key", &options.tls_key)];
    if options.insecure_tcp {
        if given.iter().any(|(_, file)| file.is_some()) {
            return Err(Error::invalid(
                "--insecure-tcp",
                "it does not go with --tls-ca, --tls-cert and --tls-key",
            ));
        }
        return match ports.iter().find(|address| !address.ip().is_loopback()) {
            Some(open) => Err(Error::invalid(
                "--insecure-tcp",
                format!(
                    "only a loopback address is served without TLS, such as 127.0.0.1, not {}",
                    open.ip()
                ),
            )),
            None => Ok(None),
        };
    }
    if let [(_, Some(ca)), (_, Some(cert)), (_, Some(key))] = given {
        let file = |flag, path| PemFile { flag, path };
        let files =
            Files { ca: file("--tls-ca", ca), cert: file("--tls-cert", cert), key: file("--tls-key", key) };
        return Ok(Some(TlsAcceptor::from(Arc::new(tls::daemon(&files)?))));
    }
    let missing: Vec<&str> = given.iter().filter(|(_, file)| file.is_none()).map(|(flag, _)| *flag).collect();
    Err(Error::invalid(
        missing[0],
        format!(
            "tcp:// is served with mutual TLS only; missing: {} (tinyd cert makes the files)",
            missing.join(", ")
        ),
    ))
}

fn port(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    // A daemon that starts again must not wait for the connections of the last one to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs())
}

/// A listening unix socket, 0660. It listens only when owner and mode are right, so nobody slips in before.
fn socket(path: &Path, gid: Option<u32>) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    chown(path, None, gid)?;
    fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
    listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Takes away the socket of a daemon that has died. Whether one lives was asked before.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there")),
    }
}
