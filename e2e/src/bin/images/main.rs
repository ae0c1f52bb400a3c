//! Measures what is promised of images: pulling to ready-to-run, loading, saving and removing beside other engines, lists of many, and the
//! memory of the daemon meanwhile.
//!
//! Each engine does all of it once per round, in a new order each round. Caches are dropped before whatever is timed, so that every engine
//! reads from the disk what it has to.

mod engines;
mod made;

use std::{collections::BTreeMap, fs, process::ExitCode};

use tinyd_e2e::{
    Sandbox,
    promises::{Promises, ending, kib, middle, say, shuffle},
};

use self::{
    engines::{Engine, World, installed},
    made::{SHAPES, Shape, docker_archive, many},
};

type Failure = Box<dyn std::error::Error>;

/// Seconds by engine and by what it did.
type Times = BTreeMap<(&'static str, String), Vec<f64>>;

const MANY: usize = 500;

fn main() -> ExitCode {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5);
    ending(measure(rounds))
}

fn measure(rounds: usize) -> Result<bool, Failure> {
    if let Some(missing) = ["docker-registry", "skopeo"].into_iter().find(|needed| !installed(needed)) {
        return Err(format!("{missing} is not installed").into());
    }
    let sandbox = engines::sandbox();
    let world = World::new(&sandbox)?;
    let outcome = with(&sandbox, &world, rounds);
    world.end();
    outcome
}

fn with(sandbox: &Sandbox, world: &World<'_>, rounds: usize) -> Result<bool, Failure> {
    let mut files = Vec::new();
    for shape in &SHAPES {
        let file = docker_archive(world.work(), shape)?;
        let to = name(world, shape);
        world.run(&format!("skopeo copy -q docker-archive:{file} docker://{to}"))?;
        say(&format!("{}: {} MiB unpacked", shape.name, fs::metadata(&file)?.len() >> 20));
        files.push(file);
    }
    let mut times = Times::new();
    let mut order: Vec<usize> = (0..world.engines.len()).collect();
    for round in 0..rounds {
        shuffle(&mut order, round);
        for &at in &order {
            for (shape, file) in SHAPES.iter().zip(&files) {
                turn(world, &world.engines[at], (shape, file), &mut times)?;
            }
        }
    }
    table(&world.engines, &times);
    let mut promises = Promises::default();
    compare(&world.engines, &times, &mut promises);
    memory(sandbox, world, &mut promises)?;
    lists(world, &mut promises)?;
    Ok(promises.kept)
}

fn name(world: &World<'_>, shape: &Shape) -> String {
    format!("{}/bench/{}:1", world.registry, shape.name)
}

/// One engine does everything with one image: it has none before and none afterwards.
fn turn(
    world: &World<'_>,
    engine: &Engine,
    (shape, file): (&Shape, &str),
    times: &mut Times,
) -> Result<(), Failure> {
    let out = world.work().join("out.tar");
    let (pulled, image) = (name(world, shape), format!("bench/{}:1", shape.name));
    let line = |line: &str, what: &str| {
        line.replace("@NAME@", &pulled)
            .replace("@FILE@", file)
            .replace("@IMAGE@", &image)
            .replace("@OUT@", &out.display().to_string())
            .replace("@WHAT@", what)
    };
    // podman says where an image without a registry is.
    let loaded = if engine.name == "podman" { format!("localhost/{image}") } else { image.clone() };
    for (verb, line) in [
        ("pull", line(&engine.pull, "")),
        ("rmi", line(&engine.remove, &pulled)),
        ("load", line(&engine.load, "")),
        ("save", line(&engine.save, "")),
        ("rmi", line(&engine.remove, &loaded)),
    ] {
        drop_caches()?;
        let took = world.run(&line)?;
        times.entry((engine.name, format!("{verb} {}", shape.name))).or_default().push(took.as_secs_f64());
    }
    Ok(fs::remove_file(&out)?)
}

fn drop_caches() -> Result<(), Failure> {
    rustix::fs::sync();
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
}

fn table(engines: &[Engine], times: &Times) {
    let mut head = format!("{:24}", "medians in seconds");
    engines.iter().for_each(|engine| head += &format!("{:>14}", engine.name));
    say(&head);
    for what in ["pull", "load", "save", "rmi"]
        .iter()
        .flat_map(|verb| SHAPES.iter().map(move |shape| (verb, shape.name)))
    {
        let what = format!("{} {}", what.0, what.1);
        let mut row = format!("{what:24}");
        for engine in engines {
            let found = times.get(&(engine.name, what.clone())).map_or(f64::NAN, |times| middle(times));
            row += &format!("{found:14.3}");
        }
        say(&row);
    }
}

/// Beside the best of the peers.
fn compare(engines: &[Engine], times: &Times, promises: &mut Promises) {
    let median = |engine: &str, what: &str| {
        times.iter().find(|((name, verb), _)| *name == engine && verb == what).map(|(_, times)| middle(times))
    };
    for (verb, limit) in [("pull", 0.5), ("load", 0.5), ("save", 1.0)] {
        for shape in &SHAPES {
            let what = format!("{verb} {}", shape.name);
            let peers = engines.iter().filter(|engine| engine.name != "tinyd");
            let best = peers.filter_map(|peer| median(peer.name, &what)).min_by(f64::total_cmp);
            let ratio = median("tinyd", &what).zip(best).map(|(ours, best)| ours / best);
            promises.at_most(&format!("tinyd {what} / the best peer"), ratio, limit);
        }
    }
}

/// How much more memory the daemon has had during a pull than before.
fn memory(sandbox: &Sandbox, world: &World<'_>, promises: &mut Promises) -> Result<(), Failure> {
    let pid = sandbox.daemon_pid();
    let tinyd = tinyd(world)?;
    for shape in &SHAPES {
        let idle = kib(pid, "status", "VmRSS:")?;
        // 5 has the kernel forget the most that there has been (proc(5), clear_refs).
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        world.run(&tinyd.pull.replace("@NAME@", &name(world, shape)))?;
        let peak = kib(pid, "status", "VmHWM:")?;
        promises.at_most(
            &format!("daemon, pull {}, MiB above idle", shape.name),
            Some((peak - idle) / 1024.0),
            64.0,
        );
        world.run(&tinyd.remove.replace("@WHAT@", &name(world, shape)))?;
    }
    Ok(())
}

/// Many images: how long it takes to list them, and to remove one.
fn lists(world: &World<'_>, promises: &mut Promises) -> Result<(), Failure> {
    let file = many(world.work(), MANY)?;
    let tinyd = tinyd(world)?;
    world.run(&tinyd.load.replace("@FILE@", &file))?;
    let images = tinyd.remove.replace("rmi @WHAT@", "images");
    let timed = |line: &str| world.run(line).map(|took| took.as_secs_f64() * 1e3);
    let listed = (0..15).map(|_| timed(&images)).collect::<Result<Vec<_>, _>>()?;
    promises.at_most(&format!("tinyd images, of {MANY}, ms"), Some(middle(&listed)), 50.0);
    let removed = (0..15)
        .map(|at| timed(&tinyd.remove.replace("@WHAT@", &format!("many/image-{at}:1"))))
        .collect::<Result<Vec<_>, _>>()?;
    promises.at_most(&format!("tinyd rmi, of {MANY}, ms"), Some(middle(&removed)), 50.0);
    Ok(())
}

fn tinyd<'a>(world: &'a World<'_>) -> Result<&'a Engine, Failure> {
    world.engines.iter().find(|engine| engine.name == "tinyd").ok_or_else(|| "no tinyd".into())
}
