//! The contract as anybody else speaks it: health, reflection, and what is refused when no command line has looked at it first.

use tinyd_e2e::{Sandbox, busybox};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::stranger::Stranger;

/// The services of the contract.
const SERVICES: [&str; 6] = [
    "tinyd.v1.Containers",
    "tinyd.v1.Images",
    "tinyd.v1.Registries",
    "tinyd.v1.Networks",
    "tinyd.v1.System",
    "tinyd.v1.Volumes",
];

#[test]
fn health_knows_every_service() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::meet(&sandbox.socket());
    let check = |service: &str| {
        let request = format!("service: \"{service}\"");
        stranger.ask("grpc.health.v1.Health/Check", &request).map(|health| health.to_text_format())
    };
    for service in SERVICES.into_iter().chain([""]) {
        assert_eq!(check(service).unwrap(), "status:SERVING", "{service}");
    }
    assert_eq!(check("tinyd.v1.Nothing").unwrap_err().code(), Code::NotFound);
}

#[test]
fn reflection_tells_enough_to_run_a_container() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::meet(&sandbox.socket());
    for service in SERVICES {
        assert!(stranger.services.iter().any(|known| known == service), "{:?}", stranger.services);
    }
    let image = busybox();
    let run = format!("config {{ name: \"c\" image: \"{image}\" command: [\"sleep\", \"1000\"] }}");
    stranger.ask("tinyd.v1.Containers/Run", &run).unwrap();
    assert!(sandbox.ok(&["ps"]).contains("RUNNING"));
    stranger.ask("tinyd.v1.Containers/Remove", "container: \"c\" force: true").unwrap();
    sandbox.expect_nothing();
}

/// What is wrong with a refusal: it should have this code, tell this field at fault in its details, and have these words.
fn fault(status: &Status, code: Code, field: &str, words: &str) -> Option<String> {
    let message = status.message();
    let info = status.get_details_error_info().filter(|info| info.domain == "tinyd");
    let told = info.as_ref().and_then(|info| info.metadata.get("field")).map_or("", String::as_str);
    let violation = status.get_details_bad_request().and_then(|bad| bad.field_violations.into_iter().next());
    let violated = violation.as_ref().map_or("", |violation| violation.field.as_str());
    let wrong = if status.code() != code {
        format!("the code is {:?}", status.code())
    } else if info.is_none() {
        "it has no details".to_owned()
    } else if told != field || (code == Code::InvalidArgument && violated != field) {
        format!("the field at fault is {told:?}, {violated:?}")
    } else if !message.contains(words) {
        format!("no {words:?} in it")
    } else if message.chars().any(char::is_control) {
        "control characters are echoed raw".to_owned()
    } else {
        return None;
    };
    Some(format!("{message:?}: {wrong}"))
}

