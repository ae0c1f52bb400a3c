//! Many at once.

use tinyd_e2e::{Sandbox, busybox};

#[test]
fn fifty_containers_from_eight_clients() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let (sandbox_ref, image_ref) = (&sandbox, &image);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|client| {
                scope.spawn(move || {
                    let mine = (0..50).filter(|n| n % 8 == client);
                    let outs = mine.map(|n| {
                        let name = format!("c{n}");
                        let port = format!("{}:80", 20_000 + n);
                        sandbox_ref.tinyd(&[
                            "run", "-d", "--name", &name, "-p", &port, "--mem", "32m", "-i", image_ref,
                            "sleep", "1000",
                        ])
                    });
                    outs.filter(|out| !out.ok()).map(|out| out.stderr).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{failures:#?}");
    let ids = sandbox.ids();
    assert_eq!(ids.len(), 50);
    assert_eq!(sandbox.ok(&["ps"]).matches("RUNNING").count(), 50);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    sandbox.ok(&[&["rm", "-f"], ids.as_slice()].concat());
    sandbox.expect_nothing();
}

#[test]
fn one_after_the_other_leaves_the_daemon_as_it_was() {
    let sandbox = Sandbox::new();
    let count = || std::fs::read_dir(format!("/proc/{}/fd", sandbox.daemon_pid())).unwrap().count();
    let threads = || std::fs::read_dir(format!("/proc/{}/task", sandbox.daemon_pid())).unwrap().count();
    for _ in 0..5 {
        sandbox.out(&[], &["true"]);
    }
    let (fds, tasks) = (count(), threads());
    for _ in 0..20 {
        sandbox.out(&[], &["true"]);
    }
    tinyd_e2e::wait_for("descriptors to be closed", 5, || (count() <= fds + 1).then_some(()));
    assert!(threads() <= tasks + 4, "{} threads after {tasks}", threads());
}
