//! Maps of files with holes, in the four forms of GNU tar: in the header and blocks after it, as PAX records (0.0, 0.1), before the
//! contents (1.0). Whatever the form, the parts are checked: in order, within the file, and as long together as what is stored.

use tinyd_core::Result;

use super::{
    header::positive,
    malformed,
    pax::{SparseWords, decimal},
    stream::{BLOCK, Stream},
};

/// More parts than this are refused: 16 MiB of memory for one file.
const PARTS_MAX: usize = 1 << 20;

/// A file with holes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// How large it is with its holes.
    pub(super) size: u64,
    /// What is not a hole: offset and length.
    pub(super) parts: Vec<(u64, u64)>,
}

impl Map {
    /// A map of parts that hold `stored` bytes together.
    fn checked(size: u64, numbers: &[u64], stored: u64) -> Result<Map> {
        let wrong = |what: &str| malformed(format!("the map of a sparse file is wrong: {what}"));
        if i64::try_from(size).is_err() {
            return Err(wrong("the file is too large"));
        }
        if !numbers.len().is_multiple_of(2) {
            return Err(wrong("an offset has no length"));
        }
        let mut parts = Vec::with_capacity(numbers.len() / 2);
        let (mut end, mut sum) = (0_u64, 0_u64);
        for pair in numbers.chunks_exact(2) {
            let (offset, length) = (pair[0], pair[1]);
            let next = offset.checked_add(length).filter(|next| *next <= size);
            let next = next.ok_or_else(|| wrong("a part is outside of the file"))?;
            if offset < end {
                return Err(wrong("its parts overlap or are out of order"));
            }
            (end, sum) = (next, sum + length);
            if length > 0 {
                parts.push((offset, length));
            }
        }
        if sum != stored {
            return Err(wrong(&format!("its parts have {sum} bytes, the archive {stored}")));
        }
        Ok(Map { size, parts })
    }

    /// The map of a header of the type `S`, and of the blocks that follow it.
    pub(super) fn of_header(block: &[u8; BLOCK], stored: u64, stream: &mut Stream<'_>) -> Result<Map> {
        let size = positive(&block[483..495], "size of a sparse file")?;
        let mut numbers = Vec::new();
        let mut goes_on = take_pairs(&block[386..482], &mut numbers)? && block[482] != 0;
        while goes_on {
            let block = stream.block()?.ok_or_else(|| malformed("the map of a sparse file ends early"))?;
            goes_on = take_pairs(&block[..504], &mut numbers)? && block[504] != 0;
        }
        Map::checked(size, &numbers, stored)
    }

    /// The map that PAX records tell of, if they do. `stored` becomes less by what a map before the contents takes.
    pub(super) fn of_words(
        words: &SparseWords,
        stored: &mut u64,
        stream: &mut Stream<'_>,
    ) -> Result<Option<Map>> {
        let Some(size) = words.size else {
            return if words.is_one || words.map.is_some() {
                Err(malformed("a sparse file has no size"))
            } else {
                Ok(None)
            };
        };
        if words.is_one {
            let numbers = before_contents(stored, stream)?;
            return Map::checked(size, &numbers, *stored).map(Some);
        }
        let numbers = words.map.as_ref().ok_or_else(|| malformed("a sparse file has no map"))?;
        Map::checked(size, numbers, *stored).map(Some)
    }
}

/// Takes pairs of twelve-byte numbers up to one that is empty. Whether more may follow.
fn take_pairs(field: &[u8], numbers: &mut Vec<u64>) -> Result<bool> {
    for pair in field.chunks_exact(24) {
        if pair[0] == 0 {
            return Ok(false);
        }
        if numbers.len() >= 2 * PARTS_MAX {
            return Err(malformed("a sparse file has too many parts"));
        }
        numbers.push(positive(&pair[..12], "offset in a sparse file")?);
        numbers.push(positive(&pair[12..], "length in a sparse file")?);
    }
    Ok(true)
}

/// The form 1.0: a number of pairs, then the pairs, a decimal number a line, filled up to a whole block.
fn before_contents(stored: &mut u64, stream: &mut Stream<'_>) -> Result<Vec<u64>> {
    let wrong = || malformed("the map before the contents of a sparse file is malformed");
    let (mut numbers, mut line, mut expected) = (Vec::new(), Vec::new(), None);
    while expected.is_none_or(|expected| numbers.len() < expected) {
        *stored = stored.checked_sub(BLOCK as u64).ok_or_else(wrong)?;
        let block = stream.block()?.ok_or_else(wrong)?;
        for byte in block {
            if expected.is_some_and(|expected| numbers.len() >= expected) {
                break;
            }
            if byte != b'\n' {
                line.push(byte);
                // No number is longer, and none without an end is collected.
                if line.len() > 20 {
                    return Err(wrong());
                }
                continue;
            }
            let number = decimal(&line).ok_or_else(wrong)?;
            line.clear();
            match expected {
                Some(_) => numbers.push(number),
                None => {
                    let pairs = usize::try_from(number).ok().filter(|pairs| *pairs <= PARTS_MAX);
                    expected = Some(2 * pairs.ok_or_else(|| malformed("a sparse file has too many parts"))?);
                }
            }
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_order_inside_and_all_there() {
        assert_eq!(Map::checked(100, &[0, 10, 90, 10, 100, 0], 20).unwrap().parts, [(0, 10), (90, 10)]);
        for (numbers, stored, why) in [
            (&[0, 10, 5, 10][..], 20, "overlap"),
            (&[50, 10, 0, 10], 20, "overlap"),
            (&[95, 10], 10, "outside"),
            (&[u64::MAX, 2], 2, "outside"),
            (&[0, 10], 20, "the archive 20"),
            (&[0], 0, "no length"),
        ] {
            let error = Map::checked(100, numbers, stored).unwrap_err();
            assert!(error.message().contains(why), "{numbers:?}: {error}");
        }
    }

    #[test]
    fn a_map_before_the_contents_takes_its_blocks_from_the_size() {
        let mut bytes = b"2\n0\n5\n4096\n6\n".to_vec();
        bytes.resize(BLOCK, 0);
        let mut source = bytes.as_slice();
        let mut stored = BLOCK as u64 + 11;
        let words = SparseWords { is_one: true, size: Some(8192), ..SparseWords::default() };
        let map =
            Map::of_words(&words, &mut stored, &mut Stream::new(&mut source, 1 << 20)).unwrap().unwrap();
        assert_eq!((stored, map.parts), (11, vec![(0, 5), (4096, 6)]));
    }

    #[test]
    fn a_map_without_an_end_is_refused() {
        for text in [&b"99999999999\n"[..], b"111111111111111111111111111", b"2\n0\n5\n\n", b"x\n"] {
            let mut bytes = text.to_vec();
            bytes.resize(BLOCK, 0);
            let mut source = bytes.as_slice();
            let mut stored = 4096;
            let words = SparseWords { is_one: true, size: Some(8192), ..SparseWords::default() };
            assert!(Map::of_words(&words, &mut stored, &mut Stream::new(&mut source, 1 << 20)).is_err());
        }
    }
}
