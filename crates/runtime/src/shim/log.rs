//! The container's log: `2026-11-24T04:16:53.000000001Z stdout F line`, as Kubernetes' container runtimes write it.
//!
//! `F` is a line that ended with a newline (which is not part of the entry's text), `P` is bytes without one: a piece of a line
//! longer than [`PIECE_MAX`], what was written when a line stayed open for a while, the end of output without a newline. So the
//! bytes of a stream are its entries' texts in order, each `F` followed by a newline. A log that cannot be written
//! stops nobody: what is lost is counted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use tinyd_core::{Error, Kind, Result, time::rfc3339, wire::FrameKind};

/// The longest text of an entry, in bytes.
const PIECE_MAX: usize = 16 << 10;
/// Entries are written when they are this long together, in bytes, or when there are no more for now.
const BATCH: usize = 64 << 10;
/// How much output is made into entries at a time, in bytes: bounds the batch where every byte is a line.
const STEP: usize = 4 << 10;

/// The log of one container.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<File>,
    stdout: Lines,
    stderr: Lines,
    batch: Vec<u8>,
    lost_bytes: u64,
    torn: bool,
}

impl Log {
    /// Opens the log to add to it; without a path there is none.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(path: Option<&Path>) -> Result<Log> {
        let open = |path: &Path| {
            let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
            file.map_err(|error| Error::new(Kind::Internal, format!("open log {}: {error}", path.display())))
        };
        Ok(Log {
            file: path.map(open).transpose()?,
            stdout: Lines::new("stdout"),
            stderr: Lines::new("stderr"),
            batch: Vec::new(),
            lost_bytes: 0,
            torn: false,
        })
    }

    /// Writes output that came at `at_unix_nanos`. A line that is still open waits for its end or for [`Log::close_lines`].
    pub(super) fn add(&mut self, kind: FrameKind, bytes: &[u8], at_unix_nanos: i64) {
        if self.file.is_none() {
            return;
        }
        let at = rfc3339(at_unix_nanos);
        for step in bytes.chunks(STEP) {
            let lines = if kind == FrameKind::Stderr { &mut self.stderr } else { &mut self.stdout };
            lines.add(&at, step, &mut self.batch);
            if self.batch.len() >= BATCH {
                self.write();
            }
        }
        self.write();
    }

    /// Writes lines that have stayed open, as pieces, and gives memory back.
    pub(super) fn close_lines(&mut self, at_unix_nanos: i64) {
        if self.has_open_line() {
            let at = rfc3339(at_unix_nanos);
            self.stdout.close(&at, &mut self.batch);
            self.stderr.close(&at, &mut self.batch);
            self.write();
        }
        self.batch = Vec::new();
    }

    fn has_open_line(&self) -> bool {
        !self.stdout.open.is_empty() || !self.stderr.open.is_empty()
    }

    fn write(&mut self) {
        let Some(file) = &mut self.file else { return };
        let result = match self.torn {
            true => file.write_all(b"\n").and_then(|()| write_counted(file, &self.batch)),
            false => write_counted(file, &self.batch),
        };
        match result {
            Ok(written) => {
                self.torn = written < self.batch.len() && written > 0;
                self.note_lost(self.batch.len() - written);
            }
            Err(_) => self.note_lost(self.batch.len()),
        }
        self.batch.clear();
    }

    /// Says once when a loss begins.
    fn note_lost(&mut self, bytes: usize) {
        if bytes > 0 && self.lost_bytes == 0 {
            super::note("write log: there is no room; the container goes on without");
        }
        self.lost_bytes += bytes as u64;
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.lost_bytes > 0 {
            super::note(format_args!("write log: {} bytes are lost", self.lost_bytes));
        }
    }
}

/// Writes until it cannot; how much went.
fn write_counted(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(len) => written += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if written == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(written)
}

/// The entries of one stream.
#[derive(Debug)]
struct Lines {
    stream: &'static str,
    open: Vec<u8>,
}

