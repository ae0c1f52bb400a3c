//! Who reaches whom: connections through a real kernel, between containers, the host and another host.

use std::{net::UdpSocket, time::Duration};

use crate::host::{Host, call, on_a_host_of_its_own, run};

#[test]
fn containers_of_one_network_reach_each_other_and_others_do_not() {
    on_a_host_of_its_own("traffic::containers_of_one_network_reach_each_other_and_others_do_not", || {
        let host = Host::new();
        let (one, two) = (host.network("one", "10.1.0.0/24"), host.network("two", "10.2.0.0/24"));
        let (a, b, c) =
            (host.container(&one, 5, &[]), host.container(&one, 6, &[]), host.container(&two, 7, &[]));
        b.space.serve(80, "b");
        c.space.serve(80, "c");
        assert_eq!(a.space.call("10.1.0.6:80").as_deref(), Some("b 10.1.0.5"));
        assert_eq!(a.space.call("10.2.0.7:80"), None);
        assert_eq!(c.space.call("10.1.0.6:80"), None);
        // The host itself reaches everybody.
        assert_eq!(call("10.2.0.7:80".parse().unwrap()).as_deref(), Some("c 10.2.0.1"));
    });
}

#[test]
fn the_outside_sees_the_hosts_address_and_reaches_published_ports_only() {
    on_a_host_of_its_own(
        "traffic::the_outside_sees_the_hosts_address_and_reaches_published_ports_only",
        || {
            let host = Host::new();
            let network = host.network("one", "10.1.0.0/24");
            let web = host.container(&network, 5, &["8080:80"]);
            web.space.serve(80, "web");
            host.outside.serve(80, "outside");
            assert_eq!(
                web.space.call("203.0.113.2:80").as_deref(),
                Some("outside 203.0.113.1"),
                "masquerade"
            );
            assert_eq!(
                host.outside.call("203.0.113.1:8080").as_deref(),
                Some("web 203.0.113.2"),
                "published"
            );
            host.outside.run("ip", &["route", "add", "10.1.0.0/24", "via", "203.0.113.1"]);
            assert_eq!(host.outside.call("10.1.0.5:80"), None, "the container's own address");

            host.net.detach(&web.endpoint.container).unwrap();
            assert_eq!(host.outside.call("203.0.113.1:8080"), None, "no longer published");
        },
    );
}

#[test]
fn published_ports_answer_the_host_and_every_container() {
    on_a_host_of_its_own("traffic::published_ports_answer_the_host_and_every_container", || {
        published_ports_answer("1");
    });
}

#[test]
fn published_ports_answer_without_br_netfilter() {
    on_a_host_of_its_own("traffic::published_ports_answer_without_br_netfilter", || {
        published_ports_answer("0")
    });
}

fn published_ports_answer(bridges_filter: &str) {
    let host = Host::new();
    // A kernel without br_netfilter has no such file.
    let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", bridges_filter);
    let (one, two) = (host.network("one", "10.1.0.0/24"), host.network("two", "10.2.0.0/24"));
    let web = host.container(&one, 5, &["8080:80"]);
    let (same, other) = (host.container(&one, 6, &[]), host.container(&two, 7, &[]));
    web.space.serve(80, "web");
    assert!(call("203.0.113.1:8080".parse().unwrap()).is_some(), "the host, by its own address");
    for client in [&same, &other, &web] {
        assert!(client.space.call("203.0.113.1:8080").is_some(), "{}", client.endpoint.ip);
        assert!(
            client.space.call(&format!("{}:8080", client.endpoint.gateway)).is_some(),
            "{}",
            client.endpoint.ip
        );
    }
    // Nothing listens there, and nothing leads there: loopback is the shim's.
    assert_eq!(call("127.0.0.1:8080".parse().unwrap()), None);
    // Somebody else's address with that port is not ours.
    host.outside.serve(8080, "outside");
    assert_eq!(same.space.call("203.0.113.2:8080").as_deref(), Some("outside 203.0.113.1"));
}

#[test]
fn a_port_of_one_address_is_of_that_address_only() {
    on_a_host_of_its_own("traffic::a_port_of_one_address_is_of_that_address_only", || {
        let host = Host::new();
        run("ip", &["addr", "add", "203.0.113.9/24", "dev", "wan0"]);
        let network = host.network("one", "10.1.0.0/24");
        let web = host.container(&network, 5, &["203.0.113.9:8080:80", "127.0.0.1:8081:80"]);
        web.space.serve(80, "web");
        assert!(host.outside.call("203.0.113.9:8080").is_some());
        assert_eq!(host.outside.call("203.0.113.1:8080"), None);
        for to in ["203.0.113.9:8081", "203.0.113.1:8081"] {
            assert_eq!(host.outside.call(to), None, "{to}");
        }
    });
}

#[test]
fn a_loopback_port_is_unreachable_even_with_route_localnet() {
    on_a_host_of_its_own("traffic::a_loopback_port_is_unreachable_even_with_route_localnet", || {
        let host = Host::new();
        // What the shim of `-p 127.0.0.1:8081:80` holds.
        let listener = std::net::TcpListener::bind("127.0.0.1:8081").unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        host.outside.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"]);
        host.outside.run("ip", &["route", "del", "127.0.0.0/8", "dev", "lo", "table", "local"]);
        host.outside.run("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
        host.outside.run("ip", &["route", "add", "127.0.0.0/8", "via", "203.0.113.1"]);
        assert!(call("127.0.0.1:8081".parse().unwrap()).is_some());
        assert_eq!(host.outside.call("127.0.0.1:8081"), None);
        // The test can fail: without our table it is reached.
        run("nft", &["flush", "ruleset"]);
        assert!(host.outside.call("127.0.0.1:8081").is_some());
    });
}

#[test]
fn datagrams_find_the_next_container_of_a_port() {
    on_a_host_of_its_own("traffic::datagrams_find_the_next_container_of_a_port", || {
        let host = Host::new();
        let network = host.network("one", "10.1.0.0/24");
        let client = host.outside.inside(|| UdpSocket::bind("203.0.113.2:5353").unwrap()).join().unwrap();
        client.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let ask = || {
            let mut answer = [0; 16];
            client.send_to(b"?", "203.0.113.1:53").unwrap();
            let (len, _) = client.recv_from(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer[..len]).into_owned())
        };
        let first = host.container(&network, 5, &["53:53/udp"]);
        first.space.serve_datagrams(53, "first");
        assert_eq!(ask().as_deref(), Some("first"));
        // The same client, the same port, another container: the kernel must forget where it went.
        host.net.detach(&first.endpoint.container).unwrap();
        let second = host.container(&network, 6, &["53:53/udp"]);
        second.space.serve_datagrams(53, "second");
        assert_eq!(ask().as_deref(), Some("second"));
    });
}
