//! From the specification's resources to files and values: what is written where, in which order. Decides only; touches
//! nothing.
//!
//! The conversions from v1 words to v2 files are runc's, so that a limit means the same under either runtime.

use std::borrow::Cow;

use tinyd_core::{Error, Kind, Result, oci};

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Which controller's file it is (v1: decides the hierarchy).
    pub controller: &'static str,
    /// The file.
    pub file: Cow<'static, str>,
    /// What is written.
    pub value: String,
    /// The field that asked for it, for messages.
    pub field: &'static str,
    /// What it means when the file is not there.
    pub missing: Missing,
}

/// What a file's absence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The limit cannot be kept: an error.
    Error,
    /// A line for the user.
    Warn,
    /// Nothing: what is asked for holds without it.
    Ignore,
}

/// The field of the weights of single disks.
pub(super) const WEIGHT_DEVICE: &str = "linux.resources.blockIO.weightDevice";

/// Settings in the making.
#[derive(Default)]
struct Settings(Vec<Setting>);

impl Settings {
    fn push(
        &mut self,
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        field: &'static str,
        value: impl ToString,
    ) {
        let (file, value) = (file.into(), value.to_string());
        self.0.push(Setting { controller, file, value, field, missing: Missing::Error });
    }

    /// The last one may be missing.
    fn or(&mut self, missing: Missing) {
        if let Some(last) = self.0.last_mut() {
            last.missing = missing;
        }
    }
}

/// What v1 hierarchies get. A memory limit stands before the limit of memory and swap.
///
/// # Errors
/// `InvalidArgument` for values that contradict each other, `Unsupported` for what v1 has not.
pub(super) fn v1(resources: &oci::Resources) -> Result<Vec<Setting>> {
    let mut out = Settings::default();
    if let Some(cpu) = &resources.cpu {
        v1_cpu(&mut out, cpu);
        cpuset(&mut out, cpu);
    }
    if let Some(memory) = &resources.memory {
        v1_memory(&mut out, memory)?;
    }
    pids(&mut out, resources.pids);
    if let Some(block) = &resources.block_io {
        v1_block(&mut out, block);
    }
    for limit in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.limit_in_bytes", page_size(&limit.page_size)?);
        out.push("hugetlb", file, "linux.resources.hugepageLimits", limit.limit);
    }
    if let Some(network) = &resources.network {
        v1_network(&mut out, network)?;
    }
    rdma(&mut out, resources)?;
    if !resources.unified.is_empty() {
        let message = "this host has cgroup v1, which has no unified files";
        return Err(Error::new(Kind::Unsupported, message).of_field("linux.resources.unified"));
    }
    Ok(out.0)
}

fn v1_cpu(out: &mut Settings, cpu: &oci::Cpu) {
    let idle = cpu.idle.is_some_and(|idle| idle > 0);
    if let Some(shares) = cpu.shares.filter(|shares| *shares > 0 && !idle) {
        out.push("cpu", "cpu.shares", "linux.resources.cpu.shares", shares);
    }
    if let Some(period) = cpu.period.filter(|period| *period > 0) {
        out.push("cpu", "cpu.cfs_period_us", "linux.resources.cpu.period", period);
    }
    if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
        out.push("cpu", "cpu.cfs_quota_us", "linux.resources.cpu.quota", quota.max(-1));
    }
    if let Some(burst) = cpu.burst {
        out.push("cpu", "cpu.cfs_burst_us", "linux.resources.cpu.burst", burst);
    }
    if let Some(period) = cpu.realtime_period.filter(|period| *period > 0) {
        out.push("cpu", "cpu.rt_period_us", "linux.resources.cpu.realtimePeriod", period);
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
        out.push("cpu", "cpu.rt_runtime_us", "linux.resources.cpu.realtimeRuntime", runtime);
    }
    if let Some(idle) = cpu.idle {
        out.push("cpu", "cpu.idle", "linux.resources.cpu.idle", idle);
    }
}

