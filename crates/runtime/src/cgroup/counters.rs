//! What the kernel has counted for a cgroup, in the words of runc's `events`: callers of the OCI command line read them by name.
//!
//! A file or a controller that is not here counts 0, as with runc. Maps are filled in loops: each `collect` to one brings a sort of its
//! own, 5 KiB of program.

use serde_json::{Map, Value, json};

use super::settings::keyed;

/// Microseconds to nanoseconds.
const MICRO: u64 = 1000;
/// `cpuacct.stat` counts in ticks of 1/100 s on every machine that we run on (`USER_HZ`, an ABI constant of x86-64).
const TICK_NANOS: u64 = 10_000_000;
/// The sizes of huge pages that x86-64 has.
const HUGE_PAGES: [&str; 2] = ["2MB", "1GB"];
/// What a v1 cpuset has beside its lists. v2 has none of it.
const CPUSET: [&str; 9] = [
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
];

/// Reads a controller's file; nothing where it is not.
pub(super) type Reader<'a> = &'a dyn Fn(&str, &str) -> String;

/// Counters of v1 hierarchies.
pub(super) fn v1(read: Reader<'_>) -> Value {
    let number = |controller: &str, file: &str| one(&read(controller, file));
    let cpu = read("cpu", "cpu.stat");
    let by_cpu: Vec<u64> = read("cpuacct", "cpuacct.usage_percpu").split_whitespace().map(one).collect();
    let by_mode = read("cpuacct", "cpuacct.usage_all");
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
                "percpu_kernel": column(&by_mode, 2), "percpu_user": column(&by_mode, 1),
                "kernel": keyed(&times, "system") * TICK_NANOS, "user": keyed(&times, "user") * TICK_NANOS,
            },
            "throttling": {
                "periods": keyed(&cpu, "nr_periods"), "throttledPeriods": keyed(&cpu, "nr_throttled"),
                "throttledTime": keyed(&cpu, "throttled_time"),
            },
        },
        "cpuset": cpuset(read, ""),
        "memory": {
            "cache": raw.get("cache"), "usage": memory(""), "swap": memory("memsw."), "kernel": memory("kmem."),
            "kernelTCP": memory("kmem.tcp."), "raw": raw,
        },
        "pids": { "current": number("pids", "pids.current"), "limit": number("pids", "pids.max") },
        "blkio": {
            "ioServiceBytesRecursive": v1_block(&read("blkio", "blkio.throttle.io_service_bytes_recursive")),
            "ioServicedRecursive": v1_block(&read("blkio", "blkio.throttle.io_serviced_recursive")),
        },
        "hugetlb": huge_pages(read, &[("usage", "usage_in_bytes"), ("max", "max_usage_in_bytes"), ("failcnt", "failcnt")]),
    })
}

