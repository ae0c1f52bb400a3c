//! From afar: client and daemon on two hosts joined by a cable, TLS on both sides or nothing.

use std::path::Path;

use tinyd_e2e::{Host, Options, Sandbox, bin_dir, busybox};

const HERE: &str = "203.0.113.1";
const URL: &str = "tcp://203.0.113.1:9999";

/// A daemon that listens on TCP, another host, and a directory of certificates: `ca`, `server`, `client`.
fn far() -> (Sandbox, Host, String) {
    // The certificates must be there before the daemon: they are made by a sandbox-less client.
    let certs = std::env::temp_dir().join(format!(
        "te-certs-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let certs = certs.display().to_string().replace(['(', ')'], "");
    make_certs(&certs);
    let file = |name: &str| format!("{certs}/{name}");
    let (ca, cert, key) = (file("ca.pem"), file("server-cert.pem"), file("server-key.pem"));
    let mut sandbox = Sandbox::without_daemon(Options {
        daemon_args: &[
            "--listen",
            "tcp://0.0.0.0:9999",
            "--tls-ca",
            &ca,
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
        ],
        ..Options::default()
    });
    let remote = Host::new();
    sandbox.host().connect(&remote, "203.0.113.1/24", "203.0.113.2/24");
    sandbox.start_daemon();
    (sandbox, remote, certs)
}

fn tinyd() -> String {
    bin_dir().join("tinyd").display().to_string()
}

fn sh(line: &str) {
    let out = std::process::Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
}

/// An authority with one server and one client, in a directory.
fn make_certs(dir: &str) {
    let tinyd = tinyd();
    sh(&format!(
        "rm -rf {dir} && mkdir -p {dir} && cd {dir} && {tinyd} cert ca --dir . && {tinyd} cert server --dir . {HERE} && {tinyd} cert client --dir . ann"
    ));
}

/// A client on the other host.
fn client(remote: &Host, certs: &str, cert: &str, args: &[&str]) -> tinyd_e2e::Output {
    let words = args.iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ");
    remote.sh(&format!(
        "HOME={certs} {} --host {URL} --tlscacert {certs}/ca.pem --tlscert {certs}/{cert}cert.pem --tlskey {certs}/{cert}key.pem {words}",
        tinyd()
    ))
}

fn done(certs: &str) {
    assert!(Path::new(certs).starts_with(std::env::temp_dir()));
    std::fs::remove_dir_all(certs).unwrap();
}

#[test]
fn the_whole_way_from_another_host() {
    let (sandbox, remote, certs) = far();
    let image = busybox();
    let ask = |args: &[&str]| client(&remote, &certs, "", args).expect_ok().trimmed().to_owned();
    let said = ask(&["run", "-i", &image, "--name", "far", "sh", "-c", "echo first; sleep 1000"]);
    assert!(said.starts_with("Create ContainerId "), "{said}");
    assert_eq!(ask(&["exec", "far", "hostname"]).len(), 12);
    assert!(ask(&["ps"]).contains("far"));
    assert_eq!(ask(&["logs", "far"]), "first");
    assert_eq!(client(&remote, &certs, "", &["exec", "far", "sh", "-c", "exit 9"]).code, 9);
    ask(&["rm", "-f", "far"]);
    sandbox.expect_nothing();
    done(&certs);
}

#[test]
fn a_context_remembers_where_and_how() {
    let (sandbox, remote, certs) = far();
    let tinyd = tinyd();
    let ask = |words: &str| remote.sh(&format!("HOME={certs} {tinyd} {words}")).expect_ok().stdout;
    ask(&format!(
        "context create edge --host {URL} --tlscacert {certs}/ca.pem --tlscert {certs}/cert.pem --tlskey {certs}/key.pem"
    ));
    ask("context use edge");
    assert!(ask("context ls").contains("edge"));
    assert!(ask("version").contains("0.1.0"));
    ask("context rm -f edge");
    drop(sandbox);
    done(&certs);
}

#[test]
fn strangers_are_refused_in_the_handshake() {
    let (sandbox, remote, certs) = far();
    let other = format!("{certs}-other");
    make_certs(&other);

    // No certificate at all.
    let none = remote.sh(&format!("HOME={certs} {} --host {URL} --tlscacert {certs}/ca.pem ps", tinyd()));
    assert_ne!(none.code, 0, "{none:?}");
    assert!(none.stderr.contains("certificate"), "{}", none.stderr);

    // One of another authority.
    sh(&format!(
        "cp {other}/cert.pem {certs}/foreign-cert.pem && cp {other}/key.pem {certs}/foreign-key.pem"
    ));
    let foreign = client(&remote, &certs, "foreign-", &["ps"]);
    assert_ne!(foreign.code, 0);
    assert!(
        foreign.stderr.contains("certificate") || foreign.stderr.contains("refused"),
        "{}",
        foreign.stderr
    );

    // A server's certificate as a client's.
    let server = client(&remote, &certs, "server-", &["ps"]);
    assert_ne!(server.code, 0);
    assert!(server.stderr.contains("certificate") || server.stderr.contains("refused"), "{}", server.stderr);

    // An expired one, of the right authority.
    sh(&format!(
        "cd {certs} && openssl ecparam -name prime256v1 -genkey -noout -out old-key.pem && \
         openssl req -new -key old-key.pem -subj /CN=old -out old.csr && \
         printf 'extendedKeyUsage=clientAuth\\n' > old.ext && \
         openssl x509 -req -in old.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days -1 -extfile old.ext -out old-cert.pem"
    ));
    let old = client(&remote, &certs, "old-", &["ps"]);
    assert_ne!(old.code, 0);
    assert!(old.stderr.contains("expired"), "{}", old.stderr);

    // The client refuses a daemon of another authority, too.
    let wrong = remote.sh(&format!(
        "HOME={certs} {} --host {URL} --tlscacert {other}/ca.pem --tlscert {other}/cert.pem --tlskey {other}/key.pem ps",
        tinyd()
    ));
    assert_ne!(wrong.code, 0);
    assert!(wrong.stderr.contains("certificate"), "{}", wrong.stderr);

    let log = sandbox.daemon_log();
    assert!(log.contains("203.0.113.2"), "the daemon tells who was refused: {log}");
    assert!(client(&remote, &certs, "", &["ps"]).ok(), "the right one still comes in");
    done(&other);
    done(&certs);
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
    use std::os::unix::fs::PermissionsExt;
    let certs = std::env::temp_dir().join(format!("te-keys-{}", std::process::id())).display().to_string();
    make_certs(&certs);
    for name in ["ca-key.pem", "server-key.pem", "key.pem"] {
        let mode = std::fs::metadata(format!("{certs}/{name}")).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{name}");
    }
    done(&certs);
}
