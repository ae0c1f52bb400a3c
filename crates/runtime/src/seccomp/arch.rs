//! Architectures: libseccomp's names, the kernel's audit numbers, the call tables.

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
const FOREIGN: [&str; 16] = [
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
        self.number_in(name, row_of(name))
    }

    /// The number of a call whose row of the table is known.
    pub(super) fn number_in(self, name: &str, row: Option<usize>) -> Option<u32> {
        let number = row.and_then(|row| NUMBERS.get(row)).map_or(NONE, |row| row[self as usize]);
        match self {
            Arch::Arm if number == NONE => {
                ARM_PRIVATE.iter().find(|(private, _)| *private == name).map(|(_, number)| *number)
            }
            _ if number == NONE => None,
            Arch::X32 => Some(u32::from(number) | X32_BIT),
            Arch::X86_64 | Arch::X86 | Arch::Aarch64 | Arch::Arm => Some(u32::from(number)),
        }
    }
}

/// The names of the table, by row, in order.
pub(super) fn names() -> Vec<&'static str> {
    NAMES.split('\n').collect()
}

/// Whether any architecture has a call of this name.
pub(super) fn is_known(name: &str) -> bool {
    row_of(name).is_some() || ARM_PRIVATE.iter().any(|(private, _)| *private == name)
}

/// The row of a name.
pub(super) fn row_of(name: &str) -> Option<usize> {
    static NAMES: std::sync::LazyLock<Vec<&str>> = std::sync::LazyLock::new(names);
    NAMES.binary_search(&name).ok()
}
