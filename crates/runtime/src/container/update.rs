//! `update`: other limits for a container that exists. What is written into the cgroup is kept in its configuration too, so
//! that the next update, and who asks for it, know what holds.

use tinyd_core::{Result, oci, oci::Status};

use super::{record::Place, root::Root, state::observe};
use crate::launch::rdt;

/// What is to be other than it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Limits.
    pub resources: oci::Resources,
    /// Shares of cache and memory bandwidth: the two schemata.
    pub rdt: Option<oci::IntelRdt>,
}

/// Writes the limits that `change` names; all others stay as they are. Returns what could not be done and was not asked for by
/// name.
///
/// # Errors
/// `WrongState` when it has ended, `InvalidArgument` with the field for a value that the kernel refuses. What stood before the
/// value that was refused has been written then, as with runc; the configuration is not changed.
pub fn update(root: &Root, id: &str, change: &Change) -> Result<Vec<String>> {
    let place = root.place(id)?;
    let _lock = place.lock()?;
    let seen = observe(&place)?;
    if !matches!(seen.status, Status::Created | Status::Running | Status::Paused) {
        return Err(seen.refused(id, "container not running"));
    }
    // Before anything is changed.
    let shares =
        change.rdt.as_ref().map(|shares| rdt::root().map(|mounted| (mounted, shares))).transpose()?;
    let mut spec = place.spec()?;
    if shares.is_some() {
        announce_group(&place, &mut spec)?;
    }
    let linux = spec.linux.get_or_insert_default();
    let held = linux.resources.get_or_insert_default();
    let cgroup = seen.record.open_cgroup()?;
    let change = completed(&change.resources, held, cgroup.has_swap_apart());
    let sum = if cgroup.has_swap_apart() { sum_of_same_swap(&change, held) } else { None };
    merge(held, &change);
    if let (Some(memory), Some(_)) = (&mut held.memory, sum) {
        memory.swap = sum;
    }
    let mut warnings = cgroup.ignored(&change);
    warnings.extend(if seen.record.unit.is_some() {
        // systemd first, and then everything: it writes into the same files, and only as precisely as its words are.
        cgroup.tell_unit(held, !change.devices.is_empty())?;
        cgroup.apply(held)?
    } else {
        cgroup.apply(&change)?
    });
    if let Some((mounted, shares)) = shares {
        rdt::change(&mounted, linux, id, shares, &cgroup.pids()?)?;
    }
    place.write_spec(&spec)?;
    Ok(warnings)
}

/// Writes down that there may be a group of the container's own: `delete` looks for it whatever becomes of this.
fn announce_group(place: &Place, spec: &mut oci::Spec) -> Result<()> {
    let linux = spec.linux.get_or_insert_default();
    if linux.intel_rdt.is_none() {
        linux.intel_rdt = Some(oci::IntelRdt::default());
        place.write_spec(spec)?;
    }
    Ok(())
}

/// The change with what it means nothing without: a limit on memory and swap is a sum, of which v2 takes only the second part, and which v1
/// has to be more than the memory. And who wanted to be asked before a limit is below what is in use wants that now.
fn completed(change: &oci::Resources, held: &oci::Resources, swap_is_apart: bool) -> oci::Resources {
    let mut change = change.clone();
    if let (Some(memory), Some(held)) = (&mut change.memory, &held.memory) {
        let is_too_much = |limit: i64| held.swap.is_some_and(|sum| sum > 0 && limit > sum);
        match (memory.limit, memory.swap) {
            (None, Some(swap)) if swap > 0 => memory.limit = held.limit,
            (Some(limit), None) if is_too_much(limit) && !swap_is_apart => memory.swap = held.swap,
            _ => {}
        }
        memory.check_before_update = memory.check_before_update.or(held.check_before_update);
    }
    change
}

/// The limit on memory and swap when the memory changes alone, and the swap stays what it is.
fn sum_of_same_swap(change: &oci::Resources, held: &oci::Resources) -> Option<i64> {
    let (change, held) = (change.memory.as_ref()?, held.memory.as_ref()?);
    let limit = |value: Option<i64>| value.filter(|value| *value > 0);
    let swap = limit(held.swap)?.checked_sub(limit(held.limit)?)?;
    change.swap.is_none().then(|| limit(change.limit)?.checked_add(swap)).flatten()
}

