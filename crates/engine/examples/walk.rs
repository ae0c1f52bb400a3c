//! Walks a real engine through the lives of containers, as root, in namespaces of its own:
//!
//! ```text
//! unshare -m -n target/…/examples/walk TINYRUN IMAGE_DIRECTORY SCRATCH_DIRECTORY overlay|copy
//! ```
//!
//! The image needs busybox. It is for the engine's developers: the product's tests are in `e2e`.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use tinyd_core::{
    Error, Kind, Name, Result, State,
    config::{ContainerConfig, Mount, NetworkConfig, NetworkMode, Port, Signal},
};
use tinyd_engine::{
    Engine,
    api::{AttachOptions, Config, ExecConfig, Input, LogQuery, Output, StorageChoice},
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tinyrun, image, scratch, storage] = arguments.as_slice() else {
        return Err(Error::invalid("usage", "walk TINYRUN IMAGE_DIRECTORY SCRATCH_DIRECTORY overlay|copy"));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Error::internal(&error))?;
    let scratch = PathBuf::from(scratch);
    let config = Config {
        root: scratch.join("root"),
        run_dir: scratch.join("run"),
        tinyrun: tinyrun.into(),
        storage: if storage == "copy" { StorageChoice::Copy } else { StorageChoice::Overlay },
        default_subnet: None,
        open_files: None,
        failpoint: String::new(),
    };
    runtime.block_on(walk(config, image))
}

async fn walk(config: Config, image: &str) -> Result<()> {
    let engine = Engine::open(config.clone()).await?;
    let run = |command: &[&str]| ContainerConfig {
        image: image.to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        ..ContainerConfig::default()
    };

    streams(&engine, run(&["/bin/sh", "-c", "echo out; echo err >&2; id; ip addr; exit 7"])).await?;
    background(&engine, run(&["/bin/sh", "-c", "while true; do date; sleep 0.2; done"])).await?;
    failures(&engine, &run).await?;
    input(&engine, run(&["/bin/cat"])).await?;
    networks(&engine, &run).await?;
    privileges(&engine, &run).await?;
    losses(&engine, &config, run(&["/bin/sleep", "100"])).await?;
    memory(&engine, run(&["/bin/sh", "-c", "x=0123456789; while true; do x=$x$x; done"])).await?;
    speed(&engine, run(&["/bin/true"])).await?;
    many(&engine, run(&["/bin/sleep", "100"])).await?;
    chaos(&engine, run(&["/bin/sleep", "100"])).await?;
    let engine = failpoints(engine, &config, run(&["/bin/true"])).await?;
    let engine = recovery(engine, config, run(&["/bin/sh", "-c", "sleep 1; exit 3"])).await?;
    assert!(engine.list(true).await?.is_empty(), "something is left");
    engine.close().await;
    println!("walked");
    Ok(())
}

/// Output until the end: standard output, standard error, the exit code.
async fn collect(mut output: tokio::sync::mpsc::Receiver<Output>) -> Result<(String, String, u8)> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(piece) = output.recv().await {
        match piece {
            Output::Stdout(bytes) => out.extend_from_slice(&bytes),
            Output::Stderr(bytes) => err.extend_from_slice(&bytes),
            Output::Exited(exit) => {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                return Ok((text(out), text(err), exit.code));
            }
            Output::Failed(error) => return Err(error),
        }
    }
    Err(Error::new(Kind::Internal, "the output closed without an end"))
}

async fn streams(engine: &Engine, config: ContainerConfig) -> Result<()> {
    let config = ContainerConfig { auto_remove: true, ..config };
    let attached = engine.run_attached(config, AttachOptions::default()).await?;
    println!("warnings: {:?}", attached.warnings);
    let (out, err, code) = collect(attached.output).await?;
    println!("{out}");
    assert!(out.starts_with("out\n") && out.contains("uid=0"), "{out:?}");
    assert_eq!((err.as_str(), code), ("err\n", 7));
    assert!(engine.list(true).await?.is_empty(), "--rm left it");
    Ok(())
}

