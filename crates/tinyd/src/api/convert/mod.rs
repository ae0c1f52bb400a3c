//! Protobuf's types to the engine's words and back. This folder alone knows both sides, so the contract can change without the
//! engine noticing. Here a value gets its type; whether it makes sense on this host is the engine's to say.

mod commit;
mod definition;
mod images;
mod registries;
mod streams;
mod system;
#[cfg(test)]
mod tests;
mod views;

pub(super) use commit::{commit, import_open, import_piece};
pub(super) use definition::signal;
pub(super) use images::{archive_format, load_open, load_piece};
pub(super) use registries::{login, pull_event, push_event};
pub(super) use streams::{Attach, Dialogue, Exec, Target, attach_open, exec_open};
pub(super) use system::prune_choice;
use tinyd_core::{Error, Result};
pub(super) use views::log_query;

/// "" is absent, as everywhere in the contract.
fn absent_when_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A number that has to fit 16 bits; what it is for begins at `least`.
fn fits(field: &str, number: u32, least: u16) -> Result<u16> {
    let fitting = u16::try_from(number).ok().filter(|number| *number >= least);
    fitting.ok_or_else(|| Error::invalid(field, format!("{number} is out of range: {least} to {}", u16::MAX)))
}

/// A part of a message that has to be there.
pub(super) fn required<T>(field: &str, part: Option<T>) -> Result<T> {
    part.ok_or_else(|| Error::invalid(field, "missing"))
}

/// One of an enumeration's values, by the number that came.
fn known<T: TryFrom<i32>>(field: &str, number: i32) -> Result<T> {
    T::try_from(number)
        .map_err(|_| Error::invalid(field, format!("{number} is not one of the values it can have")))
}