/// Puts a change over what is held, value by value.
fn merge(held: &mut oci::Resources, change: &oci::Resources) {
    /// One field, where the change has it.
    macro_rules! take {
        ($held:expr, $change:expr, $($field:ident),+) => {
            $(if $change.$field.is_some() { $held.$field.clone_from(&$change.$field); })+
        };
    }
    if let Some(change) = &change.memory {
        let held = held.memory.get_or_insert_default();
        take!(held, change, limit, reservation, swap, kernel, kernel_tcp, swappiness, disable_oom_killer);
        take!(held, change, use_hierarchy, check_before_update);
    }
    if let Some(change) = &change.cpu {
        let held = held.cpu.get_or_insert_default();
        take!(
            held,
            change,
            shares,
            quota,
            burst,
            period,
            realtime_runtime,
            realtime_period,
            cpus,
            mems,
            idle
        );
    }
    if let Some(change) = &change.block_io {
        let held = held.block_io.get_or_insert_default();
        take!(held, change, weight, leaf_weight);
        let both = |list: &[oci::ThrottleDevice], more: &[oci::ThrottleDevice]| {
            let other = |one: &&oci::ThrottleDevice| {
                !more.iter().any(|new| (new.major, new.minor) == (one.major, one.minor))
            };
            list.iter().filter(other).chain(more).copied().collect()
        };
        held.throttle_read_bps_device =
            both(&held.throttle_read_bps_device, &change.throttle_read_bps_device);
        held.throttle_write_bps_device =
            both(&held.throttle_write_bps_device, &change.throttle_write_bps_device);
        held.throttle_read_iops_device =
            both(&held.throttle_read_iops_device, &change.throttle_read_iops_device);
        held.throttle_write_iops_device =
            both(&held.throttle_write_iops_device, &change.throttle_write_iops_device);
        for new in &change.weight_device {
            held.weight_device.retain(|one| (one.major, one.minor) != (new.major, new.minor));
            held.weight_device.push(new.clone());
        }
    }
    for new in &change.hugepage_limits {
        held.hugepage_limits.retain(|one| one.page_size != new.page_size);
        held.hugepage_limits.push(new.clone());
    }
    take!(held, change, pids, network);
    if !change.devices.is_empty() {
        held.devices.clone_from(&change.devices);
    }
    held.rdma.extend(change.rdma.iter().map(|(name, limits)| (name.clone(), *limits)));
    held.unified.extend(change.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> oci::Resources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_a_change_does_not_name_is_kept() {
        let mut held = resources(
            r#"{"cpu":{"shares":512,"quota":10000},"memory":{"limit":100},"hugepageLimits":[{"pageSize":"2MB","limit":1}],
                "blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":1,"rate":1}]}}"#,
        );
        let change = resources(
            r#"{"cpu":{"quota":20000},"pids":{"limit":7},"hugepageLimits":[{"pageSize":"2MB","limit":2}],
                "blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}]},"unified":{"memory.high":"1"}}"#,
        );
        merge(&mut held, &change);
        let expected = resources(
            r#"{"cpu":{"shares":512,"quota":20000},"memory":{"limit":100},"pids":{"limit":7},
                "hugepageLimits":[{"pageSize":"2MB","limit":2}],"unified":{"memory.high":"1"},
                "blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":1,"rate":1},{"major":8,"minor":0,"rate":9}]}}"#,
        );
        assert_eq!(held, expected);
    }

    #[test]
    fn memory_and_swap_is_a_sum_with_the_memory_that_is_held() {
        let held = resources(r#"{"memory":{"limit":100}}"#);
        let memory = |json: &str| completed(&resources(json), &held, true).memory.unwrap().limit;
        assert_eq!(memory(r#"{"memory":{"swap":200}}"#), Some(100));
        assert_eq!(memory(r#"{"memory":{"limit":50,"swap":200}}"#), Some(50));
        assert_eq!(memory(r#"{"memory":{"swap":-1}}"#), None);
        let held = resources(r#"{"memory":{"limit":100,"swap":150,"checkBeforeUpdate":true}}"#);
        let memory = |json: &str| completed(&resources(json), &held, true).memory.unwrap();
        let more = resources(r#"{"memory":{"limit":120}}"#);
        let changed = memory(r#"{"memory":{"limit":120}}"#);
        assert_eq!((changed.swap, changed.check_before_update), (None, Some(true)));
        assert_eq!(sum_of_same_swap(&more, &held), Some(170));
        // One sum for both is told to be too little.
        let summed = |json: &str| completed(&resources(json), &held, false).memory.unwrap().swap;
        assert_eq!(summed(r#"{"memory":{"limit":120}}"#), None);
        assert_eq!(summed(r#"{"memory":{"limit":151}}"#), Some(150));
        // No limit lifts both.
        assert_eq!(memory(r#"{"memory":{"limit":-1}}"#).swap, None);
        assert_eq!(memory(r#"{"memory":{"reservation":50,"checkBeforeUpdate":false}}"#).swap, None);
    }
}
