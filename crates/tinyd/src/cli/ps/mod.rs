//! `tinyd ps`: the containers.

mod filter;

use clap::Args;
use filter::Filters;
use jiff::Zoned;
use serde_json::Value;
use tinyd_core::Error;

use super::{
    failure::Result,
    format::Format,
    globals::Globals,
    output,
    remote::answer,
    table::Table,
    text::{command_line, ellipsis, short_id},
    verb::Verb,
    views::{ContainerView, protocol, status_line},
    when,
};
use crate::pb;

/// How many characters of a command are shown.
const COMMAND_WIDTH: usize = 30;

/// List containers: those that run, or all
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tinyd ps
  tinyd ps -a --filter status=exited
  tinyd ps --format '{{.Names}}\\t{{.Status}}'
  tinyd rm -f $(tinyd ps -aq)")]
pub(super) struct Ps {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// The newest only, in whatever state
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// The newest COUNT, in whatever state
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<usize>,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// json, or a template such as '{{.Names}}'; 'table {{.ID}}\t{{.Names}}' has heads
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only some: name=, id=, status=, health=, label=, network=; those of one key are alternatives
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl Verb for Ps {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        let filters = Filters::parse(&self.filter)?;
        globals.online(async move |remote| {
            let newest = self.last.or(self.latest.then_some(1));
            let request = pb::ListRequest { all: self.all || newest.is_some() || filters.ask_for_all() };
            let mut containers = answer(remote.containers().list(request)).await?.containers;
            containers.retain(|container| filters.admit(container));
            containers.truncate(newest.unwrap_or(usize::MAX));
            let text = if self.quiet {
                containers
                    .iter()
                    .map(|container| format!("{}\n", shown_id(container, self.no_trunc)))
                    .collect()
            } else if format.is_by_template() {
                let lines = containers.iter().map(|container| line(container, self.no_trunc));
                format.list(&lines.collect::<tinyd_core::Result<Vec<_>>>()?, String::new)?
            } else {
                let views: Vec<ContainerView> = containers.iter().map(ContainerView::from).collect();
                format.list(&views, || table(&containers, self.no_trunc, &when::now()))?
            };
            output::print(&text)?;
            Ok(0)
        })
    }
}

fn shown_id(container: &pb::ContainerSummary, whole: bool) -> &str {
    if whole { &container.id } else { short_id(&container.id) }
}

fn table(containers: &[pb::ContainerSummary], whole: bool, now: &Zoned) -> String {
    let mut table =
        Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "VOLUME", "NAMES"]);
    for container in containers {
        let command = command_line(&container.command);
        let command = if whole { command } else { ellipsis(&command, COMMAND_WIDTH).into_owned() };
        table.row([
            shown_id(container, whole).to_owned(),
            container.image.clone(),
            command,
            when::clock(container.created_unix_nanos, now),
            status_line(&container.state.unwrap_or_default()),
            ports(container),
            volumes(container),
            container.name.clone(),
        ]);
    }
    table.render()
}

/// A container for templates: as in JSON, but what is a list of things there is the text of the table.
fn line(container: &pb::ContainerSummary, whole: bool) -> tinyd_core::Result<Value> {
    let mut line =
        serde_json::to_value(ContainerView::from(container)).map_err(|error| Error::internal(&error))?;
    line["Id"] = shown_id(container, whole).into();
    line["Ports"] = ports(container).into();
    line["Mounts"] = volumes(container).into();
    Ok(line)
}

fn ports(container: &pb::ContainerSummary) -> String {
    container.ports.iter().map(port).collect()
}

fn volumes(container: &pb::ContainerSummary) -> String {
    container.mounts.iter().filter_map(volume).collect()
}

/// `8080:80;`, `127.0.0.1:53:53/udp;`.
fn port(port: &pb::Port) -> String {
    let ip = match port.host_ip.as_str() {
        "" => String::new(),
        ip if ip.contains(':') => format!("[{ip}]:"),
        ip => format!("{ip}:"),
    };
    let protocol = match protocol(port) {
        "tcp" => String::new(),
        other => format!("/{other}"),
    };
    format!("{ip}{}:{}{protocol};", port.host, port.container)
}

/// `/root/vol:/data:ro;`. Memory is no volume.
fn volume(mount: &pb::Mount) -> Option<String> {
    use pb::mount::Source;
    let source = match mount.source.as_ref()? {
        Source::HostPath(path) => path,
        Source::Volume(name) => name,
        Source::Tmpfs(_) => return None,
    };
    let read_only = if mount.read_only { ":ro" } else { "" };
    Some(format!("{source}:{}{read_only};", mount.target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-24T14:59:30+01:00[+01:00]".parse().unwrap()
    }

    fn container() -> pb::ContainerSummary {
        pb::ContainerSummary {
            id: format!("68d19c5402ab{}", "0".repeat(52)),
            name: "c1".into(),
            image: "/root/redis".into(),
            command: vec!["/bin/sleep".into(), "3000".into()],
            created_unix_nanos: when::parse("", "2026-11-24T13:49:00Z", &now()).unwrap(),
            state: Some(pb::State { status: pb::Status::Running.into(), ..Default::default() }),
            ports: vec![pb::Port { host: 8080, container: 80, ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn the_table_of_the_manual() {
        assert_eq!(
            table(&[container()], false, &now()),
            "CONTAINER ID  IMAGE        COMMAND          CREATED  STATUS   PORTS     VOLUME  NAMES\n\
             68d19c5402ab  /root/redis  /bin/sleep 3000  14:49    RUNNING  8080:80;  -       c1\n"
        );
    }

    #[test]
    fn templates_show_what_the_table_shows() {
        let line = line(&container(), false).unwrap();
        for (field, text) in [("Id", "68d19c5402ab"), ("Ports", "8080:80;"), ("Mounts", ""), ("Names", "c1")]
        {
            assert_eq!(line[field], text, "{field}");
        }
        assert_eq!(line["Command"][0], "/bin/sleep");
    }

    #[test]
    fn how_it_ended_and_what_it_has() {
        let killed = pb::Exit { code: 137, oom: true, ..Default::default() };
        let source = pb::mount::Source::HostPath("/srv".into());
        let udp =
            pb::Port { host_ip: "::1".into(), host: 53, container: 53, protocol: pb::Protocol::Udp.into() };
        let one = pb::ContainerSummary {
            command: vec!["sh".into(), "-c".into(), "a\tvery long command that no table has room for".into()],
            created_unix_nanos: 1_700_000_000_000_000_000,
            state: Some(pb::State {
                status: pb::Status::Stopped.into(),
                exit: Some(killed),
                ..Default::default()
            }),
            ports: vec![udp, pb::Port { host: 80, container: 80, ..Default::default() }],
            mounts: vec![pb::Mount { source: Some(source), target: "/data".into(), read_only: true }],
            ..container()
        };
        let table = table(&[one], false, &now());
        let line = table.lines().nth(1).unwrap();
        assert_eq!(
            line,
            "68d19c5402ab  /root/redis  sh -c 'a\\tvery long command th…  2023-11-14  EXITED (137, OOM)  [::1]:53:53/udp;80:80;  /srv:/data:ro;  c1"
        );
    }
}
