//! The nftables table, as `nft` reads it.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;
use tinyd_core::{Kind, Name, config::Port};
use tinyd_net::Net;

use crate::host::{Host, endpoint, on_a_host_of_its_own, run, run_json};

#[test]
fn nft_reads_the_table_as_it_is_meant() {
    on_a_host_of_its_own("table::nft_reads_the_table_as_it_is_meant", || {
        let host = Host::new();
        let network = host.network("Tiny-docker", "10.1.0.0/24");
        let _web = host.container(
            &network,
            5,
            &["8080:80", "203.0.113.1:53:5353/udp", "127.0.0.1:9:9", "[::1]:10:10"],
        );
        let text = run("nft", &["list", "table", "inet", "tinyd"]);
        for line in [
            "elements = { \"Tiny-docker\" }",
            "elements = { \"Tiny-docker\" . \"Tiny-docker\" }",
            "elements = { 10.1.0.0/24 }",
            "elements = { tcp . 8080 : 10.1.0.5 . 80 }",
            "elements = { 203.0.113.1 . udp . 53 : 10.1.0.5 . 5353 }",
            "type nat hook prerouting priority dstnat; policy accept;",
            "fib daddr type local dnat ip to meta l4proto . th dport map @ports comment \"ports published on every address\"",
            "fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @ports_of_address",
            "ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to",
            "iifname != \"lo\" ip daddr 127.0.0.0/8 drop",
            "oifname != @bridges accept",
            "ct state established,related accept",
            "ct status dnat accept",
            "iifname . oifname @within accept",
            "ip saddr @subnets oifname != @bridges masquerade",
            "ip saddr @subnets oifname @bridges ct status dnat masquerade",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("10.1.0.5 . 9"), "loopback has no mapping: {text}");
    });
}

#[test]
fn two_daemons_have_two_tables() {
    on_a_host_of_its_own("table::two_daemons_have_two_tables", || {
        let host = Host::new();
        let other = Net::open("x7", false).unwrap();
        other.restore(&[], &[]).unwrap();
        assert!(run("nft", &["list", "tables"]).contains("table inet tinyd-x7"));
        host.net.remove_all().unwrap();
        host.net.remove_all().unwrap();
        assert_eq!(run("nft", &["list", "tables"]).trim(), "table inet tinyd-x7");
    });
}

#[test]
fn a_firewall_that_drops_what_containers_send_is_told() {
    on_a_host_of_its_own("table::a_firewall_that_drops_what_containers_send_is_told", || {
        let host = Host::new();
        run("nft", &["add", "table", "ip", "filter"]);
        let chain = |name, hook, policy| {
            let spec = format!("{{ type filter hook {hook} priority 0 ; policy {policy} ; }}");
            run("nft", &["add", "chain", "ip", "filter", name, &spec]);
        };
        chain("INPUT", "input", "drop");
        chain("FORWARD", "forward", "accept");
        let told = || {
            host.net
                .warnings()
                .into_iter()
                .filter(|warning| warning.contains("drops forwarded"))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(), Vec::<String>::new());
        run("nft", &["chain", "ip", "filter", "FORWARD", "{ policy drop ; }"]);
        let told = told();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("\"ip filter FORWARD\""), "{told:?}");
    });
}

#[test]
fn what_somebody_flushed_comes_back() {
    on_a_host_of_its_own("table::what_somebody_flushed_comes_back", || {
        let host = Host::new();
        let network = host.network("one", "10.1.0.0/24");
        let web = host.container(&network, 5, &["8080:80"]);
        let list = || run_json("nft", &["-j", "list", "table", "inet", "tinyd"]).to_string();
        let rules = || list().matches("\"rule\"").count();
        let (meant, whole) = (rules(), list().len());
        assert!(!host.net.repair().unwrap(), "nobody has touched it");
        for damage in [
            &["flush", "ruleset"][..],
            &["delete", "table", "inet", "tinyd"],
            &["flush", "table", "inet", "tinyd"],
            &["flush", "chain", "inet", "tinyd", "forward"],
            &["delete", "element", "inet", "tinyd", "ports", "{ tcp . 8080 }"],
            &["delete", "element", "inet", "tinyd", "subnets", "{ 10.1.0.0/24 }"],
            &["add", "rule", "inet", "tinyd", "forward", "accept"],
            &["insert", "rule", "inet", "tinyd", "forward", "accept"],
            &["add", "element", "inet", "tinyd", "ports", "{ tcp . 8081 : 10.1.0.5 . 80 }"],
        ] {
            run("nft", damage);
            assert!(host.net.repair().unwrap(), "{damage:?}");
            assert!(!host.net.repair().unwrap(), "{damage:?}, twice");
            assert_eq!(rules(), meant, "{damage:?}");
            assert_eq!(list().matches("8080").count(), 1, "{damage:?}");
            assert!(list().len().abs_diff(whole) < 100, "{damage:?}: {}", list());
        }
        // Somebody else's table is nobody's business here.
        run("nft", &["add", "table", "inet", "theirs"]);
        assert!(!host.net.repair().unwrap());
        // A change on a table that is gone makes all of it anew.
        run("nft", &["flush", "ruleset"]);
        host.net.detach(&web.endpoint.container).unwrap();
        assert_eq!(rules(), meant);
        assert!(!list().contains("8080"));
        assert!(!host.net.repair().unwrap());
    });
}

