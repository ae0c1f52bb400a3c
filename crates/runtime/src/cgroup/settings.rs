//! Writing settings, and reading the kernel's small files.

use tinyd_core::{Error, Kind, Result};
use tinyd_sys::cgroup::Dir;

use super::convert::{Missing, Setting, WEIGHT_DEVICE};

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
