//! `update`'s options: each limit by name, or all of them as JSON, in runc's and crun's spelling.

use std::io::Read;

use tinyd_core::{Error, Result, json, oci, size};

use super::{
    World,
    args::{Given, Opt, value},
};
use crate::{
    container::{self, Change},
    launch::kernel,
};

/// The most that is read from a file of limits, in bytes.
const JSON_MAX: u64 = 4 << 20;

/// Its options.
pub(super) const OPTIONS: &[Opt] = &[
    value("resources", "FILE", "limits as JSON (linux.resources); - is standard input").short("r"),
    value("cpu-period", "MICROSECONDS", "how long a period is"),
    value("cpu-quota", "MICROSECONDS", "CPU time in a period; -1 is no limit"),
    value("cpu-burst", "MICROSECONDS", "what may be used beyond the quota at once"),
    value("cpu-share", "NUMBER", "relative weight, 2 to 262144"),
    value("cpu-shares", "NUMBER", "the same"),
    value("cpu-rt-period", "MICROSECONDS", "realtime period (cgroup v1)"),
    value("cpu-rt-runtime", "MICROSECONDS", "realtime in a period (cgroup v1)"),
    value("cpu-idle", "0|1", "1 runs when nobody else wants to"),
    value("cpuset-cpus", "LIST", "CPUs to use, such as 0-1,3"),
    value("cpuset-mems", "LIST", "memory nodes to use"),
    value("memory", "BYTES", "memory, such as 64m; -1 is no limit"),
    value("memory-reservation", "BYTES", "soft limit of memory"),
    value("memory-swap", "BYTES", "memory and swap together; -1 is no limit"),
    value("kernel-memory", "BYTES", "ignored with a warning: no kernel has it any more"),
    value("kernel-memory-tcp", "BYTES", "memory of TCP buffers (cgroup v1)"),
    value("pids-limit", "NUMBER", "processes and threads; -1 is no limit"),
    value("blkio-weight", "NUMBER", "weight of block I/O, 10 to 1000"),
    value("l3-cache-schema", "LINES", "share of the cache, such as L3:0=ff (resctrl)"),
    value("mem-bw-schema", "LINES", "share of memory bandwidth, such as MB:0=70 (resctrl)"),
    super::verbs::HELP,
];

/// Runs the verb.
pub(super) fn run(world: &World, given: &Given) -> Result<u8> {
    let id = super::actions::id(given)?;
    let change = Change { resources: change(given)?, rdt: rdt(given) };
    let warnings = container::update(&world.root, id, &change)?;
    world.log.warn(&warnings);
    Ok(0)
}

/// What is asked for: the file first, single options over it.
fn change(given: &Given) -> Result<oci::Resources> {
    let mut change = match given.get("resources") {
        Some(from) => read(from)?,
        None => oci::Resources::default(),
    };
    cpu(given, &mut change)?;
    memory(given, &mut change)?;
    if let Some(limit) = number(given, "pids-limit")? {
        change.pids = Some(oci::Pids { limit });
    }
    if let Some(weight) = number(given, "blkio-weight")? {
        change.block_io.get_or_insert_default().weight = Some(weight);
    }
    Ok(change)
}

fn cpu(given: &Given, change: &mut oci::Resources) -> Result<()> {
    let mut cpu = change.cpu.take().unwrap_or_default();
    let shares = number(given, "cpu-share")?.or(number(given, "cpu-shares")?);
    set(&mut cpu.shares, shares);
    set(&mut cpu.period, number(given, "cpu-period")?);
    set(&mut cpu.quota, number(given, "cpu-quota")?);
    set(&mut cpu.burst, number(given, "cpu-burst")?);
    set(&mut cpu.realtime_period, number(given, "cpu-rt-period")?);
    set(&mut cpu.realtime_runtime, number(given, "cpu-rt-runtime")?);
    set(&mut cpu.idle, number(given, "cpu-idle")?);
    set(&mut cpu.cpus, given.get("cpuset-cpus").map(str::to_owned));
    set(&mut cpu.mems, given.get("cpuset-mems").map(str::to_owned));
    change.cpu = Some(cpu).filter(|cpu| *cpu != oci::Cpu::default());
    Ok(())
}

