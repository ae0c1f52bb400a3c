//! What is promised in docs/promises.md, told as it is measured: for the benches.

use std::{io::Write, process::ExitCode};

/// One line for whoever reads along.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// How a bench ends: well when all promises were kept.
#[must_use]
pub fn ending(kept: Result<bool, Box<dyn std::error::Error>>) -> ExitCode {
    match kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all were kept so far.
#[derive(Debug)]
pub struct Promises {
    /// No number was above its limit.
    pub kept: bool,
}

impl Default for Promises {
    fn default() -> Self {
        Promises { kept: true }
    }
}

impl Promises {
    /// Tells a number and holds it against its limit; one that could not be measured breaks nothing.
    pub fn at_most(&mut self, what: &str, found: Option<f64>, limit: f64) {
        let Some(found) = found else {
            say(&format!("{what:48} not measured: a side is not installed"));
            return;
        };
        let kept = found <= limit;
        self.kept &= kept;
        say(&format!("{what:48}{found:9.2}  at most {limit:<7} {}", if kept { "kept" } else { "BROKEN" }));
    }
}

/// The median.
#[must_use]
pub fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A permutation that differs from round to round and is the same from run to run.
pub fn shuffle(order: &mut [usize], round: usize) {
    let mut state = round as u64 + 1;
    for at in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
}

/// A line of kilobytes of a file of a process: `VmRSS:` of `status`, `Pss:` of `smaps_rollup`.
///
/// # Errors
/// When the process is gone, or has no such line.
pub fn kib(pid: u32, file: &str, field: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .ok_or_else(|| format!("no {field} of {pid}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