#[test]
fn a_restart_leaves_only_what_is_alive() {
    on_a_host_of_its_own("table::a_restart_leaves_only_what_is_alive", || {
        let host = Host::new();
        let network = host.network("one", "10.1.0.0/24");
        let (web, _dead) =
            (host.container(&network, 5, &["8080:80"]), host.container(&network, 6, &["9090:90"]));
        let next = Net::open("t", true).unwrap();
        next.restore(&[network], std::slice::from_ref(&web.endpoint)).unwrap();
        let text = run("nft", &["list", "table", "inet", "tinyd"]);
        assert!(text.contains("8080") && !text.contains("9090"), "{text}");
        assert!(!next.repair().unwrap());
        web.space.serve(80, "web");
        assert!(host.outside.call("203.0.113.1:8080").is_some());
    });
}

#[test]
fn subnets_side_by_side_are_restored_and_go_one_by_one() {
    on_a_host_of_its_own("table::subnets_side_by_side_are_restored_and_go_one_by_one", || {
        let host = Host::new();
        // The second ends where the first begins, the third begins where the first ends.
        let networks = [("b", "10.1.1.0/24"), ("a", "10.1.0.0/24"), ("c", "10.1.2.0/24")]
            .map(|(name, subnet)| host.network(name, subnet));
        let subnets = || {
            let set = run_json("nft", &["-j", "list", "set", "inet", "tinyd", "subnets"]);
            set["nftables"][1]["set"]["elem"].as_array().map_or(0, Vec::len)
        };
        assert_eq!(subnets(), 3);
        let next = Net::open("t", true).unwrap();
        next.restore(&networks, &[]).unwrap();
        assert_eq!(subnets(), 3);
        assert!(!next.repair().unwrap());
        for (left, name) in [(2, "b"), (1, "c"), (0, "a")] {
            next.delete_bridge(&Name::parse("NAME", name).unwrap()).unwrap();
            assert_eq!(subnets(), left, "without {name}");
        }
    });
}

#[test]
fn a_port_published_twice_is_refused() {
    on_a_host_of_its_own("table::a_port_published_twice_is_refused", || {
        let host = Host::new();
        let network = host.network("one", "10.1.0.0/24");
        let _web = host.container(&network, 5, &["8080:80"]);
        let space = crate::host::Space::of_container();
        let twin = endpoint(&network, 6, &["8080:80"]);
        let error = host.net.attach(&twin, space.file.as_fd(), space.route()).unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "{error}");
        assert!(!host.net.repair().unwrap());
        assert_eq!(host.net.list_owned().unwrap().containers.len(), 1);
    });
}

#[test]
fn what_is_published_is_what_nft_reads() {
    on_a_host_of_its_own("table::what_is_published_is_what_nft_reads", || {
        let host = Host::new();
        let (bridge, subnet) = host.network("one", "10.1.0.0/24");
        let ports = (any::<[u8; 4]>(), any::<bool>(), 1u16.., 1u16.., any::<bool>());
        let mut runner =
            TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&proptest::collection::vec(ports, 1..60), |ports| {
            let ports: Vec<String> = ports
                .into_iter()
                .map(|(ip, everywhere, host, container, udp)| {
                    let ip = if everywhere { String::new() } else { format!("{}:", Ipv4Addr::from(ip)) };
                    format!("{ip}{host}:{container}{}", if udp { "/udp" } else { "" })
                })
                .collect();
            let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
            let mut endpoint = endpoint(&(bridge.clone(), subnet), 5, &ports);
            // One key cannot lead to two places; the engine sees to that.
            endpoint.ports.sort();
            endpoint.ports.dedup_by_key(|port| (port.host_ip, port.host, port.protocol));
            host.net.restore(&[(bridge.clone(), subnet)], std::slice::from_ref(&endpoint)).unwrap();
            let mut wanted: Vec<String> =
                endpoint.ports.iter().filter_map(|port| as_nft_reads(port, endpoint.ip)).collect();
            let mut read: Vec<String> =
                ["ports", "ports_of_address"].into_iter().flat_map(elements).collect();
            wanted.sort();
            read.sort();
            prop_assert_eq!(read, wanted);
            prop_assert!(!host.net.repair().unwrap());
            Ok(())
        });
        outcome.unwrap();
    });
}

/// `tcp 8080 10.1.0.5 80`, `203.0.113.9 tcp 8080 10.1.0.5 80`.
fn as_nft_reads(port: &Port, ip: Ipv4Addr) -> Option<String> {
    let host_ip = match port.host_ip {
        Some(IpAddr::V4(ip)) if ip.is_loopback() => return None,
        Some(ip) => format!("{ip} "),
        None => String::new(),
    };
    Some(format!("{host_ip}{} {} {ip} {}", port.protocol.word(), port.host, port.container))
}