impl Lines {
    const fn new(stream: &'static str) -> Lines {
        Lines { stream, open: Vec::new() }
    }

    /// Adds the entries of `bytes` to `out`; keeps a line that has not ended.
    fn add(&mut self, at: &str, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = self.cut(at, &rest[..end], out);
            self.entry(at, 'F', line, out);
            rest = &rest[end + 1..];
        }
        let open = self.cut(at, rest, out);
        self.open.extend_from_slice(open);
    }

    /// Writes pieces as long as line and what is open are too long for one entry; what is left of the line.
    fn cut<'a>(&mut self, at: &str, mut line: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        while self.open.len() + line.len() > PIECE_MAX {
            let (piece, rest) = line.split_at(PIECE_MAX - self.open.len());
            self.entry(at, 'P', piece, out);
            line = rest;
        }
        line
    }

    /// Writes what is open as a piece.
    fn close(&mut self, at: &str, out: &mut Vec<u8>) {
        if !self.open.is_empty() {
            self.entry(at, 'P', b"", out);
        }
        self.open = Vec::new();
    }

    /// One entry: what is open, then `text`.
    fn entry(&mut self, at: &str, tag: char, text: &[u8], out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{at} {} {tag} ", self.stream);
        out.append(&mut self.open);
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes of one stream, as a reader of the log puts them together again.
    fn rebuilt(log: &[u8], stream: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in log.split_inclusive(|byte| *byte == b'\n') {
            let mut words = entry.splitn(4, |byte| *byte == b' ');
            let (_at, name, tag) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let text = words.next().unwrap().strip_suffix(b"\n").unwrap();
            assert!(text.len() <= PIECE_MAX);
            if name == stream.as_bytes() {
                bytes.extend_from_slice(text);
                bytes.extend(if tag == b"F" { &b"\n"[..] } else { b"" });
            }
        }
        bytes
    }

    #[test]
    fn an_entry_is_as_kubernetes_writes_it() {
        let (mut lines, mut out) = (Lines::new("stderr"), Vec::new());
        lines.add("2026-11-24T04:16:53.000000001Z", b"one\ntw", &mut out);
        assert_eq!(out, b"2026-11-24T04:16:53.000000001Z stderr F one\n");
        lines.close("T", &mut out);
        assert!(out.ends_with(b"T stderr P tw\n"));
    }

    #[test]
    fn a_full_disk_stops_nobody_and_leaves_whole_entries() {
        let mut log = Log::open(Some(Path::new("/dev/full"))).unwrap();
        log.add(FrameKind::Stdout, b"gone\n", 1);
        assert_eq!(log.lost_bytes, "1970-01-01T00:00:00.000000001Z stdout F gone\n".len() as u64);
        log.lost_bytes = 0;
    }

    proptest! {
        #[test]
        fn any_bytes_cut_anywhere_are_rebuilt(
            pieces in prop::collection::vec(
                (any::<bool>(), any::<bool>(), prop_oneof![
                    prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
                    prop::collection::vec(Just(b'x'), PIECE_MAX - 2..PIECE_MAX * 2 + 2),
                ]), 0..8),
        ) {
            let (mut stdout, mut stderr) = (Lines::new("stdout"), Lines::new("stderr"));
            let (mut log, mut out, mut err) = (Vec::new(), Vec::new(), Vec::new());
            for (is_err, idle, bytes) in pieces {
                let (lines, sum) = if is_err { (&mut stderr, &mut err) } else { (&mut stdout, &mut out) };
                lines.add("T", &bytes, &mut log);
                sum.extend(bytes);
                if idle {
                    lines.close("T", &mut log);
                }
            }
            stdout.close("T", &mut log);
            stderr.close("T", &mut log);
            prop_assert_eq!(rebuilt(&log, "stdout"), out);
            prop_assert_eq!(rebuilt(&log, "stderr"), err);
        }
    }
}