async fn background(engine: &Engine, config: ContainerConfig) -> Result<()> {
    engine.volume_create(Some(Name::parse("NAME", "data")?), BTreeMap::new()).await?;
    let config = ContainerConfig {
        name: Some(Name::parse("--name", "web")?),
        ports: vec![Port::parse("-p", "8080:80")?],
        mounts: vec![Mount::parse_volume("-v", "data:/data")?],
        ..config
    };
    let made = engine.run(config.clone()).await?;
    println!("made {} {:?}", made.id.short(), made.warnings);
    let taken = engine.run(config).await.expect_err("the name is taken");
    println!("{taken}");

    let command = ["sh", "-c", "cat /etc/hosts /etc/resolv.conf; hostname; touch /data/x; cat; exit 5"];
    let exec = ExecConfig {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        stdin: true,
        ..ExecConfig::default()
    };
    let running = engine.exec("web", exec).await?;
    running.input.send(Input::Data("typed\n".into())).await.ok();
    running.input.send(Input::End).await.ok();
    let (out, _, code) = collect(running.output).await?;
    println!("{out}");
    assert!(out.ends_with("typed\n") && code == 5, "{out:?} {code}");

    let exec = ExecConfig { command: vec!["tty".into()], tty: true, ..ExecConfig::default() };
    let (out, ..) = collect(engine.exec(made.id.short(), exec).await?.output).await?;
    assert!(out.starts_with("/dev/pts/"), "{out:?}");

    let mut all = 0;
    while all < 3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut lines = engine.logs("web", LogQuery::default()).await?;
        all = 0;
        while lines.recv().await.is_some() {
            all += 1;
        }
    }
    let mut lines = engine.logs("web", LogQuery { tail: Some(2), ..LogQuery::default() }).await?;
    let mut count = 0;
    while let Some(line) = lines.recv().await {
        println!("log: {:?}", line?.data);
        count += 1;
    }
    assert_eq!(count, 2);
    println!("{:?}", engine.top("web").await?.iter().map(|process| &process.command).collect::<Vec<_>>());
    engine.pause("web").await?;
    println!("paused: {:?}", engine.pause("web").await.expect_err("paused already").to_string());
    engine.unpause("web").await?;
    println!("{:?}", engine.network_delete("Tiny-docker").await.expect_err("built in").to_string());
    println!("{:?}", engine.volume_remove("data").await.expect_err("in use").to_string());
    println!("{:?}", engine.remove("web", false, false).await.expect_err("runs").to_string());
    let begun = Instant::now();
    engine.stop("web", Some(1)).await?;
    println!("stopped after {:?}: {:?}", begun.elapsed(), engine.inspect("web").await?.state);
    engine.start("web").await?;
    engine.kill("web", Signal::KILL).await?;
    assert_eq!(engine.wait("web").await?.1.code, 137);
    engine.remove("web", false, false).await?;
    engine.volume_remove("data").await?;
    Ok(())
}

async fn failures(engine: &Engine, run: &impl Fn(&[&str]) -> ContainerConfig) -> Result<()> {
    let missing = engine.run(run(&["/no/such"])).await.expect_err("there is no such command");
    println!("{:?}: {missing}", missing.kind());
    assert_eq!(missing.kind(), Kind::CommandNotFound);
    let not = engine.run(run(&["/etc"])).await.expect_err("a directory cannot be executed");
    println!("{:?}: {not}", not.kind());
    let user = ContainerConfig { user: Some("nobody-here".to_owned().try_into()?), ..run(&["/bin/true"]) };
    println!("{}", engine.run(user).await.expect_err("there is no such user"));
    let network = NetworkMode::Named(Name::parse("--network", "nowhere")?);
    println!(
        "{}",
        engine.run(ContainerConfig { network, ..run(&["/bin/true"]) }).await.expect_err("no such network")
    );
    assert!(engine.list(true).await?.is_empty(), "a failure left something");
    Ok(())
}

async fn input(engine: &Engine, config: ContainerConfig) -> Result<()> {
    let config = ContainerConfig { stdin_open: true, auto_remove: true, ..config };
    let attached = engine.run_attached(config, AttachOptions { stdin: true, size: None }).await?;
    attached.input.send(Input::Data("through\n".into())).await.ok();
    attached.input.send(Input::End).await.ok();
    assert_eq!(collect(attached.output).await?.0, "through\n");
    Ok(())
}

/// Runs to the end and returns what came out.
async fn output(engine: &Engine, config: ContainerConfig) -> Result<(String, String, u8)> {
    let config = ContainerConfig { auto_remove: true, ..config };
    let attached = engine.run_attached(config, AttachOptions::default()).await?;
    if !attached.warnings.is_empty() {
        println!("warnings: {:?}", attached.warnings);
    }
    collect(attached.output).await
}

