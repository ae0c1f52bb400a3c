//! A definition comes back as it went, whatever it is; and what has no type is refused with its field.

use std::net::{IpAddr, Ipv4Addr};

use proptest::{collection::vec, option, prelude::*};
use tinyd_core::{
    Name,
    config::{
        ContainerConfig, DevicePair, HealthTest, Healthcheck, Mount, MountSource, NetworkMode, Port,
        Protocol, Resources, SeccompChoice, Security, Signal, Ulimit, User, UsernsChoice,
    },
};

use crate::pb;

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9_.-]{0,10}".prop_map(|text| Name::parse("", &text).unwrap())
}

fn mount() -> impl Strategy<Value = Mount> {
    let source = prop_oneof![
        "/[a-z]{1,5}".prop_map(MountSource::Host),
        name().prop_map(MountSource::Volume),
        (any::<Option<u64>>(), any::<Option<u32>>(), any::<bool>())
            .prop_map(|(size_bytes, mode, exec)| MountSource::Tmpfs { size_bytes, mode, exec }),
    ];
    (source, "/[a-z]{1,5}", any::<bool>()).prop_map(|(source, target, read_only)| Mount {
        source,
        target,
        read_only,
    })
}

fn port() -> impl Strategy<Value = Port> {
    (option::of(1u32..), 1..=u16::MAX, 1..=u16::MAX, any::<bool>()).prop_map(|(ip, host, container, udp)| {
        Port {
            host_ip: ip.map(|ip| IpAddr::V4(Ipv4Addr::from(ip))),
            host,
            container,
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        }
    })
}

fn network() -> impl Strategy<Value = NetworkMode> {
    prop_oneof![
        Just(NetworkMode::Default),
        Just(NetworkMode::Host),
        Just(NetworkMode::None),
        name()
            .prop_filter("a mode's word", |name| !matches!(name.as_str(), "host" | "none"))
            .prop_map(NetworkMode::Named),
        "[a-z0-9]{1,12}".prop_map(NetworkMode::Container),
    ]
}

fn resources() -> impl Strategy<Value = Resources> {
    let ulimit =
        ("[a-z]{1,8}", any::<u64>(), any::<u64>()).prop_map(|(name, soft, hard)| Ulimit { name, soft, hard });
    let numbers = any::<(Option<u64>, Option<u64>, Option<i64>, Option<i64>)>();
    (numbers, option::of("[0-9],[0-9]"), vec(ulimit, 0..3)).prop_map(|(numbers, cpuset_cpus, ulimits)| {
        Resources {
            cpu_quota_us: numbers.0,
            cpuset_cpus,
            memory_bytes: numbers.1,
            memory_swap_bytes: numbers.2,
            pids_limit: numbers.3,
            ulimits,
        }
    })
}

fn security() -> impl Strategy<Value = Security> {
    let seccomp = prop_oneof![
        Just(SeccompChoice::Default),
        Just(SeccompChoice::Unconfined),
        Just(SeccompChoice::Profile("{}".into()))
    ];
    let userns = prop_oneof![Just(UsernsChoice::Default), Just(UsernsChoice::Auto), Just(UsernsChoice::Host)];
    let device = ("/dev/[a-z]{1,5}", "/dev/[a-z]{1,5}", "r|rw|rwm")
        .prop_map(|(host, container, access)| DevicePair { host, container, access });
    let words = || vec("[A-Z_]{1,10}", 0..3);
    (any::<(bool, bool, bool)>(), words(), words(), seccomp, userns, vec(device, 0..2)).prop_map(
        |((privileged, read_only, no_new_privileges), cap_add, cap_drop, seccomp, userns, devices)| {
            Security { privileged, cap_add, cap_drop, read_only, seccomp, no_new_privileges, userns, devices }
        },
    )
}