/// Counters of a v2 cgroup.
pub(super) fn v2(read: Reader<'_>) -> Value {
    let number = |file: &str| one(&read("", file));
    let cpu = read("", "cpu.stat");
    let raw = table(&read("", "memory.stat"));
    let events = read("", "memory.events");
    let (used, limit) = (number("memory.current"), limited(&read("", "memory.max")));
    // Memory and swap together, as on v1 and as with runc; the highest of each was not at one time.
    let with_swap = limit.saturating_add(limited(&read("", "memory.swap.max")));
    let mut all = json!({
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
        "cpuset": cpuset(read, ".effective"),
        "memory": {
            "cache": raw.get("file"), "raw": raw,
            "usage": { "usage": used, "limit": limit, "max": number("memory.peak"), "failcnt": keyed(&events, "max") },
            "swap": { "usage": used + number("memory.swap.current"), "limit": with_swap, "max": 0, "failcnt": 0 },
        },
        "pids": { "current": number("pids.current"), "limit": number("pids.max") },
        "blkio": v2_block(&read("", "io.stat")),
        "hugetlb": huge_pages(read, &[("usage", "current"), ("failcnt", "events")]),
    });
    for (part, file) in [("cpu", "cpu.pressure"), ("memory", "memory.pressure"), ("blkio", "io.pressure")] {
        let stalls = pressure(&read("", file));
        if !stalls.is_empty() {
            all[part]["psi"] = Value::Object(stalls);
        }
    }
    all
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`: how long processes have waited (Documentation/accounting/psi.rst).
fn pressure(text: &str) -> Map<String, Value> {
    let mut all = Map::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(who) = words.next() else { continue };
        let mut waited = Map::new();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = match key {
                "total" => json!(one(value)),
                _ => json!(value.parse().unwrap_or(0.0_f64)),
            };
            waited.insert(key.to_owned(), value);
        }
        all.insert(who.to_owned(), Value::Object(waited));
    }
    all
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

/// A column of a table that has a line of titles first.
fn column(text: &str, at: usize) -> Vec<u64> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(at)).map(one).collect()
}

/// The switches of a cpuset, and what its processes may run on: in files that end in `ending`, since v2's plain ones say only what was
/// asked for.
fn cpuset(read: Reader<'_>, ending: &str) -> Map<String, Value> {
    let number = |name: &str| read("cpuset", &format!("cpuset.{name}")).trim().parse().unwrap_or(0_i64);
    let mut all = Map::new();
    for name in CPUSET {
        all.insert(name.to_owned(), json!(number(name)));
    }
    for name in ["cpus", "mems"] {
        let numbers = list(&read("cpuset", &format!("cpuset.{name}{ending}")));
        if !numbers.is_empty() {
            all.insert(name.to_owned(), json!(numbers));
        }
    }
    all
}

/// A list such as `0-2,7`.
fn list(text: &str) -> Vec<u16> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// The counters of each size of huge pages that is here; `files` has runc's names and the kernel's.
fn huge_pages(read: Reader<'_>, files: &[(&str, &str)]) -> Map<String, Value> {
    let mut all = Map::new();
    for size in HUGE_PAGES {
        let mut counted = Map::new();
        for (name, file) in files {
            let text = read("hugetlb", &format!("hugetlb.{size}.{file}"));
            if !text.is_empty() {
                // How often the limit was met is a line `max 3` on v2.
                counted.insert((*name).to_owned(), json!(one(text.trim_start_matches("max "))));
            }
        }
        if !counted.is_empty() {
            all.insert(size.to_owned(), Value::Object(counted));
        }
    }
    all
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
                "memory.swap.current" | "memory.swap.max" => "100\n",
                "memory.pressure" => {
                    "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"
                }
                "pids.current" => "2\n",
                "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n",
                "cpuset.cpus.effective" => "0-1,3\n",
                "hugetlb.2MB.current" => "4096\n",
                "hugetlb.2MB.events" => "max 3\n",
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
        let swap = json!({ "usage": 8292, "limit": u64::MAX, "max": 0, "failcnt": 0 });
        assert_eq!(counted["memory"]["swap"], swap, "with the memory, as on v1");
        let some = json!({ "avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 7 });
        assert_eq!(
            (&counted["memory"]["psi"]["some"], &counted["memory"]["psi"]["full"]["total"]),
            (&some, &json!(3))
        );
        assert_eq!(counted["cpu"].get("psi"), None, "a kernel that does not count it");
        assert_eq!(counted["pids"], json!({ "current": 2, "limit": 0 }));
        let written = &counted["blkio"]["ioServicedRecursive"][1];
        assert_eq!(*written, json!({ "major": 8, "minor": 0, "op": "Write", "value": 4 }));
        assert_eq!(counted["cpuset"]["cpus"], json!([0, 1, 3]));
        assert_eq!(counted["cpuset"].get("mems"), None, "a list that is not here is left out");
        assert_eq!(counted["cpuset"]["sched_relax_domain_level"], 0);
        assert_eq!(counted["hugetlb"], json!({ "2MB": { "usage": 4096, "failcnt": 3 } }));
    }

    #[test]
    fn v1_counts_have_runcs_names_and_units() {
        let read = |_: &str, file: &str| {
            let text = match file {
                "cpuacct.usage" => "12\n",
                "cpuacct.usage_percpu" => "5 7 \n",
                "cpuacct.stat" => "user 2\nsystem 1\n",
                "cpuacct.usage_all" => "cpu user system\n0 3 2\n1 4 3\n",
                "cpuset.cpus" => "0,2-3\n",
                "cpuset.mems" => "0\n",
                "cpuset.mem_hardwall" => "1\n",
                "cpuset.sched_relax_domain_level" => "-1\n",
                "hugetlb.1GB.usage_in_bytes" => "7\n",
                "hugetlb.1GB.max_usage_in_bytes" => "8\n",
                "hugetlb.1GB.failcnt" => "9\n",
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
        assert_eq!(counted["cpu"]["usage"]["percpu_user"], json!([3, 4]));
        assert_eq!(counted["cpu"]["usage"]["percpu_kernel"], json!([2, 3]));
        let cpuset = &counted["cpuset"];
        assert_eq!((&cpuset["cpus"], &cpuset["mems"]), (&json!([0, 2, 3]), &json!([0])));
        assert_eq!((&cpuset["mem_hardwall"], &cpuset["cpu_exclusive"]), (&json!(1), &json!(0)));
        assert_eq!(cpuset["sched_relax_domain_level"], -1);
        assert_eq!(counted["hugetlb"], json!({ "1GB": { "usage": 7, "max": 8, "failcnt": 9 } }));
        assert_eq!(counted["memory"]["raw"], json!({ "cache": 3, "rss": 4 }));
        assert_eq!(counted["memory"]["swap"]["failcnt"], 6);
        assert_eq!(counted["blkio"]["ioServicedRecursive"].as_array().unwrap().len(), 1);
    }
}
