//! `tinyd system df`.

use clap::Args;
use jiff::Zoned;
use serde::Serialize;
use tinyd_core::size::human_bytes;

use crate::{
    cli::{
        failure::Result,
        format::Format,
        globals::Globals,
        output,
        remote::answer,
        table::Table,
        text::{command_line, ellipsis, short_id},
        verb::Verb,
        views::status_word,
        when,
    },
    pb,
};

/// How much of a command is shown.
const COMMAND_MAX: usize = 20;

/// Show what images, containers and volumes take on disk, and how much of that nobody needs
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd system df\n  tinyd system df -v\n  tinyd system df --format '{{.Type}} {{.Reclaimable}}'\n\nAn image takes its layers twice: unpacked, and packed as they travel."
)]
pub(in crate::cli) struct Df {
    /// A line for each image, container and volume
    #[arg(short, long)]
    verbose: bool,
    /// json, or a template such as '{{.Type}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// One kind of things. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    r#type: &'static str,
    total_count: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

/// Everything, for `-v`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Details {
    images: Vec<ImageRow>,
    containers: Vec<ContainerRow>,
    volumes: Vec<VolumeRow>,
}

/// An image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImageRow {
    #[serde(rename = "ID")]
    id: String,
    repo_tags: Vec<String>,
    created_since: String,
    size: u64,
    shared_size: u64,
    unique_size: u64,
    containers: u32,
}

/// A container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerRow {
    #[serde(rename = "ID")]
    id: String,
    image: String,
    command: String,
    size: u64,
    created_since: String,
    state: &'static str,
    names: String,
}

/// A volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeRow {
    name: String,
    links: usize,
    size: u64,
}

impl Verb for Df {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        globals.online(async move |remote| {
            let usage = answer(remote.system().disk_usage(pb::DiskUsageRequest {})).await?;
            let text = if self.verbose {
                let details = Details::of(usage, &when::now());
                format.one(&details, || details.tables())?
            } else {
                let rows = rows(&usage);
                format.list(&rows, || table(&rows))?
            };
            output::print(&text)?;
            Ok(0)
        })
    }
}

fn rows(usage: &pb::DiskUsageResponse) -> Vec<Row> {
    let is_used = |usage: &&pb::ImageUsage| usage.image.as_ref().is_some_and(|image| image.containers > 0);
    let is_alive = |usage: &pb::ContainerUsage| {
        let state = usage.container.as_ref().and_then(|container| container.state.as_ref());
        state.is_some_and(|state| matches!(status_word(state.status()), "running" | "paused"))
    };
    let has_users =
        |usage: &pb::VolumeUsage| usage.volume.as_ref().is_some_and(|volume| !volume.used_by.is_empty());
    let (containers, volumes) = (&usage.containers, &usage.volumes);
    vec![
        Row {
            r#type: "Images",
            total_count: usage.images.len(),
            active: usage.images.iter().filter(is_used).count(),
            size: usage.images_bytes,
            reclaimable: usage.images_reclaimable_bytes,
        },
        Row {
            r#type: "Containers",
            total_count: containers.len(),
            active: containers.iter().filter(|one| is_alive(one)).count(),
            size: containers.iter().map(|one| one.size_bytes).sum(),
            reclaimable: containers.iter().filter(|one| !is_alive(one)).map(|one| one.size_bytes).sum(),
        },
        Row {
            r#type: "Volumes",
            total_count: volumes.len(),
            active: volumes.iter().filter(|one| has_users(one)).count(),
            size: volumes.iter().map(|one| one.size_bytes).sum(),
            reclaimable: volumes.iter().filter(|one| !has_users(one)).map(|one| one.size_bytes).sum(),
        },
    ]
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for row in rows {
        let part = (row.reclaimable * 100).checked_div(row.size).map(|part| format!(" ({part}%)"));
        table.row([
            row.r#type.to_owned(),
            row.total_count.to_string(),
            row.active.to_string(),
            human_bytes(row.size),
            human_bytes(row.reclaimable) + &part.unwrap_or_default(),
        ]);
    }
    table.render()
}

impl Details {
    fn of(usage: pb::DiskUsageResponse, now: &Zoned) -> Details {
        let image = |usage: pb::ImageUsage| {
            let image = usage.image.unwrap_or_default();
            ImageRow {
                id: image.id,
                repo_tags: image.names,
                created_since: when::since(image.created_unix_nanos, now),
                size: usage.shared_bytes + usage.unique_bytes,
                shared_size: usage.shared_bytes,
                unique_size: usage.unique_bytes,
                containers: image.containers,
            }
        };
        let container = |usage: pb::ContainerUsage| {
            let container = usage.container.unwrap_or_default();
            ContainerRow {
                state: container.state.as_ref().map_or("unknown", |state| status_word(state.status())),
                command: command_line(&container.command),
                created_since: when::since(container.created_unix_nanos, now),
                id: container.id,
                image: container.image,
                size: usage.size_bytes,
                names: container.name,
            }
        };
        let volume = |usage: pb::VolumeUsage| {
            let volume = usage.volume.unwrap_or_default();
            VolumeRow { name: volume.name, links: volume.used_by.len(), size: usage.size_bytes }
        };
        Details {
            images: usage.images.into_iter().map(image).collect(),
            containers: usage.containers.into_iter().map(container).collect(),
            volumes: usage.volumes.into_iter().map(volume).collect(),
        }
    }

    fn tables(&self) -> String {
        let mut images =
            Table::new(&["IMAGE", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"]);
        for image in &self.images {
            let id = image.id.split_once(':').map_or(image.id.as_str(), |(_, hex)| hex);
            images.row([
                image.repo_tags.first().cloned().unwrap_or_else(|| "<none>".to_owned()),
                short_id(id).to_owned(),
                image.created_since.clone(),
                human_bytes(image.size),
                human_bytes(image.shared_size),
                human_bytes(image.unique_size),
                image.containers.to_string(),
            ]);
        }
        let mut containers =
            Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "SIZE", "CREATED", "STATUS", "NAMES"]);
        for container in &self.containers {
            containers.row([
                short_id(&container.id).to_owned(),
                container.image.clone(),
                ellipsis(&container.command, COMMAND_MAX).into_owned(),
                human_bytes(container.size),
                container.created_since.clone(),
                container.state.to_owned(),
                container.names.clone(),
            ]);
        }
        let mut volumes = Table::new(&["VOLUME NAME", "LINKS", "SIZE"]);
        for volume in &self.volumes {
            volumes.row([volume.name.clone(), volume.links.to_string(), human_bytes(volume.size)]);
        }
        format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nVolumes space usage:\n\n{}",
            images.render(),
            containers.render(),
            volumes.render()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_says_how_much_comes_back() {
        let usage = pb::DiskUsageResponse {
            images_bytes: 4 << 20,
            images_reclaimable_bytes: 1 << 20,
            volumes: vec![pb::VolumeUsage { volume: Some(pb::Volume::default()), size_bytes: 1 << 20 }],
            ..Default::default()
        };
        assert_eq!(
            table(&rows(&usage)),
            "TYPE        TOTAL  ACTIVE  SIZE  RECLAIMABLE\n\
             Images      0      0       4MiB  1MiB (25%)\n\
             Containers  0      0       0B    0B\n\
             Volumes     1      0       1MiB  1MiB (100%)\n"
        );
    }
}