fn healthcheck() -> impl Strategy<Value = Healthcheck> {
    let test = prop_oneof![
        Just(HealthTest::None),
        vec(".{0,5}", 1..3).prop_map(HealthTest::Exec),
        ".{0,5}".prop_map(HealthTest::Shell)
    ];
    let times = any::<[Option<u64>; 4]>();
    (option::of(test), times, any::<Option<u32>>()).prop_map(|(test, times, retries)| Healthcheck {
        test,
        interval_ms: times[0],
        timeout_ms: times[1],
        start_period_ms: times[2],
        start_interval_ms: times[3],
        retries,
    })
}

prop_compose! {
    fn config()(
        name in option::of(name()),
        image: String,
        command: Vec<String>,
        entrypoint: Option<Vec<String>>,
        (workdir, hostname) in (option::of(".{1,9}"), option::of(".{1,9}")),
        user in option::of("[a-z]{1,5}(:[0-9]{1,3})?"),
        labels in proptest::collection::btree_map(".{0,5}", ".{0,5}", 0..3),
        flags: (bool, bool, bool, bool, bool),
        resources in resources(),
        mounts in vec(mount(), 0..3),
        (ports, network) in (vec(port(), 0..3), network()),
        security in security(),
        (stop_signal, stop_timeout_secs) in (option::of(1..=64i32), any::<Option<u32>>()),
    ) -> ContainerConfig {
        ContainerConfig {
            name, image, platform: hostname.clone(), env: command.clone(), add_hosts: command.clone(), command, entrypoint, workdir, hostname,
            user: user.map(|user| User::parse("", &user).unwrap()),
            labels, tty: flags.0, stdin_open: flags.1, auto_remove: flags.2, init: flags.3,
            resources, dns: ports.iter().filter_map(|port: &Port| port.host_ip).collect(), mounts, ports, network, security,
            stop_signal: stop_signal.map(|number: i32| Signal::parse("", &number.to_string()).unwrap()),
            stop_timeout_secs, publish_all: flags.4, healthcheck: None,
        }
    }
}

proptest! {
    #[test]
    fn a_definition_comes_back_as_it_went(config in config()) {
        let sent = pb::ContainerConfig::from(&config);
        prop_assert_eq!(ContainerConfig::try_from(sent).unwrap(), config);
    }

    // By itself: with it the strategy above would be too large for a test's stack.
    #[test]
    fn a_health_check_comes_back_as_it_went(healthcheck in healthcheck()) {
        let config = ContainerConfig { healthcheck: Some(healthcheck), ..ContainerConfig::default() };
        let sent = pb::ContainerConfig::from(&config);
        prop_assert_eq!(ContainerConfig::try_from(sent).unwrap(), config);
    }
}

#[test]
fn what_has_no_type_is_refused_with_its_field() {
    let port = pb::Port { host: 99_999, container: 80, ..Default::default() };
    let health = pb::Healthcheck { test: vec!["RUN".into()], ..Default::default() };
    let cases: [(pb::ContainerConfig, &str); 8] = [
        (pb::ContainerConfig { healthcheck: Some(health), ..Default::default() }, "--health-cmd"),
        (pb::ContainerConfig { name: "a/b".into(), ..Default::default() }, "--name"),
        (pb::ContainerConfig { user: "4294967296".into(), ..Default::default() }, "-u"),
        (pb::ContainerConfig { ports: vec![port], ..Default::default() }, "-p"),
        (pb::ContainerConfig { mounts: vec![pb::Mount::default()], ..Default::default() }, "-v"),
        (pb::ContainerConfig { dns: vec!["x".into()], ..Default::default() }, "--dns"),
        (pb::ContainerConfig { stop_signal: Some(65), ..Default::default() }, "--stop-signal"),
        (
            pb::ContainerConfig {
                security: Some(pb::Security { userns: "none".into(), ..Default::default() }),
                ..Default::default()
            },
            "--userns",
        ),
    ];
    for (config, field) in cases {
        assert_eq!(ContainerConfig::try_from(config).unwrap_err().field(), Some(field));
    }
}
