//! Protobuf's types to the engine's words and back. This folder alone knows both sides, so the contract can change without the
//! engine noticing. Here a value gets its type; whether it makes sense on this host is the engine's to say.

mod definition;

use tinyd_core::{Error, Result};

/// "" is absent, as everywhere in the contract.
fn absent_when_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A number that has to fit a smaller type.
fn fits<T, U: TryFrom<T>>(field: &str, number: T) -> Result<U>
where
    T: Copy + std::fmt::Display,
{
    U::try_from(number).map_err(|_| Error::invalid(field, format!("{number} is out of range")))
}

/// A part of a message that has to be there.
fn required<T>(field: &str, part: Option<T>) -> Result<T> {
    part.ok_or_else(|| Error::invalid(field, "missing"))
}

/// One of an enumeration's values, by the number that came.
fn known<T: TryFrom<i32>>(field: &str, number: i32) -> Result<T> {
    T::try_from(number).map_err(|_| Error::invalid(field, format!("{number} is not one of the values it can have")))
}
