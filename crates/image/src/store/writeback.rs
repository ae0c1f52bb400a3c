//! What is written to a long file is on its way to the disk before the file is whole: the sync that every image ends with has little to
//! wait for, and the disk has something to do while bytes arrive. (The kernel by itself begins after seconds, or gigabytes.)

use std::{fs::File, os::fd::AsFd};

use tinyd_sys::fs::begin_writeback;

/// How much is begun at once, in bytes: less would be many small writes.
const PIECE_BYTES: u64 = 8 << 20;

/// How far it is begun.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    begun: u64,
}

impl Writeback {
    /// The file's first `length` bytes are written by now.
    pub(super) fn written(&mut self, file: &File, length: u64) {
        // From the beginning again, when the file was.
        let begun = self.begun.min(length);
        if length - begun >= PIECE_BYTES {
            begin_writeback(file.as_fd(), begun, length - begun);
            self.begun = length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pieces_are_begun_and_a_file_that_begins_again_too() {
        let file = File::open("/dev/null").unwrap();
        let mut writeback = Writeback::default();
        for (length, begun) in [
            (PIECE_BYTES - 1, 0),
            (PIECE_BYTES, PIECE_BYTES),
            (PIECE_BYTES + 1, PIECE_BYTES),
            (3 * PIECE_BYTES, 3 * PIECE_BYTES),
            (5, 3 * PIECE_BYTES),
        ] {
            writeback.written(&file, length);
            assert_eq!(writeback.begun, begun, "{length}");
        }
    }
}
