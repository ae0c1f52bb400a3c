//! From afar: client and daemon on two hosts joined by a cable, TLS on both sides or nothing.

use std::{os::unix::fs::PermissionsExt, process::Command};

use rustix::process::Signal;
use tinyd_e2e::{Background, Host, Options, Output, Sandbox, Terminal, bin_dir, busybox, wait_for};

const HERE: &str = "203.0.113.1";
const THERE: &str = "203.0.113.2";
const URL: &str = "tcp://203.0.113.1:9999";

/// A directory of certificates: an authority, one server `server-cert.pem` and one client `cert.pem`.
struct Certs(String);

impl Certs {
    fn make(name: &str) -> Certs {
        let certs = Certs(format!("{}/te-{}-{name}", std::env::temp_dir().display(), std::process::id()));
        let (dir, tinyd) = (&certs.0, tinyd());
        sh(&format!(
            "rm -rf {dir} && mkdir -p {dir} && cd {dir} && {tinyd} cert ca --dir . && {tinyd} cert server --dir . {HERE} && {tinyd} cert client --dir . ann"
        ));
        certs
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    /// A client's certificate of this authority that has expired: `old-cert.pem`. `tinyd cert` makes none.
    fn make_expired(&self) {
        sh(&format!(
            "cd {} && openssl ecparam -name prime256v1 -genkey -noout -out old-key.pem && \
             openssl req -new -key old-key.pem -subj /CN=old -out old.csr && \
             printf 'extendedKeyUsage=clientAuth\\n' > old.ext && \
             openssl x509 -req -in old.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days -1 -extfile old.ext -out old-cert.pem",
            self.0
        ));
    }
}

impl Drop for Certs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A daemon that listens on TCP, and another host with the certificates.
struct Far {
    sandbox: Sandbox,
    remote: Host,
    certs: Certs,
}

impl Far {
    fn new(name: &str) -> Far {
        let certs = Certs::make(name);
        let (ca, cert, key) =
            (certs.file("ca.pem"), certs.file("server-cert.pem"), certs.file("server-key.pem"));
        let tls = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
        let daemon_args = [&["--listen", "tcp://0.0.0.0:9999"][..], &tls].concat();
        let mut sandbox =
            Sandbox::without_daemon(Options { daemon_args: &daemon_args, ..Options::default() });
        let remote = Host::new();
        sandbox.host().connect(&remote, &format!("{HERE}/24"), &format!("{THERE}/24"));
        sandbox.start_daemon();
        Far { sandbox, remote, certs }
    }

