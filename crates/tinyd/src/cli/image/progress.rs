//! How far images are, for people and programs: bars on a terminal, a line for each step otherwise, JSON when that is asked for. Talk goes
//! to standard error; JSON is data.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tinyd_core::{Error, Result as Checked};

use super::shown_id;
use crate::{
    cli::{failure::Result, output},
    pb,
};

/// How it is told.
#[derive(Debug)]
pub(super) struct Progress {
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bars { all: MultiProgress, bars: BTreeMap<String, ProgressBar> },
    Lines { told: BTreeMap<String, i32> },
    Json,
    Nothing,
}

/// One line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

impl Progress {
    /// Reads `--format`, of which there is only `json`.
    ///
    /// # Errors
    /// `InvalidArgument` of `--format` for another.
    pub(super) fn new(format: Option<&str>, is_quiet: bool) -> Checked<Progress> {
        let shown = match format {
            Some("json") => Shown::Json,
            Some(other) => {
                return Err(Error::invalid("--format", format!("{other:?} is not a format: json")));
            }
            None if is_quiet => Shown::Nothing,
            None if io::stderr().is_terminal() => Shown::Bars {
                all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
                bars: BTreeMap::new(),
            },
            None => Shown::Lines { told: BTreeMap::new() },
        };
        Ok(Progress { shown })
    }

    /// Whether what is told is JSON, which what else there is to tell has to be too.
    pub(super) const fn is_json(&self) -> bool {
        matches!(self.shown, Shown::Json)
    }

    /// Tells how far a layer is. `transfer` is the word for what travels: "Loading", "Downloading".
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn tell(&mut self, transfer: &str, progress: &pb::ImageProgress) -> Result<()> {
        let (step, word) = (progress.step(), word(progress.step(), transfer));
        let id = shown_id(&progress.layer, false);
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Json => {
                let bytes = |count: u64| (progress.total_bytes > 0).then_some(count);
                let (current, total) = (bytes(progress.done_bytes), bytes(progress.total_bytes));
                let line = Line { id: &progress.layer, status: &word, current, total };
                json(&line)?;
            }
            Shown::Lines { told } => {
                // A number that grows is nothing for a log.
                if told.insert(progress.layer.clone(), step.into()) != Some(step.into()) && !id.is_empty() {
                    let _ = writeln!(io::stderr().lock(), "{id}: {word}");
                }
            }
            Shown::Bars { all, bars } => {
                let bar = bars.entry(progress.layer.clone()).or_insert_with(|| {
                    let bar = all.add(ProgressBar::no_length());
                    bar.set_prefix(if id.is_empty() { "archive".to_owned() } else { id.to_owned() });
                    bar
                });
                let is_moving = progress.total_bytes > 0 || progress.done_bytes > 0;
                bar.set_style(style(is_moving, progress.total_bytes > 0));
                if progress.total_bytes > 0 {
                    bar.set_length(progress.total_bytes);
                }
                bar.set_position(progress.done_bytes);
                bar.set_message(word);
                if !is_moving {
                    bar.tick();
                }
            }
        }
        Ok(())
    }

    /// Tells how much of an archive is on its way.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn sent(&mut self, transfer: &str, done_bytes: u64, total_bytes: u64) -> Result<()> {
        let step = pb::ImageStep::Transferring.into();
        self.tell(transfer, &pb::ImageProgress { layer: String::new(), step, done_bytes, total_bytes })
    }

    /// Ends the bars, so that what is printed now stands below them.
    pub(super) fn end(&mut self) {
        if let Shown::Bars { bars, .. } = &self.shown {
            bars.values().for_each(ProgressBar::abandon);
            self.shown = Shown::Nothing;
        }
    }
}

/// A line of JSON on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn json(line: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(line).map_err(|error| Error::internal(&error))?;
    output::print(&(text + "\n"))
}

fn word(step: pb::ImageStep, transfer: &str) -> String {
    match step {
        pb::ImageStep::Unspecified => "",
        pb::ImageStep::Present => "Already exists",
        pb::ImageStep::Waiting => "Waiting",
        pb::ImageStep::Transferring => transfer,
        pb::ImageStep::Transferred => return format!("{} complete", transfer.replace("ing", "")),
        pb::ImageStep::Unpacking => "Extracting",
        pb::ImageStep::Unpacked => "Complete",
    }
    .to_owned()
}

fn style(is_moving: bool, is_known: bool) -> ProgressStyle {
    let template = match (is_moving, is_known) {
        (true, true) => {
            "{prefix:12} {msg:16} [{bar:30}] {binary_bytes:>10}/{binary_total_bytes} {binary_bytes_per_sec}"
        }
        (true, false) => "{prefix:12} {msg:16} {binary_bytes:>10} {binary_bytes_per_sec}",
        (false, _) => "{prefix:12} {msg}",
    };
    // The templates are constants: one that is wrong would be seen at once.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_a_format() {
        assert!(Progress::new(Some("json"), false).unwrap().is_json());
        assert_eq!(Progress::new(Some("yaml"), false).unwrap_err().field(), Some("--format"));
    }

    #[test]
    fn steps_have_dockers_words() {
        assert_eq!(word(pb::ImageStep::Present, "Downloading"), "Already exists");
        assert_eq!(word(pb::ImageStep::Transferred, "Downloading"), "Download complete");
        for is_moving in [true, false] {
            for is_known in [true, false] {
                let _ = style(is_moving, is_known);
            }
        }
    }
}
