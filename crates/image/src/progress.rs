//! What is told of work on an image while it goes on: which layer, how far. Whoever listens decides what of it people see.

use std::io::{self, Read};

use crate::digest::Digest;

/// How many bytes pass between two reports of one layer.
const REPORT_EVERY_BYTES: u64 = 512 << 10;

/// Something has happened to a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The layer as it is packed.
    pub layer: Digest,
    /// What.
    pub step: Step,
}

/// What happens to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is there already: here and unpacked, or at the registry that it is pushed to.
    Present,
    /// It waits for its turn.
    Waiting,
    /// It comes from a registry: of so many packed bytes so many are here.
    Downloading {
        /// Packed bytes that are here.
        done_bytes: u64,
        /// All of them.
        total_bytes: u64,
    },
    /// It is here, packed, and what it should be.
    Downloaded,
    /// It goes to a registry: of so many packed bytes so many are on their way.
    Uploading {
        /// Packed bytes that were sent.
        done_bytes: u64,
        /// All of them.
        total_bytes: u64,
    },
    /// The registry has it.
    Uploaded,
    /// It is being unpacked: of so many packed bytes so many are.
    Unpacking {
        /// Packed bytes that are unpacked.
        done_bytes: u64,
        /// All of them.
        total_bytes: u64,
    },
    /// It is unpacked.
    Unpacked,
}

/// Who is told. Called from the threads that do the work: it must not block for long.
pub type Tell<'a> = &'a (dyn Fn(Progress) + Sync);

/// Tells nobody.
pub fn nobody(_: Progress) {}

/// A packed layer that is read, and tells how far.
pub(crate) struct Reported<'a, R> {
    inner: R,
    layer: &'a Digest,
    total_bytes: u64,
    done_bytes: u64,
    told_bytes: u64,
    tell: Tell<'a>,
}

impl<'a, R: Read> Reported<'a, R> {
    pub(crate) fn new(inner: R, layer: &'a Digest, total_bytes: u64, tell: Tell<'a>) -> Reported<'a, R> {
        let reported = Reported { inner, layer, total_bytes, done_bytes: 0, told_bytes: 0, tell };
        reported.report();
        reported
    }

    fn report(&self) {
        let step = Step::Unpacking { done_bytes: self.done_bytes, total_bytes: self.total_bytes };
        (self.tell)(Progress { layer: self.layer.clone(), step });
    }
}

impl<R: Read> Read for Reported<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.done_bytes += count as u64;
        if self.done_bytes - self.told_bytes >= REPORT_EVERY_BYTES {
            self.told_bytes = self.done_bytes;
            self.report();
        }
        Ok(count)
    }
}
