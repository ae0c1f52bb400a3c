//! `tinyd system prune`.

use clap::Args;
use jiff::Zoned;
use serde::Serialize;
use tinyd_core::{Error, Result as Checked, size::human_bytes};

use crate::{
    cli::{
        ask::consent, failure::Result, format::Format, globals::Globals, output, remote::answer, verb::Verb,
        when,
    },
    pb,
};

/// Remove what nobody needs: containers that do not run, networks that nobody is on, images without a name
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd system prune\n  tinyd system prune -a -f --filter until=24h\n  tinyd system prune --volumes --filter label!=keep\n\nAsks first, unless told not to. Volumes with a name of a user's stay: see 'tinyd volume prune'."
)]
pub(in crate::cli) struct Prune {
    /// Also images with a name, when no container has them
    #[arg(short, long)]
    all: bool,
    /// Also volumes that nobody has named, and that no container has
    #[arg(long)]
    volumes: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only some: until=24h (a point in time, or how long ago), label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
    /// json, or a template such as '{{.SpaceReclaimed}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// What went, in JSON and templates.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PruneView {
    containers_deleted: Vec<String>,
    networks_deleted: Vec<String>,
    volumes_deleted: Vec<String>,
    images_untagged: Vec<String>,
    images_deleted: Vec<String>,
    space_reclaimed: u64,
}

impl Verb for Prune {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        let request = self.request(&when::now())?;
        if !self.force {
            consent(&self.question())?;
        }
        globals.online(async move |remote| {
            let view = PruneView::from(answer(remote.system().prune_system(request)).await?);
            output::print(&format.one(&view, || view.lines())?)?;
            Ok(0)
        })
    }
}

impl Prune {
    fn question(&self) -> String {
        let images = if self.all {
            "every image that no container has"
        } else {
            "every image without a name that no container has"
        };
        let volumes =
            if self.volumes { ", every volume that nobody has named and no container has" } else { "" };
        let some = if self.filters.is_empty() {
            String::new()
        } else {
            format!(" (only {})", self.filters.join(", "))
        };
        format!(
            "This removes every container that does not run, every network that nobody is on, {images}{volumes}{some}."
        )
    }

    fn request(&self, now: &Zoned) -> Checked<pb::PruneSystemRequest> {
        let mut request =
            pb::PruneSystemRequest { all_images: self.all, volumes: self.volumes, ..Default::default() };
        for word in &self.filters {
            match word.split_once('=') {
                Some(("until", moment)) => {
                    request.until_unix_nanos = Some(when::parse("--filter", moment, now)?);
                }
                Some(("label", label)) if !label.is_empty() => request.labels.push(label.to_owned()),
                Some(("label!", label)) if !label.is_empty() => request.not_labels.push(label.to_owned()),
                _ => {
                    let rule = "until=, label= or label!=";
                    return Err(Error::invalid("--filter", format!("{word:?} is not a filter: {rule}")));
                }
            }
        }
        Ok(request)
    }
}

impl From<pb::PruneSystemResponse> for PruneView {
    fn from(gone: pb::PruneSystemResponse) -> Self {
        PruneView {
            containers_deleted: gone.containers,
            networks_deleted: gone.networks,
            volumes_deleted: gone.volumes,
            images_untagged: gone.untagged,
            images_deleted: gone.images,
            space_reclaimed: gone.freed_bytes,
        }
    }
}

impl PruneView {
    fn lines(&self) -> String {
        let mut text = String::new();
        let mut part = |head: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(&format!("{head}:\n{}\n\n", lines.join("\n")));
            }
        };
        part("Deleted Containers", self.containers_deleted.clone());
        part("Deleted Networks", self.networks_deleted.clone());
        part("Deleted Volumes", self.volumes_deleted.clone());
        let untagged = self.images_untagged.iter().map(|name| format!("untagged: {name}"));
        let deleted = self.images_deleted.iter().map(|id| format!("deleted: {id}"));
        part("Deleted Images", untagged.chain(deleted).collect());
        text.push_str(&format!("Total reclaimed space: {}\n", human_bytes(self.space_reclaimed)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(filters: &[&str]) -> Checked<pb::PruneSystemRequest> {
        let filters = filters.iter().map(|word| (*word).to_owned()).collect();
        let prune = Prune { all: true, volumes: false, force: true, filters, format: None };
        prune.request(&"2026-11-24T14:00:00Z[UTC]".parse().unwrap())
    }

    #[test]
    fn filters_are_read() {
        let read = request(&["until=1h", "label=a=b", "label!=c"]).unwrap();
        assert_eq!(read.until_unix_nanos, Some(1_795_525_200_000_000_000));
        assert_eq!(
            (read.labels.as_slice(), read.not_labels.as_slice()),
            (&["a=b".into()][..], &["c".into()][..])
        );
        for bad in ["until=never", "label=", "dangling=true", "x"] {
            assert_eq!(request(&[bad]).unwrap_err().field(), Some("--filter"), "{bad}");
        }
    }
}
