//! Writing settings, and reading the kernel's small files.

use tinyd_core::{Error, Kind, Result};
use tinyd_sys::cgroup::Dir;

use super::{
    convert::{Missing, Setting, WEIGHT_DEVICE},
    tree::gone_is_none,
};

/// What could not be done and was not asked for by name, one line each.
pub(super) type Warnings = Vec<String>;

/// Writes one setting to its controller's directory.
///
/// # Errors
/// `Unsupported` when the file is missing and the limit needs it, `InvalidArgument` when the kernel refuses the value.
pub(super) fn write(dir: &Dir, setting: &Setting, warnings: &mut Warnings) -> Result<()> {
    match dir.write(&setting.file, &setting.value) {
        Ok(()) => Ok(()),
        Err(error) if error.errno() == Some(libc::ENOENT) => missing(setting, "no such file", warnings),
        Err(error) => Err(refused(setting, &error)),
    }
}

/// The kernel wants a burst of no more than the quota after each single write (`tg_set_cfs_bandwidth`): one that shrinks is written before the
/// quota, one that grows after it.
pub(super) fn order_burst(dir: &Dir, settings: &mut [Setting]) -> Result<()> {
    let is_quota = |setting: &Setting| {
        ["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max"].contains(&setting.file.as_ref())
    };
    let is_burst = |setting: &Setting| ["cpu.cfs_burst_us", "cpu.max.burst"].contains(&setting.file.as_ref());
    let (first, last) = (settings.iter().position(is_quota), settings.iter().rposition(is_quota));
    let (Some(first), Some(last), Some(burst)) = (first, last, settings.iter().position(is_burst)) else {
        return Ok(());
    };
    let now = gone_is_none(dir.read(&settings[burst].file))?.unwrap_or_default();
    let number = |text: &str| text.trim().parse().unwrap_or(0u64);
    let shrinks = number(&settings[burst].value) < number(&now);
    if shrinks && first < burst {
        settings[first..=burst].rotate_right(1);
    } else if !shrinks && burst < last {
        settings[burst..=last].rotate_left(1);
    }
    Ok(())
}

/// What a missing file or controller means for a setting.
pub(super) fn missing(setting: &Setting, why: &str, warnings: &mut Warnings) -> Result<()> {
    let message = format!("{} = {} cannot be set here: {why}", setting.file, setting.value);
    match setting.missing {
        Missing::Error => Err(Error::new(Kind::Unsupported, message).of_field(setting.field)),
        Missing::Warn => {
            warnings.push(message);
            Ok(())
        }
        Missing::Ignore => Ok(()),
    }
}

/// The kernel's refusal, told as the value's fault where it is that.
pub(super) fn refused(setting: &Setting, error: &tinyd_sys::Error) -> Error {
    let kind = match error.errno() {
        Some(libc::EINVAL | libc::ERANGE | libc::ENODEV | libc::EBUSY | libc::EOVERFLOW) => {
            Kind::InvalidArgument
        }
        Some(libc::EOPNOTSUPP) => Kind::Unsupported,
        _ => Kind::Internal,
    };
    let hint = match error.errno() {
        Some(libc::EOPNOTSUPP) if setting.field == WEIGHT_DEVICE => {
            ": nothing schedules that disk by weight (bfq does)"
        }
        _ => "",
    };
    Error::new(kind, tinyd_core::error::chain(error) + hint).of_field(setting.field)
}

/// The number of a line `key number`; 0 when there is none.
pub(super) fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(word, _)| *word == key)
        .and_then(|(_, number)| number.trim().parse().ok())
        .unwrap_or(0)
}
