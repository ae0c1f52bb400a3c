//! Architectures: libseccomp's names, the kernel's audit numbers, the call tables.

use std::cmp::Ordering;

use tinyd_core::{Error, Result};

use super::table::{NAMES, NONE, NUMBERS};

/// An architecture whose calls can be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// The bit that tells x32's calls from x86_64's.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// ARM's own calls, far above the others.
const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 0xf0001),
    ("cacheflush", 0xf0002),
    ("usr26", 0xf0003),
    ("usr32", 0xf0004),
    ("set_tls", 0xf0005),
    ("get_tls", 0xf0006),
];

/// libseccomp's names for architectures that this program is not built for: their calls cannot reach its kernel.
pub(super) const FOREIGN: [&str; 18] = [
    "LOONGARCH64",
    "M68K",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PARISC",
    "PARISC64",
    "PPC",
    "PPC64",
    "PPC64LE",
    "RISCV64",
    "S390",
    "S390X",
    "SH",
    "SHEB",
];

/// Those whose calls are filtered, by their words.
pub(super) const WORDS: [(&str, Arch); 6] = [
    ("SCMP_ARCH_AARCH64", Arch::Aarch64),
    ("SCMP_ARCH_ARM", Arch::Arm),
    ("SCMP_ARCH_NATIVE", Arch::NATIVE),
    ("SCMP_ARCH_X32", Arch::X32),
    ("SCMP_ARCH_X86", Arch::X86),
    ("SCMP_ARCH_X86_64", Arch::X86_64),
];

impl Arch {
    /// The one that this program runs on.
    #[cfg(target_arch = "x86_64")]
    pub(super) const NATIVE: Arch = Arch::X86_64;
    /// The one that this program runs on.
    #[cfg(target_arch = "aarch64")]
    pub(super) const NATIVE: Arch = Arch::Aarch64;

    /// The architectures of a profile, the native one first, each once.
    pub(super) fn listed(names: &[String]) -> Result<Vec<Arch>> {
        let mut archs = vec![Arch::NATIVE];
        for name in names {
            let arch = Arch::parse(name)?;
            archs.extend(arch.filter(|arch| !archs.contains(arch)));
        }
        Ok(archs)
    }

    fn parse(name: &str) -> Result<Option<Arch>> {
        if let Some((_, arch)) = WORDS.iter().find(|(known, _)| *known == name) {
            return Ok(Some(*arch));
        }
        if name.strip_prefix("SCMP_ARCH_").is_some_and(|name| FOREIGN.contains(&name)) {
            return Ok(None);
        }
        let message = format!("{name:?} is not an architecture such as SCMP_ARCH_X86_64");
        Err(Error::invalid("linux.seccomp.architectures", message))
    }

    /// What `seccomp_data.arch` holds: an ELF machine with a bit for 64 bits and one for little endian. x32 is x86_64 here.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are 64 bits wide; of others only the low half counts, as under libseccomp.
    pub(super) const fn wide(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64)
    }

    /// The number of a call, as `seccomp_data.nr` holds it.
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn number(self, name: &str) -> Option<u32> {
        Row::of(name).and_then(|row| self.number_in(row))
    }

    /// Its calls, by number.
    pub(super) fn calls(self) -> Calls {
        Calls { arch: self, at: 0 }
    }

    /// The number of the call in a row.
    fn number_in(self, row: Row) -> Option<u32> {
        match NUMBERS.get(row.index()) {
            Some(numbers) => match (self, numbers[self as usize]) {
                (_, NONE) => None,
                (Arch::X32, number) => Some(u32::from(number) | X32_BIT),
                (_, number) => Some(u32::from(number)),
            },
            None if self == Arch::Arm => {
                ARM_PRIVATE.get(row.index() - NUMBERS.len()).map(|(_, number)| *number)
            }
            None => None,
        }
    }
}

/// The rows of an architecture's calls in the table, by number; those that are no calls of it after them.
static IN_ORDER: [[u16; NUMBERS.len()]; 5] =
    [in_order(0), in_order(1), in_order(2), in_order(3), in_order(4)];

const fn in_order(arch: usize) -> [u16; NUMBERS.len()] {
    let mut rows = [0; NUMBERS.len()];
    let mut row = 0;
    while row < rows.len() {
        rows[row] = row as u16;
        row += 1;
    }
    // Shell's sort: among the short ones that a compiler can run.
    let mut gap = rows.len() / 2;
    while gap > 0 {
        let mut next = gap;
        while next < rows.len() {
            let (moved, mut at) = (rows[next], next);
            while at >= gap && NUMBERS[rows[at - gap] as usize][arch] > NUMBERS[moved as usize][arch] {
                rows[at] = rows[at - gap];
                at -= gap;
            }
            rows[at] = moved;
            next += 1;
        }
        gap /= 2;
    }
    rows
}

/// The calls of an architecture by number, each with its row. A loop and no chain of adapters, as what asks for it.
#[derive(Debug)]
pub(super) struct Calls {
    arch: Arch,
    at: usize,
}

impl Iterator for Calls {
    type Item = (u32, Row);

    fn next(&mut self) -> Option<(u32, Row)> {
        while self.at < ROWS {
            // What is not in the table comes after it.
            let row = IN_ORDER[self.arch as usize].get(self.at).map_or(self.at as u16, |row| *row);
            self.at += 1;
            if let Some(number) = self.arch.number_in(Row(row)) {
                return Some((number, Row(row)));
            }
        }
        None
    }
}

/// How many rows there are.
pub(super) const ROWS: usize = NUMBERS.len() + ARM_PRIVATE.len();

/// Where a call is among all: in the table, or after it when it is one of ARM's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row(u16);

impl Row {
    /// The first one.
    pub(super) const FIRST: Row = Row(0);

    /// The row of a name.
    pub(super) fn of(name: &str) -> Option<Row> {
        let (mut low, mut high) = (0, NUMBERS.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match name_in(middle).cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(Row(middle as u16)),
                Ordering::Greater => high = middle,
            }
        }
        let private = ARM_PRIVATE.iter().position(|(known, _)| *known == name);
        private.map(|at| Row((NUMBERS.len() + at) as u16))
    }

    /// The row of a name that is likely to be this one or one of the next few.
    pub(super) fn of_near(self, name: &str) -> Option<Row> {
        const NEAR: usize = 4;
        for row in self.index()..NUMBERS.len().min(self.index() + NEAR) {
            if name_in(row) == name {
                return Some(Row(row as u16));
            }
        }
        Row::of(name)
    }

    /// Which of [`ROWS`] it is.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The one after it.
    pub(super) fn next(self) -> Row {
        Row(self.0 + 1)
    }
}

/// Where each name of the table starts in the text of them all, and where one after the last would.
static STARTS: [u16; NUMBERS.len() + 1] = starts();

const fn starts() -> [u16; NUMBERS.len() + 1] {
    let text = NAMES.as_bytes();
    let mut starts = [0; NUMBERS.len() + 1];
    let (mut row, mut at) = (0, 0);
    while at <= text.len() {
        if at == text.len() || text[at] == b'\n' {
            row += 1;
            starts[row] = at as u16 + 1;
        }
        at += 1;
    }
    assert!(row == NUMBERS.len() && text.len() < u16::MAX as usize);
    starts
}

/// The name in a row of the table.
fn name_in(row: usize) -> &'static str {
    let (start, next) = (usize::from(STARTS[row]), usize::from(STARTS[row + 1]));
    NAMES.get(start..next - 1).unwrap_or_default()
}

/// The names of the table, by row, in order.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn names() -> Vec<&'static str> {
    (0..NUMBERS.len()).map(name_in).collect()
}
