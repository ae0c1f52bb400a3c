//! System call filters: a profile becomes a BPF program in well under a millisecond, without libseccomp.
//!
//! [`compile`] decides per architecture and call number what happens (`verdicts`), and writes that as a search tree over
//! intervals of numbers (`assembler`). [`default_profile`] is Docker's, as data. Nothing here installs anything:
//! [`Filter::install`] does, in the process that is to be filtered.

mod arch;
mod assembler;
mod default;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(any(test, feature = "fuzz"))]
mod interpreter;
#[cfg(test)]
mod oracle;
#[rustfmt::skip]
mod table;
#[cfg(test)]
mod tests;
mod verdicts;

use std::os::fd::OwnedFd;

use arch::{Arch, Row};
use assembler::Assembler;
pub use default::default_profile;
use tinyd_core::{Error, Result, oci, wire};
use tinyd_sys::{
    creds::{CAPABILITIES, CapSet},
    seccomp::{self, Insn},
};
#[cfg(any(test, feature = "fuzz"))]
use verdicts::FLAGS;
use verdicts::{Policy, Rulings, Verdicts};

/// The words for architectures that are filtered, for `features`.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    arch::WORDS.iter().map(|(word, _)| *word)
}

/// The words for flags, for `features`.
pub fn flags() -> impl Iterator<Item = &'static str> {
    verdicts::FLAGS.iter().map(|(word, _)| *word)
}

/// A name of a profile that no architecture has a call of.
#[must_use]
pub fn unknown(profile: &oci::Seccomp) -> Option<&str> {
    let mut names = profile.syscalls.iter().flat_map(|rule| rule.names.iter());
    names.find(|name| Row::of(name).is_none())
}

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    insns: Vec<Insn>,
    flags: u32,
}

impl Filter {
    /// Filters the calling thread. Allocates nothing unless it fails. When the profile notifies, the descriptor for its supervisor
    /// comes back.
    ///
    /// # Errors
    /// As [`tinyd_sys::seccomp::install`].
    pub fn install(&self) -> tinyd_sys::Result<Option<OwnedFd>> {
        seccomp::install(&self.insns, self.flags)
    }

    /// Whether [`Filter::install`] returns a descriptor.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.flags & seccomp::FLAG_NEW_LISTENER != 0
    }

    /// How many instructions it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.insns.len()
    }

    /// Never: a program returns at least.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.insns.is_empty()
    }
}

/// The filter of a process with these capabilities in its bounding set; `None` when it has none.
///
/// # Errors
/// As [`compile`].
pub fn filter(which: &wire::Seccomp, bounding: CapSet) -> Result<Option<Filter>> {
    match which {
        wire::Seccomp::Unconfined => Ok(None),
        wire::Seccomp::Profile(profile) => {
            let filter = compile(profile)?;
            if filter.notifies() && profile.listener_path.as_deref().is_none_or(str::is_empty) {
                // Without its supervisor every call that it should answer would fail.
                return Err(Error::invalid("linux.seccomp.listenerPath", "SCMP_ACT_NOTIFY needs one"));
            }
            Ok(Some(filter))
        }
        wire::Seccomp::Default => {
            let name = |number: u32| CAPABILITIES.get(number as usize).map(|name| (*name).to_owned());
            let caps: Vec<String> = bounding.numbers().filter_map(name).collect();
            compile(&default_profile(&caps)).map(Some)
        }
    }
}

/// Compiles a profile. As under libseccomp and runc:
///
/// * the native architecture is always in; a call of an architecture that is not in kills the process;
/// * a rule without arguments decides, wherever it stands; among rules with arguments the first that holds does;
/// * names that an architecture does not have mean nothing there;
/// * where unnamed calls are refused, numbers above all that the profile names are new to it: ENOSYS, so that programs fall back.
///
/// # Errors
/// `InvalidArgument` of the field that breaks a rule, or when the program would be longer than the kernel takes.
pub fn compile(profile: &oci::Seccomp) -> Result<Filter> {
    let policy = Policy::read(profile)?;
    let archs = Arch::listed(&profile.architectures)?;
    let mut rulings = Rulings::default();
    let of = |arch| (arch, Verdicts::of(&policy, arch, &mut rulings));
    let verdicts: Vec<_> = archs.into_iter().map(of).collect();
    let x32 = verdicts.iter().find(|(arch, _)| *arch == Arch::X32).map(|(_, x32)| x32);
    let mut assembler = Assembler::new(&rulings);
    let mut searches = Vec::with_capacity(verdicts.len());
    for (arch, verdicts) in &verdicts {
        let search = match (arch, x32) {
            (Arch::X32, _) => continue,
            (Arch::X86_64, Some(x32)) => assembler.x86_64_and_x32(verdicts, x32),
            _ => assembler.verdicts(*arch, verdicts),
        };
        searches.push((*arch, search));
    }
    assembler.dispatch(&searches);
    let insns = assembler.finish();
    if insns.len() > seccomp::INSNS_MAX {
        let message =
            format!("{} instructions are more than the kernel takes: {}", insns.len(), seccomp::INSNS_MAX);
        return Err(Error::invalid("linux.seccomp.syscalls", message));
    }
    Ok(Filter { insns, flags: policy.flags })
}
