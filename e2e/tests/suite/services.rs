//! Real services, as a person runs them: redis and nginx of Debian.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tinyd_e2e::{Host, Sandbox, busybox, debian, wait_for};

/// Sends bytes and reads until `end` has been seen or the other side closes; `None` without a connection.
fn exchange(host: &Host, address: &str, bytes: &str, end: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    host.in_network(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(bytes.as_bytes()).ok()?;
        let mut said = String::new();
        let mut piece = [0; 4096];
        while !said.contains(end) {
            match stream.read(&mut piece) {
                Ok(count @ 1..) => said.push_str(&String::from_utf8_lossy(&piece[..count])),
                Ok(0) | Err(_) => break,
            }
        }
        (!said.is_empty()).then_some(said)
    })
}

#[test]
fn redis_keeps_its_data_in_a_volume() {
    let sandbox = Sandbox::new();
    let client = Host::new();
    sandbox.host().connect(&client, "203.0.113.1/24", "203.0.113.2/24");
    let image = debian();
    let data = format!("{}:/var/lib/redis", sandbox.make_dir("data"));
    let run = || {
        sandbox.ok(&[
            "run",
            "-i",
            &image,
            "--cpu",
            "100000",
            "--mem",
            "200m",
            "--name",
            "redis",
            "-p",
            "6379:6379",
            "-v",
            &data,
            "redis-server",
            "--dir",
            "/var/lib/redis",
            "--appendonly",
            "yes",
            "--protected-mode",
            "no",
            "--bind",
            "0.0.0.0",
        ])
    };
    let ask = |line: &str| exchange(&client, "203.0.113.1:6379", line, "\r\n");
    run();
    wait_for("redis", 20, || ask("PING\r\n").filter(|said| said.contains("PONG")));
    assert_eq!(ask("SET greeting hello\r\n").as_deref(), Some("+OK\r\n"));
    let said = exchange(&client, "203.0.113.1:6379", "GET greeting\r\n", "hello\r\n");
    assert_eq!(said.as_deref(), Some("$5\r\nhello\r\n"));
    assert!(sandbox.ok(&["exec", "redis", "redis-cli", "GET", "greeting"]).contains("hello"));
    sandbox.ok(&["stop", "redis"]);
    assert_eq!(sandbox.ok(&["wait", "redis"]), "0", "it ends well on SIGTERM");
    sandbox.ok(&["rm", "redis"]);
    run();
    wait_for("redis again", 20, || ask("PING\r\n").filter(|said| said.contains("PONG")));
    let said = exchange(&client, "203.0.113.1:6379", "GET greeting\r\n", "hello\r\n");
    assert_eq!(said.as_deref(), Some("$5\r\nhello\r\n"), "after rm and a new run");
}

#[test]
fn nginx_serves_a_file_of_a_volume() {
    let sandbox = Sandbox::new();
    let image = debian();
    let page = sandbox.file("www/index.html", "<h1>from the volume</h1>\n");
    let www = format!("{}:/var/www/html:ro", page.trim_end_matches("/index.html"));
    sandbox.ok(&["network", "create", "--subnet", "192.168.20.0/24", "web"]);
    sandbox.ok(&[
        "run",
        "-i",
        &image,
        "--mem",
        "100m",
        "--name",
        "nginx",
        "--net",
        "web",
        "-p",
        "8080:80",
        "-v",
        &www,
        "nginx",
        "-g",
        "daemon off;",
    ]);
    let get = |address: &str| exchange(sandbox.host(), address, "GET / HTTP/1.0\r\n\r\n", "</h1>");
    wait_for("nginx", 20, || get("127.0.0.1:8080"));
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        let said = get(address).unwrap_or_else(|| panic!("no answer at {address}"));
        assert!(said.contains("200 OK") && said.contains("from the volume"), "{address}: {said}");
    }
    let busybox = busybox();
    let said = sandbox.ok(&[
        "run",
        "--rm",
        "--attach",
        "--net",
        "web",
        "-i",
        &busybox,
        "wget",
        "-qO-",
        "http://192.168.20.1:8080/",
    ]);
    assert_eq!(said, "<h1>from the volume</h1>");
}
