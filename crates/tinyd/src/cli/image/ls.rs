//! `tinyd images`, `tinyd image ls`.

use clap::Args;
use jiff::Zoned;
use serde::Serialize;
use tinyd_core::size::human_bytes;

use super::{NONE, filter::Filters, repository_and_tag, shown_id};
use crate::{
    cli::{
        failure::Result, format::Format, globals::Globals, output, remote::answer, table::Table, verb::Verb,
        when,
    },
    pb,
};

/// List images
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tinyd images
  tinyd images --filter dangling=true -q
  tinyd images --format '{{.Repository}}:{{.Tag}}\\t{{.Size}}' 'ghcr.io/*'")]
pub(in crate::cli) struct Ls {
    /// Also those without a name that others are made from; they are always shown
    #[arg(short, long, hide = true)]
    all: bool,
    /// Show what registries call them
    #[arg(long)]
    digests: bool,
    /// Only some: dangling=true, label=, reference=PATTERN, before=IMAGE, since=IMAGE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// json, or a template such as '{{.Repository}}'; 'table {{.ID}}\t{{.Size}}' has heads
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Only those of a name, with or without a tag; '*' stands for anything but '/'
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Verb for Ls {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        let filters = Filters::parse(&self.filter, self.reference)?;
        globals.online(async move |remote| {
            let images = answer(remote.images().list_images(pb::ListImagesRequest {})).await?.images;
            let images = filters.choose(images)?;
            let rows = rows(&images, self.no_trunc, &when::now());
            let text = if self.quiet {
                images.iter().map(|image| format!("{}\n", shown_id(&image.id, self.no_trunc))).collect()
            } else if format.is_by_template() {
                format.list(&rows.iter().map(Row::for_template).collect::<Vec<_>>(), String::new)?
            } else {
                format.list(&rows, || table(&rows, self.digests))?
            };
            output::print(&text)?;
            Ok(0)
        })
    }
}

/// An image under one of its names. Field names are Docker's; sizes in bytes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    repository: String,
    tag: String,
    digest: String,
    created_at: Option<String>,
    created_since: String,
    size: u64,
    packed_size: u64,
    containers: u32,
    platform: String,
    labels: std::collections::BTreeMap<String, String>,
}

/// The same with what the table shows.
#[derive(Debug, Serialize)]
struct TemplateRow {
    #[serde(flatten)]
    row: Row,
    #[serde(rename = "Size")]
    size: String,
}

impl Row {
    fn for_template(&self) -> serde_json::Value {
        let shown = TemplateRow { row: self.clone(), size: human_bytes(self.size) };
        // The field that is there twice is the last one's.
        serde_json::to_value(shown).unwrap_or_default()
    }
}

fn rows(images: &[pb::ImageSummary], whole: bool, now: &Zoned) -> Vec<Row> {
    let mut rows = Vec::new();
    for image in images {
        for (repository, tag) in called(image) {
            rows.push(Row {
                id: shown_id(&image.id, whole).to_owned(),
                repository: repository.to_owned(),
                tag: tag.to_owned(),
                digest: digest_of(image, repository).to_owned(),
                created_at: when::rfc3339_or_none(image.created_unix_nanos),
                created_since: when::since(image.created_unix_nanos, now),
                size: image.size_bytes,
                packed_size: image.packed_bytes,
                containers: image.containers,
                platform: image.platform.clone(),
                labels: image.labels.clone(),
            });
        }
    }
    rows
}

/// Repository and tag of each line. One that lost its tag, or was pulled by digest, is still of its repository, as with Docker.
fn called(image: &pb::ImageSummary) -> Vec<(&str, &str)> {
    if !image.names.is_empty() {
        return image.names.iter().map(|name| repository_and_tag(name)).collect();
    }
    let digests = image.digests.iter().filter_map(|digest| digest.split_once('@'));
    let mut called: Vec<_> = digests.map(|(repository, _)| (repository, NONE)).collect();
    called.dedup();
    if called.is_empty() { vec![(NONE, NONE)] } else { called }
}

/// What a registry calls the image of this repository.
fn digest_of<'a>(image: &'a pb::ImageSummary, repository: &str) -> &'a str {
    let digests = image.digests.iter().filter_map(|digest| digest.split_once('@'));
    digests.filter(|(of, _)| *of == repository).map(|(_, digest)| digest).next_back().unwrap_or(NONE)
}

fn table(rows: &[Row], digests: bool) -> String {
    let head = ["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"];
    let shown = |cells: [String; 6]| cells.into_iter().enumerate().filter(move |(at, _)| digests || *at != 2);
    let head: Vec<String> = shown(head.map(str::to_owned)).map(|(_, cell)| cell).collect();
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        let cells = [
            row.repository.clone(),
            row.tag.clone(),
            row.digest.clone(),
            row.id.clone(),
            row.created_since.clone(),
            human_bytes(row.size),
        ];
        table.row(shown(cells).map(|(_, cell)| cell));
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-24T14:59:30+01:00[+01:00]".parse().unwrap()
    }

    fn image() -> pb::ImageSummary {
        pb::ImageSummary {
            id: format!("sha256:68d19c5402ab{}", "0".repeat(52)),
            names: vec!["redis:7".into(), "localhost:5000/redis:latest".into()],
            digests: vec![format!("redis@sha256:{}", "1".repeat(64))],
            created_unix_nanos: when::parse("", "2026-11-10T13:49:00Z", &now()).unwrap(),
            size_bytes: 3 << 20,
            ..Default::default()
        }
    }

    #[test]
    fn an_image_has_a_line_for_each_name() {
        let untagged = pb::ImageSummary { names: Vec::new(), ..image() };
        let unnamed = pb::ImageSummary { digests: Vec::new(), created_unix_nanos: 0, ..untagged.clone() };
        let rows = rows(&[image(), untagged, unnamed], false, &now());
        assert_eq!(
            table(&rows, false),
            "REPOSITORY            TAG     IMAGE ID      CREATED      SIZE\n\
             redis                 7       68d19c5402ab  2 weeks ago  3MiB\n\
             localhost:5000/redis  latest  68d19c5402ab  2 weeks ago  3MiB\n\
             redis                 <none>  68d19c5402ab  2 weeks ago  3MiB\n\
             <none>                <none>  68d19c5402ab  -            3MiB\n"
        );
        let digests = table(&rows, true);
        assert!(digests.contains("sha256:1111") && digests.contains("DIGEST"), "{digests}");
    }

    #[test]
    fn a_template_shows_what_the_table_shows() {
        let row = rows(&[image()], false, &now())[0].for_template();
        assert_eq!((row["Size"].as_str(), row["Repository"].as_str()), (Some("3MiB"), Some("redis")));
        assert_eq!(row["CreatedSince"], "2 weeks ago");
    }
}
