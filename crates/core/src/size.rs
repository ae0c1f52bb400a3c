//! Sizes and shares as people write them: `512m`, `1.5` CPUs.

use crate::error::{Error, Result};

/// The smallest memory limit that a container can start with, in bytes (6 MiB, Docker's).
pub const MEMORY_MIN_BYTES: u64 = 6 << 20;
/// One whole CPU, in microseconds of CPU time per [`CPU_PERIOD_US`].
pub const CPU_WHOLE_US: u64 = 100_000;
/// The period over which CPU time is counted, in microseconds (the kernel's default, 100 ms).
pub const CPU_PERIOD_US: u64 = 100_000;
/// The least CPU quota, in microseconds per period: a tenth of a CPU's tenth is the kernel's floor; tinyd asks for 10 000.
pub const CPU_MIN_US: u64 = 10_000;

/// Reads a size in bytes with a binary unit: `100`, `64k`, `512m`, `1.5g`, also `512M`, `512mb`, `512MiB`.
///
/// # Errors
/// `InvalidArgument` of `field` when the text is not a size or does not fit 63 bits.
pub fn parse_bytes(field: &str, text: &str) -> Result<u64> {
    let bad = || {
        Error::invalid(
            field,
            format!("{text:?} is not a size: a number and a unit b, k, m, g or t, such as 512m"),
        )
    };
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    let bytes = if number.contains('.') {
        let value: f64 = number.parse().map_err(|_| bad())?;
        let bytes = value * (1u64 << shift) as f64;
        // Above 2^53 the fraction has no meaning; below it the conversion is exact.
        if !(0.0..9.0e15).contains(&bytes) {
            return Err(bad());
        }
        bytes as u64
    } else {
        let value: u64 = number.parse().map_err(|_| bad())?;
        value.checked_mul(1 << shift).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(bad)?
    };
    Ok(bytes)
}

/// Reads a memory limit.
///
/// # Errors
/// `InvalidArgument` of `field`: not a size, or below [`MEMORY_MIN_BYTES`].
pub fn parse_memory(field: &str, text: &str) -> Result<u64> {
    check_memory(field, parse_bytes(field, text)?)
}

/// Checks a memory limit given in bytes.
///
/// # Errors
/// `InvalidArgument` of `field` below [`MEMORY_MIN_BYTES`].
pub fn check_memory(field: &str, bytes: u64) -> Result<u64> {
    if bytes < MEMORY_MIN_BYTES {
        return Err(Error::invalid(
            field,
            format!("{bytes} bytes is too small: the minimum is 6m ({MEMORY_MIN_BYTES} bytes)"),
        ));
    }
    Ok(bytes)
}

/// Checks a CPU quota in microseconds per 100 000, on a machine of `cpus` CPUs.
///
/// # Errors
/// `InvalidArgument` of `field` outside 10 000 ..= `cpus` × 100 000.
pub fn check_cpu(field: &str, quota_us: u64, cpus: u64) -> Result<u64> {
    let most = cpus.max(1) * CPU_WHOLE_US;
    if (CPU_MIN_US..=most).contains(&quota_us) {
        return Ok(quota_us);
    }
    let whole = quota_us as f64 / CPU_WHOLE_US as f64;
    Err(Error::invalid(
        field,
        format!(
            "{quota_us} ({whole} CPUs) is out of range: {CPU_MIN_US} to {most} microseconds of CPU per {CPU_PERIOD_US} ({CPU_WHOLE_US} is one whole CPU, this machine has {cpus})"
        ),
    ))
}

/// Reads a number of CPUs, `1.5`, as a quota in microseconds per 100 000.
///
/// # Errors
/// `InvalidArgument` of `field` when the text is not a positive decimal number.
pub fn parse_cpus(field: &str, text: &str) -> Result<u64> {
    let bad = || Error::invalid(field, format!("{text:?} is not a number of CPUs such as 1.5"));
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let cpus: f64 = if plain { text.parse().map_err(|_| bad())? } else { return Err(bad()) };
    if !(0.0..=100_000.0).contains(&cpus) {
        return Err(bad());
    }
    Ok((cpus * CPU_WHOLE_US as f64).round() as u64)
}

/// A size for people: `0B`, `1.5KiB`, `512MiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text =
        if value >= 100.0 || value.fract() < 0.05 { format!("{value:.0}") } else { format!("{value:.1}") };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_bytes("--mem", "100").unwrap(), 100);
        assert_eq!(parse_bytes("--mem", "500m").unwrap(), 500 << 20);
        assert_eq!(parse_bytes("--mem", "1.5g").unwrap(), 3 << 29);
        assert_eq!(parse_bytes("--mem", "64KiB").unwrap(), 64 << 10);
    }

    #[test]
    fn a_bad_size_names_field_and_value() {
        for bad in ["5q", "", "m", "-1m", "1e3", "9999999999999t", "1..2m", "٣m", "0x10"] {
            let error = parse_bytes("--mem", bad).unwrap_err();
            assert_eq!(error.field(), Some("--mem"));
            assert!(error.message().contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn too_little_memory_says_the_minimum() {
        let error = parse_memory("--mem", "1k").unwrap_err();
        assert!(error.message().contains("minimum is 6m"), "{error}");
    }

    #[test]
    fn cpu_out_of_range_says_the_range() {
        for bad in [5, 9_999, 200_001] {
            assert!(check_cpu("--cpu", bad, 2).unwrap_err().message().contains("10000 to 200000"));
        }
        assert_eq!(check_cpu("--cpu", 150_000, 2).unwrap(), 150_000);
        assert_eq!(parse_cpus("--cpus", "1.5").unwrap(), 150_000);
        for bad in ["", "x", "-1", "1e9", "inf", "NaN"] {
            assert!(parse_cpus("--cpus", bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_bytes("--mem", &text);
            let _ = parse_cpus("--cpus", &text);
        }

        #[test]
        fn whole_sizes_are_exact(n in 0u64..(1 << 40)) {
            prop_assert_eq!(parse_bytes("--mem", &format!("{n}k")).ok(), Some(n << 10));
        }
    }
}