async fn networks(engine: &Engine, run: &impl Fn(&[&str]) -> ContainerConfig) -> Result<()> {
    let name = Name::parse("NAME", "mynet")?;
    let config = NetworkConfig {
        name: name.clone(),
        driver: Default::default(),
        subnet: Some("192.168.10.0/24".into()),
        gateway: None,
        labels: Default::default(),
        created_unix_nanos: 0,
    };
    println!("{:?}", engine.network_create(config.clone()).await?);
    println!("{}", engine.network_create(config).await.expect_err("the name is taken"));
    let named = ContainerConfig { network: NetworkMode::Named(name), ..run(&["/bin/sleep", "100"]) };
    let first = engine.run(named).await?.id;
    println!("{}", engine.network_delete("mynet").await.expect_err("in use"));
    let shared = NetworkMode::Container(first.short().to_owned());
    let shell = ["/bin/sh", "-c", "ip addr show eth0; cat /etc/hosts; ls /sys/class/net"];
    println!("{:?}", output(engine, ContainerConfig { network: shared, ..run(&shell) }).await?);
    println!(
        "{:?}",
        output(engine, ContainerConfig { network: NetworkMode::None, ..run(&["/bin/ip", "addr"]) }).await?.0
    );
    println!(
        "{:?}",
        output(engine, ContainerConfig { network: NetworkMode::Host, ..run(&["/bin/ip", "addr"]) }).await?.0
    );
    let gateway = output(engine, run(&["/bin/ping", "-c1", "-W2", "172.18.0.1"])).await?;
    println!("{gateway:?}");
    engine.remove(first.as_str(), true, false).await?;
    engine.network_delete("mynet").await
}

async fn privileges(engine: &Engine, run: &impl Fn(&[&str]) -> ContainerConfig) -> Result<()> {
    let shell = [
        "/bin/sh",
        "-c",
        "cat /proc/self/uid_map; grep Cap /proc/self/status; ls /dev | wc -l; mount | head -3",
    ];
    let mut config = run(&shell);
    println!("{:?}", output(engine, config.clone()).await?);
    config.security.privileged = true;
    println!("{:?}", output(engine, config).await?);
    let mut limited = run(&["/bin/sh", "-c", "cat /proc/self/limits | grep open; touch /x"]);
    limited.security.read_only = true;
    limited.resources.ulimits.push(tinyd_core::config::Ulimit { name: "nofile".into(), soft: 10, hard: 20 });
    println!("{:?}", output(engine, limited).await?);
    Ok(())
}

/// A killed supervisor takes its container with it.
async fn losses(engine: &Engine, config: &Config, sleeping: ContainerConfig) -> Result<()> {
    let id = engine.run(sleeping).await?.id;
    let record =
        std::fs::read_to_string(config.run_dir.join("containers").join(id.as_str()).join("shim.json"));
    let record: tinyd_core::wire::ShimRecord =
        serde_json::from_str(&record.map_err(|error| Error::internal(&error))?)
            .map_err(|error| Error::internal(&error))?;
    let pid = rustix::process::Pid::from_raw(record.pid);
    let begun = Instant::now();
    pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
    let (_, exit) = engine.wait(id.as_str()).await?;
    println!("lost after {:?}: {exit:?} {:?}", begun.elapsed(), engine.inspect(id.as_str()).await?.warnings);
    assert_eq!(exit.code, 137);
    engine.remove(id.as_str(), false, false).await?;
    Ok(())
}

