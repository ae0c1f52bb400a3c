//! Who is at the other end of a connection, and which local users may be.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use tokio::net::UnixStream;

/// The other end of a connection. Every request carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process of this host, as the kernel tells.
    Local {
        /// Its user.
        uid: u32,
        /// Its number.
        pid: i32,
    },
    /// Another host.
    Remote {
        /// Where it calls from.
        address: SocketAddr,
        /// The common name in its certificate.
        name: Option<String>,
    },
}

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A user of this host.
    User(u32),
    /// An IPv4 address, or the first 64 bits of an IPv6 address, of which one host has as many as it likes.
    Host(IpAddr),
}

impl Peer {
    /// Whose connections this one is counted with.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Peer::Local { uid, .. } => Origin::User(*uid),
            Peer::Remote { address, .. } => Origin::Host(match address.ip().to_canonical() {
                IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
                v4 => v4,
            }),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Local { uid, pid } => write!(f, "uid {uid} pid {pid}"),
            Peer::Remote { address, name: None } => write!(f, "{address}"),
            Peer::Remote { address, name: Some(name) } => write!(f, "{address} ({name})"),
        }
    }
}

/// Which local users are served. The socket's mode says the same to the kernel; this holds when somebody changes the mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    /// The daemon's own user, beside root.
    pub(super) uid: u32,
    /// The group whose members are served.
    pub(super) gid: Option<u32>,
}

impl Allowed {
    /// The peer, if it is served.
    ///
    /// # Errors
    /// Who it is and that it is not, in words for the log.
    pub(super) fn admit(&self, stream: &UnixStream) -> Result<Peer, String> {
        let credentials =
            stream.peer_cred().map_err(|error| format!("its credentials cannot be read: {error}"))?;
        let peer = Peer::Local { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) };
        let groups = || tinyd_sys::creds::peer_groups(std::os::fd::AsFd::as_fd(stream)).unwrap_or_default();
        if self.serves(credentials.uid(), credentials.gid(), groups) {
            return Ok(peer);
        }
        Err(format!("{peer} is neither root nor in the group that is served"))
    }

    fn serves(&self, uid: u32, gid: u32, groups: impl FnOnce() -> Vec<u32>) -> bool {
        uid == 0
            || uid == self.uid
            || self.gid.is_some_and(|served| gid == served || groups().contains(&served))
    }
}

/// The id of a group in a group(5) file.
pub(super) fn group_id(file: &str, name: &str) -> Option<u32> {
    let entry = file.lines().find(|line| line.split(':').next() == Some(name))?;
    entry.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_daemon_and_the_group_are_served() {
        let none = Vec::new;
        let allowed = Allowed { uid: 7, gid: Some(50) };
        assert!(allowed.serves(0, 0, none) && allowed.serves(7, 7, none) && allowed.serves(1000, 50, none));
        assert!(allowed.serves(1000, 1000, || vec![4, 50]));
        assert!(!allowed.serves(1000, 1000, || vec![4]));
        assert!(!Allowed { uid: 0, gid: None }.serves(1000, 0, || vec![0]));
    }

    #[test]
    fn groups_by_whole_name() {
        let file = "root:x:0:\ntinyd-x:x:5:\ntinyd:x:999:alice,bob\nbroken\n";
        assert_eq!(group_id(file, "tinyd"), Some(999));
        assert_eq!(group_id(file, "tiny"), None);
        assert_eq!(group_id(file, "broken"), None);
    }

    #[test]
    fn a_network_of_one_host_is_one_origin() {
        let peer = |text: &str| Peer::Remote { address: text.parse().unwrap(), name: None }.origin();
        assert_eq!(peer("[2001:db8::1]:1"), peer("[2001:db8::ffff]:2"));
        assert_ne!(peer("[2001:db8:0:1::1]:1"), peer("[2001:db8::1]:1"));
        assert_eq!(peer("[::ffff:10.0.0.1]:1"), peer("10.0.0.1:2"));
    }
}
