//! Bytes as a source of decisions, so that a fuzzer that changes bytes changes decisions.

/// What is left of the bytes. When they are used up, every decision is the first one.
#[derive(Debug)]
pub struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    pub fn new(bytes: &'a [u8]) -> Draw<'a> {
        Draw(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of `count` numbers from 0.
    pub fn below(&mut self, count: usize) -> usize {
        let wide = if count > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (wide | usize::from(self.byte())) % count.max(1)
    }

    pub fn one_of<'b, T>(&mut self, all: &'b [T]) -> &'b T {
        &all[self.below(all.len())]
    }

    /// Once in `times`.
    pub fn rarely(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// Small, at an edge, or anything.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=127 => u64::from(small),
            edge @ 128..=191 => (1_u64 << (edge - 128)).wrapping_sub(u64::from(self.byte() & 1)),
            192..=223 => (0..4).fold(0, |number, _| number << 8 | u64::from(self.byte())),
            224..=255 => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }
}
