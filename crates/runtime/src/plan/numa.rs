//! What the machine's parts are to a process: lists of CPUs and memory nodes, memory policy, execution domain.

use tinyd_core::{Error, Result, oci};

use super::process::number_of;

/// The highest CPU or node that a list may name, and one more.
const NUMBERS_MAX: usize = 1024;

/// Memory policies, by their words.
pub const MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];
/// Their flags.
pub const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_STATIC_NODES", 1 << 15),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
];

/// Reads a list such as `0-3,7`.
///
/// # Errors
/// `InvalidArgument` with the rule.
pub(crate) fn numbers(field: &str, list: &str) -> Result<Vec<usize>> {
    let bad = || {
        Error::invalid(field, format!("{list:?} is not a list such as 0-3,7 of numbers below {NUMBERS_MAX}"))
    };
    let number =
        |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < NUMBERS_MAX).ok_or_else(bad);
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad());
        }
        all.extend(first..=last);
    }
    Ok(all)
}

/// Reads `linux.memoryPolicy`: the mode with its flags, and a bit for each node.
///
/// # Errors
/// `InvalidArgument` with the field and the rule.
pub(super) fn memory_policy(given: &oci::MemoryPolicy) -> Result<(u32, Vec<u64>)> {
    let mut mode = number_of("linux.memoryPolicy.mode", &MODES, &given.mode)?;
    for flag in &given.flags {
        mode |= number_of("linux.memoryPolicy.flags", &FLAGS, flag)?;
    }
    let nodes = match given.nodes.as_str() {
        "" => Vec::new(),
        list => numbers("linux.memoryPolicy.nodes", list)?,
    };
    let words = nodes.iter().max().map_or(0, |last| last / 64 + 1);
    let mut mask = vec![0_u64; words];
    for node in nodes {
        mask[node / 64] |= 1 << (node % 64);
    }
    Ok((mode, mask))
}

/// Reads `linux.personality`.
///
/// # Errors
/// `InvalidArgument` with the field and the rule.
pub(super) fn personality(given: &oci::Personality) -> Result<u64> {
    if let Some(flag) = given.flags.first() {
        return Err(Error::invalid("linux.personality.flags", format!("{flag:?}: none are defined")));
    }
    match given.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => {
            Err(Error::invalid("linux.personality.domain", format!("{other:?} is neither LINUX nor LINUX32")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_numbers_and_ranges() {
        assert_eq!(numbers("f", "0-2,7, 9-9").unwrap(), [0, 1, 2, 7, 9]);
        for bad in ["", "a", "3-1", "1024", "0-1024", "-1", "1-", "1,,2"] {
            assert_eq!(numbers("f", bad).unwrap_err().field(), Some("f"), "{bad}");
        }
    }

    #[test]
    fn a_memory_policy_is_a_mode_with_flags_and_a_mask() {
        let given = oci::MemoryPolicy {
            mode: "MPOL_BIND".into(),
            nodes: "0,64-65".into(),
            flags: vec!["MPOL_F_STATIC_NODES".into()],
        };
        assert_eq!(memory_policy(&given).unwrap(), (2 | 1 << 15, vec![1, 3]));
        let none = oci::MemoryPolicy { nodes: String::new(), ..given };
        assert!(memory_policy(&none).unwrap().1.is_empty());
        let bad = oci::MemoryPolicy { mode: "BIND".into(), ..oci::MemoryPolicy::default() };
        assert_eq!(memory_policy(&bad).unwrap_err().field(), Some("linux.memoryPolicy.mode"));
    }

    #[test]
    fn a_personality_has_no_flags() {
        let given = oci::Personality { domain: "LINUX32".into(), flags: vec!["X".into()] };
        assert_eq!(personality(&given).unwrap_err().field(), Some("linux.personality.flags"));
    }
}
