//! A host's name to its addresses without the C library, whose resolver cannot be linked statically: addresses as they are
//! written, names from `/etc/hosts`, and then one question to the name servers of `/etc/resolv.conf`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use tinyd_core::{Error, Kind, Result};

/// How long a name server may think, in milliseconds, before the next is asked.
const SERVER_PATIENCE_MS: u64 = 2000;

/// The addresses of a host, in the order to be tried.
///
/// # Errors
/// `Unavailable` when nobody knows the name.
pub(super) fn addresses(host: &str) -> Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let known = in_hosts(&read("/etc/hosts"), host);
    if !known.is_empty() {
        return Ok(known);
    }
    let resolv = read("/etc/resolv.conf");
    for name in candidates(&resolv, host) {
        for server in servers(&resolv) {
            if let Some(found) = ask(server, &name).filter(|found| !found.is_empty()) {
                return Ok(found);
            }
        }
    }
    let unknown =
        format!("{host:?} is in neither /etc/hosts nor the DNS: an address such as 10.0.0.1 always works");
    Err(Error::new(Kind::Unavailable, unknown))
}

/// The addresses that a hosts(5) file gives to a name, whatever its case.
fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

/// The name servers of a resolv.conf(5), three at most, as the C library takes them.
fn servers(resolv: &str) -> Vec<IpAddr> {
    let named = resolv.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    named.filter_map(|rest| rest.trim().parse().ok()).take(3).collect()
}

/// The names to ask for: as written, and within the domains of a `search` line. A short name is tried within them first.
fn candidates(resolv: &str, host: &str) -> Vec<String> {
    let search = resolv.lines().filter_map(|line| line.trim().strip_prefix("search ")).next_back();
    let within = search.into_iter().flat_map(str::split_whitespace).map(|domain| format!("{host}.{domain}"));
    let mut names: Vec<String> = if host.ends_with('.') { Vec::new() } else { within.take(6).collect() };
    let place = if host.contains('.') { 0 } else { names.len() };
    names.insert(place, host.to_owned());
    names
}

/// Asks one server for a name's IPv4 addresses.
fn ask(server: IpAddr, name: &str) -> Option<Vec<IpAddr>> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).ok()?;
    let id = u16::from_be_bytes(id);
    let question = question(id, name)?;
    let local: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(local).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(SERVER_PATIENCE_MS))).ok()?;
    // Connected, so that the kernel drops what comes from anybody else.
    socket.connect((server, 53)).ok()?;
    socket.send(&question).ok()?;
    let mut answer = [0; 1232];
    let length = socket.recv(&mut answer).ok()?;
    read_answer(&answer[..length], id)
}

/// A DNS question (RFC 1035 4.1): one name, type A, class IN, recursion desired.
fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(name.len() + 18);
    message.extend(id.to_be_bytes());
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    (message.len() <= 272).then_some(message)
}

/// The IPv4 addresses in an answer to the question `id`. Names are skipped, never followed, so no loop of pointers can catch us.
fn read_answer(message: &[u8], id: u16) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let answered = word(0)? == id && word(2)? & 0x8000 != 0 && word(2)? & 0x000f == 0;
    if !answered {
        return None;
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..word(6)? {
        at = after_name(message, at)?;
        let (kind, class, length) = (word(at)?, word(at + 2)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        if let (1, 1, Ok(octets)) = (kind, class, <[u8; 4]>::try_from(data)) {
            found.push(IpAddr::from(octets));
        }
        at += 10 + length;
    }
    Some(found)
}

/// Where the name that begins at `at` ends: labels up to an empty one or a pointer.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_files_are_read_as_the_c_library_does() {
        let hosts =
            "127.0.0.1 localhost\n10.0.0.7\tedge1.example Edge1 # the one\n#10.0.0.8 edge1\n::1 localhost\n";
        assert_eq!(in_hosts(hosts, "edge1"), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(in_hosts(hosts, "localhost").len(), 2);
        assert!(in_hosts(hosts, "the").is_empty());
    }

    #[test]
    fn resolv_conf_names_servers_and_domains() {
        let resolv = "nameserver 10.0.0.1\n# nameserver 10.0.0.2\nnameserver fe80::1\nsearch lab example\n";
        assert_eq!(servers(resolv).len(), 2);
        assert_eq!(candidates(resolv, "edge1"), ["edge1.lab", "edge1.example", "edge1"]);
        assert_eq!(candidates(resolv, "a.b"), ["a.b", "a.b.lab", "a.b.example"]);
        assert_eq!(candidates(resolv, "a."), ["a."]);
    }

    #[test]
    fn an_answer_gives_its_addresses_and_skips_aliases() {
        let mut answer = question(7, "edge1.lab").unwrap();
        answer[2] = 0x81;
        answer[3] = 0x80;
        answer[7] = 2;
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 7]);
        assert_eq!(read_answer(&answer, 7).unwrap(), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(read_answer(&answer, 8), None);
    }

    #[test]
    fn names_that_no_server_could_know() {
        assert!(question(1, "a..b").is_none());
        assert!(question(1, &"x".repeat(64)).is_none());
        assert!(question(1, &["x"; 200].join(".")).is_none());
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let id = u16::from_be_bytes([*bytes.first().unwrap_or(&0), *bytes.get(1).unwrap_or(&0)]);
            let _ = read_answer(&bytes, id);
        }
    }
}
