//! Who holds a port: looked for only when somebody needs to be told.

use std::{
    fmt, fs,
    net::{IpAddr, SocketAddr},
};

use tinyd_core::config::Protocol;

/// The state of a listening TCP socket, and of an unconnected UDP one, in `/proc/net`.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// A process that holds a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    name: String,
    pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The process whose socket is in the way of `wanted`; none when it has no process that can be seen.
pub(crate) fn of(wanted: SocketAddr, protocol: Protocol) -> Option<Holder> {
    let (tables, state) = match protocol {
        Protocol::Tcp => (["tcp", "tcp6"], LISTEN),
        Protocol::Udp => (["udp", "udp6"], UNCONNECTED),
    };
    let text = |table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
    let inode = tables.into_iter().find_map(|table| inode_in(&text(table), wanted, state))?;
    owner(inode)
}

/// The inode of the socket, in the text of `/proc/net/tcp` or its like, whose address is in the way.
fn inode_in(table: &str, wanted: SocketAddr, state: &str) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = words.get(1)?.split_once(':')?;
        let is_it = u16::from_str_radix(port, 16).ok()? == wanted.port()
            && *words.get(3)? == state
            && in_the_way(address(ip)?, wanted.ip());
        is_it.then(|| words.get(9)?.parse().ok()).flatten()
    })
}

/// An address of `/proc/net`: words of four bytes, each as a number of the host's.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => <[u8; 16]>::try_from([word(0)?, word(1)?, word(2)?, word(3)?].concat()).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Whether two sockets with these addresses cannot have one port. `::` may hold IPv4's too.
fn in_the_way(held: IpAddr, wanted: IpAddr) -> bool {
    let same_family = held.is_ipv4() == wanted.is_ipv4();
    held == wanted
        || (wanted.is_unspecified() && same_family)
        || (held.is_unspecified() && (same_family || held.is_ipv6()))
}

/// The process that has the socket open.
fn owner(inode: u64) -> Option<Holder> {
    let link = format!("socket:[{inode}]");
    let pids = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| has_open(*pid, &link)).map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.trim().chars().filter(|c| !c.is_control()).collect();
        Holder { name, pid }
    })
}

fn has_open(pid: u32, link: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == link))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
";
    const TCP6: &str = "  sl  local_address remote_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4713 1 0
   1: 00000000000000000000000001000000:1F92 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4714 1 0
";

    #[test]
    fn the_socket_in_the_way_is_found() {
        let find = |table, wanted: &str| inode_in(table, wanted.parse().unwrap(), LISTEN);
        assert_eq!(find(TCP, "0.0.0.0:8080"), Some(4711));
        assert_eq!(find(TCP, "127.0.0.1:8080"), Some(4711));
        assert_eq!(find(TCP, "192.0.2.1:8080"), None);
        assert_eq!(find(TCP, "127.0.0.1:8081"), None, "a connection is not a listener");
        assert_eq!(find(TCP6, "192.0.2.1:8080"), Some(4713));
        assert_eq!(find(TCP6, "[::1]:8082"), Some(4714));
        assert_eq!(find(TCP6, "127.0.0.1:8082"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = inode_in(&text, SocketAddr::from(([0, 0, 0, 0], 80)), LISTEN);
        }
    }
}
