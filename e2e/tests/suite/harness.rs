//! The judge is judged: each kind of leak, made by hand, is seen.

use std::fs;

use tinyd_e2e::{Options, Sandbox, wait_for};

/// A sandbox without a daemon, so that what is found is what the test made.
fn sandbox() -> Sandbox {
    Sandbox::without_daemon(Options::default())
}

fn expect_one(left: &[String], words: &str) {
    assert!(left.iter().any(|leak| leak.contains(words)), "no {words:?} among {left:?}");
}

#[test]
fn an_untouched_sandbox_has_no_leak() {
    assert_eq!(sandbox().leaks(), Vec::<String>::new());
}

#[test]
fn a_mount_is_a_leak() {
    let sandbox = sandbox();
    let dir = sandbox.make_dir("root/containers/x/merged");
    let made = sandbox.host().sh(&format!("mount -t tmpfs leak {dir}"));
    let _ = made.expect_ok();
    expect_one(&sandbox.leaks(), "mount /var/tmp/");
}

#[test]
fn a_file_of_a_container_is_a_leak() {
    let sandbox = sandbox();
    let _ = sandbox.make_dir("root/containers/0123");
    expect_one(&sandbox.leaks(), "file containers/0123");
}

#[test]
fn a_file_in_the_run_directory_is_a_leak() {
    let sandbox = sandbox();
    fs::write(sandbox.run_dir().join("exit.json"), "{}").unwrap();
    fs::write(sandbox.run_dir().join("daemon.lock"), "").unwrap();
    let left = sandbox.leaks();
    expect_one(&left, "exit.json");
    assert_eq!(left.len(), 1, "the lock may stay: {left:?}");
}

#[test]
fn a_process_on_the_host_is_a_leak_and_is_killed() {
    let sandbox = sandbox();
    let mut stray = sandbox.host().command(&["sleep", "1000"]).spawn().unwrap();
    wait_for("sleep", 5, || {
        let line = fs::read_to_string(format!("/proc/{}/cmdline", stray.id())).ok()?;
        line.starts_with("sleep").then_some(())
    });
    expect_one(&sandbox.leaks(), "sleep 1000");
    wait_for("the stray's end", 5, || stray.try_wait().unwrap());
}

#[test]
fn a_cgroup_is_a_leak_and_is_removed() {
    let sandbox = sandbox();
    let tag = sandbox.run_dir().file_name().unwrap().to_string_lossy().into_owned();
    let hierarchy =
        ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].into_iter().find(|dir| fs::metadata(dir).is_ok());
    let dir = std::path::Path::new(hierarchy.unwrap()).join(format!("tinyd-{tag}"));
    fs::create_dir(&dir).unwrap();
    expect_one(&sandbox.leaks(), "cgroup /sys/fs/cgroup");
    assert!(!dir.exists());
}

#[test]
fn a_link_is_a_leak() {
    let sandbox = sandbox();
    let made =
        sandbox.host().sh("ip link add stray0 type dummy || ip link add stray0 type veth peer name stray1");
    let _ = made.expect_ok();
    expect_one(&sandbox.leaks(), "link stray0");
}

#[test]
fn an_element_of_a_firewall_map_is_a_leak() {
    let sandbox = sandbox();
    let rules = "add table inet stray; add map inet stray m { type inet_service : verdict; }; \
                 add element inet stray m { 8080 : accept }";
    let _ = sandbox.host().sh(&format!("nft '{rules}'")).expect_ok();
    expect_one(&sandbox.leaks(), "nft element of m");
}
