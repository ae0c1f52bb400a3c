//! Measures the promises: the time from a command's start to its exit beside other engines, and the memory of shims and daemon.
//!
//! Every command is run once per round, in a new order each round, so that a change in the machine's speed hits all of them alike:
//! the ratios are the result, the milliseconds belong to the machine and the minute.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use tinyd_e2e::{Host, Sandbox, bin_dir, busybox, helper};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(30);
    match measure(rounds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn measure(rounds: usize) -> Result<bool, Failure> {
    let sandbox = Sandbox::new();
    let mut promises = Promises::default();
    let daemon_idle = {
        sandbox.out(&[], &["true"]);
        kib(sandbox.daemon_pid(), "status", "VmRSS:")?
    };
    let contest = Contest::new(&sandbox)?;
    let times = contest.run(rounds)?;
    contest.clean();
    table(&times);

    let median = |name: &str| times.get(name).map(|times| middle(times));
    let ratio = |a: &str, b: &str| Some(median(a)? / median(b)?);
    promises.at_most("tinyrun run / crun run", ratio("tinyrun run", "crun run"), 1.0);
    promises.at_most("tinyd run (bridge) / crun run", ratio("tinyd run (bridge)", "crun run"), 1.5);
    promises.at_most(
        "tinyd run (bridge) / podman run (bridge)",
        ratio("tinyd run (bridge)", "podman run (bridge)"),
        0.1,
    );
    for binary in ["tinyd", "tinyrun"] {
        let name = format!("{binary} --version");
        let more = median(&name).zip(median("/bin/true")).map(|(took, base)| took - base);
        promises.at_most(&format!("{name} minus /bin/true, ms"), more, 1.0);
    }
    promises.at_most("daemon, idle, MiB", Some(daemon_idle / 1024.0), 15.0);

    let shims = many(&sandbox, 100)?;
    promises.at_most("shim, idle, Pss KiB", Some(middle(&shims)), 500.0);
    let full = kib(sandbox.daemon_pid(), "status", "VmRSS:")?;
    promises.at_most("daemon with 100 containers, MiB", Some(full / 1024.0), 30.0);
    Ok(promises.kept)
}

/// What is promised, told as it is measured.
#[derive(Debug)]
struct Promises {
    kept: bool,
}

impl Default for Promises {
    fn default() -> Self {
        Promises { kept: true }
    }
}

impl Promises {
    fn at_most(&mut self, what: &str, found: Option<f64>, limit: f64) {
        let Some(found) = found else {
            say(&format!("{what:48} not measured: a side is not installed"));
            return;
        };
        let kept = found <= limit;
        self.kept &= kept;
        say(&format!("{what:48}{found:9.2}  at most {limit:<7} {}", if kept { "kept" } else { "BROKEN" }));
    }
}

/// A command of the contest: the words, or nothing when it measures itself.
type Entry = Box<dyn Fn(usize) -> Vec<String>>;

/// All commands and what they need.
struct Contest {
    work: PathBuf,
    host: String,
    entries: Vec<(&'static str, Entry)>,
    _view: Host,
}

impl Contest {
    fn new(sandbox: &Sandbox) -> Result<Contest, Failure> {
        let work = sandbox.dir().join("bench");
        fs::create_dir_all(work.join("floor"))?;
        let (image, bin) = (busybox(), bin_dir());
        let bundle = make_bundle(&work.join("bundle"), &image)?;
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
        let mut entries: Vec<(&'static str, Entry)> = Vec::new();
        let mut add = |name, entry: Entry| entries.push((name, entry));

        let tinyd = bin.join("tinyd").display().to_string();
        let tinyrun = bin.join("tinyrun").display().to_string();
        let fixed = |argv: Vec<String>| -> Entry { Box::new(move |_| argv.clone()) };
        add("/bin/true", fixed(words(&["/bin/true"])));
        add("tinyd --version", fixed(words(&[&tinyd, "--version"])));
        add("tinyrun --version", fixed(words(&[&tinyrun, "--version"])));
        let floor = helper("e2e-floor").display().to_string();
        add("floor", fixed(words(&[&floor, &image, &work.join("floor").display().to_string()])));
        let oci = |argv: Vec<String>| -> Entry {
            let bundle = bundle.clone();
            Box::new(move |n| {
                let id = format!("te-bench-{}-{n}", std::process::id());
                [argv.clone(), vec!["run".to_owned(), "--bundle".to_owned(), bundle.clone(), id]].concat()
            })
        };
        add("tinyrun run", oci(words(&[&tinyrun])));
        // crun refuses v1 hierarchies with an empty v2 beside them: it gets a view without the latter (entering it costs it less
        // than a millisecond), and podman gets runc.
        let hybrid = Path::new("/sys/fs/cgroup/unified").is_dir();
        let view = Host::new();
        if hybrid {
            let _ = view.sh("umount /sys/fs/cgroup/unified").expect_ok();
        }
        if let Some(crun) = found("crun") {
            let enter = [helper("e2e-ns").display().to_string(), "enter".to_owned(), view.pid().to_string()];
            add("crun run", oci(if hybrid { [&enter[..], &[crun]].concat() } else { vec![crun] }));
        }
        if let Some(runc) = found("runc") {
            add("runc run", oci(words(&[&runc])));
        }
        if let Some(podman) = found("podman") {
            let mut base = words(&[&podman, "--root", &format!("{}/podman", work.display())]);
            base.extend(words(&["--runroot", &format!("{}/podman-run", work.display())]));
            if let Some(runc) = found("runc").filter(|_| hybrid) {
                base.extend(words(&["--runtime", &runc]));
            }
            let tar = format!("tar -C {image} -cf - . | {} import -q - bench:1", base.join(" "));
            let imported = Command::new("sh").args(["-c", &tar]).stdout(Stdio::null()).status()?;
            if imported.success() {
                let run = |options: &[&str]| {
                    // Limits that a machine without CAP_SYS_RESOURCE can have.
                    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
                    let rest = [&["run", "--rm"], &limits[..], options, &["bench:1", "/bin/true"]].concat();
                    fixed([base.clone(), words(&rest)].concat())
                };
                add("podman run (bridge)", run(&[]));
                add("podman run (no net)", run(&["--network", "none"]));
            }
        }
        let run = |options: &[&str]| {
            let limits = ["--cpu", "100000", "--mem", "100m"];
            words(
                &[
                    &[tinyd.as_str(), "run", "--rm", "--attach", "-i", &image],
                    options,
                    &limits,
                    &["/bin/true"],
                ]
                .concat(),
            )
        };
        add("tinyd run (bridge)", fixed(run(&[])));
        add("tinyd run (no net)", fixed(run(&["--net", "none"])));
        let host = format!("unix://{}", sandbox.socket().display());
        Ok(Contest { work, host, entries, _view: view })
    }

    /// Runs everything `rounds` times after three rounds of warming up; milliseconds by name.
    fn run(&self, rounds: usize) -> Result<BTreeMap<&'static str, Vec<f64>>, Failure> {
        let mut times: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        let mut failed: BTreeMap<&'static str, String> = BTreeMap::new();
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        for round in 0..rounds + 3 {
            shuffle(&mut order, round);
            for &at in &order {
                let (name, entry) = &self.entries[at];
                if failed.contains_key(name) {
                    continue;
                }
                match self.once(&entry(round))? {
                    Ok(took) if round >= 3 => times.entry(name).or_default().push(took),
                    Ok(_) => {}
                    Err(said) => drop(failed.insert(name, said)),
                }
            }
        }
        for (name, said) in failed {
            say(&format!("{name}: {said}"));
            times.remove(name);
        }
        Ok(times)
    }

    /// One start to one exit, in milliseconds, or what the command said when it failed. The floor measures itself.
    fn once(&self, argv: &[String]) -> Result<Result<f64, String>, Failure> {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env("TINYD_HOST", &self.host);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let out = command.spawn()?.wait_with_output()?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        if !out.status.success() {
            return Ok(Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
        }
        let own = argv[0]
            .ends_with("e2e-floor")
            .then(|| String::from_utf8_lossy(&out.stdout).trim().parse().ok())
            .flatten();
        Ok(Ok(own.unwrap_or(took)))
    }

    /// podman mounts its storage: nothing is removed below a mount.
    fn clean(&self) {
        for dir in ["podman/overlay", "podman"] {
            let _ = Command::new("umount").arg("-q").arg(self.work.join(dir)).stderr(Stdio::null()).status();
        }
    }
}

/// A permutation that differs from round to round and is the same from run to run.
fn shuffle(order: &mut [usize], round: usize) {
    let mut state = round as u64 + 1;
    for at in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
}

/// An OCI bundle that runs /bin/true with limits, from what crun or runc write as a beginning.
fn make_bundle(dir: &Path, rootfs: &str) -> Result<String, Failure> {
    fs::create_dir_all(dir)?;
    let maker = found("runc")
        .or_else(|| found("crun"))
        .ok_or("runc or crun is needed to write a bundle's beginning")?;
    let made = Command::new(maker).arg("spec").current_dir(dir).status()?;
    if !made.success() {
        return Err("spec".into());
    }
    let path = dir.join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&path)?)?;
    spec["process"]["args"] = json!(["/bin/true"]);
    spec["process"]["terminal"] = json!(false);
    spec["root"]["path"] = json!(rootfs);
    let limits = json!({"memory": {"limit": 104_857_600}, "pids": {"limit": 1000}, "cpu": {"quota": 100_000, "period": 100_000}});
    for (name, limit) in limits.as_object().into_iter().flatten() {
        spec["linux"]["resources"][name] = limit.clone();
    }
    fs::write(path, serde_json::to_vec(&spec)?)?;
    Ok(dir.display().to_string())
}

fn found(program: &str) -> Option<String> {
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    paths.split(':').map(|dir| format!("{dir}/{program}")).find(|path| Path::new(path).is_file())
}

/// Starts many containers; the proportional set sizes of their shims in KiB.
fn many(sandbox: &Sandbox, count: usize) -> Result<Vec<f64>, Failure> {
    for n in 0..count {
        sandbox.run(&["--name", &format!("c{n}")], &["sleep", &format!("90{n:03}")]);
    }
    (0..count)
        .map(|n| {
            let shim = sandbox.parent_of(sandbox.pid_of(&["sleep", &format!("90{n:03}")]));
            kib(shim, "smaps_rollup", "Pss:")
        })
        .collect()
}

/// A line of kilobytes of a file of a process.
fn kib(pid: u32, file: &str, field: &str) -> Result<f64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .ok_or_else(|| format!("no {field} of {pid}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(times: &BTreeMap<&'static str, Vec<f64>>) {
    let of = |name: &str| times.get(name).map_or(f64::NAN, |times| middle(times));
    let (floor, crun) = (of("floor"), of("crun run"));
    say(&format!("{:24}{:>9}{:>9}{:>9}{:>9}", "", "p50 ms", "p90 ms", "/ floor", "/ crun"));
    let mut rows: Vec<_> = times.iter().collect();
    rows.sort_by(|a, b| middle(a.1).total_cmp(&middle(b.1)));
    for (name, times) in rows {
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        let (p50, p90) = (middle(times), sorted[sorted.len() * 9 / 10]);
        say(&format!("{name:24}{p50:9.2}{p90:9.2}{:9.2}{:9.2}", p50 / floor, p50 / crun));
    }
}
