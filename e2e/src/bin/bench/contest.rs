//! The contest: commands of engines, each once per round, in a new order each round.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use tinyd_e2e::{
    Host, Sandbox, bin_dir, busybox, helper,
    promises::{middle, say, shuffle},
};

use crate::{Failure, verbs::Living};

/// A command of the contest: the words, or nothing when it measures itself.
pub(crate) type Entry = Box<dyn Fn(usize) -> Vec<String>>;

/// All commands and what they need.
pub(crate) struct Contest {
    work: PathBuf,
    host: String,
    entries: Vec<(String, Entry)>,
    living: Vec<(&'static str, Living)>,
    _view: Host,
}

impl Contest {
    /// Prepares every command for which the machine has the engine.
    ///
    /// # Errors
    /// What could not be prepared.
    pub(crate) fn new(sandbox: &Sandbox) -> Result<Contest, Failure> {
        let work = sandbox.dir().join("bench");
        fs::create_dir_all(work.join("floor"))?;
        let (image, bin) = (busybox(), bin_dir());
        let bundle = make_bundle(&work.join("bundle"), &image)?;
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
        let mut entries: Vec<(String, Entry)> = Vec::new();
        let mut living = Vec::new();
        let mut add = |name: &str, entry: Entry| entries.push((name.to_owned(), entry));

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
        let filtered = with_default_profile(&bundle, &work.join("filtered"))?;
        let run = [tinyrun.clone(), "run".to_owned(), "--bundle".to_owned(), filtered];
        add(
            "tinyrun run (seccomp)",
            Box::new(move |n| {
                [&run[..], &[format!("te-bench-{}-filtered-{n}", std::process::id())]].concat()
            }),
        );
        let mut live = |name: &'static str, argv: &[String]| -> Result<(), Failure> {
            living.push((name, Living::start(argv, name, &work, &image)?));
            Ok(())
        };
        live("tinyrun", &words(&[&tinyrun]))?;
        // crun refuses v1 hierarchies with an empty v2 beside them: it gets a view without the latter (entering it costs it less
        // than a millisecond), and podman gets runc.
        let hybrid = Path::new("/sys/fs/cgroup/unified").is_dir();
        let view = Host::new();
        if hybrid {
            let _ = view.sh("umount /sys/fs/cgroup/unified").expect_ok();
        }
        if let Some(crun) = found("crun") {
            let enter = [helper("e2e-ns").display().to_string(), "enter".to_owned(), view.pid().to_string()];
            let crun = if hybrid { [&enter[..], &[crun]].concat() } else { vec![crun] };
            live("crun", &crun)?;
            add("crun run", oci(crun));
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
                let cgroup = podman_cgroup();
                let run = |options: &[&str]| {
                    // Limits that a machine without CAP_SYS_RESOURCE can have.
                    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
                    let parent = ["--cgroup-parent", &cgroup];
                    let rest =
                        [&["run", "--rm"], &limits[..], &parent, options, &["bench:1", "/bin/true"]].concat();
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
        for (name, engine) in &living {
            entries.extend(engine.entries().map(|(verb, entry)| (format!("{name} {verb}"), entry)));
        }
        Ok(Contest { work, host, entries, living, _view: view })
    }

    /// Runs everything that is `chosen` by its name `rounds` times after three rounds of warming up; milliseconds by name.
    ///
    /// # Errors
    /// What could not be started at all; a command that fails is told and left out.
    pub(crate) fn run(
        &self,
        rounds: usize,
        chosen: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<&str, Vec<f64>>, Failure> {
        let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut failed: BTreeMap<&str, String> = BTreeMap::new();
        let mut order: Vec<usize> =
            (0..self.entries.len()).filter(|&at| chosen(&self.entries[at].0)).collect();
        for round in 0..rounds + 3 {
            shuffle(&mut order, round);
            for &at in &order {
                let (name, entry) = (self.entries[at].0.as_str(), &self.entries[at].1);
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

    /// How many milliseconds of CPU time the second command takes more, turn by turn: the two differ by less than the machine does
    /// from one minute to the next, so that only neighbours are compared.
    ///
    /// # Errors
    /// A command that is not in the contest, or that fails.
    pub(crate) fn more_cpu(&self, than: &str, name: &str, turns: usize) -> Result<Middle, Failure> {
        let entry = |name: &str| self.entries.iter().find(|(known, _)| known == name).ok_or(name.to_owned());
        let both = [entry(than)?, entry(name)?];
        let cpu = helper("e2e-cpu").display().to_string();
        let mut differences = Vec::new();
        for turn in 0..turns {
            let mut took = [0.0; 2];
            for at in [turn % 2, 1 - turn % 2] {
                let argv = both[at].1(usize::MAX - turn);
                took[at] = self.once(&[vec![cpu.clone()], argv].concat())??;
            }
            differences.push(took[1] - took[0]);
        }
        Ok(Middle::of(differences))
    }

    /// One start to one exit, in milliseconds, or what the command said when it failed. The floor measures itself, and `e2e-cpu` what it
    /// starts.
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
        let said = || String::from_utf8_lossy(&out.stdout).trim().parse::<f64>();
        Ok(Ok(match Path::new(&argv[0]).file_name().and_then(|name| name.to_str()) {
            Some("e2e-floor") => said()?,
            Some("e2e-cpu") => said()? / 1e3,
            _ => took,
        }))
    }

    /// The most memory that each runtime's `run` has had, in KiB, the median of five.
    ///
    /// # Errors
    /// A run that does not come to its container.
    pub(crate) fn peaks(&self) -> Result<BTreeMap<&'static str, f64>, Failure> {
        let of = |(name, engine): &(&'static str, Living)| {
            let peaks = (0..5).map(|_| engine.peak()).collect::<Result<Vec<_>, _>>()?;
            Ok((*name, middle(&peaks)))
        };
        self.living.iter().map(of).collect()
    }

    /// podman mounts its storage: nothing is removed below a mount. Its cgroups stay when its containers go, and one on v2 keeps
    /// everybody from mounting a hierarchy of v1.
    pub(crate) fn clean(&self) {
        let line = format!(
            "find /sys/fs/cgroup -depth -type d '(' -path '*{0}' -o -path '*{0}/*' ')' -exec rmdir {{}} ';'",
            podman_cgroup()
        );
        let _ = Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).status();
        for dir in ["podman/overlay", "podman"] {
            let _ = Command::new("umount").arg("-q").arg(self.work.join(dir)).stderr(Stdio::null()).status();
        }
    }
}

/// Where podman's cgroups are, in each hierarchy.
fn podman_cgroup() -> String {
    format!("/te-bench-{}-podman", std::process::id())
}

/// The bundle with the system call filter of an engine's default profile, as docker has written it for a container.
fn with_default_profile(bundle: &str, dir: &Path) -> Result<String, Failure> {
    const PROFILE: &str = include_str!("../../../../fuzz/corpus/seccomp/docker.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(Path::new(bundle).join("config.json"))?)?;
    spec["linux"]["seccomp"] = serde_json::from_str(PROFILE)?;
    fs::create_dir_all(dir)?;
    fs::write(dir.join("config.json"), serde_json::to_vec(&spec)?)?;
    Ok(dir.display().to_string())
}

/// An OCI bundle that runs /bin/true with limits, from what crun or runc write as a beginning.
pub(crate) fn make_bundle(dir: &Path, rootfs: &str) -> Result<String, Failure> {
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

/// A median, and between which two values that of endless turns is, 19 times of 20: its rank swings by the root of their number.
pub(crate) struct Middle {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Middle {
    fn of(mut values: Vec<f64>) -> Middle {
        values.sort_by(f64::total_cmp);
        let at = |rank: usize| values.get(rank).copied().unwrap_or(f64::NAN);
        let (half, swing) = (values.len() / 2, values.len().isqrt());
        Middle { median: at(half), low: at(half.saturating_sub(swing)), high: at(half + swing) }
    }
}

pub(crate) fn table(times: &BTreeMap<&str, Vec<f64>>) {
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
