//! Bridges and veth pairs in a real kernel, looked at with `ip`.

use std::os::fd::AsFd;

use crate::host::{Host, Space, bridge_config, endpoint, on_a_host_of_its_own, run, run_json};
use tinyd_core::Kind;
use tinyd_net::{DEFAULT_NETWORK, Net};

#[test]
fn a_bridge_is_made_once_and_set_right() {
    on_a_host_of_its_own("links::a_bridge_is_made_once_and_set_right", || {
        let host = Host::new();
        run("ip", &["link", "set", "wan0", "mtu", "1400"]);
        let (bridge, _) = host.network(DEFAULT_NETWORK, "10.9.0.0/16");
        assert_eq!(bridge.interface, "Tiny-docker");
        run("ip", &["addr", "add", "10.77.0.1/24", "dev", "Tiny-docker"]);
        run("ip", &["link", "set", "Tiny-docker", "down"]);
        assert_eq!(host.network(DEFAULT_NETWORK, "10.9.0.0/16").0, bridge);

        let link = &run_json("ip", &["-j", "-d", "addr", "show", "Tiny-docker"])[0];
        assert_eq!(link["linkinfo"]["info_kind"], "bridge");
        assert_eq!(link["linkinfo"]["info_data"]["stp_state"], 0);
        assert_eq!(link["address"], "02:42:0a:09:00:01");
        assert_eq!(link["mtu"], 1400);
        assert_eq!(link["ifalias"], "tinyd:t:Tiny-docker");
        assert!(link["flags"].as_array().unwrap().contains(&"UP".into()), "{link}");
        let addresses = link["addr_info"].as_array().unwrap();
        assert_eq!(addresses.len(), 1, "{link}");
        assert_eq!((&addresses[0]["local"], &addresses[0]["prefixlen"]), (&"10.9.0.1".into(), &16.into()));

        host.net.delete_bridge(&bridge.network).unwrap();
        host.net.delete_bridge(&bridge.network).unwrap();
        assert_eq!(host.net.list_owned().unwrap().bridges, []);
    });
}

#[test]
fn a_name_of_somebody_else_is_left_alone() {
    on_a_host_of_its_own("links::a_name_of_somebody_else_is_left_alone", || {
        let (first, second) = (Net::open("a", true).unwrap(), Net::open("b", false).unwrap());
        let theirs = first.ensure_bridge(&bridge_config(DEFAULT_NETWORK, "10.9.0.0/16")).unwrap();
        let ours = second.ensure_bridge(&bridge_config(DEFAULT_NETWORK, "10.10.0.0/16")).unwrap();
        assert_eq!(theirs.interface, "Tiny-docker");
        assert!(ours.interface.starts_with("td-"), "{ours:?}");
        assert_eq!(first.list_owned().unwrap().bridges, std::slice::from_ref(&theirs));
        assert_eq!(second.list_owned().unwrap().bridges, std::slice::from_ref(&ours));
        // Once the name is free, a bridge that is there keeps its own.
        first.delete_bridge(&theirs.network).unwrap();
        assert_eq!(second.ensure_bridge(&bridge_config(DEFAULT_NETWORK, "10.10.0.0/16")).unwrap(), ours);

        // A name that cannot be anybody's but is: said, not taken over.
        let mine = second.ensure_bridge(&bridge_config("mine", "10.11.0.0/16")).unwrap();
        second.delete_bridge(&mine.network).unwrap();
        run("ip", &["link", "add", &mine.interface, "type", "veth"]);
        let error = second.ensure_bridge(&bridge_config("mine", "10.11.0.0/16")).unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
        assert!(error.message().contains(&mine.interface), "{error}");

        second.remove_all().unwrap();
        assert_eq!(second.list_owned().unwrap().bridges, []);
    });
}

#[test]
fn a_bridge_whose_maker_died_before_its_mark_is_found_again() {
    on_a_host_of_its_own("links::a_bridge_whose_maker_died_before_its_mark_is_found_again", || {
        let host = Host::new();
        let (bridge, _) = host.network("mine", "10.11.0.0/16");
        host.net.delete_bridge(&bridge.network).unwrap();
        run("ip", &["link", "add", &bridge.interface, "type", "bridge"]);
        assert_eq!(host.network("mine", "10.11.0.0/16").0, bridge);
        assert_eq!(host.net.list_owned().unwrap().bridges, [bridge]);
    });
}