fn cpuset(out: &mut Settings, cpu: &oci::Cpu) {
    if let Some(cpus) = cpu.cpus.as_ref().filter(|list| !list.is_empty()) {
        out.push("cpuset", "cpuset.cpus", "linux.resources.cpu.cpus", cpus);
    }
    if let Some(mems) = cpu.mems.as_ref().filter(|list| !list.is_empty()) {
        out.push("cpuset", "cpuset.mems", "linux.resources.cpu.mems", mems);
    }
}

fn v1_memory(out: &mut Settings, memory: &oci::Memory) -> Result<()> {
    let limit = memory.limit.filter(|limit| *limit != 0);
    // An unlimited memory with a limit on memory and swap is no limit at all unless that is lifted too, as on v2.
    let swap = memory.swap.filter(|swap| *swap != 0).or(limit.filter(|limit| *limit < 0));
    check_swap(limit, memory.swap)?;
    if let Some(limit) = limit {
        out.push("memory", "memory.limit_in_bytes", "linux.resources.memory.limit", limit.max(-1));
    }
    if let Some(swap) = swap {
        out.push("memory", "memory.memsw.limit_in_bytes", "linux.resources.memory.swap", swap.max(-1));
        out.or(missing_swap(limit, swap));
    }
    if let Some(soft) = memory.reservation.filter(|soft| *soft != 0) {
        out.push("memory", "memory.soft_limit_in_bytes", "linux.resources.memory.reservation", soft);
    }
    if let Some(tcp) = memory.kernel_tcp.filter(|tcp| *tcp != 0) {
        out.push("memory", "memory.kmem.tcp.limit_in_bytes", "linux.resources.memory.kernelTCP", tcp);
    }
    if let Some(swappiness) = memory.swappiness {
        out.push("memory", "memory.swappiness", "linux.resources.memory.swappiness", swappiness);
        out.or(Missing::Warn);
    }
    if let Some(disabled) = memory.disable_oom_killer {
        let field = "linux.resources.memory.disableOOMKiller";
        out.push("memory", "memory.oom_control", field, u8::from(disabled));
    }
    Ok(())
}

/// A host without swap accounting keeps "no swap beyond the limit" as well as it can, in silence; an amount of swap asked for
/// by name is worth a line.
fn missing_swap(limit: Option<i64>, swap: i64) -> Missing {
    if swap < 0 || limit == Some(swap) { Missing::Ignore } else { Missing::Warn }
}

fn check_swap(limit: Option<i64>, swap: Option<i64>) -> Result<()> {
    match (limit, swap) {
        (Some(limit), Some(swap)) if limit > 0 && swap > 0 && swap < limit => Err(Error::invalid(
            "linux.resources.memory.swap",
            format!("{swap} bytes of memory and swap is less than the {limit} bytes of memory alone"),
        )),
        (_, _) => Ok(()),
    }
}

fn pids(out: &mut Settings, pids: Option<oci::Pids>) {
    if let Some(pids) = pids {
        out.push("pids", "pids.max", "linux.resources.pids.limit", or_max(pids.limit));
    }
}

fn v1_block(out: &mut Settings, block: &oci::BlockIo) {
    if let Some(weight) = block.weight.filter(|weight| *weight > 0) {
        out.push("blkio", "blkio.bfq.weight", "linux.resources.blockIO.weight", weight);
    }
    if let Some(weight) = block.leaf_weight.filter(|weight| *weight > 0) {
        out.push("blkio", "blkio.leaf_weight", "linux.resources.blockIO.leafWeight", weight);
    }
    for device in &block.weight_device {
        let at = format!("{}:{}", device.major, device.minor);
        let field = WEIGHT_DEVICE;
        if let Some(weight) = device.weight.filter(|weight| *weight > 0) {
            out.push("blkio", "blkio.bfq.weight_device", field, format!("{at} {weight}"));
        }
        if let Some(weight) = device.leaf_weight.filter(|weight| *weight > 0) {
            out.push("blkio", "blkio.leaf_weight_device", field, format!("{at} {weight}"));
        }
    }
    for (file, _, field, devices) in throttles(block) {
        for device in devices {
            out.push("blkio", file, field, format!("{}:{} {}", device.major, device.minor, device.rate));
        }
    }
}

