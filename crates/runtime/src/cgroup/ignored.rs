//! Limits that a hierarchy does not have and that the specification, or runc, has passed over: they do not hold, and that is said.

use tinyd_core::oci;

/// Which hierarchy the limits are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    V1,
    V2,
}

/// A line for each limit that is asked for and is not there.
pub(super) fn ignored(resources: &oci::Resources, hierarchy: Hierarchy) -> Vec<String> {
    let kernel = resources.memory.as_ref().and_then(|memory| memory.kernel).filter(|limit| *limit != 0);
    let kernel =
        kernel.map(|_| "linux.resources.memory.kernel is ignored: no kernel has it any more".to_owned());
    let old = match hierarchy {
        Hierarchy::V1 => Vec::new(),
        Hierarchy::V2 => of_v1_alone(resources),
    };
    let old = old.into_iter().filter(|(_, is_asked)| *is_asked).map(|(field, _)| {
        format!("linux.resources.{field} is ignored: this host has cgroup v2, and only v1 has it")
    });
    kernel.into_iter().chain(old).collect()
}

/// What has no file on v2, and whether it is asked for; 0 asks for nothing, as on v1.
fn of_v1_alone(resources: &oci::Resources) -> Vec<(&'static str, bool)> {
    let is_set = |value: Option<i64>| value.is_some_and(|value| value != 0);
    let mut all = Vec::new();
    if let Some(memory) = &resources.memory {
        all.push(("memory.kernelTCP", is_set(memory.kernel_tcp)));
        all.push(("memory.swappiness", memory.swappiness.is_some()));
        all.push(("memory.disableOOMKiller", memory.disable_oom_killer == Some(true)));
    }
    if let Some(cpu) = &resources.cpu {
        all.push(("cpu.realtimePeriod", cpu.realtime_period.is_some_and(|period| period != 0)));
        all.push(("cpu.realtimeRuntime", is_set(cpu.realtime_runtime)));
    }
    if let Some(block) = &resources.block_io {
        let is_leaf = |weight: Option<u16>| weight.is_some_and(|weight| weight > 0);
        all.push(("blockIO.leafWeight", is_leaf(block.leaf_weight)));
        let of_devices = block.weight_device.iter().any(|device| is_leaf(device.leaf_weight));
        all.push(("blockIO.weightDevice.leafWeight", of_devices));
    }
    if let Some(network) = &resources.network {
        all.push(("network.classID", network.class_id.is_some_and(|class| class > 0)));
        all.push(("network.priorities", !network.priorities.is_empty()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: &str, hierarchy: Hierarchy) -> Vec<String> {
        ignored(&serde_json::from_str(json).unwrap(), hierarchy)
    }

    #[test]
    fn what_only_v1_has_is_named_on_v2() {
        let asked = r#"{"memory":{"kernel":7,"kernelTCP":7,"swappiness":7,"disableOOMKiller":true},
            "cpu":{"realtimePeriod":7,"realtimeRuntime":7},
            "blockIO":{"leafWeight":7,"weightDevice":[{"major":8,"minor":0,"leafWeight":7}]},
            "network":{"classID":7,"priorities":[{"name":"eth0","priority":7}]}}"#;
        let said = lines(asked, Hierarchy::V2);
        assert_eq!(said.len(), 10, "{said:?}");
        assert_eq!(said[0], "linux.resources.memory.kernel is ignored: no kernel has it any more");
        assert!(
            said[2].starts_with("linux.resources.memory.swappiness is ignored: this host has"),
            "{said:?}"
        );
        assert_eq!(lines(asked, Hierarchy::V1), said[..1]);
    }

    /// Engines write these into every configuration.
    #[test]
    fn what_asks_for_nothing_is_not_worth_a_line() {
        let nothing = r#"{"memory":{"kernel":0,"kernelTCP":0,"disableOOMKiller":false},"cpu":{"realtimeRuntime":0,"shares":2},
            "network":{},"blockIO":{"leafWeight":0}}"#;
        assert!(lines(nothing, Hierarchy::V2).is_empty());
    }
}