#[test]
fn a_container_gets_eth0_and_nothing_else() {
    on_a_host_of_its_own("links::a_container_gets_eth0_and_nothing_else", || {
        let host = Host::new();
        let network = host.network("mine", "10.9.0.0/16");
        let container = host.container(&network, 5, &[]);
        let links = container.space.run("ip", &["-j", "addr"]);
        let links: serde_json::Value = serde_json::from_str(&links).unwrap();
        let names: Vec<_> =
            links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap()).collect();
        assert_eq!(names.iter().filter(|name| ["lo", "eth0"].contains(name)).count(), 2, "{names:?}");
        let eth0 = links.as_array().unwrap().iter().find(|link| link["ifname"] == "eth0").unwrap();
        assert_eq!(eth0["address"], "02:42:0a:09:00:05");
        let addresses = eth0["addr_info"].as_array().unwrap();
        assert_eq!(addresses.len(), 1, "no IPv6: {eth0}");
        assert_eq!(addresses[0]["local"], "10.9.0.5");
        assert_eq!(addresses[0]["broadcast"], serde_json::Value::Null);
        let routes = container.space.run("ip", &["route"]);
        assert!(routes.contains("default via 10.9.0.1 dev eth0"), "{routes}");
        assert_eq!(host.net.list_owned().unwrap().containers, [container.endpoint.container.short()]);
        let port = &run_json("ip", &["-j", "addr", "show", "tdv050000000000"])[0];
        assert_eq!(port["addr_info"].as_array().unwrap().len(), 0, "no IPv6 on the bridge's port: {port}");
    });
}

#[test]
fn a_container_that_starts_again_replaces_its_dying_link() {
    on_a_host_of_its_own("links::a_container_that_starts_again_replaces_its_dying_link", || {
        let host = Host::new();
        let network = host.network("mine", "10.9.0.0/16");
        let first = host.container(&network, 5, &["8080:80"]);
        // The first namespace is still there, as one that the kernel has not yet taken down.
        host.net.detach(&first.endpoint.container).unwrap();
        let second = host.container(&network, 5, &["8080:80"]);
        assert!(second.space.run("ip", &["addr"]).contains("10.9.0.5"));
        assert!(!first.space.run("ip", &["addr"]).contains("10.9.0.5"));
    });
}

#[test]
fn a_failed_attach_leaves_nothing() {
    on_a_host_of_its_own("links::a_failed_attach_leaves_nothing", || {
        let host = Host::new();
        let network = host.network("mine", "10.9.0.0/16");
        let (space, elsewhere) = (Space::of_container(), Space::of_container());
        let endpoint = endpoint(&network, 5, &["8080:80"]);
        let error = host.net.attach(&endpoint, space.file.as_fd(), elsewhere.route()).unwrap_err();
        assert!(error.message().contains("eth0"), "{error}");
        assert_eq!(host.net.list_owned().unwrap().containers, Vec::<String>::new());
        assert!(!run("nft", &["list", "ruleset"]).contains("8080"));

        let mut gone = endpoint;
        gone.interface = "nosuchbridge".into();
        let error = host.net.attach(&gone, space.file.as_fd(), space.route()).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
    });
}

#[test]
fn routes_of_the_host_are_seen_and_our_own_are_not() {
    on_a_host_of_its_own("links::routes_of_the_host_are_seen_and_our_own_are_not", || {
        let host = Host::new();
        host.network("mine", "10.9.0.0/16");
        run("mount", &["-t", "tmpfs", "none", "/mnt"]);
        std::fs::write("/mnt/resolv.conf", "nameserver 172.21.9.9\n").unwrap();
        run("mount", &["--bind", "/mnt/resolv.conf", "/etc/resolv.conf"]);
        run("ip", &["route", "add", "172.18.0.0/15", "via", "203.0.113.2"]);
        run("ip", &["route", "add", "blackhole", "172.20.0.0/16", "table", "77"]);
        let routes = host.net.host_routes().unwrap();
        let shown: Vec<String> = routes.iter().map(ToString::to_string).collect();
        assert!(shown.contains(&"route 172.18.0.0/15 on wan0".to_owned()), "{shown:?}");
        assert!(shown.contains(&"route 172.20.0.0/16 to nowhere".to_owned()), "{shown:?}");
        assert!(shown.contains(&"DNS server 172.21.9.9".to_owned()), "{shown:?}");
        assert!(!shown.iter().any(|route| route.contains(" 10.9.")), "{shown:?}");
        assert!(!shown.iter().any(|route| route.contains(" 0.0.0.0/0")), "{shown:?}");
        let chosen = tinyd_net::choose_subnet(&[], &routes).unwrap();
        assert_eq!(chosen.to_string(), "172.22.0.0/16", "{shown:?}");
    });
}
