//! The log's format: CRI's, `TIME stdout|stderr F|P BYTES`. `P` is a piece that goes on in the stream's next line.

use bytes::{Bytes, BytesMut};

use crate::api::LogLine;

/// The longest line that is put together from pieces, in bytes; a longer one is told in several.
const JOINED_MAX: usize = 64 << 10;
/// The longest line of the file that makes sense, in bytes: what a shim writes is far shorter.
const RAW_MAX: usize = 1 << 20;

/// One line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    at_unix_nanos: i64,
    stderr: bool,
    /// Whether the line is whole, or the last piece of one.
    pub(super) last: bool,
    data: &'a [u8],
}

/// Reads one line, without its newline. `None` is a line that no shim wrote whole.
pub(super) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let at = humantime::parse_rfc3339(time).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let last = match parts.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let data = parts.next()?;
    Some(Entry { at_unix_nanos: tinyd_core::time::unix_nanos(at), stderr, last, data })
}

/// Makes lines of blocks.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come yet.
    raw: BytesMut,
    /// Pieces of a line of standard output, and of standard error.
    pieces: [Option<(i64, BytesMut)>; 2],
}

impl Lines {
    /// The lines that are complete with this block.
    pub(super) fn feed(&mut self, block: &[u8]) -> Vec<LogLine> {
        self.raw.extend_from_slice(block);
        let mut lines = Vec::new();
        while let Some(end) = self.raw.iter().position(|byte| *byte == b'\n') {
            let raw = self.raw.split_to(end + 1);
            lines.extend(parse(&raw[..end]).and_then(|entry| self.join(entry)));
        }
        if self.raw.len() > RAW_MAX {
            self.raw.clear();
        }
        lines
    }

    /// What has begun and will not go on.
    pub(super) fn rest(&mut self) -> Vec<LogLine> {
        let mut rest = Vec::new();
        for (stderr, pieces) in [false, true].into_iter().zip(&mut self.pieces) {
            rest.extend(pieces.take().map(|(at_unix_nanos, data)| LogLine {
                stderr,
                at_unix_nanos,
                data: data.freeze(),
            }));
        }
        rest.sort_by_key(|line| line.at_unix_nanos);
        rest
    }

    fn join(&mut self, entry: Entry<'_>) -> Option<LogLine> {
        let slot = &mut self.pieces[usize::from(entry.stderr)];
        let line = |at_unix_nanos, data| Some(LogLine { stderr: entry.stderr, at_unix_nanos, data });
        if entry.last && slot.is_none() {
            return line(entry.at_unix_nanos, with_newline(entry.data));
        }
        let (at, data) = slot.get_or_insert_with(|| (entry.at_unix_nanos, BytesMut::new()));
        data.extend_from_slice(entry.data);
        if entry.last {
            data.extend_from_slice(b"\n");
        } else if data.len() < JOINED_MAX {
            return None;
        }
        let (at, data) = (*at, data.split().freeze());
        *slot = None;
        line(at, data)
    }
}

fn with_newline(data: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(data.len() + 1);
    line.extend_from_slice(data);
    line.extend_from_slice(b"\n");
    line.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use tinyd_core::time::rfc3339;

    use super::*;

    #[test]
    fn a_line_reads_back() {
        let entry = parse(b"2026-11-24T04:16:53.000000001Z stderr P a b ").unwrap();
        assert_eq!((entry.stderr, entry.last, entry.data), (true, false, &b"a b "[..]));
        assert_eq!(rfc3339(entry.at_unix_nanos), "2026-11-24T04:16:53.000000001Z");
        assert!(parse(b"2026-11-24T04:16:53Z stdout F ").unwrap().data.is_empty());
        for bad in
            [&b""[..], b"x stdout F a", b"2026-11-24T04:16:53Z both F a", b"2026-11-24T04:16:53Z stdout F"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    fn told(lines: Vec<LogLine>) -> Vec<(bool, Vec<u8>)> {
        lines.into_iter().map(|line| (line.stderr, line.data.to_vec())).collect()
    }

    #[test]
    fn pieces_of_two_streams_do_not_mix() {
        let text = b"2026-11-24T04:16:53Z stdout P one \n2026-11-24T04:16:54Z stderr P E\n2026-11-24T04:16:55Z stdout F two\n";
        let mut lines = Lines::default();
        assert_eq!(told(lines.feed(text)), [(false, b"one two\n".to_vec())]);
        assert_eq!(told(lines.rest()), [(true, b"E".to_vec())]);
    }

    proptest! {
        /// What was written comes out, however the file is cut into blocks.
        #[test]
        fn blocks_do_not_matter(
            written in vec((any::<bool>(), "[a-z ]{0,20}", 1usize..4), 0..20),
            cut in 1usize..50,
        ) {
            let mut text = Vec::new();
            let mut expected = Vec::new();
            for (index, (stderr, piece, count)) in written.iter().enumerate() {
                let stream = if *stderr { "stderr" } else { "stdout" };
                for part in 0..*count {
                    let tag = if part + 1 == *count { "F" } else { "P" };
                    text.extend_from_slice(format!("{} {stream} {tag} {piece}\n", rfc3339(index as i64)).as_bytes());
                }
                expected.push((*stderr, format!("{}\n", piece.repeat(*count)).into_bytes()));
            }
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for block in text.chunks(cut) {
                got.extend(told(lines.feed(block)));
            }
            got.extend(told(lines.rest()));
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn no_bytes_panic(block in vec(any::<u8>(), 0..200)) {
            let mut lines = Lines::default();
            lines.feed(&block);
            lines.rest();
        }
    }
}