/// The four throttles: v1's file, v2's key, the field, the devices.
fn throttles(
    block: &oci::BlockIo,
) -> [(&'static str, &'static str, &'static str, &[oci::ThrottleDevice]); 4] {
    [
        (
            "blkio.throttle.read_bps_device",
            "rbps",
            "linux.resources.blockIO.throttleReadBpsDevice",
            &block.throttle_read_bps_device,
        ),
        (
            "blkio.throttle.write_bps_device",
            "wbps",
            "linux.resources.blockIO.throttleWriteBpsDevice",
            &block.throttle_write_bps_device,
        ),
        (
            "blkio.throttle.read_iops_device",
            "riops",
            "linux.resources.blockIO.throttleReadIOPSDevice",
            &block.throttle_read_iops_device,
        ),
        (
            "blkio.throttle.write_iops_device",
            "wiops",
            "linux.resources.blockIO.throttleWriteIOPSDevice",
            &block.throttle_write_iops_device,
        ),
    ]
}

fn v1_network(out: &mut Settings, network: &oci::NetworkClass) -> Result<()> {
    if let Some(class) = network.class_id.filter(|class| *class > 0) {
        out.push("net_cls", "net_cls.classid", "linux.resources.network.classID", class);
    }
    for interface in &network.priorities {
        let field = "linux.resources.network.priorities";
        plain_word(field, &interface.name)?;
        out.push(
            "net_prio",
            "net_prio.ifpriomap",
            field,
            format!("{} {}", interface.name, interface.priority),
        );
    }
    Ok(())
}

fn rdma(out: &mut Settings, resources: &oci::Resources) -> Result<()> {
    for (device, limits) in &resources.rdma {
        let field = "linux.resources.rdma";
        plain_word(field, device)?;
        let mut line = device.clone();
        for (key, value) in [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        out.push("rdma", "rdma.max", field, line);
    }
    Ok(())
}

/// What a v2 cgroup gets.
///
/// # Errors
/// `InvalidArgument` for values that contradict each other or files that are not a cgroup's.
pub(super) fn v2(resources: &oci::Resources) -> Result<Vec<Setting>> {
    let mut out = Settings::default();
    if let Some(cpu) = &resources.cpu {
        v2_cpu(&mut out, cpu);
        cpuset(&mut out, cpu);
    }
    if let Some(memory) = &resources.memory {
        v2_memory(&mut out, memory)?;
    }
    pids(&mut out, resources.pids);
    if let Some(block) = &resources.block_io {
        v2_block(&mut out, block);
    }
    for limit in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.max", page_size(&limit.page_size)?);
        out.push("hugetlb", file, "linux.resources.hugepageLimits", limit.limit);
    }
    rdma(&mut out, resources)?;
    unified(&mut out, resources)?;
    Ok(out.0)
}

fn v2_cpu(out: &mut Settings, cpu: &oci::Cpu) {
    if let Some(idle) = cpu.idle {
        out.push("cpu", "cpu.idle", "linux.resources.cpu.idle", idle);
    }
    let idle = cpu.idle.is_some_and(|idle| idle > 0);
    if let Some(shares) = cpu.shares.filter(|shares| *shares > 0 && !idle) {
        out.push("cpu", "cpu.weight", "linux.resources.cpu.shares", weight_of_shares(shares));
    }
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let period = cpu.period.filter(|period| *period > 0);
    match (quota, period) {
        // The kernel keeps the period it has when none is written.
        (Some(quota), None) => out.push("cpu", "cpu.max", "linux.resources.cpu.quota", or_max(quota)),
        (Some(quota), Some(period)) => {
            out.push("cpu", "cpu.max", "linux.resources.cpu.quota", format!("{} {period}", or_max(quota)));
        }
        (None, Some(period)) => {
            out.push("cpu", "cpu.max", "linux.resources.cpu.period", format!("{KEEP_QUOTA} {period}"));
        }
        (None, None) => {}
    }
    if let Some(burst) = cpu.burst {
        out.push("cpu", "cpu.max.burst", "linux.resources.cpu.burst", burst);
    }
}

/// Stands in `cpu.max` for the quota that is there: the writer puts it in.
pub(super) const KEEP_QUOTA: &str = "keep";

fn v2_memory(out: &mut Settings, memory: &oci::Memory) -> Result<()> {
    let limit = memory.limit.filter(|limit| *limit != 0);
    check_swap(limit, memory.swap)?;
    let swap = memory.swap.filter(|swap| *swap != 0).or(limit.filter(|limit| *limit < 0));
    if let Some(swap) = swap {
        let value = match limit {
            _ if swap < 0 => "max".to_owned(),
            Some(limit) if limit > 0 => (swap - limit).to_string(),
            _ => {
                let message = "a limit on memory and swap needs a limit on memory";
                return Err(Error::invalid("linux.resources.memory.swap", message));
            }
        };
        out.push("memory", "memory.swap.max", "linux.resources.memory.swap", value);
        out.or(missing_swap(limit, swap));
    }
    if let Some(limit) = limit {
        out.push("memory", "memory.max", "linux.resources.memory.limit", or_max(limit));
    }
    if let Some(soft) = memory.reservation.filter(|soft| *soft != 0) {
        out.push("memory", "memory.low", "linux.resources.memory.reservation", or_max(soft));
    }
    Ok(())
}

fn v2_block(out: &mut Settings, block: &oci::BlockIo) {
    if let Some(weight) = block.weight.filter(|weight| *weight > 0) {
        out.push("io", "io.bfq.weight", "linux.resources.blockIO.weight", weight);
    }
    for device in &block.weight_device {
        if let Some(weight) = device.weight.filter(|weight| *weight > 0) {
            let value = format!("{}:{} {weight}", device.major, device.minor);
            out.push("io", "io.bfq.weight", WEIGHT_DEVICE, value);
        }
    }
    for (_, key, field, devices) in throttles(block) {
        for device in devices {
            let value = format!("{}:{} {key}={}", device.major, device.minor, device.rate);
            out.push("io", "io.max", field, value);
        }
    }
}

/// The specification's `unified` map: the file is its user's business, that it is a file of this cgroup is ours.
fn unified(out: &mut Settings, resources: &oci::Resources) -> Result<()> {
    for (file, value) in &resources.unified {
        let field = "linux.resources.unified";
        let plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !plain || !file.contains('.') || file.starts_with('.') || file.starts_with("cgroup.") {
            return Err(Error::invalid(field, format!("{file:?} is not a controller's file")));
        }
        out.push("unified", file.clone(), field, value);
    }
    Ok(())
}

/// runc's curve from v1 shares (2, 1024, 262144) to v2 weights (1, 100, 10000).
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// `io.weight` (1 to 10000, default 100) for v1's 10 to 1000, where the kernel has no `io.bfq.weight`.
pub(super) fn io_weight(weight: u64) -> u64 {
    1 + weight.saturating_sub(10) * 9999 / 990
}

fn or_max(value: i64) -> String {
    if value <= 0 { "max".to_owned() } else { value.to_string() }
}

/// `2MB`, `1GB`: part of a file's name, so nothing else passes.
fn page_size(text: &str) -> Result<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if !number.is_empty() && matches!(unit, "KB" | "MB" | "GB") {
        return Ok(text);
    }
    let message = format!("{text:?} is not a page size such as 2MB");
    Err(Error::invalid("linux.resources.hugepageLimits", message))
}

/// A word that becomes part of a line of several.
fn plain_word(field: &'static str, word: &str) -> Result<()> {
    if word.is_empty() || word.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
        return Err(Error::invalid(field, format!("{word:?} is not a device's name")));
    }
    Ok(())
}
