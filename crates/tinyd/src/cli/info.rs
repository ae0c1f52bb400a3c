//! `tinyd system info`, `tinyd info`: the daemon and its host.

use clap::Args;
use serde::Serialize;
use tinyd_core::size::human_bytes;

use super::{
    failure::Result, format::Format, globals::Globals, output, remote::answer, text::printable, verb::Verb,
};
use crate::pb;

/// Show what the daemon is, where it keeps things, and what its host can do
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd system info\n  tinyd info --format '{{.StorageDriver}}'")]
pub(super) struct Info {
    /// json, or a template such as '{{.CgroupVersion}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// The facts in JSON and templates.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct InfoView {
    version: String,
    hostname: String,
    kernel: String,
    architecture: String,
    cpus: u32,
    memory_bytes: u64,
    containers: u32,
    containers_running: u32,
    containers_paused: u32,
    containers_stopped: u32,
    storage_driver: String,
    cgroup_version: String,
    cgroup_controllers: Vec<String>,
    security: Vec<String>,
    root: String,
    run_dir: String,
    warnings: Vec<String>,
}

impl Verb for Info {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        globals.online(async move |remote| {
            let view = InfoView::from(answer(remote.system().info(pb::InfoRequest {})).await?);
            output::print(&format.one(&view, || view.lines())?)?;
            Ok(0)
        })
    }
}

impl From<pb::InfoResponse> for InfoView {
    fn from(told: pb::InfoResponse) -> Self {
        InfoView {
            version: told.version,
            hostname: told.hostname,
            kernel: told.kernel,
            architecture: told.architecture,
            cpus: told.cpus,
            memory_bytes: told.memory_bytes,
            containers: told.running + told.paused + told.stopped,
            containers_running: told.running,
            containers_paused: told.paused,
            containers_stopped: told.stopped,
            storage_driver: told.storage_driver,
            cgroup_version: told.cgroup_version,
            cgroup_controllers: told.cgroup_controllers,
            security: told.security,
            root: told.root,
            run_dir: told.run_dir,
            warnings: told.warnings,
        }
    }
}

impl InfoView {
    /// A fact on each line.
    fn lines(&self) -> String {
        let containers = format!(
            "{} ({} running, {} paused, {} stopped)",
            self.containers, self.containers_running, self.containers_paused, self.containers_stopped
        );
        let facts = [
            ("Version", self.version.clone()),
            ("Containers", containers),
            ("Storage driver", self.storage_driver.clone()),
            ("Cgroups", format!("{} ({})", self.cgroup_version, self.cgroup_controllers.join(" "))),
            ("Security", self.security.join(" ")),
            ("Host", self.hostname.clone()),
            ("Kernel", format!("{} {}", self.kernel, self.architecture)),
            ("CPUs", self.cpus.to_string()),
            ("Memory", human_bytes(self.memory_bytes)),
            ("Root", self.root.clone()),
            ("Run directory", self.run_dir.clone()),
        ];
        let mut text: String =
            facts.iter().map(|(name, fact)| format!("{name:<15} {}\n", printable(fact))).collect();
        text.extend(
            self.warnings.iter().map(|warning| format!("{:<15} {}\n", "Warning", printable(warning))),
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_on_each_line() {
        let told = pb::InfoResponse {
            running: 1,
            stopped: 2,
            memory_bytes: 2 << 30,
            warnings: vec!["no IPv6".into()],
            ..Default::default()
        };
        let lines = InfoView::from(told).lines();
        assert!(lines.contains("Containers      3 (1 running, 0 paused, 2 stopped)\n"), "{lines}");
        assert!(lines.ends_with("Warning         no IPv6\n"), "{lines}");
    }
}
