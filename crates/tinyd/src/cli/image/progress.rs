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
    cli::{failure::Result, output, text::printable},
    pb,
};

/// Where layers are on their way to, for the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Way {
    /// From an archive of images.
    Load,
    /// From an archive of files.
    Import,
    /// From a registry.
    Pull,
    /// To a registry.
    Push,
}

/// How it is told.
#[derive(Debug)]
pub(in crate::cli) struct Progress {
    way: Way,
    shown: Shown,
    layers: BTreeMap<String, Layer>,
}

#[derive(Debug)]
enum Shown {
    Bars(BTreeMap<String, ProgressBar>, MultiProgress),
    Lines,
    Json,
    Nothing,
}

/// One line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
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
    pub(in crate::cli) fn new(way: Way, format: Option<&str>, is_quiet: bool) -> Checked<Progress> {
        let shown = match format {
            Some("json") => Shown::Json,
            Some(other) => {
                return Err(Error::invalid("--format", format!("{other:?} is not a format: json")));
            }
            None if is_quiet => Shown::Nothing,
            None if io::stderr().is_terminal() => Shown::Bars(BTreeMap::new(), bars()),
            None => Shown::Lines,
        };
        Ok(Progress { way, shown, layers: BTreeMap::new() })
    }

    /// Whether what is told is JSON, which what else there is to tell has to be too.
    pub(super) const fn is_json(&self) -> bool {
        matches!(self.shown, Shown::Json)
    }

    /// Whether nothing is told.
    pub(super) const fn is_quiet(&self) -> bool {
        matches!(self.shown, Shown::Nothing)
    }

    /// Tells that something begins: `7: Pulling from library/redis`.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn begin(&mut self, id: &str, status: &str) -> Result<()> {
        self.end();
        match &self.shown {
            Shown::Nothing => {}
            Shown::Json => json(&Line { id, status, current: None, total: None })?,
            Shown::Lines | Shown::Bars(..) if id.is_empty() => say(status),
            Shown::Lines | Shown::Bars(..) => say(&format!("{id}: {status}")),
        }
        Ok(())
    }

    /// Tells that a registry has failed, and when it is asked again. Nobody who waits quietly is told.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn pause(&mut self, paused: &pb::RegistryPaused) -> Result<()> {
        let line = retrying(paused);
        match &self.shown {
            Shown::Nothing => {}
            Shown::Json => json(&Line { id: "", status: &line, current: None, total: None })?,
            Shown::Lines => say(&line),
            // The bars go on below it.
            Shown::Bars(_, all) => all.suspend(|| say(&line)),
        }
        Ok(())
    }

    /// Tells how far a layer is.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn tell(&mut self, progress: &pb::ImageProgress) -> Result<()> {
        let word = word(progress.step(), self.way);
        let id = shown_id(&progress.layer, false);
        if self.is_json() {
            let bytes = |count: u64| (progress.total_bytes > 0).then_some(count);
            let (current, total) = (bytes(progress.done_bytes), bytes(progress.total_bytes));
            return json(&Line { id: &progress.layer, status: word, current, total });
        }
        let layer = self.layers.entry(progress.layer.clone()).or_default();
        let seen = layer.see(progress, self.way);
        match &mut self.shown {
            Shown::Nothing | Shown::Json => {}
            Shown::Lines => {
                // A number that grows is nothing for a log.
                if seen == Seen::New && !id.is_empty() {
                    say(&format!("{id}: {word}"));
                }
            }
            Shown::Bars(..) if seen == Seen::Old => {}
            Shown::Bars(bars, all) => {
                let bar = bars.entry(progress.layer.clone()).or_insert_with(|| {
                    let prefix = if id.is_empty() { "archive".to_owned() } else { id.to_owned() };
                    // With its looks before it is on the screen for the first time.
                    let bar = ProgressBar::no_length().with_style(style(false, false));
                    all.add(bar.with_prefix(prefix).with_message(word))
                });
                draw(bar, progress, word, seen);
            }
        }
        Ok(())
    }

    /// Tells how much of an archive is on its way.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn sent(&mut self, done_bytes: u64, total_bytes: u64) -> Result<()> {
        let step = pb::ImageStep::Transferring.into();
        self.tell(&pb::ImageProgress { layer: String::new(), step, done_bytes, total_bytes })
    }

    /// Ends the bars, so that what is printed now stands below them. What is told afterwards begins new ones.
    pub(super) fn end(&mut self) {
        self.layers.clear();
        if let Shown::Bars(bars, all) = &mut self.shown {
            bars.values().for_each(ProgressBar::abandon);
            bars.clear();
            *all = self::bars();
        }
    }
}

/// What a report of a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Something else goes on than before.
    New,
    /// The same, further on.
    Further,
    /// Nothing to show: what goes on is further.
    Old,
}

/// What is known of a layer. It is unpacked while it is still on its way, and both are told: what is shown goes forward.
#[derive(Debug, Default)]
struct Layer {
    rank: u8,
    is_here: bool,
}

impl Layer {
    fn see(&mut self, progress: &pb::ImageProgress, way: Way) -> Seen {
        let step = progress.step();
        let is_whole = progress.total_bytes > 0 && progress.done_bytes == progress.total_bytes;
        let rank = match step {
            pb::ImageStep::Unspecified | pb::ImageStep::Waiting => 1,
            pb::ImageStep::Transferring => 2,
            pb::ImageStep::Transferred => 3,
            pb::ImageStep::Unpacking => 4,
            pb::ImageStep::Present | pb::ImageStep::Unpacked => 5,
        };
        self.is_here |= step == pb::ImageStep::Transferred || (rank == 2 && is_whole);
        let is_early = rank == 4 && way == Way::Pull && !self.is_here;
        if rank < self.rank || is_early {
            return Seen::Old;
        }
        let seen = if rank == self.rank { Seen::Further } else { Seen::New };
        self.rank = rank;
        seen
    }
}