async fn memory(engine: &Engine, mut hog: ContainerConfig) -> Result<()> {
    hog.resources.memory_bytes = Some(16 << 20);
    let mut child = hog.clone();
    child.command[2] = format!("({}); sleep 100", hog.command[2]);
    let id = engine.run(child).await?.id;
    let begun = Instant::now();
    while !engine.inspect(id.as_str()).await?.oom {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("a child's end told after {:?}", begun.elapsed());
    engine.remove(id.as_str(), true, false).await?;
    let id = engine.run(hog).await?.id;
    let (_, exit) = engine.wait(id.as_str()).await?;
    println!("hog: {exit:?} oom {}", engine.inspect(id.as_str()).await?.oom);
    assert!(exit.oom);
    engine.remove(id.as_str(), false, false).await?;
    Ok(())
}

/// Everybody does everything to the same three containers. Refusals are fine, failures are told, nothing hangs, nothing is left.
async fn chaos(engine: &Engine, config: ContainerConfig) -> Result<()> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..8_u64)
        .map(|seed| {
            let (engine, config) = (engine.clone(), config.clone());
            tokio::spawn(async move {
                let mut dice = seed * 7919 + 1;
                for _ in 0..40 {
                    dice =
                        dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let who = ["a", "b", "c"][(dice >> 33) as usize % 3];
                    let exec = ExecConfig { command: vec!["/bin/true".into()], ..ExecConfig::default() };
                    let done = match (dice >> 40) % 10 {
                        0 | 1 => {
                            let name = Name::parse("--name", who).ok();
                            let auto_remove = dice >> 50 & 1 == 1;
                            engine
                                .run(ContainerConfig { name, auto_remove, ..config.clone() })
                                .await
                                .map(drop)
                        }
                        2 => engine.start(who).await.map(drop),
                        3 => engine.stop(who, Some(0)).await.map(drop),
                        4 => engine.kill(who, Signal::KILL).await.map(drop),
                        5 => engine.pause(who).await.map(drop),
                        6 => engine.unpause(who).await.map(drop),
                        7 => engine.remove(who, true, false).await.map(drop),
                        8 => engine.exec(who, exec).await.map(drop),
                        _ => engine.restart(who, Some(0)).await.map(drop),
                    };
                    if let Err(error) = done
                        && matches!(error.kind(), Kind::Internal | Kind::Unavailable)
                    {
                        println!("chaos: {error}");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|error| Error::internal(&error))?;
    }
    println!("chaos took {:?}", begun.elapsed());
    for container in engine.list(true).await? {
        engine.remove(container.id.as_str(), true, false).await?;
    }
    assert!(engine.list(true).await?.is_empty());
    Ok(())
}

/// Each step of the engine fails in turn; nothing may be left.
async fn failpoints(mut engine: Engine, config: &Config, doomed: ContainerConfig) -> Result<Engine> {
    let doomed = ContainerConfig { ports: vec![Port::parse("-p", "8080:80")?], ..doomed };
    for failpoint in tinyd_engine::FAILPOINTS {
        engine.close().await;
        drop(engine);
        engine = Engine::open(Config { failpoint: failpoint.into(), ..config.clone() }).await?;
        let error = engine.run(doomed.clone()).await.expect_err("a failpoint fails");
        println!("{error}");
        assert!(error.message().contains(failpoint), "{error}");
        assert!(engine.list(true).await?.is_empty(), "{failpoint} left a container");
        for dir in
            [config.root.join("containers"), config.root.join("trash"), config.run_dir.join("containers")]
        {
            let left = std::fs::read_dir(&dir).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{failpoint} left something in {dir:?}");
        }
    }
    engine.close().await;
    drop(engine);
    Engine::open(config.clone()).await
}

async fn speed(engine: &Engine, config: ContainerConfig) -> Result<()> {
    let config = ContainerConfig { auto_remove: true, ..config };
    let mut times = Vec::new();
    for _ in 0..30 {
        let begun = Instant::now();
        let attached = engine.run_attached(config.clone(), AttachOptions::default()).await?;
        let started = begun.elapsed();
        collect(attached.output).await?;
        times.push((begun.elapsed(), started));
    }
    times.sort();
    println!(
        "run --rm true: median {:?} (started after {:?}), best {:?}",
        times[15].0, times[15].1, times[0].0
    );
    Ok(())
}

async fn many(engine: &Engine, config: ContainerConfig) -> Result<()> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (engine, config) = (engine.clone(), config.clone());
            tokio::spawn(async move { engine.run(config).await })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.map_err(|error| Error::internal(&error))??.id);
    }
    println!("50 at once: {:?}", begun.elapsed());
    for id in ids {
        engine.remove(id.as_str(), true, false).await?;
    }
    println!("and removed: {:?}", begun.elapsed());
    Ok(())
}

async fn recovery(engine: Engine, config: Config, ending: ContainerConfig) -> Result<Engine> {
    let long = ContainerConfig { command: vec!["/bin/sleep".into(), "100".into()], ..ending.clone() };
    let (long, ending) = (engine.run(long).await?.id, engine.run(ending).await?.id);
    let made = engine
        .create(ContainerConfig {
            command: vec!["/bin/true".into()],
            ..ContainerConfig { image: "/usr".into(), ..ContainerConfig::default() }
        })
        .await?
        .id;
    let second = Engine::open(config.clone()).await.expect_err("one daemon for each root");
    println!("{second}");
    engine.close().await;
    drop(engine);
    // One of them ends while there is no engine.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let engine = Engine::open(config).await?;
    assert!(matches!(engine.inspect(long.as_str()).await?.state, State::Running { .. }));
    assert!(matches!(engine.inspect(made.as_str()).await?.state, State::Created));
    assert_eq!(engine.wait(ending.as_str()).await?.1.code, 3);
    let exec = ExecConfig { command: vec!["/bin/echo".into(), "still".into()], ..ExecConfig::default() };
    assert_eq!(collect(engine.exec(long.as_str(), exec).await?.output).await?.0, "still\n");
    for id in [long, ending, made] {
        engine.remove(id.as_str(), true, false).await?;
    }
    Ok(engine)
}