/// The elements of a map, each in one line of words.
fn elements(map: &str) -> Vec<String> {
    let listed = run_json("nft", &["-j", "list", "map", "inet", "tinyd", map]);
    let found =
        listed["nftables"].as_array().unwrap().iter().find_map(|object| object["map"]["elem"].as_array());
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let side =
        |value: &Value| value["concat"].as_array().unwrap().iter().map(word).collect::<Vec<_>>().join(" ");
    let elements = found.map(Vec::as_slice).unwrap_or_default();
    elements.iter().map(|element| format!("{} {}", side(&element[0]), side(&element[1]))).collect()
}

#[test]
fn many_come_and_go_at_once() {
    on_a_host_of_its_own("table::many_come_and_go_at_once", || {
        let host = Host::new();
        let network = host.network("one", "10.1.0.0/24");
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let (net, network) = (&host.net, &network);
                scope.spawn(move || {
                    for turn in 0..4 {
                        let number = 10 + worker * 4 + turn;
                        let space = crate::host::Space::of_container();
                        let port = format!("{}:80", 8000 + u32::from(number));
                        let endpoint = endpoint(network, number, &[&port]);
                        net.attach(&endpoint, space.file.as_fd(), space.route()).unwrap();
                        net.repair().unwrap();
                        if turn > 0 {
                            net.detach(&endpoint.container).unwrap();
                            net.delete_link(endpoint.container.short()).unwrap();
                        } else {
                            // As a container whose namespace ends by itself.
                            drop(space);
                        }
                    }
                });
            }
        });
        assert!(!host.net.repair().unwrap());
        assert_eq!(elements("ports").len(), 8);
    });
}

#[test]
fn a_thousand_ports_cost_one_look_up() {
    on_a_host_of_its_own("table::a_thousand_ports_cost_one_look_up", || {
        let host = Host::new();
        let network = host.network("one", "10.1.0.0/24");
        let web = host.container(&network, 5, &thousand_ports());
        web.space.serve(80, "web");
        for to in ["203.0.113.1:20000", "203.0.113.1:20500", "203.0.113.1:20999"] {
            assert!(host.outside.call(to).is_some(), "{to}");
        }
        assert_eq!(host.outside.call("203.0.113.1:21000"), None);
        let rules = run_json("nft", &["-j", "list", "chain", "inet", "tinyd", "prerouting"]).to_string();
        assert_eq!(rules.matches("\"rule\"").count(), 2, "{rules}");
        host.net.restore(&[network], std::slice::from_ref(&web.endpoint)).unwrap();
        assert!(!host.net.repair().unwrap());
        assert!(host.outside.call("203.0.113.1:20999").is_some());
    });
}

fn thousand_ports() -> Vec<&'static str> {
    (0..1000).map(|number| &*format!("{}:80", 20000 + number).leak()).collect()
}

/// What things cost: `TINYD_NET_TEST_SHOW=1 cargo test --release -p tinyd-net prices -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement: it prints prices and asserts nothing, so it has no place in a test run"]
fn prices() {
    on_a_host_of_its_own("table::prices", || {
        let host = Host::new();
        let network = host.network("one", "10.1.0.0/24");
        let _web = host.container(&network, 5, &thousand_ports());
        let mut times: Vec<(&str, Vec<Duration>)> = Vec::new();
        let mut note = |what, start: Instant| {
            let elapsed = start.elapsed();
            match times.iter_mut().find(|(name, _)| *name == what) {
                Some((_, all)) => all.push(elapsed),
                None => times.push((what, vec![elapsed])),
            }
        };
        for number in 10..60 {
            for (what, ports) in [("attach", &[][..]), ("attach with a port", &["80:80"])] {
                let space = crate::host::Space::of_container();
                let (endpoint, route) = (endpoint(&network, number, ports), space.route());
                let start = Instant::now();
                host.net.attach(&endpoint, space.file.as_fd(), route).unwrap();
                note(what, start);
                let start = Instant::now();
                host.net.detach(&endpoint.container).unwrap();
                note(if ports.is_empty() { "detach" } else { "detach with a port" }, start);
                let start = Instant::now();
                host.net.delete_link(endpoint.container.short()).unwrap();
                note("delete link", start);
            }
            let start = Instant::now();
            host.net.repair().unwrap();
            note("repair, nothing to do", start);
        }
        for _ in 0..10 {
            let start = Instant::now();
            run("nft", &["flush", "ruleset"]);
            note("(the nft program)", start);
            let start = Instant::now();
            assert!(host.net.repair().unwrap());
            note("rebuild with 1000 ports", start);
            run("nft", &["add", "table", "inet", "theirs"]);
            let start = Instant::now();
            assert!(!host.net.repair().unwrap());
            note("compare with 1000 ports", start);
        }
        for (what, mut all) in times {
            all.sort();
            let (median, worst) = (all[all.len() / 2], all[all.len() - 1]);
            println!("{what:28} median {:7.3} ms  worst {:7.3} ms", millis(median), millis(worst));
        }
    });
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
