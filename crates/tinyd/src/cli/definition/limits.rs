//! How much it may use: CPU, memory, processes, ulimits.

use clap::Args;
use tinyd_core::{
    Error, Result,
    config::{Resources, Ulimit},
    size,
};

// How much it may use.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// CPU in microseconds per 100000: 10000 is a tenth of a CPU, 100000 one whole CPU, more for several
    #[arg(long, value_name = "10000..", allow_hyphen_values = true, conflicts_with = "cpus")]
    cpu: Option<String>,
    /// The same in CPUs, from 0.1: 1.5
    #[arg(long, value_name = "CPUS", allow_hyphen_values = true)]
    cpus: Option<String>,
    /// The CPUs it may run on: 0-1,3
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory with a unit b, k, m, g or t of 1024, at least 6m; no swap beyond it
    #[arg(
        long = "mem",
        short = 'm',
        visible_alias = "memory",
        value_name = "SIZE",
        allow_hyphen_values = true
    )]
    memory: Option<String>,
    /// Memory and swap together; -1 is without limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Processes and threads; -1 is without limit [default: 4096]
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pids_limit: Option<String>,
    /// A limit of setrlimit(2): nofile=1024:2048, core=-1; several may be given. All others are as the daemon was started with
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
}

impl LimitArgs {
    /// The limits that were said.
    pub(super) fn resources(self) -> Result<Resources> {
        let cpu = match (&self.cpu, &self.cpus) {
            (Some(cpu), _) => Some(micros(cpu)?),
            (None, Some(cpus)) => Some(whole_cpus(cpus)?),
            (None, None) => None,
        };
        Ok(Resources {
            cpu_quota_us: cpu,
            cpuset_cpus: self.cpuset_cpus,
            memory_bytes: self.memory.map(|text| size::parse_memory("--mem", &text)).transpose()?,
            memory_swap_bytes: self.memory_swap.map(|text| swap(&text)).transpose()?,
            pids_limit: self.pids_limit.map(|text| pids(&text)).transpose()?,
            ulimits: self.ulimit.iter().map(|text| Ulimit::parse("--ulimit", text)).collect::<Result<_>>()?,
        })
    }
}

/// A number; the daemon knows its CPUs and says the range.
fn micros(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        let rule = "microseconds of CPU per 100000: from 10000 to 100000 for each CPU of the machine";
        Error::invalid("--cpu", format!("{text:?} is not a number of {rule}"))
    })
}

/// CPUs as microseconds. The least is said in the user's own words; the most is the daemon's to say.
fn whole_cpus(text: &str) -> Result<u64> {
    let micros = size::parse_cpus("--cpus", text)?;
    if micros < size::CPU_MIN_US {
        let rule = format!(
            "{micros} microseconds of CPU per {}: at least 0.1 ({})",
            size::CPU_PERIOD_US,
            size::CPU_MIN_US
        );
        return Err(Error::invalid("--cpus", format!("{text} is {rule}")));
    }
    Ok(micros)
}

fn swap(text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = size::parse_bytes("--memory-swap", text)?;
    i64::try_from(bytes).map_err(|_| Error::invalid("--memory-swap", format!("{text:?} is too large")))
}

fn pids(text: &str) -> Result<i64> {
    match text.parse::<i64>() {
        // Docker takes 0 for no limit too.
        Ok(-1 | 0) => Ok(-1),
        Ok(count @ 1..) => Ok(count),
        Ok(_) | Err(_) => Err(Error::invalid(
            "--pids-limit",
            format!("{text:?} is not a number of processes: 1 or more, or -1 for no limit"),
        )),
    }
}
