//! The commands of a container's life, some of which are stepped through.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::steps::Touched;

const PROGRAM: &str = "/bin/busybox";
const ID: &str = "xtask-order";

/// Docker's profile, as it has written it for a container.
const PROFILE: &str = include_str!("../../../fuzz/corpus/seccomp/docker.json");

/// A runtime.
pub(super) struct Life {
    pub(super) tinyrun: PathBuf,
    /// Where its records are.
    pub(super) root: PathBuf,
}

impl Life {
    /// The addresses in the program that are executed, in the order of the first time.
    pub(super) fn live(&self, scratch: &Path) -> Result<Vec<u64>> {
        let brief = self.bundle(&scratch.join("brief"), "true", None)?;
        let filtered = self.bundle(&scratch.join("filtered"), "true", Some(PROFILE))?;
        let long = self.bundle(&scratch.join("long"), "sleep\", \"1000", None)?;
        // Of a time before that was cut short.
        self.end();
        let mut touched = Touched::default();
        for bundle in [&brief, &filtered] {
            touched.step(self.command(&["run", "--bundle", bundle, ID]))?;
        }
        // A process that waits cannot be let go in the middle of a step.
        self.run(&["create", "--bundle", &long, ID])?;
        self.run(&["start", ID])?;
        for words in [&["state", ID][..], &["list"], &["exec", ID, "true"], &["kill", ID, "WINCH"]] {
            touched.step(self.command(words))?;
        }
        // Ends it and waits for that.
        touched.step(self.command(&["delete", "--force", ID]))?;
        Ok(touched.addresses())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.tinyrun);
        command.arg("--root").arg(&self.root).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        // Nobody waits for the end of what a container keeps open.
        let status = self.command(words).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "tinyrun {words:?}: {status}");
        Ok(())
    }

    /// Takes away what is left of a life that was cut short.
    pub(super) fn end(&self) {
        let _ = self.command(&["delete", "--force", ID]).output();
    }

    /// A bundle of busybox as `tinyrun spec` makes it, with limits and perhaps a filter of system calls, for a program without a terminal.
    fn bundle(&self, bundle: &Path, program: &str, filter: Option<&str>) -> Result<String> {
        let bin = bundle.join("rootfs/bin");
        fs::create_dir_all(&bin)?;
        fs::copy(PROGRAM, bin.join("busybox"))
            .with_context(|| format!("{PROGRAM}: is busybox-static installed?"))?;
        for name in ["true", "sleep"] {
            let link = bin.join(name);
            if !link.exists() {
                symlink("busybox", link)?;
            }
        }
        let config = bundle.join("config.json");
        if config.exists() {
            fs::remove_file(&config)?;
        }
        let mut spec = Command::new(&self.tinyrun);
        ensure!(spec.arg("spec").current_dir(bundle).status()?.success(), "tinyrun spec fails");
        let mut text = fs::read_to_string(&config)?;
        let filter = filter.map_or(String::new(), |filter| format!("\"seccomp\": {filter}, "));
        for (from, to) in [
            ("\"terminal\": true", "\"terminal\": false".to_owned()),
            ("\"sh\"", format!("\"{program}\"")),
            (
                "\"resources\": {",
                filter
                    + "\"resources\": { \"memory\": { \"limit\": 104857600 }, \"pids\": { \"limit\": 1000 }, \"cpu\": { \"quota\": 100000, \"period\": 100000 },",
            ),
        ] {
            if !text.contains(from) {
                bail!("the configuration of `tinyrun spec` has no {from}");
            }
            text = text.replacen(from, &to, 1);
        }
        fs::write(&config, text)?;
        Ok(bundle.display().to_string())
    }
}
