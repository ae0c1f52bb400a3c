//! `tinyd history`, `tinyd image history`.

use clap::Args;
use serde::Serialize;
use tinyd_core::size::human_bytes;

use super::shown_id;
use crate::{
    cli::{
        failure::Result, format::Format, globals::Globals, output, remote::answer, table::Table,
        text::ellipsis, verb::Verb, when,
    },
    pb,
};

/// How many characters of a command are shown.
const COMMAND_WIDTH: usize = 45;
/// What Docker writes for a step whose image is not here.
const MISSING: &str = "<missing>";

/// Show how an image was made, the latest step first
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tinyd history --no-trunc redis:7")]
pub(in crate::cli) struct History {
    /// json, or a template such as '{{.CreatedBy}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Name, id, or unique beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// One step. Field names are Docker's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Step {
    #[serde(rename = "ID")]
    id: String,
    created_at: Option<String>,
    created_since: String,
    created_by: String,
    size: u64,
    comment: String,
}

impl Verb for History {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        globals.online(async move |remote| {
            let request = pb::ImageHistoryRequest { image: self.image };
            let history = answer(remote.images().image_history(request)).await?;
            let steps = steps(&history, self.no_trunc);
            let text = match self.quiet {
                true => steps.iter().map(|step| format!("{}\n", step.id)).collect(),
                false => format.list(&steps, || table(&steps, self.no_trunc))?,
            };
            output::print(&text)?;
            Ok(0)
        })
    }
}

fn steps(history: &pb::ImageHistoryResponse, whole: bool) -> Vec<Step> {
    let now = when::now();
    let step = |(at, step): (usize, &pb::ImageHistoryStep)| Step {
        id: if at == 0 { shown_id(&history.id, whole) } else { MISSING }.to_owned(),
        created_at: when::rfc3339_or_none(step.created_unix_nanos),
        created_since: when::since(step.created_unix_nanos, &now),
        created_by: step.created_by.clone(),
        size: step.size_bytes,
        comment: step.comment.clone(),
    };
    history.steps.iter().enumerate().map(step).collect()
}

fn table(steps: &[Step], whole: bool) -> String {
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for step in steps {
        let command = match whole {
            true => step.created_by.clone(),
            false => ellipsis(&step.created_by, COMMAND_WIDTH).into_owned(),
        };
        table.row([
            step.id.clone(),
            step.created_since.clone(),
            command,
            human_bytes(step.size),
            step.comment.clone(),
        ]);
    }
    table.render()
}
