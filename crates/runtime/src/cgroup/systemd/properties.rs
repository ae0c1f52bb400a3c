//! A unit's properties: what a container's resources are called by systemd. It writes them into the cgroup's files itself, now and whenever it
//! looks at the unit again, so they have to say the same as what is written there: both come from one list of settings.

use std::fmt::Debug;

use super::message::Value;
use crate::cgroup::{convert::Setting, devices::Filter};

/// No limit: what systemd calls infinity.
const NO_LIMIT: u64 = u64::MAX;
/// The kernel's own period, in microseconds.
const PERIOD_USEC: u64 = 100_000;

/// One property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl Property {
    pub(super) fn new(name: &str, value: Value) -> Property {
        Property { name: name.to_owned(), value }
    }

    /// As D-Bus has it: `(sv)`.
    pub(super) fn to_value(&self) -> Value {
        Value::List(vec![Value::str(&self.name), Value::Variant(Box::new(self.value.clone()))])
    }
}

/// A list of properties as D-Bus has it: `a(sv)`.
pub(super) fn to_array(all: &[Property]) -> Value {
    Value::Array("(sv)".into(), all.iter().map(Property::to_value).collect())
}

/// What a file is called as a property, where its value is a number or `max`.
const NUMBERS: [(&str, &str); 11] = [
    ("memory.max", "MemoryMax"),
    ("memory.low", "MemoryLow"),
    ("memory.high", "MemoryHigh"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("cpu.weight", "CPUWeight"),
    ("pids.max", "TasksMax"),
    // v1's.
    ("memory.limit_in_bytes", "MemoryLimit"),
    ("cpu.shares", "CPUShares"),
    ("blkio.bfq.weight", "BlockIOWeight"),
    ("blkio.weight", "BlockIOWeight"),
];

/// The properties for what is written into a cgroup's files. What systemd has no word for is the files' matter alone.
pub(super) fn of_settings(settings: &[Setting]) -> Vec<Property> {
    let mut all = Vec::new();
    for setting in settings {
        let file = setting.file.as_ref();
        if let Some((_, name)) = NUMBERS.iter().find(|(known, _)| *known == file) {
            all.extend(limit(&setting.value).map(|value| Property::new(name, Value::U64(value))));
        }
        let set = match file {
            "cpuset.cpus" => "AllowedCPUs",
            "cpuset.mems" => "AllowedMemoryNodes",
            _ => continue,
        };
        all.extend(bits(&setting.value).map(|bits| Property::new(set, bits)));
    }
    all.extend(quota(settings));
    all
}

/// The list of devices. On v1 systemd writes that file too whenever it looks at a unit, and without a list it allows all.
pub(super) fn of_devices(filter: &Filter) -> Vec<Property> {
    let Some(allowed) = filter.in_systemds_words() else { return Vec::new() };
    let pair = |(node, access)| Value::List(vec![Value::Str(node), Value::Str(access)]);
    vec![
        Property::new("DevicePolicy", Value::str("strict")),
        Property::new("DeviceAllow", Value::Array("(ss)".into(), allowed.into_iter().map(pair).collect())),
    ]
}

/// A number or no limit; none for what only the kernel understands.
fn limit(text: &str) -> Option<u64> {
    match text.trim() {
        "max" | "-1" => Some(NO_LIMIT),
        number => number.parse().ok(),
    }
}

/// CPU time: systemd counts microseconds per second, in whole hundredths.
fn quota(settings: &[Setting]) -> Vec<Property> {
    let find = |file: &str| {
        settings.iter().find(|setting| setting.file == file).map(|setting| setting.value.as_str())
    };
    let (quota, period) = match find("cpu.max") {
        Some(both) => {
            let mut words = both.split_whitespace();
            (words.next(), words.next())
        }
        None => (find("cpu.cfs_quota_us"), find("cpu.cfs_period_us")),
    };
    let period: Option<u64> = period.and_then(|period| period.parse().ok()).filter(|period| *period > 0);
    let mut all: Vec<Property> =
        period.map(|period| Property::new("CPUQuotaPeriodUSec", Value::U64(period))).into_iter().collect();
    if let Some(quota) = quota.and_then(limit) {
        const HUNDREDTH: u64 = 10_000;
        let per_second = match quota {
            NO_LIMIT => NO_LIMIT,
            quota => {
                // Rounded up, so that what is below can have what is asked for.
                let exact = quota.saturating_mul(1_000_000) / period.unwrap_or(PERIOD_USEC);
                exact.div_ceil(HUNDREDTH).saturating_mul(HUNDREDTH)
            }
        };
        all.push(Property::new("CPUQuotaPerSecUSec", Value::U64(per_second)));
    }
    all
}

/// `0-2,8` as a set of bits, the first byte has the first eight.
fn bits(list: &str) -> Option<Value> {
    /// More CPUs than Linux can be built for.
    const BITS_MAX: usize = 8192;
    let mut bytes = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= BITS_MAX {
            return None;
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0u8);
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    (!bytes.is_empty()).then(|| Value::Array("y".into(), bytes.into_iter().map(Value::Byte).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tinyd_core::oci;

    use super::*;
    use crate::cgroup::convert;

    /// Each property as `Name=number`; those that are sets of bits as `Name=[…]`.
    fn words(all: &[Property]) -> Vec<String> {
        let word = |property: &Property| {
            let name = &property.name;
            if let Value::U64(number) = property.value {
                return if number == NO_LIMIT {
                    format!("{name}=infinity")
                } else {
                    format!("{name}={number}")
                };
            }
            let byte = |value: &Value| if let Value::Byte(byte) = value { *byte } else { 0 };
            format!("{name}={:?}", property.value.items().iter().map(byte).collect::<Vec<_>>())
        };
        all.iter().map(word).collect()
    }

    fn v2(json: &str) -> Vec<String> {
        let resources: oci::Resources = serde_json::from_str(json).unwrap();
        words(&of_settings(&convert::v2(&resources).unwrap()))
    }

    fn v1(json: &str) -> Vec<String> {
        let resources: oci::Resources = serde_json::from_str(json).unwrap();
        words(&of_settings(&convert::v1(&resources).unwrap()))
    }

    #[test]
    fn limits_have_systemds_names() {
        let memory = r#"{"memory":{"limit":1000,"swap":1500,"reservation":500},"pids":{"limit":7}}"#;
        assert_eq!(v2(memory), ["MemorySwapMax=500", "MemoryMax=1000", "MemoryLow=500", "TasksMax=7"]);
        assert_eq!(v1(memory), ["MemoryLimit=1000", "TasksMax=7"]);
        let none = r#"{"memory":{"limit":-1,"swap":-1},"pids":{"limit":-1}}"#;
        assert_eq!(v2(none), ["MemorySwapMax=infinity", "MemoryMax=infinity", "TasksMax=infinity"]);
        assert_eq!(v2(r#"{"cpu":{"shares":1024}}"#), ["CPUWeight=100"]);
        assert_eq!(
            v1(r#"{"cpu":{"shares":1024},"blockIO":{"weight":300}}"#),
            ["CPUShares=1024", "BlockIOWeight=300"]
        );
        assert_eq!(v2("{}"), [""; 0]);
    }

    #[test]
    fn unified_files_have_them_too() {
        let unified = r#"{"unified":{"memory.high":"2000","memory.min":"max","pids.max":"9","cpu.max":"50000 100000","io.max":"8:0 rbps=1"}}"#;
        let all = [
            "MemoryHigh=2000",
            "MemoryMin=infinity",
            "TasksMax=9",
            "CPUQuotaPeriodUSec=100000",
            "CPUQuotaPerSecUSec=500000",
        ];
        assert_eq!(v2(unified), all);
    }

    #[test]
    fn cpu_time_is_rounded_up_to_hundredths_of_a_second() {
        let quota =
            |quota: i64, period: u64| v2(&format!(r#"{{"cpu":{{"quota":{quota},"period":{period}}}}}"#));
        assert_eq!(quota(8000, 10000), ["CPUQuotaPeriodUSec=10000", "CPUQuotaPerSecUSec=800000"]);
        assert_eq!(quota(4999, 10000), ["CPUQuotaPeriodUSec=10000", "CPUQuotaPerSecUSec=500000"]);
        assert_eq!(quota(-1, 10000), ["CPUQuotaPeriodUSec=10000", "CPUQuotaPerSecUSec=infinity"]);
        assert_eq!(v2(r#"{"cpu":{"quota":50000}}"#), ["CPUQuotaPerSecUSec=500000"]);
        assert_eq!(
            v1(r#"{"cpu":{"quota":50000,"period":25000}}"#),
            ["CPUQuotaPeriodUSec=25000", "CPUQuotaPerSecUSec=2000000"]
        );
        // Which quota there is with it only the kernel knows.
        assert_eq!(v2(r#"{"cpu":{"period":25000}}"#), ["CPUQuotaPeriodUSec=25000"]);
    }

    #[test]
    fn devices_have_names() {
        let rules = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
            {"allow":true,"type":"b","major":8,"access":"r"}]"#;
        let rules: Vec<oci::DeviceRule> = serde_json::from_str(rules).unwrap();
        let all = of_devices(&Filter::new(&rules).unwrap());
        assert_eq!(all[0], Property::new("DevicePolicy", Value::str("strict")));
        let pairs: Vec<Vec<_>> = all[1]
            .value
            .items()
            .iter()
            .map(|pair| pair.items().iter().filter_map(Value::text).collect())
            .collect();
        for pair in [
            ["/dev/char/10:229", "rw"],
            ["block-8", "r"],
            ["char-*", "m"],
            ["/dev/char/1:3", "rwm"],
            ["char-136", "rwm"],
        ] {
            assert!(pairs.contains(&pair.to_vec()), "{pair:?} is not in {pairs:?}");
        }
        let all: Vec<oci::DeviceRule> = serde_json::from_str(r#"[{"allow":true,"access":"rwm"}]"#).unwrap();
        assert_eq!(of_devices(&Filter::new(&all).unwrap()), []);
    }

    #[test]
    fn sets_are_bits() {
        assert_eq!(
            v2(r#"{"cpu":{"cpus":"0-2,8","mems":"0"}}"#),
            ["AllowedCPUs=[7, 1]", "AllowedMemoryNodes=[1]"]
        );
        for bad in ["a", "3-1", "0-", "99999"] {
            assert_eq!(bits(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_set_has_just_its_members(members in prop::collection::btree_set(0usize..300, 1..20)) {
            let list: Vec<String> = members.iter().map(usize::to_string).collect();
            let value = bits(&list.join(",")).unwrap();
            let found: Vec<usize> = value.items().iter().enumerate().flat_map(|(at, byte)| {
                let Value::Byte(byte) = *byte else { return Vec::new() };
                (0..8).filter(|bit| byte & (1 << bit) != 0).map(|bit| at * 8 + bit).collect()
            }).collect();
            prop_assert_eq!(found, members.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn the_share_is_never_less_than_asked(quota in 1000i64..10_000_000, period in 1000u64..1_000_000) {
            let words = v2(&format!(r#"{{"cpu":{{"quota":{quota},"period":{period}}}}}"#));
            let per_second: u64 = words[1].rsplit_once('=').unwrap().1.parse().unwrap();
            prop_assert!(u128::from(per_second) * u128::from(period) + 1_000_000 > quota as u128 * 1_000_000);
            prop_assert_eq!(per_second % 10_000, 0);
        }
    }
}
