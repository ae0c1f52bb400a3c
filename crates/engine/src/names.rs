//! Names for containers whose user gave none.

const FIRST: [&str; 32] = [
    "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "eager", "early", "fair", "fond",
    "gentle", "glad", "golden", "happy", "honest", "keen", "kind", "lively", "lucky", "merry", "mild",
    "noble", "proud", "quick", "quiet", "rapid", "sharp", "steady", "swift", "wise",
];
const SECOND: [&str; 32] = [
    "acorn", "badger", "beacon", "birch", "brook", "cedar", "comet", "crane", "dune", "ember", "falcon",
    "fern", "finch", "harbor", "heron", "island", "juniper", "lark", "lotus", "maple", "meadow", "otter",
    "pebble", "pine", "raven", "river", "robin", "spruce", "summit", "thistle", "willow", "wren",
];
/// After how many attempts a number is added.
const PLAIN_ATTEMPTS: u32 = 8;

/// A name from random bytes: `calm_otter`, and with a number when plain ones are taken.
pub(crate) fn name(random: [u8; 4], attempt: u32) -> String {
    let [first, second, high, low] = random;
    let (first, second) = (FIRST[usize::from(first) % 32], SECOND[usize::from(second) % 32]);
    if attempt < PLAIN_ATTEMPTS {
        return format!("{first}_{second}");
    }
    format!("{first}_{second}_{}", u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_name() {
        for seed in 0..=255 {
            for attempt in [0, 9] {
                tinyd_core::Name::parse("", &name([seed, seed / 2, seed, 7], attempt)).unwrap();
            }
        }
    }
}
