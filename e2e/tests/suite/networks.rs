//! Networks: addresses, routes, ports, who reaches whom. Sockets are real ones, from the host, from another host, from containers.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use tinyd_e2e::{Host, Sandbox, busybox, wait_for};

/// What a server at this address says; `None` when there is no connection.
fn ask(host: &Host, address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    host.in_network(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    })
}

/// The same over UDP.
fn ask_udp(host: &Host, address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    host.in_network(|| {
        let own = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(own).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        socket.send_to(b"?", address).ok()?;
        let mut bytes = [0; 1500];
        let count = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
    })
}

/// Runs a server in a container that answers `text` on `port`, and waits until it listens.
fn serve(sandbox: &Sandbox, name: &str, options: &[&str], protocol: &str, port: &str, text: &str) {
    sandbox.run(&[&["--name", name], options].concat(), &["/bin/probe", "serve", protocol, port, text]);
    wait_for("the server", 10, || sandbox.ok(&["logs", name]).contains("ready").then_some(()));
}

/// A container's address.
fn address(sandbox: &Sandbox, who: &str) -> String {
    let line = sandbox.exec(who, &["sh", "-c", "ip -4 -o addr show dev eth0"]);
    let cidr = line.split_whitespace().nth(3).unwrap_or_else(|| panic!("{line}"));
    cidr.split('/').next().unwrap().to_owned()
}

#[test]
fn the_default_bridge() {
    let mut sandbox = Sandbox::without_daemon(tinyd_e2e::Options::default());
    // A new network may begin with what the machine has.
    let _ = sandbox.host().sh("echo 0 > /proc/sys/net/ipv4/ip_forward").expect_ok();
    sandbox.start_daemon();
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    assert!(sandbox.host().links().iter().any(|link| link == "Tiny-docker"));
    let routes = sandbox.exec("c", &["ip", "route"]);
    let gateway =
        routes.lines().find_map(|line| line.strip_prefix("default via ")).unwrap().split(' ').next().unwrap();
    let bridge = sandbox.host().sh("ip -4 -o addr show dev Tiny-docker").stdout;
    assert!(bridge.contains(gateway), "{bridge} {routes}");
    let links = sandbox.exec("c", &["ls", "/sys/class/net"]);
    assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    assert_eq!(sandbox.host().sh("cat /proc/sys/net/ipv4/ip_forward").trimmed(), "1");
    assert!(sandbox.daemon_log().contains("forward"), "told in the log: {}", sandbox.daemon_log());
    assert_eq!(sandbox.exec("c", &["/bin/probe", "ping", gateway]), "OK");
}

#[test]
fn containers_of_one_network_reach_each_other() {
    let sandbox = Sandbox::new();
    serve(&sandbox, "web", &[], "tcp", "80", "hello");
    let web = address(&sandbox, "web");
    let said = sandbox.out(&[], &["/bin/probe", "ask", "tcp", &format!("{web}:80")]);
    assert!(said.starts_with("hello"), "{said}");
}

#[test]
fn containers_of_two_networks_do_not() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["network", "create", "--subnet", "192.168.10.0/24", "-d", "bridge", "one"]);
    sandbox.ok(&["network", "create", "--subnet", "192.168.11.0/24", "-d", "bridge", "other"]);
    serve(&sandbox, "web", &["--net", "one"], "tcp", "80", "hello");
    let web = format!("{}:80", address(&sandbox, "web"));
    assert!(web.starts_with("192.168.10."), "{web}");
    let ask = |net: &str| sandbox.attached(&["--net", net], &["/bin/probe", "ask", "tcp", &web]);
    assert!(ask("one").ok());
    assert!(!ask("other").ok(), "another network");
    assert!(!ask("Tiny-docker").ok(), "the default network");
}

#[test]
fn a_published_port_answers_everywhere() {
    let sandbox = Sandbox::new();
    let remote = Host::new();
    sandbox.host().connect(&remote, "203.0.113.1/24", "203.0.113.2/24");
    serve(&sandbox, "web", &["-p", "8080:80"], "tcp", "80", "hello");
    for address in ["127.0.0.1:8080", "[::1]:8080", "203.0.113.1:8080"] {
        let said = ask(sandbox.host(), address);
        assert!(said.as_deref().is_some_and(|said| said.starts_with("hello")), "{address}: {said:?}");
    }
    let said = ask(&remote, "203.0.113.1:8080").expect("from another host");
    assert!(said.contains("203.0.113.2"), "the client's address is seen inside: {said}");
    let routes = sandbox.exec("web", &["ip", "route"]);
    let gateway =
        routes.lines().find_map(|line| line.strip_prefix("default via ")).unwrap().split(' ').next().unwrap();
    let said = sandbox.out(&[], &["/bin/probe", "ask", "tcp", &format!("{gateway}:8080")]);
    assert!(said.starts_with("hello"), "from another container: {said}");
    let said = sandbox.exec("web", &["/bin/probe", "ask", "tcp", &format!("{gateway}:8080")]);
    assert!(said.starts_with("hello"), "from itself: {said}");
    sandbox.ok(&["rm", "-f", "web"]);
    assert_eq!(ask(sandbox.host(), "127.0.0.1:8080"), None, "after rm");
}

