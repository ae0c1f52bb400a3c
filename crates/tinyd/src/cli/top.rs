//! `tinyd top`: the processes of a container.

use clap::Args;
use jiff::Zoned;
use tinyd_core::size::human_bytes;

use super::{
    failure::Result, format::Format, globals::Globals, output, remote::answer, table::Table, text,
    verb::Verb, views::ProcessView, when,
};
use crate::pb;

/// Show the processes of a container, by their numbers on the host
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tinyd top c1\n  tinyd top c1 --format '{{.Pid}} {{.RssBytes}}'")]
pub(super) struct Top {
    /// json, or a template such as '{{.Pid}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Numbers only
    #[arg(short, long)]
    quiet: bool,
    /// Its name, id, or a unique beginning of its id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Top {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        globals.online(async move |remote| {
            let told = answer(remote.containers().top(pb::TopRequest { container: self.container })).await?;
            let text = if self.quiet {
                told.processes.iter().map(|process| format!("{}\n", process.pid)).collect()
            } else {
                let views: Vec<ProcessView> = told.processes.iter().map(ProcessView::from).collect();
                format.list(&views, || table(&told.processes, &when::now()))?
            };
            output::print(&text)?;
            Ok(0)
        })
    }
}

fn table(processes: &[pb::ProcessInfo], now: &Zoned) -> String {
    let mut table = Table::new(&["PID", "PPID", "UID", "STATE", "CPU", "MEMORY", "STARTED", "COMMAND"]);
    for process in processes {
        table.row([
            process.pid.to_string(),
            process.ppid.to_string(),
            process.uid.to_string(),
            process.state.clone(),
            format!("{}.{:02}s", process.cpu_ms / 1000, process.cpu_ms % 1000 / 10),
            human_bytes(process.rss_bytes),
            when::clock(process.started_unix_nanos, now),
            text::command_line(&process.command),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_one_line() {
        let now = "2026-11-24T14:49:30+01:00[+01:00]".parse().unwrap();
        let process = pb::ProcessInfo {
            pid: 71,
            ppid: 70,
            uid: 100_000,
            cpu_ms: 61_238,
            rss_bytes: 3 << 20,
            started_unix_nanos: when::parse("", "2026-11-24T13:00:00Z", &now).unwrap(),
            state: "S".into(),
            command: vec!["sh".into(), "-c".into(), "a\nb".into()],
        };
        assert_eq!(
            table(&[process], &now),
            "PID  PPID  UID     STATE  CPU     MEMORY  STARTED  COMMAND\n\
             71   70    100000  S      61.23s  3MiB    14:00    sh -c 'a\\nb'\n"
        );
    }
}
