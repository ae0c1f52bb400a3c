//! Where the last lines of a log begin, found from its end, block by block.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::line::parse;

/// How much is read at once, in bytes.
const BLOCK: u64 = 64 << 10;

/// The offset at which the last `lines` lines begin. A line in pieces counts once, by its last piece; the pieces of an unfinished line
/// count as the line that they will be.
pub(super) fn start_of(file: &File, lines: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut back = Backwards { file, position: length, block: Vec::new() };
    let mut start = length;
    let mut counted = 0;
    let mut at_the_end = true;
    while let Some((offset, line)) = back.previous()? {
        if line.is_empty() && start == length {
            // Behind the last newline.
            continue;
        }
        let ends_a_line = parse(&line).is_none_or(|entry| entry.last);
        if ends_a_line || at_the_end {
            if counted == lines {
                return Ok(start);
            }
            counted += 1;
        }
        at_the_end = false;
        start = offset;
    }
    Ok(if lines == 0 { length } else { 0 })
}

/// Lines of a file from its end.
struct Backwards<'a> {
    file: &'a File,
    /// The offset of the first byte in `block`.
    position: u64,
    /// What has been read and not told yet.
    block: Vec<u8>,
}

impl Backwards<'_> {
    /// The line before the last told one, without its newline, and its offset.
    fn previous(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            if let Some(newline) = self.block.iter().rposition(|byte| *byte == b'\n') {
                let line = self.block.split_off(newline + 1);
                let offset = self.position + newline as u64 + 1;
                self.block.pop();
                return Ok(Some((offset, line)));
            }
            if self.position == 0 {
                let line = std::mem::take(&mut self.block);
                let is_first = !line.is_empty();
                return Ok(is_first.then_some((0, line)));
            }
            let size = self.position.min(BLOCK);
            let mut block = vec![0; usize::try_from(size).unwrap_or(0)];
            self.file.read_exact_at(&mut block, self.position - size)?;
            self.position -= size;
            block.append(&mut self.block);
            self.block = block;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::{collection::vec, prelude::*};

    use super::{super::line::Lines, *};

    fn file(text: &[u8]) -> File {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("log", flags).unwrap());
        file.write_all(text).unwrap();
        file
    }

    fn log(lines: &[(u8, usize)]) -> Vec<u8> {
        let mut text = Vec::new();
        for (letter, length) in lines {
            let data = vec![b'a' + letter % 26; *length];
            text.extend_from_slice(b"2026-11-24T04:16:53Z stdout F ");
            text.extend_from_slice(&data);
            text.push(b'\n');
        }
        text
    }

    #[test]
    fn a_line_in_pieces_counts_once() {
        let text = b"2026-11-24T04:16:53Z stdout F 1\n2026-11-24T04:16:53Z stdout P 2\n2026-11-24T04:16:53Z stdout F 3\n";
        let at = |lines| start_of(&file(text), lines).unwrap() as usize;
        assert_eq!(at(0), text.len());
        assert_eq!(&text[at(1)..at(1) + 32], b"2026-11-24T04:16:53Z stdout P 2\n");
        assert_eq!((at(2), at(9)), (0, 0));
        assert_eq!(start_of(&file(b""), 3).unwrap(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_tail_is_the_tail(lines in vec((any::<u8>(), 0usize..20_000), 0..20), wanted in 0u64..25) {
            let text = log(&lines);
            let start = start_of(&file(&text), wanted).unwrap() as usize;
            let got = Lines::default().feed(&text[start..]);
            let expected = &lines[lines.len().saturating_sub(wanted as usize)..];
            prop_assert_eq!(got.len(), expected.len());
            for (line, (_, length)) in got.iter().zip(expected) {
                prop_assert_eq!(line.data.len(), length + 1);
            }
        }
    }
}