#[test]
fn udp_is_published_too() {
    let sandbox = Sandbox::new();
    let remote = Host::new();
    sandbox.host().connect(&remote, "203.0.113.1/24", "203.0.113.2/24");
    serve(&sandbox, "dns", &["-p", "5353:53/udp"], "udp", "53", "answer");
    for address in ["127.0.0.1:5353", "[::1]:5353", "203.0.113.1:5353"] {
        let said = ask_udp(sandbox.host(), address);
        assert!(said.as_deref().is_some_and(|said| said.starts_with("answer")), "{address}: {said:?}");
    }
    assert!(ask_udp(&remote, "203.0.113.1:5353").is_some_and(|said| said.starts_with("answer")));
}

#[test]
fn a_port_of_the_loopback_is_the_hosts_alone() {
    let sandbox = Sandbox::new();
    let remote = Host::new();
    sandbox.host().connect(&remote, "203.0.113.1/24", "203.0.113.2/24");
    serve(&sandbox, "web", &["-p", "127.0.0.1:8080:80"], "tcp", "80", "hello");
    assert!(ask(sandbox.host(), "127.0.0.1:8080").is_some());
    assert_eq!(ask(&remote, "203.0.113.1:8080"), None);
    let _ = remote.sh("ip route add 127.0.0.0/8 via 203.0.113.1 table 7").code;
}

#[test]
fn a_port_of_one_address_is_not_on_another() {
    let sandbox = Sandbox::new();
    let remote = Host::new();
    sandbox.host().connect(&remote, "203.0.113.1/24", "203.0.113.2/24");
    let _ = sandbox.host().sh("ip addr add 203.0.113.9/32 dev lo").expect_ok();
    serve(&sandbox, "web", &["-p", "203.0.113.1:8080:80"], "tcp", "80", "hello");
    assert!(ask(&remote, "203.0.113.1:8080").is_some());
    assert_eq!(ask(&remote, "203.0.113.9:8080"), None);
}

#[test]
fn an_address_of_a_container_is_unreachable_from_outside() {
    let sandbox = Sandbox::new();
    let remote = Host::new();
    sandbox.host().connect(&remote, "203.0.113.1/24", "203.0.113.2/24");
    serve(&sandbox, "web", &["-p", "8080:80"], "tcp", "80", "hello");
    let web = address(&sandbox, "web");
    let _ = remote.sh("ip route add default via 203.0.113.1").expect_ok();
    assert!(ask(sandbox.host(), &format!("{web}:80")).is_some(), "from its own host");
    assert_eq!(ask(&remote, &format!("{web}:80")), None);
}

#[test]
fn the_outside_sees_the_hosts_address() {
    let sandbox = Sandbox::new();
    let remote = Host::new();
    sandbox.host().connect(&remote, "203.0.113.1/24", "203.0.113.2/24");
    let probe = format!("{}/bin/probe", busybox());
    let mut server = remote.command(&[&probe, "serve", "tcp", "7000", "outside"]).spawn().unwrap();
    wait_for("the outside's server", 5, || ask(&remote, "127.0.0.1:7000"));
    let said = sandbox.attached(&[], &["/bin/probe", "ask", "tcp", "203.0.113.2:7000"]);
    server.kill().unwrap();
    server.wait().unwrap();
    let said = said.expect_ok();
    assert!(said.stdout.contains("outside 203.0.113.1:"), "masqueraded: {}", said.stdout);
}

#[test]
fn a_taken_port_names_its_holder() {
    let sandbox = Sandbox::new();
    let image = busybox();
    sandbox.run(&["--name", "first", "-p", "8080:80"], &["sleep", "1000"]);
    let args = ["run", "-p", "8080:80", "-i", &image, "sleep", "1000"];
    let _ = sandbox.error(125, &args, &["8080", "first"]);
    assert_eq!(sandbox.ids().len(), 1, "nothing is made");

    let listener = sandbox.host().in_network(|| TcpListener::bind("0.0.0.0:9090").unwrap());
    let args = ["run", "-p", "9090:80", "-i", &image, "sleep", "1000"];
    let _ = sandbox.error(125, &args, &["9090", "suite"]);
    drop(listener);
    assert_eq!(sandbox.ids().len(), 1, "nothing is made");
    // The same number of another protocol, or of another address, is another port.
    sandbox.run(&["-p", "8080:80/udp"], &["sleep", "1000"]);
    sandbox.ok(&["rm", "-f", "first"]);
    sandbox.run(&["-p", "8080:80"], &["sleep", "1000"]);
}

