//! What the kernel has counted for a cgroup, in the words of runc's `events`: callers of the OCI command line read them by name.
//!
//! A file or a controller that is not here counts 0, as with runc.

use serde_json::{Map, Value, json};

use super::settings::keyed;

/// Microseconds to nanoseconds.
const MICRO: u64 = 1000;
/// `cpuacct.stat` counts in ticks of 1/100 s on every machine that we run on (`USER_HZ`, an ABI constant of x86-64).
const TICK_NANOS: u64 = 10_000_000;

/// Reads a controller's file; nothing where it is not.
pub(super) type Reader<'a> = &'a dyn Fn(&str, &str) -> String;

/// Counters of v1 hierarchies.
pub(super) fn v1(read: Reader<'_>) -> Value {
    let number = |controller: &str, file: &str| one(&read(controller, file));
    let cpu = read("cpu", "cpu.stat");
    let by_cpu: Vec<u64> = read("cpuacct", "cpuacct.usage_percpu").split_whitespace().map(one).collect();
    let times = read("cpuacct", "cpuacct.stat");
    let memory = |name: &str| {
        let of = |file: &str| number("memory", &format!("memory.{name}{file}"));
        json!({
            "limit": of("limit_in_bytes"), "usage": of("usage_in_bytes"),
            "max": of("max_usage_in_bytes"), "failcnt": of("failcnt"),
        })
    };
    let raw = table(&read("memory", "memory.stat"));
    json!({
        "cpu": {
            "usage": {
                "total": number("cpuacct", "cpuacct.usage"), "percpu": by_cpu,
                "kernel": keyed(&times, "system") * TICK_NANOS, "user": keyed(&times, "user") * TICK_NANOS,
            },
            "throttling": {
                "periods": keyed(&cpu, "nr_periods"), "throttledPeriods": keyed(&cpu, "nr_throttled"),
                "throttledTime": keyed(&cpu, "throttled_time"),
            },
        },
        "memory": {
            "cache": raw.get("cache"), "usage": memory(""), "swap": memory("memsw."), "kernel": memory("kmem."),
            "kernelTCP": memory("kmem.tcp."), "raw": raw,
        },
        "pids": { "current": number("pids", "pids.current"), "limit": number("pids", "pids.max") },
        "blkio": {
            "ioServiceBytesRecursive": v1_block(&read("blkio", "blkio.throttle.io_service_bytes_recursive")),
            "ioServicedRecursive": v1_block(&read("blkio", "blkio.throttle.io_serviced_recursive")),
        },
    })
}

/// Counters of a v2 cgroup.
pub(super) fn v2(read: Reader<'_>) -> Value {
    let number = |file: &str| one(&read("", file));
    let cpu = read("", "cpu.stat");
    let raw = table(&read("", "memory.stat"));
    let events = read("", "memory.events");
    let memory = |usage: &str, limit: &str, max: &str, failures: u64| json!({ "usage": number(usage), "limit": limited(&read("", limit)), "max": number(max), "failcnt": failures });
    json!({
        "cpu": {
            "usage": {
                "total": keyed(&cpu, "usage_usec") * MICRO, "kernel": keyed(&cpu, "system_usec") * MICRO,
                "user": keyed(&cpu, "user_usec") * MICRO,
            },
            "throttling": {
                "periods": keyed(&cpu, "nr_periods"), "throttledPeriods": keyed(&cpu, "nr_throttled"),
                "throttledTime": keyed(&cpu, "throttled_usec") * MICRO,
            },
        },
        "memory": {
            "cache": raw.get("file"), "usage": memory("memory.current", "memory.max", "memory.peak", keyed(&events, "max")),
            "swap": memory("memory.swap.current", "memory.swap.max", "memory.swap.peak", 0), "raw": raw,
        },
        "pids": { "current": number("pids.current"), "limit": number("pids.max") },
        "blkio": v2_block(&read("", "io.stat")),
    })
}

/// The first number of a text; none and `max` are 0.
fn one(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A limit of v2; none is the largest number, as v1 shows it.
fn limited(text: &str) -> u64 {
    if text.trim() == "max" { u64::MAX } else { one(text) }
}

/// A file of lines `key number`.
fn table(text: &str) -> Map<String, Value> {
    let rows = text.lines().filter_map(|line| line.split_once(' '));
    rows.map(|(key, value)| (key.to_owned(), json!(one(value)))).collect()
}

/// Lines `8:0 Read 4096`.
fn v1_block(text: &str) -> Vec<Value> {
    let rows = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (device, operation, count) = (words.next()?, words.next()?, words.next()?);
        entry(device, operation, count)
    });
    rows.collect()
}

fn entry(device: &str, operation: &str, count: &str) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    Some(json!({ "major": one(major), "minor": one(minor), "op": operation, "value": one(count) }))
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn v2_block(text: &str) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next() else { continue };
        for (key, count) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "rbytes" => bytes.extend(entry(device, "Read", count)),
                "wbytes" => bytes.extend(entry(device, "Write", count)),
                "rios" => operations.extend(entry(device, "Read", count)),
                "wios" => operations.extend(entry(device, "Write", count)),
                _ => {}
            }
        }
    }
    json!({ "ioServiceBytesRecursive": bytes, "ioServicedRecursive": operations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_counts_have_runcs_names_and_units() {
        let read = |_: &str, file: &str| {
            let text = match file {
                "cpu.stat" => {
                    "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 9\n"
                }
                "memory.stat" => "anon 1\nfile 4096\n",
                "memory.current" => "8192\n",
                "memory.max" | "pids.max" => "max\n",
                "pids.current" => "2\n",
                "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n",
                _ => "",
            };
            text.to_owned()
        };
        let counted = v2(&read);
        assert_eq!(counted["cpu"]["usage"]["total"], 5000);
        assert_eq!(counted["cpu"]["throttling"]["throttledTime"], 9000);
        assert_eq!(counted["memory"]["cache"], 4096);
        assert_eq!(counted["memory"]["usage"]["usage"], 8192);
        assert_eq!(counted["memory"]["usage"]["limit"], u64::MAX);
        assert_eq!(counted["pids"], json!({ "current": 2, "limit": 0 }));
        let written = &counted["blkio"]["ioServicedRecursive"][1];
        assert_eq!(*written, json!({ "major": 8, "minor": 0, "op": "Write", "value": 4 }));
    }

    #[test]
    fn v1_counts_have_runcs_names_and_units() {
        let read = |_: &str, file: &str| {
            let text = match file {
                "cpuacct.usage" => "12\n",
                "cpuacct.usage_percpu" => "5 7 \n",
                "cpuacct.stat" => "user 2\nsystem 1\n",
                "memory.stat" => "cache 3\nrss 4\n",
                "memory.memsw.failcnt" => "6\n",
                "blkio.throttle.io_serviced_recursive" => "8:0 Read 9\nTotal 9\n",
                _ => "",
            };
            text.to_owned()
        };
        let counted = v1(&read);
        assert_eq!(counted["cpu"]["usage"]["percpu"], json!([5, 7]));
        assert_eq!(counted["cpu"]["usage"]["user"], 20_000_000);
        assert_eq!(counted["memory"]["raw"], json!({ "cache": 3, "rss": 4 }));
        assert_eq!(counted["memory"]["swap"]["failcnt"], 6);
        assert_eq!(counted["blkio"]["ioServicedRecursive"].as_array().unwrap().len(), 1);
    }
}