    /// The words of a client that trusts `ca` and shows the certificate whose files begin with `who`.
    fn words(&self, ca: &str, who: &str, args: &[&str]) -> Vec<String> {
        let (home, tinyd) = (format!("HOME={}", self.certs.0), tinyd());
        let (cert, key) =
            (self.certs.file(&format!("{who}cert.pem")), self.certs.file(&format!("{who}key.pem")));
        let tls = ["--tlscacert", ca, "--tlscert", &cert, "--tlskey", &key];
        let words = [&["env", &home, &tinyd, "--host", URL][..], &tls, args].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    fn with<T>(&self, args: &[&str], run: impl FnOnce(&[&str]) -> T) -> T {
        let words = self.words(&self.certs.file("ca.pem"), "", args);
        run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs the client on the other host to its end.
    fn client(&self, args: &[&str]) -> Output {
        self.client_as("", args)
    }

    /// The same with another certificate.
    fn client_as(&self, who: &str, args: &[&str]) -> Output {
        self.run(&self.words(&self.certs.file("ca.pem"), who, args))
    }

    fn run(&self, words: &[String]) -> Output {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        self.remote.sh(&quoted.join(" "))
    }

    /// The client's standard output, when all went well.
    fn ok(&self, args: &[&str]) -> String {
        self.client(args).expect_ok().trimmed().to_owned()
    }

    fn spawn(&self, args: &[&str]) -> Background {
        self.with(args, |argv| self.remote.spawn(argv))
    }

    fn terminal(&self, args: &[&str]) -> Terminal {
        self.with(args, |argv| self.remote.terminal(argv))
    }

    /// Waits for a line of the daemon's log that tells that the other host was refused, and why.
    fn expect_refusal(&self, why: &str) {
        wait_for(&format!("{why:?} in the log"), 5, || {
            let log = self.sandbox.daemon_log();
            let told = |line: &str| {
                line.contains("WARN refused a connection") && line.contains(THERE) && line.contains(why)
            };
            log.lines().any(told).then_some(())
        });
    }
}

fn tinyd() -> String {
    bin_dir().join("tinyd").display().to_string()
}

fn sh(line: &str) {
    let out = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn the_whole_way_from_another_host() {
    let far = Far::new("way");
    let image = busybox();
    let said = far.ok(&["run", "-i", &image, "--name", "far", "sleep", "1000"]);
    assert!(said.starts_with("Create ContainerId ") && said.ends_with(" Successfully"), "{said}");
    let table = far.ok(&["ps"]);
    assert!(
        table.starts_with("CONTAINER ID") && table.contains("RUNNING") && table.contains("far"),
        "{table}"
    );
    assert_eq!(far.ok(&["exec", "far", "hostname"]), far.ok(&["ps", "-q"]));
    assert_eq!(far.client(&["exec", "far", "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(far.client(&["run", "--rm", "--attach", "-i", &image, "sh", "-c", "exit 3"]).code, 3);
    far.client(&["rm", "far"]).expect_error(1, &["far", "running"]);
    assert_eq!(far.ok(&["rm", "-f", "far"]), "far");
    assert_eq!(far.ok(&["ps", "-aq"]), "");
    far.sandbox.expect_nothing();
}

#[test]
fn a_terminal_from_another_host() {
    let far = Far::new("terminal");
    far.sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    let image = busybox();
    for args in [&["exec", "--it", "c", "sh"][..], &["run", "--rm", "--it", "-i", &image, "sh"]] {
        let mut shell = far.terminal(args);
        shell.write("echo $((40+2))-is-the-answer; tty; stty size\n");
        for shown in ["42-is-the-answer", "/dev/", "24 80"] {
            shell.expect(shown);
        }
        shell.resize(40, 132);
        wait_for("the new size inside", 10, || {
            shell.write("stty size\n");
            // So that the shell can answer before it is asked again.
            std::thread::sleep(std::time::Duration::from_millis(50));
            shell.screen().contains("40 132").then_some(())
        });
        shell.write("exit 7\n");
        assert_eq!(shell.wait(), 7, "{args:?}: {}", shell.screen());
    }
}

#[test]
fn logs_from_another_host_follow_to_the_end() {
    let far = Far::new("logs");
    let gate = far.sandbox.make_dir("gate");
    let script = "echo first; until [ -e /gate/go ]; do sleep 0.05; done; echo second; echo third >&2";
    far.sandbox.run(&["--name", "c", "-v", &format!("{gate}:/gate")], &["sh", "-c", script]);
    let mut logs = far.spawn(&["logs", "-f", "c"]);
    assert_eq!(logs.next_line(), "first");
    assert!(logs.runs(), "it follows");
    std::fs::write(format!("{gate}/go"), "").unwrap();
    assert_eq!(logs.next_line(), "second");
    assert_eq!(logs.wait(), 0);
    assert_eq!(logs.rest(), Vec::<String>::new(), "what it said on stderr is not on stdout");
    assert!(far.client(&["logs", "c"]).expect_ok().stderr.contains("third"));
}

#[test]
fn clients_on_another_host_that_disappear_are_let_go() {
    let far = Far::new("gone");
    far.sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    let count = || std::fs::read_dir(format!("/proc/{}/fd", far.sandbox.daemon_pid())).unwrap().count();
    far.ok(&["ps"]);
    let before = wait_for("that client's end", 5, || {
        let first = count();
        far.sandbox.ok(&["ps"]);
        (count() == first).then_some(first)
    });
    let clients = [far.spawn(&["logs", "-f", "c"]), far.spawn(&["exec", "c", "sleep", "999"])];
    let _ = far.sandbox.pid_of(&["sleep", "999"]);
    wait_for("the clients", 10, || (count() >= before + clients.len()).then_some(()));
    for client in &clients {
        client.signal(Signal::KILL);
    }
    wait_for("their descriptors to be closed", 2, || (count() <= before).then_some(()));
}

#[test]
fn a_context_remembers_where_and_how() {
    let far = Far::new("context");
    let (tinyd, certs) = (tinyd(), &far.certs.0);
    let ask = |words: &str| far.remote.sh(&format!("HOME={certs} {tinyd} {words}")).expect_ok().stdout;
    ask(&format!(
        "context create edge --host {URL} --tlscacert {certs}/ca.pem --tlscert {certs}/cert.pem --tlskey {certs}/key.pem"
    ));
    ask("context use edge");
    assert!(ask("context ls").contains("edge"));
    assert!(ask("version").contains("0.1.0"));
    ask("context rm -f edge");
}

/// A raw TLS client's conversation with the daemon: openssl, without a word of HTTP/2.
fn s_client(far: &Far, options: &str) -> Output {
    let ca = far.certs.file("ca.pem");
    far.remote.sh(&format!(
        "timeout 10 openssl s_client -connect {HERE}:9999 -CAfile {ca} -alpn h2 -ign_eof {options} </dev/null"
    ))
}

#[test]
fn strangers_are_refused_in_the_handshake_and_both_sides_say_why() {
    let far = Far::new("strangers");
    let other = Certs::make("strangers-other");
    sh(&format!(
        "cp {0}/cert.pem {1}/foreign-cert.pem && cp {0}/key.pem {1}/foreign-key.pem",
        other.0, far.certs.0
    ));
    far.certs.make_expired();
    for (who, told, logged) in [
        (
            "foreign-",
            "the client certificate (--tlscert) is not signed by the authority that the daemon trusts",
            "client certificate is not signed by this side's authority",
        ),
        ("old-", "the client certificate (--tlscert) has expired", "client certificate is expired"),
        (
            "server-",
            "the certificate (--tlscert) is not for client authentication",
            "client certificate is not for client authentication",
        ),
    ] {
        let _ = far.client_as(who, &["ps"]).expect_error(1, &["cannot reach the daemon at", URL, told]);
        far.expect_refusal(logged);
    }

    // The client refuses a daemon of another authority, too, and the daemon hears of it.
    let wrong = far.run(&far.words(&other.file("ca.pem"), "", &["ps"]));
    let _ = wrong.expect_error(1, &["the daemon's certificate is not signed by this side's authority"]);
    far.expect_refusal("the client refused this daemon's certificate");

    assert!(far.client(&["ps"]).ok(), "the right one still comes in");
    far.sandbox.expect_nothing();
}

#[test]
fn a_client_without_a_certificate_is_refused_by_both_sides() {
    let far = Far::new("none");
    // The command line does not even call.
    let (tinyd, certs) = (tinyd(), &far.certs.0);
    let none = far.remote.sh(&format!("HOME={certs} {tinyd} --host {URL} --tlscacert {certs}/ca.pem ps"));
    let _ = none.expect_error(1, &["--tlscert", "--tlskey"]);
    assert!(!far.sandbox.daemon_log().contains("refused a connection"), "{}", far.sandbox.daemon_log());

    // Another program does.
    let none = s_client(&far, "-tls1_3");
    assert!(none.stderr.contains("certificate required"), "{none:?}");
    far.expect_refusal("no client certificate was given");
}

#[test]
fn what_does_not_speak_tls_1_3_is_told_apart_in_the_log() {
    let far = Far::new("old-tls");
    let (cert, key) = (far.certs.file("cert.pem"), far.certs.file("key.pem"));
    let old = s_client(&far, &format!("-tls1_2 -cert {cert} -key {key}"));
    assert!(old.stderr.contains("protocol version"), "{old:?}");
    far.expect_refusal("it does not speak TLS 1.3");

    let plain =
        far.remote.sh(&format!("printf 'GET / HTTP/1.1\\r\\n\\r\\n' | timeout 10 busybox nc {HERE} 9999"));
    assert!(!plain.stdout.contains("HTTP"), "{plain:?}");
    far.expect_refusal("it does not speak TLS");
}

#[test]
fn a_flood_of_strangers_does_not_fill_the_log() {
    let far = Far::new("flood");
    let address = format!("{HERE}:9999");
    let knocks = 500;
    far.remote.in_network(|| {
        for _ in 0..knocks {
            // Connects and hangs up: a handshake that never begins.
            drop(std::net::TcpStream::connect(&address).unwrap());
        }
    });
    let summed = wait_for("the sum of what was not told", 20, || {
        let log = far.sandbox.daemon_log();
        let line = log.lines().find(|line| line.contains("refused a connection: more than is told"))?;
        let more = line.split("more=").nth(1)?.split_whitespace().next()?.parse::<usize>();
        Some(more.unwrap())
    });
    let log = far.sandbox.daemon_log();
    let told = log.lines().filter(|line| line.contains("it hung up during the handshake")).count();
    assert!(told < 50, "{told} lines");
    assert!(summed > knocks / 2 && told + summed <= knocks, "{told} told and {summed} more of {knocks}");
    assert!(far.client(&["ps"]).ok());
}

#[test]
fn without_certificates_the_daemon_does_not_listen() {
    for args in
        [&["--listen", "tcp://0.0.0.0:9999"][..], &["--listen", "tcp://0.0.0.0:9999", "--tls-ca", "/x"]]
    {
        let mut sandbox = Sandbox::without_daemon(Options { daemon_args: args, ..Options::default() });
        sandbox.spawn_daemon();
        assert_ne!(sandbox.wait_daemon(), 0);
        let log = sandbox.daemon_log();
        assert!(log.contains("--tls-cert") && log.contains("--tls-key"), "{log}");
    }
}

#[test]
fn key_files_are_private() {
    let certs = Certs::make("keys");
    for name in ["ca-key.pem", "server-key.pem", "key.pem"] {
        let mode = std::fs::metadata(certs.file(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{name}");
    }
}
