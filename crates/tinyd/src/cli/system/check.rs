//! `tinyd system check`.

use clap::Args;
use serde::Serialize;
use tinyd_core::size::human_bytes;

use crate::{
    cli::{
        failure::Result, format::Format, globals::Globals, output, remote::answer, text::printable,
        verb::Verb,
    },
    pb,
};

/// Look whether what is on disk is whole: images, layers, records
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd system check\n  tinyd system check --repair\n\nEvery content is hashed, so this reads all that images have. With --repair layers are unpacked again, records written again, and what nobody knows is removed; a content that has changed is removed, and comes again with the image. Containers that run are left alone. Exits with 1 when something is wrong and was not put right."
)]
pub(in crate::cli) struct Check {
    /// Put right what can be
    #[arg(long)]
    repair: bool,
    /// Look at the sizes of layers, and do not hash them
    #[arg(long)]
    quick: bool,
    /// json, or a template such as '{{.Images}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// What was looked at, in JSON and templates.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CheckView {
    images: u64,
    contents: u64,
    bytes: u64,
    layers: u64,
    containers: u64,
    volumes: u64,
    problems: Vec<ProblemView>,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProblemView {
    of: String,
    what: String,
    repaired: bool,
    remedy: String,
}

impl Verb for Check {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = Format::parse(self.format.as_deref())?;
        globals.online(async move |remote| {
            let request = pb::CheckSystemRequest { quick: self.quick, repair: self.repair };
            let view = CheckView::from(answer(remote.system().check_system(request)).await?);
            output::print(&format.one(&view, || view.lines())?)?;
            Ok(u8::from(view.left() > 0))
        })
    }
}

impl CheckView {
    /// How many problems are still there.
    fn left(&self) -> usize {
        self.problems.iter().filter(|problem| !problem.repaired).count()
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        for ProblemView { of, what, repaired, remedy } in &self.problems {
            let word = if *repaired { "repaired: " } else { "" };
            text.push_str(&printable(&format!("{word}{of}: {what}: {remedy}")));
            text.push('\n');
        }
        let verdict = match (self.problems.len(), self.left()) {
            (0, _) => "all is well".to_owned(),
            (all, 0) => format!("{all} repaired"),
            (all, left) if all == left => format!("{left} wrong"),
            (all, left) => format!("{left} wrong, {} repaired", all - left),
        };
        text.push_str(&format!(
            "{} images, {} contents ({}), {} layers, {} containers, {} volumes: {verdict}\n",
            self.images,
            self.contents,
            human_bytes(self.bytes),
            self.layers,
            self.containers,
            self.volumes
        ));
        text
    }
}

impl From<pb::CheckSystemResponse> for CheckView {
    fn from(told: pb::CheckSystemResponse) -> Self {
        let pb::CheckSystemResponse { images, contents, bytes, layers, containers, volumes, problems } = told;
        let view = |problem: pb::SystemProblem| {
            let pb::SystemProblem { of, what, repaired, remedy } = problem;
            ProblemView { of, what, repaired, remedy }
        };
        let problems = problems.into_iter().map(view).collect();
        CheckView { images, contents, bytes, layers, containers, volumes, problems }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_have_a_line_each_and_the_last_says_how_it_is() {
        let problem = |repaired| pb::SystemProblem {
            of: "image a".into(),
            what: "layer x is not unpacked".into(),
            repaired,
            remedy: "unpacked again".into(),
        };
        let told =
            |problems| CheckView::from(pb::CheckSystemResponse { images: 1, problems, ..Default::default() });
        assert!(told(vec![]).lines().ends_with("0 volumes: all is well\n"));
        let both = told(vec![problem(true), problem(false)]);
        assert!(
            both.lines().starts_with("repaired: image a: layer x is not unpacked: unpacked again\nimage a: ")
        );
        assert!(both.lines().ends_with(": 1 wrong, 1 repaired\n"));
        assert_eq!((both.left(), told(vec![problem(true)]).left()), (1, 0));
    }
}
