//! A host of a test's own: the test runs again inside fresh network and mount namespaces, which end with it.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde_json::Value;
use tinyd_core::{ContainerId, Name, config::Port};
use tinyd_net::{Bridge, BridgeConfig, Endpoint, Net, Subnet};

const INSIDE: &str = "TINYD_NET_TEST_INSIDE";
const PATIENCE: Duration = Duration::from_millis(700);

/// Runs `body` in namespaces of its own. `test` is the test's own name.
pub(crate) fn on_a_host_of_its_own(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return body();
    }
    let output = Command::new("unshare")
        .args(["-n", "-m", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test is called {test}");
    if std::env::var_os("TINYD_NET_TEST_SHOW").is_some() {
        eprintln!("{text}");
    }
}

/// Runs a program; its output.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs a program that prints JSON.
pub(crate) fn run_json(program: &str, args: &[&str]) -> Value {
    let text = run(program, args);
    if text.trim().is_empty() { Value::Array(Vec::new()) } else { serde_json::from_str(&text).unwrap() }
}

/// A network namespace that a sleeping process keeps.
pub(crate) struct Space {
    keeper: Child,
    pub(crate) file: File,
}

impl Space {
    /// A container's, in a user namespace of its own.
    pub(crate) fn of_container() -> Space {
        Space::new(&["-U", "-r", "-n", "--kill-child"])
    }

    /// Another host's.
    pub(crate) fn of_host() -> Space {
        Space::new(&["-n", "--kill-child"])
    }

    fn new(args: &[&str]) -> Space {
        let mut keeper = Command::new("unshare")
            .args(args)
            .args(["sh", "-c", "echo ready; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        keeper.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        // unshare forks because of --kill-child.
        let pid = keeper.id();
        let child = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let file = File::open(format!("/proc/{}/ns/net", child.trim())).unwrap();
        Space { keeper, file }
    }

    /// Runs `body` on a thread inside.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = self.file.try_clone().unwrap();
        thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            body()
        })
    }

    /// A `NETLINK_ROUTE` socket made inside.
    pub(crate) fn route(&self) -> OwnedFd {
        let open =
            || socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
        self.inside(open).join().unwrap()
    }

    /// Runs a program inside.
    pub(crate) fn run(&self, program: &'static str, args: &'static [&'static str]) -> String {
        self.inside(move || run(program, args)).join().unwrap()
    }

    /// Answers `words` to every TCP connection on `port`, with the address that the client seemed to have.
    pub(crate) fn serve(&self, port: u16, words: &'static str) {
        let listener = self.inside(move || TcpListener::bind(("0.0.0.0", port)).unwrap()).join().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let from = stream.peer_addr().unwrap().ip();
                let _ = write!(stream, "{words} {from}");
            }
        });
    }

    /// Answers `words` to every datagram on `port`.
    pub(crate) fn serve_datagrams(&self, port: u16, words: &'static str) {
        let socket = self.inside(move || UdpSocket::bind(("0.0.0.0", port)).unwrap()).join().unwrap();
        thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                let _ = socket.send_to(words.as_bytes(), from);
            }
        });
    }

    /// What a server answers to a connection from inside; `None` when there is no connection.
    pub(crate) fn call(&self, to: &str) -> Option<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.inside(move || call(to)).join().unwrap()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.keeper.kill().unwrap();
        self.keeper.wait().unwrap();
    }
}

/// What a server answers to a connection from here; `None` when there is no connection.
pub(crate) fn call(to: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A container on a network: a namespace, joined.
pub(crate) struct Container {
    pub(crate) space: Space,
    pub(crate) endpoint: Endpoint,
}

/// The host: a daemon's network and an interface to another host (`outside`, 203.0.113.2; this host is 203.0.113.1).
pub(crate) struct Host {
    pub(crate) net: Net,
    pub(crate) outside: Space,
}

impl Host {
    /// With the firewall made and forwarding on.
    pub(crate) fn new() -> Host {
        let outside = Space::of_host();
        let pid = outside.keeper.id();
        let child = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        run("ip", &["link", "add", "wan0", "type", "veth", "peer", "name", "wan1", "netns", child.trim()]);
        run("ip", &["addr", "add", "203.0.113.1/24", "dev", "wan0"]);
        run("ip", &["link", "set", "wan0", "up"]);
        run("ip", &["route", "add", "default", "via", "203.0.113.2"]);
        outside.run("ip", &["addr", "add", "203.0.113.2/24", "dev", "wan1"]);
        outside.run("ip", &["link", "set", "wan1", "up"]);
        outside.run("ip", &["link", "set", "lo", "up"]);
        // A look at a link makes the kernel notice that it is up.
        outside.run("ip", &["link", "show", "wan1"]);
        run("ip", &["link", "show", "wan0"]);
        let net = Net::open("t", true).unwrap();
        net.restore(&[], &[]).unwrap();
        net.enable_forwarding().unwrap();
        Host { net, outside }
    }

    /// Makes a network.
    pub(crate) fn network(&self, name: &str, subnet: &str) -> (Bridge, Subnet) {
        let config = bridge_config(name, subnet);
        (self.net.ensure_bridge(&config).unwrap(), config.subnet)
    }

    /// Starts a container with this number, which is also the last byte of its address.
    pub(crate) fn container(&self, network: &(Bridge, Subnet), number: u8, ports: &[&str]) -> Container {
        let space = Space::of_container();
        let endpoint = endpoint(network, number, ports);
        self.net.attach(&endpoint, space.file.as_fd(), space.route()).unwrap();
        Container { space, endpoint }
    }
}

pub(crate) fn bridge_config(name: &str, subnet: &str) -> BridgeConfig {
    let subnet = Subnet::parse(subnet).unwrap();
    BridgeConfig { network: Name::parse("name", name).unwrap(), subnet, gateway: subnet.first_host() }
}

pub(crate) fn endpoint((bridge, subnet): &(Bridge, Subnet), number: u8, ports: &[&str]) -> Endpoint {
    let mut random = [0; 32];
    random[0] = number;
    Endpoint {
        container: ContainerId::from_bytes(random),
        interface: bridge.interface.clone(),
        ip: Ipv4Addr::from_bits(subnet.base().to_bits() + u32::from(number)),
        prefix_len: subnet.prefix_len(),
        gateway: subnet.first_host(),
        ports: ports.iter().map(|port| Port::parse("-p", port).unwrap()).collect(),
    }
}
