//! What a runtime's verbs cost on a container that runs, and how much memory it needs to run one.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tinyd_e2e::promises::kib;

use crate::{
    Failure,
    contest::{Entry, make_bundle},
};

/// A runtime with a container that sleeps.
#[derive(Debug)]
pub(crate) struct Living {
    /// The runtime, with its directory of records.
    argv: Vec<String>,
    bundle: String,
    id: String,
}

impl Living {
    /// Creates and starts a container of the runtime `argv`, with everything below `dir`.
    pub(crate) fn start(argv: &[String], name: &str, dir: &Path, rootfs: &str) -> Result<Living, Failure> {
        let dir = dir.join(name);
        let bundle = make_bundle(&dir.join("bundle"), rootfs)?;
        let path = Path::new(&bundle).join("config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&path)?)?;
        spec["process"]["args"] = json!(["/bin/sleep", "100000"]);
        fs::write(&path, serde_json::to_vec(&spec)?)?;
        let records = ["--root".to_owned(), dir.join("records").display().to_string()];
        let argv = [argv, &records].concat();
        let living = Living { argv, bundle, id: format!("te-bench-{name}-{}", std::process::id()) };
        living.quietly(&["create", "--bundle", &living.bundle, &living.id])?;
        living.quietly(&["start", &living.id])?;
        Ok(living)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.argv[0]);
        // Not pipes: the container has these streams for good.
        command.args(&self.argv[1..]).args(words).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn quietly(&self, words: &[&str]) -> Result<(), Failure> {
        let status = self.command(words).stderr(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(format!("{} {words:?}: {status}", self.argv[0]).into()) }
    }

    /// The commands that are measured.
    pub(crate) fn entries(&self) -> [(&'static str, Entry); 4] {
        let entry = |words: &[&str]| -> Entry {
            let words = words.iter().map(|&word| word.to_owned()).collect();
            let argv = [self.argv.clone(), words].concat();
            Box::new(move |_| argv.clone())
        };
        let id = self.id.as_str();
        [
            ("state", entry(&["state", id])),
            ("list", entry(&["list"])),
            // A signal that a sleeping process does not mind.
            ("kill", entry(&["kill", id, "CONT"])),
            ("exec", entry(&["exec", id, "/bin/true"])),
        ]
    }

    /// The most memory that `run` has had by the time that its container runs, in KiB. It waits then, as it does until the end.
    pub(crate) fn peak(&self) -> Result<f64, Failure> {
        let id = format!("{}-run", self.id);
        let mut running = Running(self.command(&["run", "--bundle", &self.bundle, &id]).spawn()?);
        let begun = Instant::now();
        while self.quietly(&["kill", &id, "CONT"]).is_err() {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(format!("{} run: the container does not come", self.argv[0]).into());
            }
        }
        let peak = kib(running.0.id(), "status", "VmHWM:");
        self.quietly(&["kill", &id, "KILL"])?;
        running.0.wait()?;
        peak
    }
}

/// A child that is not left behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has mostly ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        // Nobody is told from here; the leak check of the run sees what is left.
        let _ = self.quietly(&["delete", "--force", &self.id]);
        let _ = self.quietly(&["delete", "--force", &format!("{}-run", self.id)]);
    }
}