fn bars() -> MultiProgress {
    MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))
}

fn draw(bar: &ProgressBar, progress: &pb::ImageProgress, word: &'static str, seen: Seen) {
    let is_moving = progress.total_bytes > 0 || progress.done_bytes > 0;
    if seen == Seen::New {
        // The rate of a download says nothing about unpacking.
        bar.reset();
    }
    if progress.total_bytes > 0 {
        bar.set_length(progress.total_bytes);
    }
    bar.set_position(progress.done_bytes);
    if seen == Seen::New {
        bar.set_message(word);
        bar.set_style(style(is_moving, progress.total_bytes > 0));
    }
    if !is_moving {
        bar.tick();
    }
}

fn say(line: &str) {
    // A closed stderr cannot be told about.
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

fn retrying(paused: &pb::RegistryPaused) -> String {
    format!("Retrying in {} s: {}", paused.wait_ms.div_ceil(1000), paused.why)
}

/// A line of JSON on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn json(line: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(line).map_err(|error| Error::internal(&error))?;
    output::print(&(text + "\n"))
}

/// Docker's words.
const fn word(step: pb::ImageStep, way: Way) -> &'static str {
    match (step, way) {
        (pb::ImageStep::Unspecified, _) => "",
        (pb::ImageStep::Present, Way::Push) => "Layer already exists",
        (pb::ImageStep::Present, Way::Load | Way::Import | Way::Pull) => "Already exists",
        (pb::ImageStep::Waiting, _) => "Waiting",
        (pb::ImageStep::Transferring, Way::Load) => "Loading",
        (pb::ImageStep::Transferring, Way::Import) => "Importing",
        (pb::ImageStep::Transferring, Way::Pull) => "Downloading",
        (pb::ImageStep::Transferring, Way::Push) => "Pushing",
        (pb::ImageStep::Transferred, Way::Load) => "Load complete",
        (pb::ImageStep::Transferred, Way::Import) => "Import complete",
        (pb::ImageStep::Transferred, Way::Pull) => "Download complete",
        (pb::ImageStep::Transferred, Way::Push) => "Pushed",
        (pb::ImageStep::Unpacking, _) => "Extracting",
        (pb::ImageStep::Unpacked, Way::Pull) => "Pull complete",
        (pb::ImageStep::Unpacked, Way::Load | Way::Import | Way::Push) => "Complete",
    }
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
        assert!(Progress::new(Way::Load, Some("json"), false).unwrap().is_json());
        assert!(Progress::new(Way::Load, None, true).unwrap().is_quiet());
        let error = Progress::new(Way::Load, Some("yaml"), false).unwrap_err();
        assert_eq!(error.field(), Some("--format"));
    }

    #[test]
    fn a_pause_is_told_in_whole_seconds_and_one_at_least() {
        let of = |wait_ms| retrying(&pb::RegistryPaused { why: "a.example: 503".into(), wait_ms });
        assert_eq!(of(300), "Retrying in 1 s: a.example: 503");
        assert_eq!(of(2001), "Retrying in 3 s: a.example: 503");
    }

    #[test]
    fn steps_have_dockers_words() {
        assert_eq!(word(pb::ImageStep::Present, Way::Pull), "Already exists");
        assert_eq!(word(pb::ImageStep::Present, Way::Push), "Layer already exists");
        assert_eq!(word(pb::ImageStep::Transferred, Way::Pull), "Download complete");
        for is_moving in [true, false] {
            for is_known in [true, false] {
                let _ = style(is_moving, is_known);
            }
        }
    }

    #[test]
    fn a_layer_that_is_unpacked_while_it_comes_goes_forward() {
        use pb::ImageStep::{Present, Transferred, Transferring, Unpacked, Unpacking, Waiting};
        let of = |step: pb::ImageStep, done_bytes| pb::ImageProgress {
            step: step.into(),
            done_bytes,
            total_bytes: 10,
            ..pb::ImageProgress::default()
        };
        let mut layer = Layer::default();
        for (step, done, seen) in [
            (Waiting, 0, Seen::New),
            (Unpacking, 0, Seen::Old),
            (Transferring, 0, Seen::New),
            (Unpacking, 0, Seen::Old),
            (Transferring, 5, Seen::Further),
            (Unpacking, 5, Seen::Old),
            (Transferred, 0, Seen::New),
            (Unpacking, 5, Seen::New),
            (Transferring, 10, Seen::Old),
            (Unpacking, 10, Seen::Further),
            (Unpacked, 0, Seen::New),
            (Transferred, 0, Seen::Old),
        ] {
            assert_eq!(layer.see(&of(step, done), Way::Pull), seen, "{step:?} {done}");
        }
        // One that is here, packed, is not waited for.
        let mut layer = Layer::default();
        assert_eq!(layer.see(&of(Transferring, 10), Way::Pull), Seen::New);
        assert_eq!(layer.see(&of(Unpacking, 1), Way::Pull), Seen::New);
        assert_eq!(Layer::default().see(&of(Present, 0), Way::Pull), Seen::New);
        // And of an archive all is here that is unpacked.
        assert_eq!(Layer::default().see(&of(Unpacking, 1), Way::Load), Seen::New);
    }
}