#[test]
fn network_none_has_a_loopback_alone() {
    let sandbox = Sandbox::new();
    let links =
        sandbox.out(&["--net", "none"], &["sh", "-c", "ls /sys/class/net; /bin/probe ping 127.0.0.1"]);
    assert_eq!(links, "lo\nOK");
}

#[test]
fn network_host_is_the_hosts() {
    let sandbox = Sandbox::new();
    let network = std::fs::read_link(format!("/proc/{}/ns/net", sandbox.daemon_pid())).unwrap();
    let inside = sandbox.out(&["--net", "host"], &["readlink", "/proc/self/ns/net"]);
    assert_eq!(inside, network.to_string_lossy());
}

#[test]
fn the_network_of_another_container() {
    let sandbox = Sandbox::new();
    serve(&sandbox, "web", &[], "tcp", "80", "hello");
    let said = sandbox.out(&["--net", "container:web"], &["/bin/probe", "ask", "tcp", "127.0.0.1:80"]);
    assert!(said.starts_with("hello"), "{said}");
    let image = busybox();
    let _ = sandbox.error(125, &["run", "--net", "container:ghost", "-i", &image, "true"], &["ghost"]);
    let args = ["run", "--net", "container:web", "-p", "1:1", "-i", &image, "true"];
    let _ = sandbox.error(125, &args, &["-p"]);
}

#[test]
fn a_network_in_use_is_not_deleted() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["network", "create", "--subnet", "192.168.10.0/24", "mynet"]);
    sandbox.run(&["--name", "user", "--net", "mynet"], &["sleep", "1000"]);
    let _ = sandbox.error(1, &["network", "delete", "mynet"], &["mynet", "user"]);
    assert!(sandbox.ok(&["network", "inspect", "mynet"]).contains("user"));
    sandbox.ok(&["rm", "-f", "user"]);
    sandbox.ok(&["network", "delete", "mynet"]);
    let _ = sandbox.error(1, &["network", "delete", "mynet"], &["mynet"]);
    let _ = sandbox.error(1, &["network", "delete", "Tiny-docker"], &["Tiny-docker"]);
}

#[test]
fn a_network_without_a_subnet_gets_one() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["network", "create", "auto"]);
    let line = sandbox.out(&["--net", "auto"], &["ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
    assert!(line.contains("inet "), "{line}");
}

#[test]
fn an_exhausted_network_says_so() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["network", "create", "--subnet", "192.168.10.0/30", "tiny"]);
    sandbox.run(&["--net", "tiny", "--name", "one"], &["sleep", "1000"]);
    let image = busybox();
    let _ = sandbox.error(125, &["run", "--net", "tiny", "-i", &image, "true"], &["tiny", "192.168.10.0/30"]);
    sandbox.ok(&["rm", "-f", "one"]);
    sandbox.run(&["--net", "tiny"], &["sleep", "1000"]);
}

#[test]
fn a_subnet_of_the_host_is_not_taken() {
    let sandbox = Sandbox::new();
    let remote = Host::new();
    sandbox.host().connect(&remote, "10.99.0.1/24", "10.99.0.2/24");
    let args = ["network", "create", "--subnet", "10.99.0.0/16", "clash"];
    let _ = sandbox.error(1, &args, &["10.99.0.0/16", "10.99.0.0/24"]);
    sandbox.ok(&["network", "create", "--subnet", "10.98.0.0/16", "one"]);
    let args = ["network", "create", "--subnet", "10.98.5.0/24", "two"];
    let _ = sandbox.error(1, &args, &["10.98.5.0/24", "one"]);
    let _ = sandbox.error(1, &["network", "create", "--subnet", "10.97.0.0/24", "one"], &["one"]);
}

#[test]
fn the_default_subnet_avoids_the_hosts_routes() {
    let mut sandbox = Sandbox::without_daemon(tinyd_e2e::Options::default());
    let remote = Host::new();
    // What the daemon takes on an empty host is what this host has already.
    let free = {
        let empty = Sandbox::new();
        empty.host().sh("ip -4 route show dev Tiny-docker").trimmed().split(' ').next().unwrap().to_owned()
    };
    let address = free.replace(".0.0/", ".0.1/").replace(".0/24", ".1/24");
    sandbox.host().connect(&remote, &address, &address.replace(".1/", ".2/"));
    sandbox.start_daemon();
    let taken =
        sandbox.host().sh("ip -4 route show dev Tiny-docker").trimmed().split(' ').next().unwrap().to_owned();
    assert_ne!(free, taken);
}

#[test]
fn rules_that_somebody_flushed_come_back() {
    let sandbox = Sandbox::new();
    let remote = Host::new();
    sandbox.host().connect(&remote, "203.0.113.1/24", "203.0.113.2/24");
    serve(&sandbox, "web", &["-p", "8080:80"], "tcp", "80", "hello");
    assert!(ask(&remote, "203.0.113.1:8080").is_some());
    let _ = sandbox.host().sh("nft flush ruleset").expect_ok();
    wait_for("the rules' return", 30, || ask(&remote, "203.0.113.1:8080"));
}
