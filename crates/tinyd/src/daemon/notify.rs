//! Tells whoever started the daemon how it is (sd_notify(3)); without NOTIFY_SOCKET nobody asked.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Requests are answered from now on.
pub(super) const READY: &str = "READY=1";
/// The daemon is ending.
pub(super) const STOPPING: &str = "STOPPING=1";

/// Says it. Nobody's failure but the listener's, so it goes to the log at most.
pub(super) fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, state, "cannot tell NOTIFY_SOCKET");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_both_told() {
        let path = std::env::temp_dir().join(format!("tinyd-notify-{}", std::process::id()));
        let name = format!("@tinyd-notify-{}", std::process::id());
        let heard = UnixDatagram::bind(&path).unwrap();
        let hidden = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let overheard = UnixDatagram::bind_addr(&hidden).unwrap();
        for (socket, listener) in [(path.as_os_str(), heard), (OsStr::new(&name), overheard)] {
            send(socket, READY).unwrap();
            let mut told = [0; 64];
            let length = listener.recv(&mut told).unwrap();
            assert_eq!(&told[..length], READY.as_bytes());
        }
        std::fs::remove_file(path).unwrap();
    }
}