fn memory(given: &Given, change: &mut oci::Resources) -> Result<()> {
    let mut memory = change.memory.take().unwrap_or_default();
    set(&mut memory.limit, bytes(given, "memory")?);
    set(&mut memory.reservation, bytes(given, "memory-reservation")?);
    set(&mut memory.swap, bytes(given, "memory-swap")?);
    set(&mut memory.kernel, bytes(given, "kernel-memory")?);
    set(&mut memory.kernel_tcp, bytes(given, "kernel-memory-tcp")?);
    change.memory = Some(memory).filter(|memory| *memory != oci::Memory::default());
    Ok(())
}

/// As runc has it: an empty line asks for nothing.
fn rdt(given: &Given) -> Option<oci::IntelRdt> {
    let schema = |name: &str| given.get(name).filter(|lines| !lines.is_empty()).map(str::to_owned);
    let asked = oci::IntelRdt {
        l3_cache_schema: schema("l3-cache-schema"),
        mem_bw_schema: schema("mem-bw-schema"),
        ..oci::IntelRdt::default()
    };
    (asked != oci::IntelRdt::default()).then_some(asked)
}

fn set<T>(field: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *field = value;
    }
}

/// A number that fits its field.
fn number<T: std::str::FromStr>(given: &Given, name: &str) -> Result<Option<T>> {
    let Some(text) = given.get(name) else { return Ok(None) };
    let parsed = text.parse().map_err(|_| {
        Error::invalid(format!("--{name}"), format!("{text:?} is not a number, or out of its range"))
    })?;
    Ok(Some(parsed))
}

/// An amount of memory; -1 is none.
fn bytes(given: &Given, name: &str) -> Result<Option<i64>> {
    let Some(text) = given.get(name) else { return Ok(None) };
    if text == "-1" {
        return Ok(Some(-1));
    }
    let field = format!("--{name}");
    let bytes = size::parse_bytes(&field, text)?;
    let fitting =
        i64::try_from(bytes).map_err(|_| Error::invalid(field, format!("{text:?} is too large")))?;
    Ok(Some(fitting))
}

fn read(from: &str) -> Result<oci::Resources> {
    let mut text = Vec::new();
    let failed = |error: std::io::Error| kernel(&format!("--resources: read {from}"), &error);
    if from == "-" {
        std::io::stdin().lock().take(JSON_MAX).read_to_end(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(from).map_err(failed)?;
        file.take(JSON_MAX).read_to_end(&mut text).map_err(failed)?;
    }
    json::read(&text).map_err(|error| Error::invalid("--resources", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{self, Until};

    fn asked(words: &[&str]) -> Result<oci::Resources> {
        let mut words = words.iter().map(std::ffi::OsString::from).collect();
        change(&args::read(&mut words, OPTIONS, Until::End)?)
    }

    #[test]
    fn every_limit_has_an_option() {
        let got = asked(&[
            "--cpu-quota=-1",
            "--cpu-period",
            "50000",
            "--cpu-share",
            "512",
            "--cpuset-cpus",
            "0",
            "--memory",
            "64m",
            "--memory-swap=-1",
            "--memory-reservation",
            "1k",
            "--pids-limit",
            "9",
            "--blkio-weight",
            "100",
            "id",
        ]);
        let expected: oci::Resources = serde_json::from_str(
            r#"{"cpu":{"quota":-1,"period":50000,"shares":512,"cpus":"0"},"pids":{"limit":9},"blockIO":{"weight":100},
                "memory":{"limit":67108864,"swap":-1,"reservation":1024}}"#,
        )
        .unwrap();
        assert_eq!(got.unwrap(), expected);
    }

    #[test]
    fn mistakes_name_the_option() {
        for (words, field) in [
            (["--cpu-quota", "x"], "--cpu-quota"),
            (["--cpu-period", "-1"], "--cpu-period"),
            (["--memory", "5q"], "--memory"),
            (["--blkio-weight", "70000"], "--blkio-weight"),
        ] {
            assert_eq!(asked(&words).unwrap_err().field(), Some(field), "{words:?}");
        }
    }
}
