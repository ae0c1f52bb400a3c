//! The health of containers: what a check finds out, and where that is told.

use serde_json::{Value, json};
use tinyd_e2e::{Recipe, Sandbox, archive, busybox, wait_for};

/// What `inspect` says of the health.
fn health(sandbox: &Sandbox, who: &str) -> Value {
    sandbox.inspect(who)["State"]["Health"].clone()
}

fn wait_until(sandbox: &Sandbox, who: &str, status: &str) -> Value {
    wait_for(&format!("{who} to be {status}"), 20, || {
        Some(health(sandbox, who)).filter(|health| health["Status"] == status)
    })
}

#[test]
fn a_check_is_run_in_the_container_and_its_answer_is_told() {
    let sandbox = Sandbox::new();
    let options = [
        "--name",
        "c1",
        "-e",
        "MARK=/dev/shm/up",
        "-u",
        "alice",
        "--health-cmd",
        "id -un; test -e $MARK",
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
    ];
    sandbox.run(&options, &["sleep", "1000"]);
    let sick = wait_until(&sandbox, "c1", "unhealthy");
    assert!(sick["FailingStreak"].as_u64() >= Some(2), "{sick}");
    assert_eq!((&sick["Log"][0]["ExitCode"], &sick["Log"][0]["Output"]), (&json!(1), &json!("alice\n")));
    assert!(sandbox.ok(&["ps"]).contains("RUNNING (unhealthy)"));
    sandbox.exec("c1", &["touch", "/dev/shm/up"]);
    let well = wait_until(&sandbox, "c1", "healthy");
    assert_eq!(well["FailingStreak"], 0);
    assert_eq!(sandbox.ok(&["ps", "-q", "--filter", "health=unhealthy"]), "");
    assert_eq!(
        sandbox.ok(&["ps", "--filter", "health=healthy", "--format", "{{.Names}} {{.Status}}"]),
        "c1 RUNNING (healthy)"
    );
    // At most five are kept.
    wait_for("five checks", 20, || {
        let log = health(&sandbox, "c1")["Log"].as_array().map_or(0, Vec::len);
        assert!(log <= 5, "{log}");
        (log == 5).then_some(())
    });
    // What has ended is asked nothing.
    sandbox.ok(&["kill", "c1"]);
    assert!(sandbox.ok(&["ps", "-a"]).contains("EXITED (137) "));
}

#[test]
fn a_check_that_takes_too_long_is_killed_and_has_failed() {
    let sandbox = Sandbox::new();
    let options = [
        "--name",
        "c1",
        "--health-cmd",
        "echo begun; exec sleep 4321",
        "--health-interval",
        "50ms",
        "--health-timeout",
        "300ms",
        "--health-retries",
        "1",
    ];
    sandbox.run(&options, &["sleep", "1000"]);
    let sick = wait_until(&sandbox, "c1", "unhealthy");
    assert_eq!(sick["Log"][0]["ExitCode"], -1, "{sick}");
    assert!(
        sick["Log"][0]["Output"].as_str().is_some_and(|said| said.contains("longer than 300ms")),
        "{sick}"
    );
    // Never a second one beside it.
    wait_for("three checks", 20, || {
        health(&sandbox, "c1")["Log"].as_array().is_some_and(|log| log.len() >= 3).then_some(())
    });
    let running = sandbox.ok(&["top", "c1"]).matches("sleep 4321").count();
    assert!(running <= 1, "{running} checks at once");
    // A paused container is not asked, and one that runs again is.
    sandbox.ok(&["pause", "c1"]);
    assert_eq!(sandbox.ok(&["ps", "--format", "{{.Status}}"]), "PAUSED (unhealthy)");
    sandbox.ok(&["unpause", "c1"]);
}

#[test]
fn an_images_check_counts_unless_the_user_says_otherwise() {
    let mut sandbox = Sandbox::new();
    let second = 1_000_000_000_u64;
    let config = json!({
        "Env": ["PATH=/bin"],
        "Cmd": ["sleep", "1000"],
        "Shell": ["/bin/sh", "-c"],
        "Healthcheck": { "Test": ["CMD-SHELL", "test -d /srv"], "Interval": second / 10, "Retries": 7 },
    });
    let root = busybox();
    let path = archive(sandbox.dir(), "a.tar", &Recipe { names: &["checked:1"], config, layers: &[&root] });
    sandbox.ok(&["load", "-q", "-i", &path]);
    sandbox.ok(&["run", "-d", "--name", "c1", "checked:1"]);
    wait_until(&sandbox, "c1", "healthy");
    let check = sandbox.inspect("c1")["Config"]["Healthcheck"].clone();
    assert_eq!((&check["Interval"], &check["Retries"]), (&json!(second / 10), &json!(7)));
    // The next daemon asks again.
    sandbox.kill_daemon();
    sandbox.start_daemon();
    wait_until(&sandbox, "c1", "healthy");
    sandbox.ok(&["run", "-d", "--name", "c2", "--no-healthcheck", "checked:1"]);
    assert_eq!(health(&sandbox, "c2"), Value::Null);
    sandbox.ok(&[
        "run",
        "-d",
        "--name",
        "c3",
        "--health-cmd",
        "exit 3",
        "--health-retries",
        "1",
        "checked:1",
    ]);
    assert_eq!(wait_until(&sandbox, "c3", "unhealthy")["Log"][0]["ExitCode"], 3);
    // A start begins anew: failures of the start period do not count.
    sandbox.ok(&[
        "run",
        "-d",
        "--name",
        "c4",
        "--health-cmd",
        "false",
        "--health-retries",
        "1",
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "50ms",
        "checked:1",
    ]);
    let starting = wait_for("two checks", 20, || {
        Some(health(&sandbox, "c4"))
            .filter(|health| health["Log"].as_array().is_some_and(|log| log.len() >= 2))
    });
    assert_eq!((&starting["Status"], &starting["FailingStreak"]), (&json!("starting"), &json!(0)));
    let words = ["--health-interval", "\"5\"", "time such as"];
    sandbox.error(125, &["run", "-d", "--health-interval", "5", "checked:1"], &words);
}