#[test]
fn a_definition_that_no_command_line_has_checked() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::meet(&sandbox.socket());
    let cases = [
        (r#"command: "a\0b""#, "COMMAND", "NUL"),
        (r#"entrypoint_set: true entrypoint: "\0""#, "COMMAND", "NUL"),
        (r#"command: """#, "COMMAND", "no command"),
        (r#"command: "true" name: "a\nb""#, "--name", "a\\nb"),
        (r#"command: "true" env: "A=\0""#, "-e", "NUL"),
        (r#"command: "true" env: "A\033[31m=x""#, "-e", "KEY=VALUE"),
        (r#"command: "true" workdir: "/\0""#, "-w", "control character"),
        (r#"command: "true" workdir: "/a\nb""#, "-w", "control character"),
        (r#"command: "true" workdir: "x\033""#, "-w", "absolute"),
        (r#"command: "true" user: "a\nb""#, "-u", "a\\nb"),
        (r#"command: "true" user: "4294967296""#, "-u", "4294967296"),
        (r#"command: "true" hostname: "a\033b""#, "--hostname", "hostname"),
        (r#"command: "true" labels { key: "a\nb" value: "" }"#, "--label", "label"),
        (r#"command: "true" labels { key: "a" value: "\0" }"#, "--label", "NUL"),
        (r#"command: "true" network: "a\nb""#, "--net", "a\\nb"),
        (r#"command: "true" network: "container:a\033b""#, "--net", "no container"),
        (r#"command: "true" dns: "1.1.1.1\n""#, "--dns", "IP address"),
        (r#"command: "true" add_hosts: "a\nb:1.1.1.1""#, "--add-host", "a\\nb"),
        (r#"command: "true" mounts { host_path: "/tmp/a\nb" target: "/x" }"#, "-v", "control character"),
        (r#"command: "true" mounts { host_path: "/tmp" target: "/x\0" }"#, "-v", "control character"),
        (r#"command: "true" mounts { host_path: "relative" target: "/x" }"#, "-v", "absolute"),
        (r#"command: "true" mounts { volume: "../x" target: "/x" }"#, "-v", "../x"),
        (r#"command: "true" mounts { target: "/x" }"#, "-v", "missing"),
        (r#"command: "true" mounts { tmpfs {} target: "/x\n" }"#, "--tmpfs", "control character"),
        (r#"command: "true" mounts { tmpfs { mode: 99999 } target: "/x" }"#, "--tmpfs", "mode"),
        (r#"command: "true" ports { host: 99999 container: 80 }"#, "-p", "65535"),
        (r#"command: "true" ports { host: 80 container: 0 }"#, "-p", "65535"),
        (r#"command: "true" ports { host: 80 container: 80 protocol: 9 }"#, "-p", "9"),
        (r#"command: "true" ports { host: 80 container: 80 host_ip: "x\n" }"#, "-p", "IP address"),
        (r#"command: "true" resources { cpu_quota_us: 5 }"#, "--cpu", "5"),
        (
            r#"command: "true" resources { cpu_quota_us: 18446744073709551615 }"#,
            "--cpu",
            "18446744073709551615",
        ),
        (r#"command: "true" resources { cpuset_cpus: "0\n" }"#, "--cpuset-cpus", "0\\n"),
        (r#"command: "true" resources { memory_bytes: 1 }"#, "--mem", "minimum"),
        (
            r#"command: "true" resources { memory_bytes: 18446744073709551615 }"#,
            "--mem",
            "18446744073709551615",
        ),
        (r#"command: "true" resources { pids_limit: 0 }"#, "--pids-limit", "0"),
        (r#"command: "true" resources { ulimits { name: "a\033b" } }"#, "--ulimit", "limit"),
        (r#"command: "true" security { cap_add: "A\n" }"#, "--cap-add", "A\\n"),
        (r#"command: "true" security { cap_drop: "A\n" }"#, "--cap-drop", "A\\n"),
        (
            r#"command: "true" security { devices { host: "/dev/\n" container: "/dev/x" } }"#,
            "--device",
            "/dev/\\n",
        ),
        (
            r#"command: "true" security { devices { host: "/dev/null" container: "/dev/../x" } }"#,
            "--device",
            "/dev",
        ),
        (
            r#"command: "true" security { devices { host: "/dev/null" container: "/dev/x" access: "q" } }"#,
            "--device",
            "q",
        ),
        (r#"command: "true" security { userns: "a\nb" }"#, "--userns", "a\\nb"),
        (r#"command: "true" security { seccomp: "{\033" }"#, "--security-opt", "seccomp"),
        (r#"command: "true" stop_signal: 99"#, "--stop-signal", "99"),
        (r#"command: "true" image: "/no\nsuch""#, "-i", "no\\nsuch"),
    ];
    let image = busybox();
    let mut faults = Vec::new();
    for (definition, field, words) in cases {
        for call in ["Create", "Run"] {
            let image =
                if definition.contains("image:") { String::new() } else { format!("image: \"{image}\"") };
            let request = format!("config {{ {image} {definition} }}");
            let answer = stranger.ask(&format!("tinyd.v1.Containers/{call}"), &request);
            let Err(status) = answer else {
                faults.push(format!("{call} takes {definition}"));
                continue;
            };
            let code = match (field, words) {
                ("--net", "no container") => Code::NotFound,
                _ => Code::InvalidArgument,
            };
            faults.extend(fault(&status, code, field, words));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    sandbox.expect_nothing();
}

#[test]
fn the_other_calls_check_what_they_are_given() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::meet(&sandbox.socket());
    sandbox.run(&["--name", "c"], &["sleep", "1000"]);
    let (invalid, missing) = (Code::InvalidArgument, Code::NotFound);
    let cases = [
        ("Containers/Create", "", invalid, "config", "missing"),
        ("Containers/Run", "", invalid, "config", "missing"),
        ("Containers/Exec", "", invalid, "", "first message"),
        ("Containers/Exec", "stdin: \"x\"", invalid, "", "first message"),
        ("Containers/Exec", r#"open { container: "c" }"#, invalid, "COMMAND", "no command"),
        ("Containers/Exec", r#"open { container: "c" command: "a\0b" }"#, invalid, "COMMAND", "NUL"),
        ("Containers/Exec", r#"open { container: "c" command: "true" env: "A=\0" }"#, invalid, "-e", "NUL"),
        (
            "Containers/Exec",
            r#"open { container: "c" command: "true" workdir: "x" }"#,
            invalid,
            "-w",
            "absolute",
        ),
        (
            "Containers/Exec",
            r#"open { container: "c" command: "true" user: "a\nb" }"#,
            invalid,
            "-u",
            "a\\nb",
        ),
        (
            "Containers/Exec",
            r#"open { container: "c" command: "true" size { rows: 70000 } }"#,
            invalid,
            "rows",
            "65535",
        ),
        ("Containers/Exec", r#"open { container: "a\033" command: "true" }"#, missing, "", "no container"),
        ("Containers/Attach", "open {}", invalid, "target", "missing"),
        ("Containers/Attach", r#"open { run { command: "a\0b" image: "/usr" } }"#, invalid, "COMMAND", "NUL"),
        ("Containers/Inspect", "", missing, "", "no container"),
        ("Containers/Inspect", r#"container: "../../etc""#, missing, "", "no container"),
        ("Containers/Stop", r#"container: "a\033[31m\0""#, missing, "", "no container"),
        ("Containers/Logs", r#"container: "a\n""#, missing, "", "no container"),
        ("Containers/Kill", r#"container: "c" signal: 99"#, invalid, "--signal", "99"),
        ("Containers/Kill", r#"container: "c" signal: -1"#, invalid, "--signal", "-1"),
        ("Networks/CreateNetwork", r#"name: "a\nb""#, invalid, "NAME", "a\\nb"),
        ("Networks/CreateNetwork", r#"name: "n" driver: "x\033""#, invalid, "--driver", "x"),
        (
            "Networks/CreateNetwork",
            r#"name: "n" subnet: "10.0.0.0/24\n""#,
            invalid,
            "--subnet",
            "10.0.0.0/24\\n",
        ),
        (
            "Networks/CreateNetwork",
            r#"name: "n" subnet: "300.1.1.0/24""#,
            invalid,
            "--subnet",
            "300.1.1.0/24",
        ),
        ("Networks/CreateNetwork", r#"name: "n" gateway: "x\n""#, invalid, "--gateway", "IPv4"),
        ("Networks/CreateNetwork", r#"name: "n" labels { key: "\n" }"#, invalid, "--label", "control"),
        ("Networks/InspectNetwork", r#"name: "../x""#, missing, "NETWORK", "../x"),
        ("Networks/DeleteNetwork", r#"name: "a\033""#, missing, "NETWORK", "no network"),
        ("Volumes/CreateVolume", r#"name: "../x""#, invalid, "NAME", "../x"),
        ("Volumes/CreateVolume", r#"name: "v" labels { key: "a" value: "\0" }"#, invalid, "--label", "NUL"),
        ("Volumes/InspectVolume", r#"name: "../x""#, missing, "VOLUME", "../x"),
        ("Volumes/RemoveVolume", r#"name: "a\033""#, missing, "VOLUME", "no volume"),
    ];
    let mut faults = Vec::new();
    for (call, request, code, field, words) in cases {
        match stranger.ask(&format!("tinyd.v1.{call}"), request) {
            Ok(answer) => faults.push(format!("{call} takes {request}: {}", answer.to_text_format())),
            Err(status) => {
                faults.extend(fault(&status, code, field, words).map(|fault| format!("{call}: {fault}")));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(sandbox.ok(&["ps"]).contains("RUNNING"), "the container is as it was");
    assert_eq!(sandbox.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_request_over_four_mebibytes_is_refused_before_it_is_read() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::meet(&sandbox.socket());
    let image = busybox();
    let request = format!("config {{ image: \"{image}\" command: \"{}\" }}", "x".repeat(5 << 20));
    for call in ["Create", "Run"] {
        let status = stranger.ask(&format!("tinyd.v1.Containers/{call}"), &request).unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        assert!(status.message().contains("4194304"), "the limit is told: {status:?}");
    }
    assert!(sandbox.tinyd(&["ps"]).ok(), "the daemon lives");
    sandbox.expect_nothing();
}
