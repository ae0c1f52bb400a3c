//! A container's `resolv.conf`, from the host's. Pure text: reads no file.

use std::net::Ipv4Addr;

/// A `resolv.conf` that works on a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolvers {
    /// The file's text.
    pub text: String,
    /// What had to be done that the user may want to know.
    pub warning: Option<String>,
}

/// Who answers when the host names nobody that a container can reach.
const PUBLIC: [&str; 2] = ["1.1.1.1", "8.8.8.8"];

/// Makes the host's `/etc/resolv.conf` (`host`) usable from a bridge network: name servers on the host's loopback are left out, for a
/// container cannot reach them. When none is left, systemd-resolved's own list (`upstream`, the text of
/// `/run/systemd/resolve/resolv.conf`) is used; when that has none either, public servers, with a warning. `search`, `domain` and
/// `options` stay.
#[must_use]
pub fn usable_resolvers(host: &str, upstream: Option<&str>) -> Resolvers {
    for text in [Some(host), upstream].into_iter().flatten() {
        if text.lines().any(is_reachable_server) {
            return Resolvers { text: filtered(text), warning: None };
        }
    }
    let mut text = filtered(host);
    for server in PUBLIC {
        text.push_str("nameserver ");
        text.push_str(server);
        text.push('\n');
    }
    let warning = format!(
        "the host names no DNS server that a container can reach; containers use {} (choose others with --dns)",
        PUBLIC.join(" and ")
    );
    Resolvers { text, warning: Some(warning) }
}

/// The lines that mean something in a container.
fn filtered(text: &str) -> String {
    text.lines()
        .filter(|line| is_reachable_server(line) || is_setting(line))
        .flat_map(|line| [line.trim(), "\n"])
        .collect()
}

fn is_setting(line: &str) -> bool {
    matches!(line.split_whitespace().next(), Some("search" | "domain" | "options" | "sortlist"))
}

fn is_reachable_server(line: &str) -> bool {
    reachable_server(line).is_some()
}

/// The server off the host that the line names. A container has no IPv6, so only IPv4 counts.
pub(crate) fn reachable_server(line: &str) -> Option<Ipv4Addr> {
    let mut words = line.split_whitespace();
    words.next().filter(|word| *word == "nameserver")?;
    words.next()?.parse().ok().filter(|ip: &Ipv4Addr| !ip.is_loopback() && !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reachable_servers_and_settings_stay() {
        let host =
            "# made by hand\nnameserver 10.0.0.2\nnameserver ::1\nsearch corp.example\noptions ndots:2\n";
        let usable = usable_resolvers(host, None);
        assert_eq!(usable.text, "nameserver 10.0.0.2\nsearch corp.example\noptions ndots:2\n");
        assert_eq!(usable.warning, None);
    }

    #[test]
    fn a_stub_on_loopback_gives_way_to_its_upstream() {
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n";
        let usable = usable_resolvers(stub, Some("nameserver 192.0.2.1\nsearch lan\n"));
        assert_eq!(usable.text, "nameserver 192.0.2.1\nsearch lan\n");
        assert_eq!(usable.warning, None);
    }

    #[test]
    fn nobody_left_means_public_servers_and_a_word() {
        for (host, upstream) in [
            ("", None),
            ("nameserver 127.0.0.1\n", Some("nameserver 127.0.0.1\n")),
            ("nameserver fe80::1%eth0", None),
        ] {
            let usable = usable_resolvers(host, upstream);
            assert!(
                usable.text.ends_with("nameserver 1.1.1.1\nnameserver 8.8.8.8\n"),
                "{host:?}: {}",
                usable.text
            );
            assert!(usable.warning.is_some_and(|warning| warning.contains("--dns")));
        }
    }
}
